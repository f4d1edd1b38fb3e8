// The terminal that ckpt-restart runs on, for a job that had one: another one maybe, of another size, in a shell's modes.
#pragma once

#include <optional>

#include "lib/common/fd.h"
#include "lib/resources/terminals/record.h"
#include "restart/plan.h"

namespace ckpt {

class OuterTerminal {
 public:
  OuterTerminal() = default;
  OuterTerminal(const OuterTerminal&) = delete;
  OuterTerminal& operator=(const OuterTerminal&) = delete;
  ~OuterTerminal();  // gives it the modes back that it had, if the job never ran

  // It is the job's if it is ours: we are its foreground group. Its descriptor will be `lowest` or higher.
  void find(int lowest);
  bool is_open() const { return fd_.is_open(); }
  int fd() const { return fd_.get(); }
  void close() { fd_.reset(); }  // in a process that has no part in it

  // A job that was in the foreground finds the modes that it had set. SIGTTOU must be blocked, here and below.
  void set_modes(const RestartPlan& plan);
  // The job runs: its programs may look at the size, and draw what a shell has written over.
  void announce();

  void give_to(pid_t group) const;
  void take_back() const;

 private:
  Fd fd_;
  std::optional<format::TerminalSettings> former_;
};

}  // namespace ckpt
