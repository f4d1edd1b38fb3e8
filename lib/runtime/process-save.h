// What a checkpoint does in each process of the job, from freeze to thaw: the leader's and the members'.
#pragma once

#include "lib/runtime/checkpoint.h"
#include "lib/sys/arena.h"

namespace ckpt {

// The thread that took the door signal, and where it was (tid 0: nobody has looked).
struct Caller {
  ::ucontext* context;
  Arena* arena;
  format::SyscallFacts door;
  SoftLimits limits;
};

enum class Scratch : std::uint8_t { kUsed, kBusy, kNone };
// Runs `work` on a stack of its own in an arena of its own. kBusy: a checkpoint is under way here; kNone: no address space.
Scratch run_in_scratch(Caller* caller, void (*work)(Caller*, void*), void* argument);

// A process that is not dumpable may not read files of its own in /proc (prctl(2)): so it is for as long as it is frozen, and
// its writer. 2 stands for a rule that only the kernel sets, and is left alone.
class Dumpable {
 public:
  Dumpable();
  ~Dumpable();
  std::uint32_t before() const { return static_cast<std::uint32_t>(before_); }

 private:
  long before_;
};

// Everything until the snapshot is undone when this ends: signals taken out to be seen go back, and all threads go on.
class ProcessSave {
 public:
  explicit ProcessSave(const Caller& caller);
  ~ProcessSave();
  // False: the arena is too small.
  bool has_room() const { return collector_ != nullptr; }
  // Stops the other threads. False: the collector's message says why not; those that stood go on.
  bool freeze();
  // Waits until there is an image, and ends the job with SIGKILL, if that was asked for (ckpt-trigger --kill).
  void hold_if_asked();
  // Lets all threads go on, if that was not done before.
  void go_on();
  Collector* collector() { return collector_; }
  Snapshot* snapshot() { return snapshot_; }

 private:
  Caller caller_;
  Dumpable dumpable_;
  Collector* collector_ = nullptr;
  Snapshot* snapshot_ = nullptr;
  ThreadSlot* own_ = nullptr;  // of the caller, once everybody stands
  bool has_gone_on_ = false;
};

// How long the threads, and the processes of the job, have to stop.
std::int64_t timeout_ns();

// Writes records of all state, or refuses; everybody stands.
bool collect_all(Collector* collector);
// Forks the writer; everybody stands.
bool fork_writer(Collector* collector, Snapshot* snapshot);

}  // namespace ckpt
