// The environment the process was started with: read from the kernel, so that no libc is asked and the constructor needs no
// arguments.
#pragma once

#include "lib/format/control.h"

namespace ckpt {

struct Environment {
  char control[format::kPathBytes];    // CKPT_CONTROL: the control file that ckpt-launch made
  char directory[format::kPathBytes];  // CKPT_DIR
  char file[format::kPathBytes];       // CKPT_FILE
  char home[format::kPathBytes];       // HOME
  char keep[16];                       // CKPT_KEEP
  char compress[32];                   // CKPT_COMPRESS
  char signal[16];                     // CKPT_SIGNAL, a number
  char preload[format::kPathBytes];    // LD_PRELOAD
};

void read_environment(Environment* environment);

}  // namespace ckpt
