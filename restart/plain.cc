// See plain.h. Nothing is touched here, but that process numbers are used up to see how long a round takes.
#include "restart/plain.h"

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>

#include "lib/common/error.h"
#include "lib/common/units.h"
#include "restart/numbers.h"

namespace ckpt {

namespace {

constexpr double kPatience = 600;  // seconds that the numbers may take
constexpr double kNoticed = 5;     // more are said

std::int64_t now_ns(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

bool is_number_taken(pid_t number) {
  return access(("/proc/" + std::to_string(number)).c_str(), F_OK) == 0 || kill(number, 0) == 0 || errno == EPERM;
}

// A process that lives for a moment only has it often enough.
bool stays_taken(pid_t number) {
  constexpr int kTries = 60;
  for (int i = 0; i < kTries; ++i) {
    if (!is_number_taken(number)) return false;
    usleep(50'000);
  }
  return true;
}

std::string name_of(pid_t pid) {
  std::string name;
  std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/comm"), name);
  return name.empty() ? "" : " (" + mask(name) + ")";
}

// In the order in which they are made, more or less.
std::vector<pid_t> numbers_of(const JobImage& job) {
  std::vector<pid_t> numbers;
  for (const ProcessImage& process : job.processes) {
    for (const auto& thread : process.threads) numbers.push_back(thread.tid);
    for (const auto& zombie : process.zombies) numbers.push_back(zombie.pid);
  }
  return numbers;
}

// A number below the one before it comes in the next round only.
std::size_t count_rounds(const JobImage& job) {
  const std::vector<pid_t> numbers = numbers_of(job);
  std::size_t rounds = 1;
  for (std::size_t i = 1; i < numbers.size(); ++i) rounds += numbers[i] < numbers[i - 1] ? 1 : 0;
  return rounds;
}

// What only a namespace gives.
std::string find_obstacle(const JobImage& job) {
  for (const ProcessImage& process : job.processes) {
    if (process.process.pid == 1) return "the program was the first process of a container";
    if (process.clocks.monotonic_ns > now_ns(CLOCK_MONOTONIC))
      return "the clock of this machine, which was started later, is behind the program's";
    if (process.threads.size() > 1 && syscall(SYS_clone3, nullptr, 0) < 0 && errno != EINVAL) return "its threads need clone3";
  }
  for (const pid_t number : numbers_of(job)) {
    if (stays_taken(number)) return "its number " + std::to_string(number) + " is somebody else's" + name_of(number);
  }
  return "";
}

}  // namespace

std::vector<std::string> check_without_namespaces(const Image& image, const std::string& reason) {
  const std::string obstacle = find_obstacle(image.job());
  if (!obstacle.empty()) throw Error::plain(reason + "; without namespaces it can't be restarted: " + obstacle, ExitCode::kRunner);
  const bool can_choose = can_choose_numbers();
  double seconds = 0;
  if (!can_choose) {
    seconds = measure_round() * static_cast<double>(count_rounds(image.job()));
    if (seconds > kPatience) {
      throw Error::plain(reason + "; without namespaces it can't be restarted: to get its old process numbers would take about " +
                             std::to_string(static_cast<long>(seconds)) + " s (see kernel.pid_max)",
                         ExitCode::kRunner);
    }
  }
  return {"restarted without namespaces (" + reason + "): its parent is ckpt-restart, and its monotonic clock has gone on" +
          (can_choose ? "" : "; /proc/self/exe shows the restorer") +
          (seconds < kNoticed ? "" : "; its old numbers come in about " + std::to_string(static_cast<long>(seconds)) + " s")};
}

}  // namespace ckpt
