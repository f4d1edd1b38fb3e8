// One file that is open twice: as a log, and to be written in place. It goes back with memory as a whole, whichever of the two
// comes first. Two files, one for each order.
#include "victim.h"

enum { kFiles = 2, kBlock = 16, kMost = 100000 };

static struct File {
  int log, in_place;
  long blocks;
  long written[kMost];  // what memory says is in each block
} files[kFiles];

static volatile int end;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long counter;

static void write_both(struct File* file) {
  long block[kBlock / sizeof(long)] = {++counter};
  CHECK(file->blocks < kMost && write(file->log, block, kBlock) == kBlock);
  file->written[file->blocks++] = counter;
  long at = counter * 7 % file->blocks;
  block[0] = ++counter;
  CHECK(pwrite(file->in_place, block, kBlock, at * kBlock) == kBlock);
  file->written[at] = counter;
}

static void* change(void* argument) {
  while (!end) {
    pthread_mutex_lock(&lock);
    for (int i = 0; i < kFiles; ++i) write_both(&files[i]);
    pthread_mutex_unlock(&lock);
    victim_sleep_ms(2);
  }
  return argument;
}

static void verify(void) {
  pthread_mutex_lock(&lock);
  for (int i = 0; i < kFiles; ++i) {
    struct stat status;
    CHECK(fstat(files[i].in_place, &status) == 0);
    if (status.st_size != files[i].blocks * kBlock) {
      victim_fail("file %d has %ld bytes instead of %ld", i, (long)status.st_size, files[i].blocks * kBlock);
    }
    for (long at = 0; at < files[i].blocks; ++at) {
      long block[kBlock / sizeof(long)];
      CHECK(pread(files[i].in_place, block, kBlock, at * kBlock) == kBlock);
      if (block[0] != files[i].written[at]) {
        victim_fail("file %d block %ld: %ld instead of %ld", i, at, block[0], files[i].written[at]);
      }
    }
  }
  pthread_mutex_unlock(&lock);
}

int main(void) {
  for (int i = 0; i < kFiles; ++i) {
    const char* path = victim_path(i == 0 ? "log-first" : "log-last");
    if (i == 1) files[i].in_place = open(path, O_RDWR | O_CREAT, 0600);
    files[i].log = open(path, O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (i == 0) files[i].in_place = open(path, O_RDWR);
    CHECK(files[i].log >= 0 && files[i].in_place >= 0);
  }
  pthread_t thread = start_thread(change, NULL);
  victim_sleep_ms(30);
  victim_wait(verify);
  end = 1;
  join_thread(thread);
  if (victim_broken()) CHECK(pwrite(files[0].in_place, "broken", 6, kBlock) == 6);
  verify();
  victim_pass();
}
