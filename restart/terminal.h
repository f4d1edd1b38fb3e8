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

  // It is the job's if we are its foreground group: then fd() is it, `lowest` or higher; else −1.
  void find(int lowest);
  bool is_open() const { return fd() >= 0; }
  int fd() const { return is_jobs_ ? fd_.get() : -1; }
  void close() { fd_.reset(); }  // in a process that has no part in it

  // A job that was in the foreground finds the modes that it had set. SIGTTOU must be blocked, here and below.
  void set_modes(const RestartPlan& plan);
  // The job runs: its programs may look at the size, and draw what a shell has written over.
  void announce();

  // While the job runs, which a shell may move to the foreground and back. To the program's group; whether it was given.
  bool is_given() const { return is_given_; }
  void give_to(pid_t group);
  void take_back();
  // We are the foreground group, and have not given it.
  bool is_here() const;

 private:
  Fd fd_;
  bool is_jobs_ = false, is_given_ = false;
  std::optional<format::TerminalSettings> former_;
};

}  // namespace ckpt
