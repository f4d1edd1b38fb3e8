// How the processes that stand around the program talk: the stand-in or init to ckpt-restart, and ckpt-restart to init.
#pragma once

#include "lib/common/fd.h"

namespace ckpt {

// From the stand-in (or init) to ckpt-restart.
struct Event {
  enum Kind : int { kStarted, kStopped, kContinued, kEnded } kind;
  int status;  // kEnded: as of waitpid(2)
};

struct Channels {
  Fd events_here, events_there;  // Event, with the sender's credentials
  Fd leash_here, leash_there;    // to init: one byte lets it live on without ckpt-restart
  Fd report_here, report_there;  // the restorer's line
};

// Throws Error.
Channels make_channels();

void send_event(int channel, Event event);
// Tells what waitpid(2) has said about the program. In the stand-in, or as a part of init's work.
void tell(int channel, int status);

}  // namespace ckpt
