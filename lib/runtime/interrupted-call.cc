// The kernel does not tell a handler which call its signal has ended, and the number is gone: rax holds the result.
//  - What /proc/self/task/TID/syscall said just before the signal counts, if it fits the frame: same pc, same stack, same
//  arguments.
//  - Else (the thread was running then) the number is in the instructions before the call, where libc put it there as a constant.
//  - Or in those of a caller, if the call is made by a function that takes the number: syscall(2), and all that block in musl.
#include "lib/runtime/interrupted-call.h"

#include "lib/runtime/entry-points.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using format::SyscallFacts;

// Calls that may be entered again with the same arguments after −EINTR. Never close(2): it is done.
constexpr Rule kRules[] = {
    {__NR_pause, Timeout::kNone, 0},
    {__NR_rt_sigsuspend, Timeout::kNone, 0},
    {__NR_rt_sigtimedwait, Timeout::kTimespec, 2},
    {__NR_nanosleep, Timeout::kSleep, 0},
    {__NR_clock_nanosleep, Timeout::kClockSleep, 2},
    {__NR_poll, Timeout::kMilliseconds, 2},
    {__NR_ppoll, Timeout::kNone, 0},
    {__NR_select, Timeout::kNone, 0},
    {__NR_pselect6, Timeout::kNone, 0},
    {__NR_epoll_wait, Timeout::kMilliseconds, 3},
    {__NR_epoll_pwait, Timeout::kMilliseconds, 3},
    {441 /* epoll_pwait2 */, Timeout::kTimespec, 3},
    {__NR_futex, Timeout::kFutex, 3},
    {449 /* futex_waitv */, Timeout::kNone, 0},
    {455 /* futex_wait */, Timeout::kNone, 0},
    {__NR_semop, Timeout::kNone, 0},
    {__NR_semtimedop, Timeout::kTimespec, 3},
    {__NR_msgrcv, Timeout::kNone, 0},
    {__NR_msgsnd, Timeout::kNone, 0},
    {__NR_io_getevents, Timeout::kTimespec, 4},
    {__NR_mq_timedsend, Timeout::kNone, 0},
    {__NR_mq_timedreceive, Timeout::kNone, 0},
    {__NR_read, Timeout::kNone, 0},
    {__NR_readv, Timeout::kNone, 0},
    {__NR_pread64, Timeout::kNone, 0},
    {__NR_write, Timeout::kNone, 0},
    {__NR_writev, Timeout::kNone, 0},
    {328 /* pwritev2 */, Timeout::kNone, 0},
    {__NR_pwrite64, Timeout::kNone, 0},
    {__NR_accept, Timeout::kNone, 0},
    {__NR_accept4, Timeout::kNone, 0},
    {__NR_recvfrom, Timeout::kNone, 0},
    {__NR_recvmsg, Timeout::kNone, 0},
    {__NR_sendto, Timeout::kNone, 0},
    {__NR_sendmsg, Timeout::kNone, 0},
    {__NR_recvmmsg, Timeout::kNone, 0},
    {__NR_sendmmsg, Timeout::kNone, 0},
    {__NR_connect, Timeout::kNone, 0},
    {__NR_wait4, Timeout::kNone, 0},
    {__NR_waitid, Timeout::kNone, 0},
    {__NR_fcntl, Timeout::kNone, 0},
    {__NR_flock, Timeout::kNone, 0},
    {__NR_open, Timeout::kNone, 0},
    {__NR_openat, Timeout::kNone, 0},
    {__NR_getrandom, Timeout::kNone, 0},
    {__NR_splice, Timeout::kNone, 0},
    {__NR_tee, Timeout::kNone, 0},
    {__NR_sendfile, Timeout::kNone, 0},
    {__NR_ioctl, Timeout::kNone, 0},
};

constexpr std::uint32_t kNoNumber = 512;  // above all numbers of system calls

std::uint32_t number_at(const std::uint8_t* code) {
  std::uint32_t number;
  __builtin_memcpy(&number, code, sizeof(number));
  return number;
}

