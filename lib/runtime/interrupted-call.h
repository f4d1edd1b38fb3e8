// Which system call was a thread in when a signal came: by what /proc said before, else by its code and its stack.
#pragma once

#include <span>

#include "lib/runtime/state.h"

namespace ckpt {

// How a call takes its timeout, when that is relative and the kernel does not update it itself.
enum class Timeout : std::uint8_t {
  kNone,          // absolute, none, or kept up to date by the kernel: call again as it was
  kMilliseconds,  // an int in the argument
  kTimespec,      // pointer in the argument
  kSleep,         // nanosleep: remaining time in the next argument if not null
  kClockSleep,    // clock_nanosleep: relative unless TIMER_ABSTIME
  kFutex,         // futex: relative for FUTEX_WAIT only
};

struct Rule {
  std::uint16_t number;
  Timeout timeout;
  std::uint8_t argument;  // 0…5: which holds the timeout
};

// The rule for calls that may be entered again with the same arguments after −EINTR; nullptr: not one of those.
const Rule* rule_for(long number);

bool is_syscall_instruction(std::uint64_t pc);

// A system call has just come back: the instruction leaves the address behind it in rcx.
inline bool is_behind_call(const sigcontext* registers) {
  return registers->rcx == registers->rip && is_syscall_instruction(registers->rip - 2);
}

// The registers of the six arguments, in order.
std::uint64_t* argument_register(sigcontext* registers, unsigned index);

// The number of the call that `registers` have just come back from: from `facts` if they are of this very call, else from the code
// before it or that of its callers. −1: not found. Only numbers that have a rule are ever guessed.
long number_of_call(const format::SyscallFacts& facts, sigcontext* registers);

// Nanoseconds at which the scheduler last put a thread on a CPU (or took it off), from its file `sched` in /proc: 0 where the
// kernel does not tell.
std::uint64_t read_exec_start(const char* path, std::span<char> buffer);

// Reads where another thread of this process is. Leader, before its signal.
void read_syscall_facts(int tid, format::SyscallFacts* facts);
// The same of a thread of another process.
void read_syscall_facts_of(int pid, int tid, format::SyscallFacts* facts);

}  // namespace ckpt
