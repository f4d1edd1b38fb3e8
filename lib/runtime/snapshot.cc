// The snapshot: a forked child has all memory as it is now, copy-on-write, and writes it while the program goes on.
//
// The writer is born through a short-lived intermediate (CLONE_VM, so it costs nothing) that ends at once: it becomes init's child,
// and the program never sees a child or a zombie that is not its own. A program that would inherit it (a subreaper, or pid 1) gets
// it as a direct child with exit signal 0, which wait() does not see without __WALL, and the next checkpoint reaps it. So do all of
// a job with pid 1 in it; where another process of the job is a subreaper, orphans.h has seen to it.
#include <linux/sched.h>
#include <linux/wait.h>

#include "lib/runtime/checkpoint.h"
#include "lib/runtime/control.h"
#include "lib/runtime/entry-points.h"
#include "lib/runtime/help.h"
#include "lib/runtime/orphans.h"

namespace ckpt {

namespace {

struct Birth {
  Snapshot* snapshot;
  int error;
};

// At once: it takes its name and says so itself, but only when it has got a CPU, and the program may have ended by then.
void note_writer(const Snapshot& snapshot, sys::SysResult child) {
  if (!child.failed() && snapshot.collector->member == 0) g_state.control->writer_pid = static_cast<std::uint32_t>(child.value());
}

// In the intermediate, on its own stack, sharing our memory while our thread waits (CLONE_VFORK).
int give_birth(void* argument) {
  auto* birth = static_cast<Birth*>(argument);
  const auto child = sys::raw_call(__NR_clone, 0);
  if (child.value() == 0) write_image(birth->snapshot);
  note_writer(*birth->snapshot, child);
  birth->error = child.error();
  return 0;
}

// Whether a process of the job would.
bool inherits_orphans(const format::Session* session) {
  if (is_subreaper() || g_state.pid == 1) return true;
  for (std::uint32_t i = 0; session != nullptr && i < session->member_count; ++i) {
    if (session->members[i].pid == 1) return true;
  }
  return false;
}

int fork_directly(Snapshot* snapshot) {
  if (g_state.direct_writer != 0) sys::call(__NR_wait4, g_state.direct_writer, nullptr, __WCLONE | WNOHANG, nullptr).ignore();
  const auto child = sys::raw_call(__NR_clone, 0);
  if (child.value() == 0) write_image(snapshot);
  note_writer(*snapshot, child);
  g_state.direct_writer = child.failed() ? 0 : static_cast<std::int32_t>(child.value());
  return child.error();
}

int fork_through_intermediate(Snapshot* snapshot, char* stack_top) {
  auto* birth = reinterpret_cast<Birth*>(stack_top - 64);
  *birth = {snapshot, 0};
  const long stub = ckpt_clone_on(CLONE_VM | CLONE_VFORK, stack_top - 128, give_birth, birth);
  if (stub < 0) return static_cast<int>(-stub);
  sys::call(__NR_wait4, stub, nullptr, __WCLONE, nullptr).ignore();
  return birth->error;
}

int fork(Snapshot* snapshot, void* stub_stack_top) {
  if (inherits_orphans(snapshot->collector->session)) return fork_directly(snapshot);
  return fork_through_intermediate(snapshot, static_cast<char*>(stub_stack_top));
}

// Where the program may not open the control file, collect has seen that the trigger may help.
bool needs_help() {
  return (g_state.control->request.flags & format::kMayHelp) != 0 &&
         sys::open(g_state.control_path, O_RDWR | O_NOFOLLOW).error() == sys::kEacces;
}

}  // namespace

int take_snapshot(Snapshot* snapshot, void* stub_stack_top) {
  if (snapshot->collector->member != 0) return fork(snapshot, stub_stack_top);  // the leader's writer holds the lock
  // Taken here and inherited by the writer: from the first moment of kWriting on, the lock says that a writer lives.
  // The one before may just be ending.
  Help help;
  sys::Fd lock = lock_for_writer();
  if (!lock.is_open() && needs_help()) {
    if (!ask_for_help(&help)) return sys::kEacces;
    snapshot->help = {help.socket.get(), help.image.get(), help.generation};
    lock = lock_for_writer(static_cast<sys::Fd&&>(help.lock));
    if (!lock.is_open()) return sys::kEbusy;
  }
  for (int attempt = 0; !lock.is_open() && attempt < 50; ++attempt) {
    const __kernel_timespec pause{0, 1'000'000};
    sys::call(__NR_nanosleep, &pause, nullptr).ignore();
    lock = lock_for_writer();
  }
  if (!lock.is_open()) return sys::kEbusy;
  snapshot->lock_fd = lock.get();
  enter_stage(format::Stage::kWriting);  // before the fork: the writer's own progress must not be overwritten
  return fork(snapshot, stub_stack_top);
}

}  // namespace ckpt
