// threads: registers and kernel state of each thread.
#pragma once

#include <cstdint>

#include "lib/format/image.h"

namespace ckpt::format {

// General registers, xsave area, signal mask and alternate stack are not here: the kernel saved them in the signal frame on the
// thread's own stack, and `rt_sigreturn` on that frame brings them back.
struct ThreadRecord {
  std::int32_t tid;
  std::uint32_t rseq_size;  // 0: no registration
  std::uint64_t context;    // address of the ucontext in the frame; rsp for rt_sigreturn
  std::uint64_t fs_base;
  std::uint64_t gs_base;
  std::uint64_t clear_child_tid;  // set_tid_address(2)
  std::uint64_t robust_list;      // set_robust_list(2)
  std::uint64_t robust_list_size;
  std::uint64_t rseq_address;
  std::uint32_t rseq_signature;
  std::uint32_t is_main;
  std::uint64_t blocked_signals;
  char name[16];
};

// sched_setattr(2), as the kernel takes it.
struct Scheduling {
  std::uint32_t size;
  std::uint32_t policy;
  std::uint64_t flags;
  std::int32_t nice;
  std::uint32_t priority;
  std::uint64_t runtime, deadline, period;
  std::uint32_t util_min, util_max;
};
static_assert(sizeof(Scheduling) == 56);

inline constexpr unsigned kCpuWords = 32;  // 2048 CPUs
inline constexpr unsigned kSpeculationKinds = 3;

// What the kernel notes of a thread that a new one would not have.
struct ThreadStateRecord {
  std::int32_t tid;
  std::int32_t io_priority;  // ioprio_set(2)
  Scheduling scheduling;
  std::uint64_t timer_slack_ns;
  std::int32_t parent_death_signal;
  std::uint32_t tsc_mode;                        // PR_SET_TSC
  std::uint32_t memory_failure;                  // PR_MCE_KILL
  std::uint32_t speculation[kSpeculationKinds];  // PR_SET_SPECULATION_CTRL
  std::uint32_t no_new_privs;
  std::uint32_t secure_bits;
  std::uint32_t uid[4];  // real, effective, saved, file system
  std::uint32_t gid[4];
  std::uint64_t cap_permitted, cap_effective, cap_inheritable, cap_ambient, cap_bounding;
  std::uint32_t is_pinned;        // it may not use every CPU
  std::uint32_t seccomp_filters;  // all of them from the environment
  std::uint32_t cpuid_faults;     // ARCH_SET_CPUID: refused
  std::uint32_t reserved;
  std::uint64_t cpus[kCpuWords];  // sched_setaffinity(2); of those that are pinned
};

// Of a thread that does not share working directory and umask with the process (CLONE_FS). The path follows, with its NUL.
struct ThreadFolderRecord {
  std::int32_t tid;
  std::uint32_t umask;
  std::uint32_t path_size;
  std::uint32_t reserved;
};

// The runtime's own addresses in the program, which the restorer needs to leave through it.
struct RuntimeRecord {
  std::uint64_t resume_entry;    // code: see lib/runtime/resume.S
  std::uint64_t resume_counter;  // u32: threads still inside the restorer
  std::uint64_t control_page;    // where the control page is mapped
  std::uint64_t restarts;        // u64, counted up by each restart
};

}  // namespace ckpt::format
