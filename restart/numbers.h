// Process numbers: chosen where that is allowed, else by going round until the right one is next.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "lib/common/error.h"

namespace ckpt {

// Whether a process or thread has it, or a group or session whose leader is gone.
bool is_number_taken(pid_t number);

// " (NAME)" of a process; empty: it can't be told.
std::string shown_name_of(pid_t pid);

// A number of the job went to somebody else while that was rebuilt. Another plan may do without it.
class NumbersLost : public Error {
 public:
  explicit NumbersLost(std::string what) : Error(Error::plain(std::move(what), ExitCode::kRunner)) {}
};

// fork(2) with a chosen number. Throws Error: it is somebody's; NumbersLost: it did not come. The parent is told of the end by
// `exit_signal`.
pid_t fork_with_pid(pid_t pid, int exit_signal = SIGCHLD);

// fork(2), where it matters only that the number is none of these: somebody else is to get them.
pid_t fork_with_other_pid(const std::vector<pid_t>& not_these, int exit_signal = SIGCHLD);

// Calls `call` with two numbers that it may change, and returns what it returns (0 or an errno value), in a process of this number
// that lives for the moment and has our descriptors: what it makes is ours. Where there can be none (the number is ours, 0 or
// somebody's), here. ECHILD: it did not come to an end.
int call_as(pid_t pid, int (&numbers)[2], const std::function<int(int (&)[2])>& call);

// Whether clone3(2) takes set_tid here: CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN over the pid namespace.
bool can_choose_numbers();

// Seconds that it takes to use up all numbers once.
double measure_round();

}  // namespace ckpt
