// The system calls that take or return numbers of processes and threads, and where: what is translated after a restart that could
// not give the old ones back, and so what the restorer leads through the translator. One table for both.
#pragma once

#include <asm/unistd.h>

#include <cstdint>

namespace ckpt::sys {

// How an argument says who is meant.
enum class Who : std::uint8_t {
  kNobody,        // it is something else
  kNumber,        // a process, thread, session or group; 0: oneself
  kOrGroup,       // below −1: the group of that number
  kByPriority,    // getpriority(2): the argument before says PRIO_USER where it is a user
  kByIoPriority,  // ioprio_get(2): the same, counted from 1
  kByClock,       // the CPU clock of a process or thread
};

// What else a call needs done for it.
enum class Care : std::uint8_t {
  kNone,
  kToThread,    // libc tells its own signals by the sender
  kWaitid,      // who: by type; tells of whom in a siginfo
  kSignalInfo,  // returns a siginfo as second argument
  kFcntl,
  kIoctl,
  kFutex,  // the kernel compares the owner of a lock with priority inheritance
  kLeave,  // … and those of robust locks, when the thread ends
  kTimer,  // SIGEV_THREAD_ID
};

struct PidCall {
  std::uint16_t number;
  Who who[2];  // first and second argument
  bool returns_number;
  Care care;
};

inline constexpr PidCall kPidCalls[] = {
    {__NR_getpid, {}, true, Care::kNone},
    {__NR_gettid, {}, true, Care::kNone},
    {__NR_getppid, {}, true, Care::kNone},
    {__NR_getpgrp, {}, true, Care::kNone},
    {__NR_setsid, {}, true, Care::kNone},
    {__NR_set_tid_address, {}, true, Care::kNone},
    {__NR_getpgid, {Who::kNumber}, true, Care::kNone},
    {__NR_getsid, {Who::kNumber}, true, Care::kNone},
    {__NR_setpgid, {Who::kNumber, Who::kNumber}, false, Care::kNone},
    {__NR_kill, {Who::kOrGroup}, false, Care::kNone},
    {__NR_tkill, {Who::kNumber}, false, Care::kNone},
    {__NR_tgkill, {Who::kNumber, Who::kNumber}, false, Care::kToThread},
    {__NR_rt_sigqueueinfo, {Who::kNumber}, false, Care::kNone},
    {__NR_rt_tgsigqueueinfo, {Who::kNumber, Who::kNumber}, false, Care::kNone},
    {__NR_rt_sigtimedwait, {}, false, Care::kSignalInfo},
    {__NR_wait4, {Who::kOrGroup}, true, Care::kNone},
    {__NR_waitid, {}, false, Care::kWaitid},
    {__NR_sched_setparam, {Who::kNumber}, false, Care::kNone},
    {__NR_sched_getparam, {Who::kNumber}, false, Care::kNone},
    {__NR_sched_setscheduler, {Who::kNumber}, false, Care::kNone},
    {__NR_sched_getscheduler, {Who::kNumber}, false, Care::kNone},
    {__NR_sched_rr_get_interval, {Who::kNumber}, false, Care::kNone},
    {__NR_sched_setaffinity, {Who::kNumber}, false, Care::kNone},
    {__NR_sched_getaffinity, {Who::kNumber}, false, Care::kNone},
    {__NR_sched_setattr, {Who::kNumber}, false, Care::kNone},
    {__NR_sched_getattr, {Who::kNumber}, false, Care::kNone},
    {__NR_getpriority, {Who::kNobody, Who::kByPriority}, false, Care::kNone},
    {__NR_setpriority, {Who::kNobody, Who::kByPriority}, false, Care::kNone},
    {__NR_ioprio_get, {Who::kNobody, Who::kByIoPriority}, false, Care::kNone},
    {__NR_ioprio_set, {Who::kNobody, Who::kByIoPriority}, false, Care::kNone},
    {__NR_prlimit64, {Who::kNumber}, false, Care::kNone},
    {__NR_process_vm_readv, {Who::kNumber}, false, Care::kNone},
    {__NR_process_vm_writev, {Who::kNumber}, false, Care::kNone},
    {__NR_kcmp, {Who::kNumber, Who::kNumber}, false, Care::kNone},
    {__NR_ptrace, {Who::kNobody, Who::kNumber}, false, Care::kNone},
    {__NR_migrate_pages, {Who::kNumber}, false, Care::kNone},
    {__NR_move_pages, {Who::kNumber}, false, Care::kNone},
    {__NR_get_robust_list, {Who::kNumber}, false, Care::kNone},
    {__NR_pidfd_open, {Who::kNumber}, false, Care::kNone},
    {__NR_fcntl, {}, false, Care::kFcntl},
    {__NR_ioctl, {}, false, Care::kIoctl},
    {__NR_futex, {}, false, Care::kFutex},
    {__NR_clock_nanosleep, {Who::kByClock}, false, Care::kNone},
    {__NR_clock_gettime, {Who::kByClock}, false, Care::kNone},
    {__NR_clock_getres, {Who::kByClock}, false, Care::kNone},
    {__NR_exit, {}, false, Care::kLeave},
    {__NR_timer_create, {Who::kByClock}, false, Care::kTimer},
};

// Clocks of CPU time have the number inverted above three bits that say what is counted; 3 is that of a descriptor.
constexpr std::int32_t number_of_clock(std::int32_t clock) { return clock < 0 && (clock & 7) != 3 ? ~(clock >> 3) : 0; }
constexpr std::int32_t clock_of_number(std::int32_t clock, std::int32_t number) {
  return static_cast<std::int32_t>(~static_cast<std::uint32_t>(number) << 3) | (clock & 7);
}

constexpr const PidCall* find_pid_call(std::uint64_t number) {
  for (const PidCall& call : kPidCalls) {
    if (call.number == number) return &call;
  }
  return nullptr;
}

}  // namespace ckpt::sys
