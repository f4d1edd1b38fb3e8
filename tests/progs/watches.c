// inotify: watches with their numbers and masks, on a folder, a file, a folder of the system, one deep below, and one that sees
// whoever looks into it; shared by dup; a thread that waits for an event.
#include "victim.h"

#include <poll.h>
#include <sys/inotify.h>

static int instance, copy, awaited, deep_wd, file_wd, folder_wd, system_wd, open_wd;
static pthread_t thread;

// The next event; -1: none.
static int next_event(int fd, uint32_t mask, const char* name) {
  char buffer[4096] __attribute__((aligned(8)));
  struct pollfd entry = {fd, POLLIN, 0};
  if (poll(&entry, 1, 0) == 0) return -1;
  CHECK(read(fd, buffer, sizeof(struct inotify_event) + strlen(name) + 16) > 0);
  const struct inotify_event* event = (const struct inotify_event*)buffer;
  if (event->mask != mask || (event->len > 0 ? strcmp(event->name, name) : *name) != 0)
    victim_fail("watch %d: event %x (%s) instead of %x", event->wd, event->mask, event->len > 0 ? event->name : "", mask);
  return event->wd;
}

static void make(const char* name) {
  int fd = open(victim_path(name), O_WRONLY | O_CREAT, 0600);
  CHECK(fd >= 0 && write(fd, "x", 1) == 1 && close(fd) == 0);
}

static void* wait_body(void* argument) {
  char buffer[4096] __attribute__((aligned(8)));
  CHECK(read(awaited, buffer, sizeof buffer) > 0);
  if (((struct inotify_event*)buffer)->mask != (IN_CREATE | IN_ISDIR)) victim_fail("the waiting thread met another event");
  return argument;
}

static void check(void) {
  CHECK(next_event(instance, 0, "") == -1);
  make("below/deep/new");
  CHECK(next_event(instance, IN_CREATE, "new") == deep_wd);
  CHECK(unlink(victim_path("below/deep/new")) == 0);
  make("watched");
  CHECK(next_event(copy, IN_MODIFY, "") == file_wd);
  CHECK(mkdir(victim_path("made"), 0700) == 0 && rmdir(victim_path("made")) == 0);
  CHECK(next_event(instance, IN_DELETE | IN_ISDIR, "made") == folder_wd);
  CHECK(next_event(instance, 0, "") == -1);
  make("opened/new");
  for (const uint32_t* mask = (uint32_t[]){IN_CREATE, IN_OPEN, IN_MODIFY, IN_CLOSE_WRITE, 0}; *mask != 0; ++mask) {
    CHECK(next_event(instance, *mask, "new") == open_wd);
  }
  CHECK(unlink(victim_path("opened/new")) == 0 && next_event(instance, IN_DELETE, "new") == open_wd);
  CHECK((fcntl(instance, F_GETFL) & O_NONBLOCK) != 0 && fcntl(instance, F_GETFD) == FD_CLOEXEC);
}

int main(void) {
  CHECK(mkdir(victim_path("below"), 0700) == 0 && mkdir(victim_path("below/deep"), 0700) == 0 &&
        mkdir(victim_path("quiet"), 0700) == 0);
  CHECK(chdir(victim_path(".")) == 0);
  make("watched");
  CHECK((instance = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) >= 0 && (copy = dup(instance)) >= 0);
  // Numbers have gaps.
  for (int i = 0; i < 3; ++i) CHECK(inotify_rm_watch(instance, inotify_add_watch(instance, "/", IN_DELETE_SELF)) == 0);
  CHECK((folder_wd = inotify_add_watch(instance, ".", IN_DELETE | IN_ONLYDIR)) >= 0);
  CHECK((system_wd = inotify_add_watch(instance, "/etc", IN_DELETE_SELF)) >= 0);
  CHECK(inotify_rm_watch(instance, inotify_add_watch(instance, "/", IN_DELETE_SELF)) == 0);
  CHECK((deep_wd = inotify_add_watch(instance, "below/deep", IN_CREATE)) >= 0);
  CHECK((file_wd = inotify_add_watch(instance, "watched", IN_MODIFY)) >= 0);
  CHECK(mkdir(victim_path("opened"), 0700) == 0);
  CHECK((open_wd = inotify_add_watch(instance, "opened", IN_ALL_EVENTS)) >= 0);
  char event[64];
  while (read(instance, event, sizeof event) > 0) continue;  // IN_IGNORED of what was taken off
  CHECK((awaited = inotify_init()) >= 0 && inotify_add_watch(awaited, "quiet", IN_CREATE) >= 0);
  thread = start_thread(wait_body, NULL);
  victim_wait(check);
  if (victim_broken()) CHECK(inotify_rm_watch(instance, file_wd) == 0);
  check();
  CHECK(inotify_rm_watch(instance, system_wd) == 0);
  CHECK(mkdir(victim_path("quiet/made"), 0700) == 0);
  join_thread(thread);
  victim_pass();
}
