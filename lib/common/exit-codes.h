// Exit codes of all commands, in one place. The manual pages list them; scripts branch on them.
#pragma once

namespace ckpt {

enum class ExitCode : int {
  kDone = 0,
  kFailed = 1,
  kUsage = 2,
  kNoInput = 66,       // no such image, folder or process
  kUnavailable = 69,   // the process was not launched for checkpointing
  kCannotCreate = 73,  // an output file can't be created
  kInputOutput = 74,   // reading or writing failed
  kBusy = 75,          // somebody else is at it; try again
  kNotPermitted = 77,  // not ours, or not to be trusted
  kRunner = 125,       // a command that runs a program failed itself
  kNotRunnable = 126,  // the program can't be executed
  kNotFound = 127,     // the program was not found
};

}  // namespace ckpt
