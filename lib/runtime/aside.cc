// A thread, not a process: it may look at what only the process itself may (Yama's ptrace_scope), and needs no waiting for.
#include "lib/runtime/aside.h"

#include <linux/sched.h>

#include "lib/runtime/entry-points.h"
#include "lib/runtime/state.h"
#include "lib/sys/file-facts.h"

namespace ckpt {

namespace {

struct Errand {
  void (*function)(void*);
  void* argument;
};

int do_errand(void* argument) {
  const auto* errand = static_cast<const Errand*>(argument);
  errand->function(errand->argument);
  return 0;
}

}  // namespace

// A folder of /proc/PID/task has two links and one a thread.
bool is_alone() {
  FileFacts tasks{};
  return !read_facts(AT_FDCWD, "/proc/self/task", &tasks).failed() && tasks.links == 3;
}

void run_aside(char* stack_top, void (*function)(void*), void* argument) {
  constexpr unsigned long kFlags = CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_VFORK;
  Errand errand{function, argument};
  // A process with one thread has none that could fork meanwhile. Where there may be no more threads (RLIMIT_NPROC), a fork in the
  // wrong moment is the smaller evil.
  if (g_state.has_notification != 0 || is_alone() || ckpt_clone_on(kFlags, stack_top, do_errand, &errand) < 0) function(argument);
}

void run_aside(Arena* arena, void (*function)(void*), void* argument) {
  auto* stack = static_cast<char*>(arena->take(kAsideStack));
  if (stack == nullptr) return function(argument);
  run_aside(stack + kAsideStack, function, argument);
}

}  // namespace ckpt
