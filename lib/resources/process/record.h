// process: identity of a process and what it carries that is neither memory, thread, signal nor descriptor.
#pragma once

#include <cstdint>

#include "lib/format/control.h"
#include "lib/format/image.h"

namespace ckpt::format {

// How the job was launched, so that a restarted one goes on the same way. First record of the index.
struct JobRecord {
  Settings settings;
  std::uint32_t process_count;
  std::uint32_t generation;
};

// Strings follow, each NUL-terminated, in this order: cwd, root, executable, then the command line as in /proc/PID/cmdline.
struct ProcessRecord {
  std::int32_t pid;
  std::int32_t parent_pid;
  std::int32_t group_id;
  std::int32_t session_id;
  std::int32_t foreground_group;  // of the controlling terminal; -1 without one
  std::uint32_t umask;
  std::uint32_t uid[4];  // real, effective, saved, file system
  std::uint32_t gid[4];
  std::uint64_t cap_permitted;
  std::uint64_t cap_effective;
  std::uint64_t cap_inheritable;
  std::uint32_t personality;
  std::uint32_t dumpable;
  std::int32_t nice;
  std::uint32_t no_new_privs;
  char name[16];                  // comm of the main thread
  std::uint32_t string_sizes[4];  // bytes of each string, NULs included
  std::uint32_t terminal;         // N of /dev/pts/N that controls it; kNoPair (terminals/record.h): none, or another kind
  std::uint32_t is_stopped;       // 1: by SIGSTOP or job control
};

// What is seldom set. Supplementary groups follow, each of 4 bytes.
struct ProcessStateRecord {
  std::int32_t oom_score_adj;
  std::uint32_t coredump_filter;  // 0: as the starter has it
  std::uint32_t is_subreaper;     // PR_SET_CHILD_SUBREAPER
  std::uint32_t thp_disabled;     // PR_SET_THP_DISABLE
  std::uint32_t write_execute;    // PR_SET_MDWE
  std::uint32_t merges_memory;    // PR_SET_MEMORY_MERGE
  std::uint32_t membarriers;      // registrations of membarrier(2)
  std::uint32_t group_count;
  std::uint64_t xstate_permitted;  // ARCH_GET_XCOMP_PERM
};

// A child that has ended and was not waited for.
struct ZombieRecord {
  static constexpr std::int32_t kStatus = 0xffff, kLedGroup = 1 << 16, kLedSession = 1 << 17;
  static constexpr int kExitSignalShift = 20;  // above: 1 + the signal that told the parent (clone(2)); 0: SIGCHLD

  std::int32_t pid;
  std::int32_t status;  // as of wait4(2), and what it was
};

struct LimitRecord {
  std::uint32_t resource;  // RLIMIT_*
  std::uint32_t reserved;
  std::uint64_t soft;
  std::uint64_t hard;
};

}  // namespace ckpt::format
