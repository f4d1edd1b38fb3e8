// The kernel gives numbers out in order and begins again behind kernel.pid_max. A child that ends at once uses one up; it shares
// our memory, so it costs next to nothing. Two that go round at a time take each other's: they wait for each other.
#include "restart/numbers.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>

#include "lib/common/error.h"
#include "lib/common/fd.h"
#include "restart/engine/number-round.h"

namespace ckpt {

namespace {

constexpr int kSample = 200;
constexpr int kRounds = 10;  // somebody else may be quicker, on a busy machine many times
constexpr int kPatience = 2;

long clone_with_number(pid_t pid, std::uint64_t flags = 0, int exit_signal = SIGCHLD) {
  clone_args arguments{};
  arguments.flags = flags;
  arguments.exit_signal = static_cast<std::uint64_t>(exit_signal);
  arguments.set_tid = reinterpret_cast<std::uint64_t>(&pid);
  arguments.set_tid_size = 1;
  const long result = syscall(SYS_clone3, &arguments, sizeof(arguments));
  return result < 0 ? -errno : result;
}

int end_at_once(void*) { return 0; }

// The number that was used up; −1: there are too many processes.
pid_t use_up_number() {
  alignas(16) static char stack[16384];
  const pid_t pid = clone(end_at_once, stack + sizeof(stack), CLONE_VM | CLONE_VFORK, nullptr);
  if (pid > 0) waitpid(pid, nullptr, __WALL);
  return pid;
}

long read_pid_max() {
  long number = 32768;
  std::ifstream("/proc/sys/kernel/pid_max") >> number;
  return number;
}

// A lock on a file that all have and nobody writes; restart/engine/threads.cc takes the same. Whoever holds it too long is passed
// by.
Fd lock_numbers() {
  constexpr int kTries = 3000;
  Fd fd(open("/proc/sys/kernel/pid_max", O_RDONLY | O_CLOEXEC));
  for (int i = 0; i < kTries && flock(fd.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK; ++i) usleep(10'000);
  return fd;
}

pid_t fork_telling(int exit_signal) {
  if (exit_signal == SIGCHLD) return fork();
  clone_args arguments{};
  arguments.exit_signal = static_cast<std::uint64_t>(exit_signal);
  return static_cast<pid_t>(syscall(SYS_clone3, &arguments, sizeof(arguments)));
}

// Not for the moment only.
bool is_kept_by_somebody(pid_t number) {
  constexpr int kLooks = 20;
  for (int i = 0; i < kLooks && is_number_taken(number); ++i) usleep(50'000);
  return is_number_taken(number);
}

pid_t fork_by_going_round(pid_t wanted, int exit_signal) {
  const Fd lock = lock_numbers();
  const long pid_max = read_pid_max();
  const long tries = pid_max * kRounds;
  pid_t last = 0;
  long begin = engine::begin_of_real_tries(wanted, pid_max, is_number_taken);
  int kept = 0;  // rounds in which somebody had it for long
  for (long i = 0; i < tries; ++i) {
    const pid_t before = last;
    last = use_up_number();
    if (last < 0) break;
    while (engine::is_in_round(begin, last, wanted)) {
      last = fork_telling(exit_signal);
      if (last < 0) break;
      if (last == 0 && getpid() != wanted) _exit(0);
      if (last == wanted) flock(lock.get(), LOCK_UN);  // the child has the same lock, and may not close it soon
      if (last == 0 || last == wanted) return last;
      waitpid(last, nullptr, __WALL);
    }
    if (!engine::is_in_round(before + 1, wanted, last)) continue;
    if (is_kept_by_somebody(wanted) && ++kept == kPatience) break;
    begin = engine::begin_of_real_tries(wanted, pid_max, is_number_taken);
  }
  throw NumbersLost("process number " + std::to_string(wanted) + " did not come: it is somebody else's by now" +
                    shown_name_of(wanted));
}

}  // namespace

std::string shown_name_of(pid_t pid) {
  std::string name;
  std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/comm"), name);
  return name.empty() ? "" : " (" + mask(name) + ")";
}

bool is_number_taken(pid_t number) {
  const auto is_there = [](pid_t whom) { return kill(whom, 0) == 0 || errno == EPERM; };
  return access(("/proc/" + std::to_string(number)).c_str(), F_OK) == 0 || is_there(number) || is_there(-number);
}

pid_t fork_with_pid(pid_t pid, int exit_signal) {
  const long result = clone_with_number(pid, 0, exit_signal);
  if (result >= 0) return static_cast<pid_t>(result);
  if (result == -EPERM || result == -ENOSYS) return fork_by_going_round(pid, exit_signal);
  errno = static_cast<int>(-result);
  throw Error::from_errno("create process", std::to_string(pid), errno, ExitCode::kRunner);
}

pid_t fork_with_other_pid(const std::vector<pid_t>& not_these, int exit_signal) {
  for (;;) {
    const pid_t pid = fork_telling(exit_signal);
    if (pid < 0) throw Error::from_errno("create", "a process", errno, ExitCode::kRunner);
    const bool is_right = std::ranges::find(not_these, pid == 0 ? getpid() : pid) == not_these.end();
    if (is_right) return pid;
    if (pid == 0) _exit(0);
    waitpid(pid, nullptr, __WALL);
  }
}

int call_as(pid_t pid, int (&numbers)[2], const std::function<int(int (&)[2])>& call) {
  void* shared = mmap(nullptr, sizeof(int) * 3, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return call(numbers);
  auto* result = static_cast<int*>(shared);
  result[0] = ECHILD;  // it may be killed
  const long child = pid > 0 && pid != getpid() ? clone_with_number(pid, CLONE_FILES, 0) : -1;
  if (child == 0) {
    result[0] = call(numbers);
    std::memcpy(result + 1, numbers, sizeof(numbers));
    _exit(0);
  }
  int error = 0;
  if (child > 0) {
    while (waitpid(static_cast<pid_t>(child), nullptr, __WALL) < 0 && errno == EINTR) {
    }
    error = result[0];
    if (error != ECHILD) std::memcpy(numbers, result + 1, sizeof(numbers));
  } else {
    error = call(numbers);
  }
  munmap(shared, sizeof(int) * 3);
  return error;
}

bool can_choose_numbers() {
  const long child = clone_with_number(static_cast<pid_t>(read_pid_max() - 1));
  if (child == 0) _exit(0);
  if (child > 0) waitpid(static_cast<pid_t>(child), nullptr, 0);
  return child > 0 || child == -EEXIST;
}

// The quickest of several samples: another process may have had the CPU in the midst of one.
double measure_round() {
  constexpr int kSamples = 8;
  double best = 0;
  for (int sample = 0; sample < kSamples; ++sample) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kSample; ++i) use_up_number();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    if (sample == 0 || took.count() < best) best = took.count();
  }
  return best / kSample * static_cast<double>(read_pid_max());
}

}  // namespace ckpt