std::uint64_t displacement_at(const std::uint8_t* code) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<std::int32_t>(number_at(code))));
}

long known(std::uint32_t number) { return rule_for(number) != nullptr ? static_cast<long>(number) : -1; }

// Reads memory that may not be there; the bytes that could be read.
std::size_t peek(std::uint64_t address, void* to, std::size_t size) {
  const struct {
    const void* base;
    std::uint64_t size;
  } local{to, size}, remote{reinterpret_cast<const void*>(address), size};
  const auto count = sys::call(__NR_process_vm_readv, g_state.pid, &local, 1, &remote, 1, 0);
  return count.failed() ? 0 : static_cast<std::size_t>(count.value());
}

// Where a jump or a call leads in the end: through the stubs of the linker (jmp *slot) and of compilers (jmp function).
std::uint64_t follow_stubs(std::uint64_t target) {
  constexpr std::uint32_t kEndbr64 = 0xfa1e0ff3;
  for (int i = 0; i < 4; ++i) {
    std::uint8_t code[12];
    if (peek(target, code, sizeof(code)) != sizeof(code)) break;
    const std::uint8_t* at = code + (number_at(code) == kEndbr64 ? 4 : 0);
    if (at[0] == 0xf2) ++at;  // bnd
    const std::uint64_t here = target + static_cast<std::uint64_t>(at - code);
    if (at[0] == 0xe9) {
      target = here + 5 + displacement_at(at + 1);
    } else if (at[0] == 0xff && at[1] == 0x25) {
      if (peek(here + 6 + displacement_at(at + 2), &target, sizeof(target)) != sizeof(target)) break;
    } else {
      break;
    }
  }
  return target;
}

// Whether a call instruction ends at `end`, the address behind `code`, that calls the function which `inside` is in.
bool is_call_of(const std::uint8_t* code_end, std::uint64_t end, std::uint64_t inside) {
  constexpr std::uint64_t kLongestFunction = 1024;
  std::uint64_t target = 0;
  if (code_end[-5] == 0xe8) {
    target = end + displacement_at(code_end - 4);
  } else if (code_end[-6] != 0xff || code_end[-5] != 0x15 ||
             peek(end + displacement_at(code_end - 4), &target, sizeof(target)) != sizeof(target)) {
    return false;
  }
  target = follow_stubs(target);
  return target <= inside && inside - target < kLongestFunction;
}

// The first caller that calls with a number as its first argument: `mov $number, %edi` close before its call. Callers are found on
// the stack; what merely looks like a return address does not lead to where we are.
long number_from_callers(const sigcontext* registers) {
  constexpr std::size_t kWords = 48, kBytes = 48;
  std::uint64_t stack[kWords];
  const std::size_t words = peek(registers->rsp, stack, sizeof(stack)) / 8;
  std::uint64_t inside = registers->rip;
  for (std::size_t i = 0; i < words; ++i) {
    std::uint8_t code[kBytes];
    const std::uint8_t* end = code + kBytes;
    if (stack[i] < kBytes || peek(stack[i] - kBytes, code, kBytes) != kBytes || !is_call_of(end, stack[i], inside)) continue;
    for (const std::uint8_t* at = end - 10; at > code; --at) {
      if (at[0] == 0xbf && at[-1] != 0x41 && number_at(at + 1) < kNoNumber) return known(number_at(at + 1));
    }
    inside = stack[i];
  }
  return -1;
}

// The number from what puts it into rax close before the call: `mov $number, %eax`, `xor %eax, %eax` (read) just before it, or a
// move from an argument register; or from the stack in ckpt_resumed_call and ckpt_translated_call.
long number_from_code(const sigcontext* registers) {
  const std::uint64_t pc = registers->rip;
  if (pc == reinterpret_cast<std::uint64_t>(ckpt_resumed_call_end))
    return reinterpret_cast<const ResumedCall*>(registers->rsp)->number;
  if (pc == reinterpret_cast<std::uint64_t>(ckpt_translated_call_end))
    return known(number_at(reinterpret_cast<const std::uint8_t*>(registers->rsp)));
  const auto* code = reinterpret_cast<const std::uint8_t*>(pc - 2);
  if ((code[-2] == 0x31 || code[-2] == 0x33) && code[-1] == 0xc0) return __NR_read;
  for (int back = 3; back <= 112; ++back) {
    const std::uint8_t* at = code - back;
    const bool is_from_argument = at[0] == 0x48 && at[1] == 0x89 && (at[2] == 0xf8 || at[2] == 0xf0);
    if (is_from_argument) return number_from_callers(registers);
    if (back >= 5 && back <= 40 && at[0] == 0xb8 && at[-1] != 0x41 && number_at(at + 1) < kNoNumber)
      return known(number_at(at + 1));
  }
  return -1;
}

