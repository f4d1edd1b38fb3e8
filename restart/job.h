// The processes of a restart: ckpt-restart itself, the namespace's init, a stand-in for the program's old parent, and the program.
//
//   ckpt-restart (outside)
//   └── init, pid 1 of the new pid namespace: mounts /proc, opens what several processes share, reaps orphans, takes everything
//       │ along when ckpt-restart is killed
//       └── stand-in with the old parent's pid: reports how the program fares, so that getppid() is as before
//           └── the program, with its old pid (of init, where the parent was pid 1)
//
// Without namespaces a single program is a child of ckpt-restart. Several are below init, which is an ordinary process that adopts
// orphans then (PR_SET_CHILD_SUBREAPER), and kills all that are below it when ckpt-restart is gone.
#pragma once

#include "restart/plan.h"

namespace ckpt {

// Carries the plan out and stays until the program ends; its wait status. Throws Error (ExitCode::kRunner) if it did not come to
// run: NumbersLost (numbers.h) where it may with another plan.
int run_job(const RestartPlan& plan);

}  // namespace ckpt
