// sysv: System V objects made again with their ids. Hosted; in ckpt-restart, in an IPC namespace that is the job's own: only there
// can an id be chosen, and only there is every id free.
#pragma once

#include "restart/plan.h"

namespace ckpt {

bool has_system_v(const JobImage& job);

// Makes all of them, with all that is in them; for now they belong to us, and nothing is removed. Throws Error.
void make_system_v(const RestartPlan& plan);

// When all processes have attached what they had: modes, owners, locks, removal. Throws Error.
void finish_system_v(const RestartPlan& plan);

// In a process of the job: what its end is to undo. Kept over exec(2). Throws Error.
void restore_undo(const ProcessImage& process);

}  // namespace ckpt
