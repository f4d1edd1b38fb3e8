// Locks on files: of the process, of the open file, whole, on a folder, a lease. Each is there for others afterwards.
#include "victim.h"

#include <sys/file.h>
#include <sys/wait.h>

static int ranges, reader, whole, shared, of_file, folder, leased, deleted, written;

static int make(const char* name, int flags) {
  int fd = open(victim_path(name), flags | O_CREAT, 0600);
  CHECK(fd >= 0);
  return fd;
}

static int set_lock(int fd, int command, short type, off_t start, off_t size) {
  struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = size};
  return fcntl(fd, command, &lock);
}

// In a child that has none of our locks: whether it could take the lock.
static int can_another(int (*attempt)(void)) {
  int status;
  pid_t child = fork();
  if (child == 0) _exit(attempt() == 0 ? 0 : errno == EAGAIN || errno == EACCES ? 1 : 2);
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) < 2);
  return WEXITSTATUS(status) == 0;
}

static int take_written_range(void) { return set_lock(ranges, F_SETLK, F_WRLCK, 10, 1); }
static int take_read_range(void) { return set_lock(ranges, F_SETLK, F_RDLCK, 119, 1); }
static int write_read_range(void) { return set_lock(ranges, F_SETLK, F_WRLCK, 119, 1); }
static int take_free_range(void) { return set_lock(ranges, F_SETLK, F_WRLCK, 30, 70); }
static int take_end(void) { return set_lock(ranges, F_SETLK, F_RDLCK, 1000000, 0); }
static int take_whole(void) { return flock(open(victim_path("whole"), O_RDONLY), LOCK_SH | LOCK_NB); }
static int share_shared(void) { return flock(open(victim_path("shared"), O_RDONLY), LOCK_SH | LOCK_NB); }
static int take_shared(void) { return flock(open(victim_path("shared"), O_RDONLY), LOCK_EX | LOCK_NB); }
static int take_of_file(void) { return set_lock(open(victim_path("of-file"), O_RDWR), F_OFD_SETLK, F_WRLCK, 5, 5); }
static int take_folder(void) { return flock(open(victim_path("."), O_RDONLY), LOCK_EX | LOCK_NB); }
static int take_deleted(void) { return set_lock(deleted, F_SETLK, F_WRLCK, 0, 1); }
static int take_kept(void) { return set_lock(written, F_SETLK, F_WRLCK, 0, 1); }

static void check(void) {
  CHECK(!can_another(take_written_range));
  CHECK(can_another(take_read_range));
  CHECK(!can_another(write_read_range));
  CHECK(can_another(take_free_range));
  CHECK(!can_another(take_end));
  CHECK(!can_another(take_whole));
  CHECK(can_another(share_shared));
  CHECK(!can_another(take_shared));
  CHECK(!can_another(take_of_file));
  CHECK(!can_another(take_folder));
  CHECK(!can_another(take_deleted));
  CHECK(!can_another(take_kept));
  CHECK(fcntl(leased, F_GETLEASE) == F_WRLCK);
  // One lock, not two: what is given up is free.
  CHECK(set_lock(ranges, F_SETLK, F_UNLCK, 10, 20) == 0 && can_another(take_written_range));
  CHECK(set_lock(ranges, F_SETLK, F_WRLCK, 10, 20) == 0);
  struct stat status;
  CHECK(fstat(written, &status) == 0 && status.st_size == 5 && lseek(written, 0, SEEK_CUR) == 2);
}

int main(void) {
  ranges = make("ranges", O_RDWR);
  reader = make("ranges", O_RDONLY);
  CHECK(set_lock(ranges, F_SETLK, F_WRLCK, 10, 20) == 0 && set_lock(reader, F_SETLK, F_RDLCK, 100, 20) == 0);
  CHECK(set_lock(ranges, F_SETLK, F_WRLCK, 999999, 0) == 0);
  whole = make("whole", O_RDONLY);
  CHECK(flock(whole, LOCK_EX) == 0);
  shared = make("shared", O_WRONLY);
  CHECK(flock(shared, LOCK_SH) == 0);
  of_file = make("of-file", O_RDWR);
  CHECK(set_lock(of_file, F_OFD_SETLK, F_WRLCK, 0, 10) == 0);
  CHECK((folder = open(victim_path("."), O_RDONLY)) >= 0 && flock(folder, LOCK_EX) == 0);
  leased = make("leased", O_RDWR);
  CHECK(fcntl(leased, F_SETLEASE, F_WRLCK) == 0);
  deleted = make("deleted", O_RDWR);
  CHECK(write(deleted, "gone", 4) == 4 && unlink(victim_path("deleted")) == 0 && set_lock(deleted, F_SETLK, F_WRLCK, 0, 0) == 0);
  written = make("written", O_RDWR);
  CHECK(write(written, "in it", 5) == 5 && lseek(written, 2, SEEK_SET) == 2 && set_lock(written, F_SETLK, F_WRLCK, 0, 0) == 0);
  CHECK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, written, 0) != MAP_FAILED);  // read once more for its memory
  victim_wait(check);
  if (victim_broken()) CHECK(flock(whole, LOCK_UN) == 0);
  check();
  victim_pass();
}
