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

// A process that lives for a moment only has it often enough.
std::set<pid_t> find_taken(const std::vector<pid_t>& numbers) {
  constexpr int kTries = 60;
  std::set<pid_t> taken(numbers.begin(), numbers.end());
  for (int i = 0; i < kTries; ++i) {
    std::erase_if(taken, [](pid_t number) { return !is_number_taken(number); });
    if (taken.empty()) break;
    usleep(50'000);
  }
  return taken;
}

// A number below the one before it comes in the next round only.
std::size_t count_rounds(const JobImage& job, const std::set<pid_t>& taken) {
  std::vector<pid_t> numbers = numbers_of(job);
  std::erase_if(numbers, [&](pid_t number) { return taken.contains(number); });
  std::size_t rounds = numbers.empty() ? 0 : 1;
  for (std::size_t i = 1; i < numbers.size(); ++i) rounds += numbers[i] < numbers[i - 1] ? 1 : 0;
  return rounds;
}

// What only a namespace gives.
std::string find_obstacle(const JobImage& job) {
  for (const ProcessImage& process : job.processes) {
    if (process.process.pid == 1) return "the program was the first process of a container";
    if (process.threads.size() > 1 && syscall(SYS_clone3, nullptr, 0) < 0 && errno != EINVAL) return "its threads need clone3";
  }
  return "";
}

// After a reboot the clocks of the machine are behind the program's. One that was started after an earlier restart has the
// machine's.
format::Translation find_shift(const ProcessImage& process) {
  const auto ahead = [](std::int64_t seen, clockid_t clock) { return std::max<std::int64_t>(seen - now_ns(clock), 0); };
  return {ahead(process.clocks.monotonic_ns, CLOCK_MONOTONIC), ahead(process.clocks.boottime_ns, CLOCK_BOOTTIME), 0, 0};
}

std::string tell_taken(const std::set<pid_t>& taken) {
  if (taken.empty()) return "";
  const pid_t first = *taken.begin();
  return "; " + (taken.size() == 1 ? "its number " : std::to_string(taken.size()) + " of its numbers, such as ") +
         std::to_string(first) + shown_name_of(first) + ", " + (taken.size() == 1 ? "is" : "are") +
         " somebody else's: only the program itself still goes by " + (taken.size() == 1 ? "it" : "them");
}

const ProcessImage& root_of(const JobImage& job) {
  for (const ProcessImage& process : job.processes) {
    if (process.process.pid == static_cast<std::int32_t>(job.header.pid)) return process;
  }
  return job.processes.at(0);
}

}  // namespace

// In the order in which they are made, more or less.
std::vector<pid_t> numbers_of(const JobImage& job) {
  const ProcessImage& root = root_of(job);
  std::vector<pid_t> numbers;
  const auto add = [&](pid_t number) {
    if (number > 1 && std::ranges::find(numbers, number) == numbers.end()) numbers.push_back(number);
  };
  for (const ProcessImage& process : job.processes) {
    for (const auto& thread : process.threads) add(thread.tid);
    add(process.process.pid);
    for (const auto& zombie : process.zombies) add(zombie.pid);
  }
  for (const ProcessImage& process : job.processes) {
    if (process.process.group_id != root.process.group_id) add(process.process.group_id);
    if (process.process.session_id != root.process.session_id) add(process.process.session_id);
  }
  return numbers;
}

PlainFindings check_without_namespaces(const Image& image, const std::string& reason) {
  const std::string obstacle = find_obstacle(image.job());
  if (!obstacle.empty()) throw Error::plain(reason + "; without namespaces it can't be restarted: " + obstacle, ExitCode::kRunner);
  const std::set<pid_t> taken = find_taken(numbers_of(image.job()));
  const bool can_choose = can_choose_numbers();
  double seconds = 0;
  if (!can_choose) {
    seconds = measure_round() * static_cast<double>(count_rounds(image.job(), taken));
    if (seconds > kPatience) {
      throw Error::plain(reason + "; without namespaces it can't be restarted: to get its old process numbers would take about " +
                             std::to_string(static_cast<long>(seconds)) + " s (see kernel.pid_max)",
                         ExitCode::kRunner);
    }
  }
  std::vector<format::Translation> translations;
  bool is_behind = false;
  for (const ProcessImage& process : image.job().processes) {
    translations.push_back(find_shift(process));
    is_behind |= translations.back().monotonic_ns != 0;
  }
  std::string note =
      "restarted without namespaces (" + reason + "): its parent is ckpt-restart, and " +
      (!is_behind ? "its monotonic clock has gone on"
                  : "only the program itself still goes by its monotonic clock: that of this machine is behind") +
      (can_choose ? "" : "; /proc/self/exe shows the restorer") +
      (seconds < kNoticed ? "" : "; its old numbers come in about " + std::to_string(static_cast<long>(seconds)) + " s") +
      tell_taken(taken);
  return {{note}, taken, translations};
}

bool has_lost_numbers(const RestartPlan& plan) {
  if (!plan.is_plain) return false;
  std::vector<pid_t> numbers = numbers_of(plan.image->job());
  std::erase_if(numbers, [&](pid_t number) { return plan.renamed.contains(number); });
  return !find_taken(numbers).empty();
}

}  // namespace ckpt
