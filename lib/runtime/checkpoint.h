// One checkpoint from the signal to the moment the program goes on.
#pragma once

#include "lib/resources/collector.h"
#include "lib/runtime/state.h"

namespace ckpt {

// Request id of a checkpoint that nobody filled in: `kill -USR2 PID`.
inline constexpr std::uint32_t kBareSignal = 0xffffffffU;

// In the handler of the thread that becomes the leader, all signals blocked. Returns when this thread may go on.
void run_checkpoint(::ucontext* context, std::uint32_t request_id);

// The same for a process that another one of its job has knocked at.
void run_member(::ucontext* context, int leader, int session_fd);

// Moves the control page to a stage, and wakes who waits for it.
void enter_stage(format::Stage stage);

// Takes the request up; false: it is not there (any more), or somebody else has it.
bool claim_request(std::uint32_t id);

// ckpt-trigger --kill: does not return once the image is durable, but if it failed. The leader of a session takes all others along:
// what they would read on the control page may be the next request's by then.
void hold_until_committed(const format::Session* session);

// Ends the request as failed, with the reason.
void fail_request(int code, int error, const char* message);

// The snapshot: what the writer, a child with a copy of our memory, needs. All of it lies in the arena.
struct Snapshot {
  Collector* collector;
  std::int64_t begin_ns;
  std::int64_t created_ns;
  std::uint32_t thread_count;
  int lock_fd;  // of the control file: held as long as the writer lives
  struct {
    int socket, image;  // of the trigger's help (help.h); -1: none
    std::uint32_t generation;
  } help;
};

// Forks the writer so that the program never sees a child (lib/runtime/snapshot.cc). The failure, or 0.
int take_snapshot(Snapshot* snapshot, void* stub_stack_top);

// The writer's whole life, in the child; never returns.
[[noreturn]] void write_image(Snapshot* snapshot);

}  // namespace ckpt
