// Help from a trigger that has more rights than the program: HelpGrant in lib/format/control.h has the protocol.
#pragma once

#include "lib/sys/calls.h"

namespace ckpt {

// What the trigger has opened for us. The numbers of the descriptors rise in this order.
struct Help {
  sys::Fd socket;
  sys::Fd lock;  // the control file, not locked yet
  sys::Fd image;
  unsigned generation = 0;
};

// In the leader, while all stand. False: nobody helps, or not in time.
bool ask_for_help(Help* help);

// In the writer: the image is written and shall be committed. The error, or 0.
int ask_for_commit(int socket);

}  // namespace ckpt
