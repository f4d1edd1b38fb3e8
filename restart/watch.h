// The processes that are being rebuilt, as ckpt-restart sees them: one that ends before all are ready will not be told by anybody
// else, and the others would wait for it.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "lib/common/fd.h"
#include "restart/plan.h"

namespace ckpt {

// "process 4711 (bash) of the job"
std::string describe_process(const format::ProcessRecord& process);

// "was killed by SIGKILL before all were ready to run"; `status` as of waitpid(2), negative: nobody knows.
std::string describe_end(int status);
// The same, as of waitid(2).
int status_of(const siginfo_t& info);

// Signals that end a restart that is under way, unless we are to ignore them; all others wait for the program. They must be
// blocked.
Fd open_interrupts();
// Throws Error, if there is one.
void fail_by_interrupt(int interrupts);

class Watch {
 public:
  // To be made before /proc may become that of the program's namespace.
  Watch();

  // `pid` as it is out here. One that can't be watched (no more descriptors) is missed at the end only.
  void add(pid_t pid, std::string what);
  // Who has ended, and how; empty: nobody that we know.
  std::string find_ended() const;
  // Kills all that live still; whether there were any.
  bool kill_all() const;
  // Whether no shell could let our group go on, if it stopped: none of our parents is in our session but outside the group
  // (exit(3p)).
  bool is_group_orphaned() const;

 private:
  struct Watched {
    pid_t pid;
    std::string what;
    Fd stat;  // stays that of this very process, whoever has its number later
    bool is_gone;
  };

  pid_t parent_of(pid_t pid) const;

  Fd proc_;
  std::vector<Watched> watched_;
};

}  // namespace ckpt
