// The last hosted step: the process that becomes the program puts its own state in order and executes the restorer.
#pragma once

#include <cstdint>
#include <functional>
#include <map>

#include "restart/numbers.h"
#include "restart/plan.h"

namespace ckpt {

// What the process inherits from ckpt-restart.
struct ProgramFds {
  int streams[3];  // copies of ckpt-restart's standard streams; −1: closed
  int control;
  int report;    // one line on failure; a zero byte: the process is ready
  int terminal;  // that the job is to have, or −1
  int gate;      // a byte, for all to see and nobody to read: all are ready, and go on; end of file: they never will
};

// In the process with the program's pid. Does not return: executes the restorer, or reports and exits with 125.
[[noreturn]] void become_program(const RestartPlan& plan, const ProgramFds& fds, bool has_user_namespace);

// The same for one of several processes, which stands in its place in the tree already.
[[noreturn]] void become_member(const RestartPlan& plan, const ProgramFds& fds, bool has_user_namespace,
                                const std::map<std::uint32_t, int>& opened, bool is_root);

// Makes the process group `group` exist and joins it, where it is neither the caller's own nor inherited.
// `fork_leader` forks one with the number of the group.
void join_group(
    pid_t group, pid_t pid, pid_t parent,
    const std::function<pid_t(pid_t)>& fork_leader = [](pid_t number) { return fork_with_pid(number); });

}  // namespace ckpt
