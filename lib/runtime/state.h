// What the runtime keeps in the program between checkpoints. All of it is zero or constant until the first use.
//
// Every mapping and every page that has been written makes each fork of the program dearer. So what is written in every program
// lies in State, in the one page of libckpt.so that ld.so writes anyway, and the rest is mapped when it is first needed.
//
// It is part of the program's memory, so it is in every image: the writer puts its own copy back to rest before it saves it
// (rest() in writer.cc), and a restarted program finds it as after a finished checkpoint.
#pragma once

#include <cstdint>

#include "lib/format/control.h"
#include "lib/resources/mqueue/record.h"
#include "lib/resources/threads/record.h"
#include "lib/sys/signals.h"

namespace ckpt {

// What is left of a transfer of many pieces: struct msghdr and struct iovec as the kernel has them.
struct CarriedTransfer {
  struct Piece {
    std::uint64_t base, size;
  };
  struct Message {
    std::uint64_t name, name_size, pieces, piece_count, control, control_size, flags;
  } message;
  Piece pieces[1024];  // UIO_MAXIOV
};

// A thread as the freeze sees it. Sticky: a thread keeps its slot while it lives, for `left` and `carried` must stay readable until
// the call that they were written for has been entered again.
struct ThreadSlot {
  enum State : std::uint32_t { kFree = 0, kKnown = 1, kSignalled = 2, kFrozen = 3 };
  std::uint32_t state;  // a futex; the thread moves it from kSignalled to kFrozen
  std::int32_t tid;
  std::uint32_t generation;  // freeze in which it was last seen
  std::uint32_t sent;        // bit n: kStopSignals[n] was sent in this freeze and may still be pending
  std::uint32_t taken;       // the signal that stopped it
  std::uint32_t tries;
  std::int64_t sent_ns;
  format::SyscallFacts before;  // read by the leader just before the signal
  std::uint32_t pending_count;
  ::ucontext* context;
  format::ThreadRecord record;
  format::ThreadStateRecord details;
  __kernel_timespec left;  // what is left of a relative timeout
  siginfo_t* pending;      // its own pending signals, taken out while frozen
  char scratch[512];
  std::uint64_t clock_there;          // of a CPU's scheduler (interruption.cc)
  alignas(16) char stub_stack[4096];  // of the helper that reads it
  CarriedTransfer carried;            // touched by those alone that need it
};

inline constexpr unsigned kSlotsPerChunk = 128;
inline constexpr unsigned kMaxChunks = 512;  // 65,536 threads

// The signals that stop a thread, in order of preference (why: lib/runtime/freeze.cc).
inline constexpr int kStopSignals[] = {format::kQuietSignal, format::kReservedSignal, format::kReservedSignal2};

// What the program asked for with sigaction(2), where the kernel holds our trampoline instead.
struct ProgramAction {
  std::uint64_t handler;  // function of the program; 0: SIG_DFL, 1: SIG_IGN
  std::uint64_t flags;    // as the program gave them; kept for the door signals only, whose real flags differ
};

// What a handler of the program must know that starts after a freeze; found by the thread pointer (mark_of in interruption.cc).
struct ThreadMark {
  std::uint64_t thread_pointer;
  std::uint64_t rewound_pc;      // address of the system call instruction the thread was put back to
  std::uint32_t is_restartable;  // the kernel itself restarts this call under SA_RESTART
  std::uint32_t generation;      // of the freeze; older ones may be overwritten
};
inline constexpr unsigned kMarks = 4096;
inline constexpr unsigned kNotifications = 16;

struct State {
  std::uint32_t is_ready;
  std::int32_t pid;  // of the process this state belongs to; a forked child notices
  std::int32_t public_signal = format::kPublicSignal;
  std::uint32_t is_busy;     // a checkpoint is under way
  std::uint32_t generation;  // of the freeze
  std::uint32_t gate;        // futex: threads stand while gate / 2 == their generation; odd: they take out their pending signals
  std::uint32_t undrained;   // futex: threads that have not done so yet
  std::uint32_t arrivals;    // futex: counts threads that came to stand
  std::uint32_t inside;      // threads that have not left park() yet
  std::uint32_t slot_chunks;
  std::uint32_t resume_counter;  // threads still in the restorer (entry-points.S)
  std::int32_t direct_writer;    // a writer that is our own child (snapshot.cc); 0: none
  std::uint64_t restarts;
  std::uint64_t read_signals;  // by signalfds, at the freeze
  format::ControlPage* control;
  struct Tables* tables;           // see tables()
  const char* control_path;        // set where `control` is
  const char* launched_path;       // the same when the process began: its environment has it (CKPT_CONTROL)
  const char* runtime_path;        // of libckpt.so, as LD_PRELOAD named it; nullptr: it did not
  std::uint64_t restarts_seen;     // by notice_restart()
  sys::KernelAction stolen[2];     // of signals 33 and 32 before we took them
  std::uint32_t has_notification;  // the program has asked for one of a POSIX message queue
  std::uint32_t texts_used;        // bytes
  char texts[320];                 // of the paths above, one after the other, as far as they fit
};

struct Tables {
  ThreadSlot* chunks[kMaxChunks];
  ThreadMark marks[kMarks];
  format::QueueNotificationRecord notifications[kNotifications];
  char control_path[format::kPathBytes];  // of after a restart
};

extern State g_state;

// Moves the page of State out of the mapping of libckpt.so, into one with what lies behind: as a rule, memory of ld.so. Once, when
// the program begins; does nothing where another thread might look meanwhile.
void join_neighbour();

// Mapped at the first call, by any thread, in a handler too. nullptr: there is no memory.
Tables* tables();

extern "C" {
// By signal; entry-points.S jumps through it. In the page of State.
[[gnu::visibility("hidden")]] extern ProgramAction ckpt_actions[sys::kSignals + 1];
}

inline ThreadSlot* slot_at(unsigned index) { return &g_state.tables->chunks[index / kSlotsPerChunk][index % kSlotsPerChunk]; }

// Names the calling thread. Asked of the kernel: a thread that no libc made may have no memory behind its fs base, or none at all.
inline std::uint64_t thread_pointer() {
  constexpr int kArchGetFs = 0x1003;
  std::uint64_t value = 0;
  sys::call(__NR_arch_prctl, kArchGetFs, &value).ignore();
  return value != 0 ? value : static_cast<std::uint64_t>(sys::gettid());
}

}  // namespace ckpt
