// Pipes between processes that sleep on them: one reads from an empty pipe, one writes more than fits, one waits for the end of
// what only others can write to, in each its own process. After `go` all come through, with every byte in its place.
#include "members.h"

enum { kSize = 300000 };

static int empty[2], full[2], ending[2];
static struct Member reader, writer, last;

static unsigned char byte_at(long at) { return (unsigned char)(pattern_word(9, (uint64_t)at / 8) >> at % 8 * 8); }

static long obey_reader(int order) {
  char text[16] = "";
  (void)order;
  CHECK(read(empty[0], text, sizeof text) == 5);
  return strcmp(text, "hello") == 0;
}

static long obey_writer(int order) {
  static unsigned char bytes[kSize];
  if (order == 'c') return close(full[1]);
  for (long i = 0; i < kSize; ++i) bytes[i] = byte_at(i);
  return write(full[1], bytes, kSize);
}

// Of the third pipe, one keeps the only end to write to, and the other waits for its end.
static long obey_keeper(int order) {
  (void)order;
  return close(ending[1]);
}

static long obey_last(int order) {
  char byte;
  (void)order;
  return read(ending[0], &byte, 1);
}

static void check(void) {
  if (member_is_through(&reader)) victim_fail("the reader came through");
  if (member_is_through(&writer)) victim_fail("the writer came through");
  if (member_is_through(&last)) victim_fail("the end came too early");
}

static void read_all(void) {
  static unsigned char bytes[4096];
  long at = 0;
  ssize_t got;
  while ((got = read(full[0], bytes, at % 7 + 3000)) > 0) {
    for (ssize_t i = 0; i < got; ++i) {
      if (bytes[i] != byte_at(at + i)) victim_fail("byte %ld of the full pipe is wrong", at + i);
    }
    if ((at += got) >= kSize) break;
  }
  if (at != kSize) victim_fail("%ld bytes instead of %d", at, kSize);
  if (member_answer(&writer) != kSize) victim_fail("the writer wrote less");
  member_do(&writer, 'c');
  if (read(full[0], bytes, 1) != 0) victim_fail("no end behind what the writer wrote");
}

int main(void) {
  CHECK(pipe(empty) == 0);
  reader = member_start(obey_reader);
  close(empty[0]);
  CHECK(pipe(full) == 0);
  writer = member_start(obey_writer);
  close(full[1]);
  CHECK(pipe(ending) == 0);
  struct Member keeper = member_start(obey_keeper);
  close(ending[1]);
  last = member_start(obey_last);
  close(ending[0]);
  const struct Member* all[] = {&reader, &writer, &last};
  for (int i = 0; i < 3; ++i) {
    member_tell(all[i], 'r');
    await_call(all[i]->pid, all[i] == &writer ? SYS_write : SYS_read);
  }
  victim_wait(check);
  if (victim_broken()) {
    member_do(&keeper, 'c');
    member_is_through_in(&last, 20000);  // for it to show
  }
  check();
  CHECK(write(empty[1], "hello", 5) == 5);
  if (!member_answer(&reader)) victim_fail("the reader got something else");
  read_all();
  member_do(&keeper, 'c');
  if (member_answer(&last) != 0) victim_fail("there is no end");
  member_end(&reader);
  member_end(&writer);
  member_end(&keeper);
  member_end(&last);
  victim_pass();
}
