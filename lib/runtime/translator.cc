// Old numbers in, new ones to the kernel, and back: around each system call of libc that has to do with processes, after a restart
// that could not give the old numbers back (lib/format/numbers.h). On the stack of the program, at any call of any thread; touches
// no vector register, for the caller expects a system call.
//
// A new child has its real number, and what it inherits says so: it is not in the table. So fork and clone are left alone.
#include <linux/futex.h>
#include <linux/wait.h>

#include "lib/runtime/numbers.h"
#include "lib/runtime/stolen-signals.h"
#include "lib/runtime/translated-call.h"
#include "lib/sys/pid-calls.h"
#include "lib/sys/signals.h"

extern "C" {
[[gnu::visibility("hidden")]] const ckpt::format::NumberTable* ckpt_numbers = nullptr;
}

namespace ckpt {

namespace {

using format::NumberPair;
using sys::Care;
using sys::PidCall;
using sys::Who;

// The pair of `number` by `key`, where pairs ascend in that.
const NumberPair* find_pair(const NumberPair* pairs, std::uint32_t count, std::int32_t number, std::int32_t NumberPair::*key) {
  while (count > 0) {
    const std::uint32_t half = count / 2;
    if (pairs[half].*key == number) return &pairs[half];
    if (pairs[half].*key < number) {
      pairs += half + 1;
      count -= half + 1;
    } else {
      count = half;
    }
  }
  return nullptr;
}

const NumberPair* pairs_of(const format::NumberTable* table) { return reinterpret_cast<const NumberPair*>(table + 1); }

std::uint64_t passed_on(Who who, const std::uint64_t* given, unsigned index) {
  constexpr std::uint64_t kUser = 2;  // PRIO_USER
  const auto number = static_cast<std::int32_t>(given[index]);
  switch (who) {
    case Who::kNobody:
      break;
    case Who::kNumber:
      return number > 0 ? static_cast<std::uint64_t>(real_number(number)) : given[index];
    case Who::kOrGroup:
      if (number > 0) return static_cast<std::uint64_t>(real_number(number));
      return number < -1 ? static_cast<std::uint64_t>(static_cast<std::int64_t>(-real_number(-number))) : given[index];
    case Who::kByPriority:
      return given[index - 1] < kUser ? passed_on(Who::kNumber, given, index) : given[index];
    case Who::kByIoPriority:
      return given[index - 1] <= kUser ? passed_on(Who::kNumber, given, index) : given[index];
    case Who::kByClock: {
      const std::int32_t owner = sys::number_of_clock(number);
      return owner > 0 ? static_cast<std::uint64_t>(sys::clock_of_number(number, real_number(owner))) : given[index];
    }
  }
  return given[index];
}

// --- fcntl(2), ioctl(2), waitid(2): what is told through memory ---

constexpr std::uint64_t kGetLock = 5, kSetOwner = 8, kGetOwner = 9, kSetOwnerEx = 15, kGetOwnerEx = 16;
constexpr std::uint64_t kGetGroup = 0x540f, kSetGroup = 0x5410, kGetSession = 0x5429;  // TIOC…
// FIO… and SIOC…: who gets the signals of a socket; a group is negative.
constexpr std::uint64_t kSetSocketOwner[] = {0x8901, 0x8902}, kGetSocketOwner[] = {0x8903, 0x8904};

struct Owner {
  std::int32_t type, number;
};

void pass_fcntl(TranslatedCall* call) {
  if (call->given[1] == kSetOwner) call->passed[2] = passed_on(Who::kOrGroup, call->given, 2);
  if (call->given[1] != kSetOwnerEx) return;
  const auto* given = reinterpret_cast<const Owner*>(call->given[2]);
  auto* copy = reinterpret_cast<Owner*>(call->scratch);
  *copy = {given->type, real_number(given->number)};
  call->passed[2] = reinterpret_cast<std::uint64_t>(copy);
}

void show_fcntl(TranslatedCall* call) {
  struct Lock {
    std::int16_t type, whence;
    std::int64_t start, size;
    std::int32_t pid;
  };
  if (call->given[1] == kGetOwner)
    call->result = call->result < 0 ? -shown_number(static_cast<std::int32_t>(-call->result))
                                    : shown_number(static_cast<std::int32_t>(call->result));
  if (call->given[1] == kGetOwnerEx) {
    auto* owner = reinterpret_cast<Owner*>(call->given[2]);
    owner->number = shown_number(owner->number);
  }
  if (call->given[1] == kGetLock) {
    auto* lock = reinterpret_cast<Lock*>(call->given[2]);
    if (lock->type != 2 /* F_UNLCK */) lock->pid = shown_number(lock->pid);
  }
}

void pass_ioctl(TranslatedCall* call) {
  const auto request = static_cast<std::uint32_t>(call->given[1]);
  if (request != kSetGroup && request != kSetSocketOwner[0] && request != kSetSocketOwner[1]) return;
  auto* copy = reinterpret_cast<std::int32_t*>(call->scratch);
  const std::int32_t number = *reinterpret_cast<const std::int32_t*>(call->given[2]);
  *copy = number < 0 ? -real_number(-number) : real_number(number);
  call->passed[2] = reinterpret_cast<std::uint64_t>(copy);
}

void show_ioctl(TranslatedCall* call) {
  const auto request = static_cast<std::uint32_t>(call->given[1]);
  const bool is_owner = request == kGetSocketOwner[0] || request == kGetSocketOwner[1];
  if (request != kGetGroup && request != kGetSession && !is_owner) return;
  auto* number = reinterpret_cast<std::int32_t*>(call->given[2]);
  *number = *number < 0 ? -shown_number(-*number) : shown_number(*number);
}

void show_sender(siginfo_t* info) {
  if (info != nullptr) info->si_pid = shown_number(info->si_pid);
}

// --- locks whose owner the kernel knows by the number that libc has put into them: it would find somebody else. They are done
// here, without priority inheritance. Also when nothing is translated any more: there may be some who wait in this way. ---

bool exchange(std::uint32_t* word, std::uint32_t* now, std::uint32_t wanted) {
  return __atomic_compare_exchange_n(word, now, wanted, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

constexpr std::uint32_t kOwnerMask = FUTEX_TID_MASK, kHasWaiters = FUTEX_WAITERS, kOwnerDied = FUTEX_OWNER_DIED;

std::uint32_t own_number() { return static_cast<std::uint32_t>(shown_number(sys::gettid())); }

// A time by one of the program's clocks.
struct Deadline {
  int clock;
  const __kernel_timespec* time;  // nullptr: for ever
};

// Waits while *word is `value`, but no longer than a second at once: a restart meanwhile may change what the deadline is to the
// kernel.
int wait_a_while(std::uint32_t* word, std::uint64_t flags, std::uint32_t value, const Deadline& deadline) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  if (deadline.time == nullptr) return sys::call(__NR_futex, word, FUTEX_WAIT | flags, value, nullptr).error();
  const std::int64_t left = deadline.time->tv_sec * kSecond + deadline.time->tv_nsec - program_time_ns(deadline.clock);
  if (left <= 0) return sys::kEtimedout;
  const __kernel_timespec rest = left > kSecond ? __kernel_timespec{1, 0} : __kernel_timespec{0, left};
  const int error = sys::call(__NR_futex, word, FUTEX_WAIT | flags, value, &rest).error();
  return error == sys::kEtimedout ? sys::kEagain : error;
}

// As FUTEX_LOCK_PI and FUTEX_TRYLOCK_PI.
long lock_owned(std::uint32_t* word, bool waits, std::uint64_t flags, const Deadline& deadline) {
  const std::uint32_t own = own_number();
  std::uint32_t waiters = 0;  // once we have waited, others may wait as well
  std::uint32_t now = __atomic_load_n(word, __ATOMIC_ACQUIRE);
  for (;;) {
    if ((now & kOwnerMask) == 0) {
      if (exchange(word, &now, own | (now & ~kOwnerMask) | waiters)) return 0;
      continue;
    }
    if ((now & kOwnerMask) == own) return -sys::kEdeadlk;
    if (!waits) return -sys::kEagain;
    if ((now & kHasWaiters) == 0 && !exchange(word, &now, now | kHasWaiters)) continue;
    waiters = kHasWaiters;
    const int error = wait_a_while(word, flags, now | kHasWaiters, deadline);
    if (error != 0 && error != sys::kEagain && error != sys::kEintr) return -error;
    now = __atomic_load_n(word, __ATOMIC_ACQUIRE);
  }
}

long unlock_owned(std::uint32_t* word, std::uint32_t left, std::uint64_t flags) {
  const std::uint32_t own = own_number();
  std::uint32_t now = __atomic_load_n(word, __ATOMIC_ACQUIRE);
  do {
    if ((now & kOwnerMask) != own) return -sys::kEperm;
  } while (!exchange(word, &now, left | (left != 0 ? now & kHasWaiters : 0)));
  if ((now & kHasWaiters) != 0) sys::call(__NR_futex, word, FUTEX_WAKE | flags, 1).ignore();
  return 0;
}

void do_futex(TranslatedCall* call) {
  if (ckpt_translation.keeps_locks == 0) return;
  constexpr std::uint32_t kLockPi2 = 13;  // FUTEX_LOCK_PI2
  const auto operation = static_cast<std::uint32_t>(call->given[1]);
  const std::uint32_t flags = operation & FUTEX_PRIVATE_FLAG;
  const std::uint32_t command = operation & static_cast<std::uint32_t>(FUTEX_CMD_MASK);
  auto* word = reinterpret_cast<std::uint32_t*>(call->given[0]);
  const bool is_real = command == FUTEX_LOCK_PI || (operation & FUTEX_CLOCK_REALTIME) != 0;
  call->is_done = 1;
  if (command == FUTEX_LOCK_PI || command == kLockPi2 || command == FUTEX_TRYLOCK_PI) {
    call->result =
        lock_owned(word, command != FUTEX_TRYLOCK_PI, flags,
                   {is_real ? CLOCK_REALTIME : CLOCK_MONOTONIC, reinterpret_cast<const __kernel_timespec*>(call->given[3])});
  } else if (command == FUTEX_UNLOCK_PI) {
    call->result = unlock_owned(word, 0, flags);
  } else {
    call->is_done = 0;
  }
}

// What the kernel does for a thread that ends, by the number that it knows it by.
void leave_robust_list(std::int32_t tid) {
  constexpr unsigned kMost = 2048;  // as many as the kernel looks at
  robust_list_head* head = nullptr;
  std::uint64_t size = 0;
  if (sys::call(__NR_get_robust_list, tid, &head, &size).failed() || head == nullptr) return;
  const auto offset = static_cast<std::uint64_t>(head->futex_offset);
  const auto place_of = [](const robust_list* entry) { return reinterpret_cast<std::uint64_t>(entry) & ~1ULL; };  // bit 0: PI
  const auto leave = [&](const robust_list* entry) {
    unlock_owned(reinterpret_cast<std::uint32_t*>(place_of(entry) + offset), kOwnerDied, 0);
  };
  const robust_list* entry = head->list.next;
  for (unsigned i = 0; i < kMost && place_of(entry) != reinterpret_cast<std::uint64_t>(&head->list); ++i) {
    const auto* next = reinterpret_cast<const robust_list*>(place_of(entry))->next;  // the lock may go with its next owner
    leave(entry);
    entry = next;
  }
  if (head->list_op_pending != nullptr) leave(head->list_op_pending);
}

// The signals of pthread_cancel(3) and setuid(3): their handlers of libc, which never come through our wrappers, want to read that
// the process itself has sent them.
void pass_thread_signal(const TranslatedCall* call) {
  const auto signal = static_cast<int>(call->given[2]);
  if (ckpt_numbers != nullptr && (signal == format::kReservedSignal || signal == format::kReservedSignal2)) steal(signal);
}

void pass_waitid(TranslatedCall* call) {
  if (call->given[0] == P_PID || call->given[0] == P_PGID) call->passed[1] = passed_on(Who::kNumber, call->given, 1);
}

void pass_timer(TranslatedCall* call) {
  struct Event {  // sigevent of the kernel
    std::uint64_t value;
    std::int32_t signal, notify, tid, padding[11];
  };
  static_assert(sizeof(Event) <= sizeof(call->scratch));
  constexpr std::int32_t kToThread = 4;  // SIGEV_THREAD_ID
  const auto* given = reinterpret_cast<const Event*>(call->given[1]);
  if (given == nullptr || (given->notify & kToThread) == 0) return;
  auto* copy = reinterpret_cast<Event*>(call->scratch);
  *copy = *given;
  copy->tid = real_number(given->tid);
  call->passed[1] = reinterpret_cast<std::uint64_t>(copy);
}

void pass_specially(TranslatedCall* call, Care care) {
  switch (care) {
    case Care::kNone:
    case Care::kSignalInfo:
      return;
    case Care::kToThread:
      return pass_thread_signal(call);
    case Care::kWaitid:
      return pass_waitid(call);
    case Care::kFcntl:
      return pass_fcntl(call);
    case Care::kIoctl:
      return pass_ioctl(call);
    case Care::kFutex:
      return do_futex(call);
    case Care::kLeave:
      return leave_robust_list(0);
    case Care::kTimer:
      return pass_timer(call);
  }
}

void show_specially(TranslatedCall* call, Care care) {
  switch (care) {
    case Care::kWaitid:
      return show_sender(reinterpret_cast<siginfo_t*>(call->given[2]));
    case Care::kSignalInfo:
      return show_sender_of(reinterpret_cast<siginfo_t*>(call->given[1]));
    case Care::kFcntl:
      return show_fcntl(call);
    case Care::kIoctl:
      return show_ioctl(call);
    default:
      return;
  }
}

}  // namespace

std::int32_t real_number(std::int32_t shown) {
  const format::NumberTable* table = ckpt_numbers;
  if (table == nullptr) return shown;
  const NumberPair* pair = find_pair(pairs_of(table), table->count, shown, &NumberPair::shown);
  return pair != nullptr ? pair->real : shown;
}

std::int32_t shown_number(std::int32_t real) {
  const format::NumberTable* table = ckpt_numbers;
  if (table == nullptr) return real;
  const NumberPair* pair = find_pair(pairs_of(table) + table->count, table->count, real, &NumberPair::real);
  return pair != nullptr ? pair->shown : real;
}

void show_sender_of(siginfo_t* info) {
  if (ckpt_numbers == nullptr || info == nullptr) return;
  const bool is_of_child = info->si_signo == SIGCHLD && info->si_code > 0;
  const bool is_sent = info->si_code == SI_USER || info->si_code == SI_TKILL || info->si_code == SI_QUEUE;
  if (is_of_child || is_sent) show_sender(info);
}

}  // namespace ckpt

extern "C" {

[[gnu::visibility("hidden")]] void ckpt_before_call(ckpt::TranslatedCall* call) {
  using namespace ckpt;
  for (unsigned i = 0; i < 6; ++i) call->passed[i] = call->given[i];
  call->is_done = 0;
  pass_time(call);
  const PidCall* row = sys::find_pid_call(call->number);
  if (row == nullptr) return;
  for (unsigned i = 0; i < 2; ++i) call->passed[i] = passed_on(row->who[i], call->given, i);
  pass_specially(call, row->care);
}

[[gnu::visibility("hidden")]] void ckpt_after_call(ckpt::TranslatedCall* call) {
  using namespace ckpt;
  if (sys::SysResult(call->result).failed()) return;
  show_time(call);
  const PidCall* row = sys::find_pid_call(call->number);
  if (row == nullptr || ckpt_numbers == nullptr) return;
  if (row->returns_number && call->result > 0) call->result = shown_number(static_cast<std::int32_t>(call->result));
  show_specially(call, row->care);
}
}
