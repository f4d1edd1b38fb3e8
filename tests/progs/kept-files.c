// Files that are written in place go back with memory. Between the checkpoint and the kill this program overwrites, cuts, grows,
// renames and unlinks; after a restart each file must be as memory remembers it. $VICTIM_DIR/work holds the files; with the
// argument "saved" that folder is carried by --save, and nothing of it is open.
#include "victim.h"

#include <dirent.h>

enum { kFiles = 4, kBlock = 4096, kBlocks = 40 };

static int fds[kFiles];
static long written[kFiles][kBlocks];  // what memory says is in each block
static int is_saved;
static volatile int end;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long counter;

static const char* name_of(int index) {
  static __thread char path[4200];
  snprintf(path, sizeof path, "%s/f%d", victim_path("work"), index);
  return path;
}

static int open_file(int index) {
  if (!is_saved) return fds[index];
  int fd = open(name_of(index), O_RDWR | O_CREAT, 0640);
  CHECK(fd >= 0);
  return fd;
}

static void close_file(int fd) {
  if (is_saved) close(fd);
}

static void write_block(int index, int block) {
  char bytes[kBlock];
  long value = ++counter;
  for (int i = 0; i < kBlock; i += (int)sizeof value) memcpy(bytes + i, &value, sizeof value);
  int fd = open_file(index);
  CHECK(pwrite(fd, bytes, kBlock, (off_t)block * kBlock) == kBlock);
  close_file(fd);
  written[index][block] = value;
}

static void* change(void* argument) {
  unsigned turn = 0;
  while (!end) {
    pthread_mutex_lock(&lock);
    write_block((int)(turn % kFiles), (int)(turn * 7 % kBlocks));
    if (is_saved && turn % 5 == 0) {
      char extra[4200];
      snprintf(extra, sizeof extra, "%s/extra%u", victim_path("work"), turn % 3);
      int fd = open(extra, O_WRONLY | O_CREAT | O_TRUNC, 0600);
      CHECK(fd >= 0 && write(fd, "x", 1) == 1 && close(fd) == 0 && unlink(extra) == 0);
    }
    ++turn;
    pthread_mutex_unlock(&lock);
    victim_sleep_ms(2);
  }
  return argument;
}

static void verify(void) {
  pthread_mutex_lock(&lock);
  for (int index = 0; index < kFiles; ++index) {
    int fd = open_file(index);
    for (int block = 0; block < kBlocks; ++block) {
      long found[kBlock / sizeof(long)];
      memset(found, 0, sizeof found);
      ssize_t size = pread(fd, found, sizeof found, (off_t)block * kBlock);
      CHECK(size >= 0);
      for (size_t i = 0; i < kBlock / sizeof(long); ++i) {
        if (found[i] != written[index][block]) {
          victim_fail("file %d block %d: %ld instead of %ld", index, block, found[i], written[index][block]);
        }
      }
    }
    close_file(fd);
  }
  DIR* folder = opendir(victim_path("work"));
  CHECK(folder != NULL);
  int entries = 0;
  while (readdir(folder) != NULL) ++entries;
  closedir(folder);
  if (is_saved && entries != kFiles + 4) victim_fail("%d entries in the folder, not %d", entries, kFiles + 4);
  char target[64] = "";
  if (is_saved && (readlink(name_of(99), target, sizeof target - 1) < 0 || strcmp(target, "f0") != 0)) victim_fail("the link");
  pthread_mutex_unlock(&lock);
}

int main(int argc, char** argv) {
  is_saved = argc > 1 && strcmp(argv[1], "saved") == 0;
  CHECK(mkdir(victim_path("work"), 0700) == 0);
  for (int index = 0; index < kFiles; ++index) {
    fds[index] = open(name_of(index), O_RDWR | O_CREAT, 0640);
    CHECK(fds[index] >= 0);
    if (is_saved) close(fds[index]);
  }
  if (is_saved) {
    CHECK(symlink("f0", name_of(99)) == 0 && mkdir(name_of(98), 0750) == 0);
  }
  pthread_t thread = start_thread(change, NULL);
  victim_sleep_ms(30);
  victim_wait(verify);
  verify();
  end = 1;
  join_thread(thread);
  if (victim_broken()) {
    int fd = open(name_of(1), O_WRONLY);
    CHECK(pwrite(fd, "broken", 6, 100) == 6);
  }
  verify();
  victim_pass();
}
