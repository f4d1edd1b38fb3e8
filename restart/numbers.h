// Process numbers: chosen where that is allowed, else by going round until the right one is next.
#pragma once

#include <sys/types.h>

namespace ckpt {

// fork(2) with a chosen number. Throws Error: it is somebody's, or did not come.
pid_t fork_with_pid(pid_t pid);

// Whether clone3(2) takes set_tid here: CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN over the pid namespace.
bool can_choose_numbers();

// Seconds that it takes to use up all numbers once.
double measure_round();

}  // namespace ckpt
