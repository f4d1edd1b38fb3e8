// How the processes that stand around the program talk: the stand-in or init to ckpt-restart, and ckpt-restart to init.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>

#include "lib/common/fd.h"

namespace ckpt {

// To ckpt-restart: that a process is there from itself, how the program fares from the stand-in (or init).
struct Event {
  enum Kind : int { kStarted, kStopped, kContinued, kEnded } kind;
  int status;  // kStarted: its old number; kStopped, kEnded: as of waitpid(2)
};

struct Channels {
  Fd events_here, events_there;  // Event, with the sender's credentials
  Fd leash_here, leash_there;    // to init: one byte lets it live on without ckpt-restart
  Fd report_here, report_there;  // see ProgramFds
};

// Throws Error.
Channels make_channels();

// What has come in the report pipe.
struct Report {
  std::size_t ready = 0;  // how many have said that they are
  std::string text;
};

void send_event(int channel, Event event);
// The next event; false: nobody is left to send one. `sender` becomes the sender's pid as it is out here, or 0.
bool receive_event(int channel, Event* event, pid_t* sender);
// Takes what has come; false: that was all. Throws Error: a line has come.
bool read_report(int pipe, Report& report);
// Tells what waitpid(2) has said about the program. In the stand-in, or as a part of init's work.
void tell(int channel, int status);

}  // namespace ckpt
