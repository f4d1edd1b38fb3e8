// While the job runs: ckpt-restart stands where the program would, for its parent and for whoever sends it signals. It stops, goes
// on and ends with the program, and hands on what comes to it.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include "restart/terminal.h"
#include "restart/watch.h"
#include "restart/witness.h"

namespace ckpt {

class Supervision {
 public:
  // `handled` are blocked. `events` is where init and stand-in tell of the program (channels.h); −1: it is our own child.
  Supervision(OuterTerminal& terminal, Witness& witness, const Watch& watch, const sigset_t& handled, pid_t program, int events)
      : terminal_(terminal), witness_(witness), watch_(watch), handled_(handled), program_(program), events_(events) {}

  // Until the program has ended; its wait status. Throws Error: nobody can tell.
  int run();
  // It was stopped by `signal`. Returns when we go on, and the program as well, or where nobody could let us go on.
  void stop_with_program(int signal);

 private:
  int run_by_events(int signals);
  int run_by_waiting(int signals);
  void forward(int signals);
  void stop_group();
  void forget_stops() const;

  OuterTerminal& terminal_;
  Witness& witness_;
  const Watch& watch_;
  const sigset_t& handled_;
  const pid_t program_;
  const int events_;
};

}  // namespace ckpt