// Whether the facts are of the very call that the frame shows: the thread may have gone on since.
bool fits(const SyscallFacts& facts, sigcontext* registers) {
  if (facts.is_set == 0 || facts.number == __NR_restart_syscall) return false;
  if (facts.pc != registers->rip || facts.stack != registers->rsp) return false;
  for (unsigned i = 0; i < 6; ++i) {
    if (facts.arguments[i] != *argument_register(registers, i)) return false;
  }
  return true;
}

}  // namespace

const Rule* rule_for(long number) {
  for (const Rule& rule : kRules) {
    if (rule.number == number) return &rule;
  }
  return nullptr;
}

bool is_syscall_instruction(std::uint64_t pc) {
  const auto* code = reinterpret_cast<const std::uint8_t*>(pc);
  return code[0] == 0x0f && code[1] == 0x05;
}

std::uint64_t* argument_register(sigcontext* registers, unsigned index) {
  static_assert(sizeof(__u64) == sizeof(std::uint64_t));
  __u64* const all[] = {&registers->rdi, &registers->rsi, &registers->rdx, &registers->r10, &registers->r8, &registers->r9};
  return reinterpret_cast<std::uint64_t*>(all[index]);
}

long number_of_call(const SyscallFacts& facts, sigcontext* registers) {
  return fits(facts, registers) ? facts.number : number_from_code(registers);
}

std::uint64_t read_exec_start(const char* path, std::span<char> buffer) {
  const sys::SysResult count = sys::read_file(path, buffer.data(), buffer.size());
  if (count.failed()) return 0;
  const char* at = buffer.data();
  while (*at != '\0' && !sys::starts_with(at, "se.exec_start")) ++at;
  while (*at != '\0' && *at != ':') ++at;
  if (*at == '\0') return 0;
  ++at;
  sys::skip_spaces(&at);
  const std::uint64_t milliseconds = sys::parse_decimal(&at);
  if (*at != '.') return 0;
  ++at;
  return milliseconds * 1'000'000 + sys::parse_decimal(&at);
}

void read_syscall_facts(int tid, SyscallFacts* facts) { read_syscall_facts_of(g_state.pid, tid, facts); }

void read_syscall_facts_of(int pid, int tid, SyscallFacts* facts) {
  *facts = {};
  char line[256];
  if (sys::read_file(sys::task_path(pid, tid, "syscall").c_str(), line, sizeof(line)).failed()) return;
  facts->tid = tid;
  const char* at = line;
  if (*at < '0' || *at > '9') return;  // "running", or "-1 …": not in a call
  facts->number = static_cast<std::int64_t>(sys::parse_decimal(&at));
  for (std::uint64_t& argument : facts->arguments) {
    sys::skip_spaces(&at);
    argument = sys::parse_hex(&at);
  }
  sys::skip_spaces(&at);
  facts->stack = sys::parse_hex(&at);
  sys::skip_spaces(&at);
  facts->pc = sys::parse_hex(&at);
  facts->is_set = 1;
  const Rule* rule = rule_for(facts->number);
  if (rule == nullptr || rule->timeout == Timeout::kNone) return;
  facts->slept_since_ns = read_exec_start(sys::task_path(pid, tid, "sched").c_str(), line);
  facts->cpu = static_cast<std::uint32_t>(sys::StatFile(sys::task_path(pid, tid, "stat").c_str()).number(39));
}

}  // namespace ckpt
