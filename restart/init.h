// The process that stands above a job: pid 1 of its namespace, or (without namespaces) one that adopts orphans. It reaps, and ends
// all that are below it when ckpt-restart is gone or asks for it.
#pragma once

#include <string>

#include "restart/channels.h"

namespace ckpt {

// The signal by which ckpt-restart, and the kernel when that is dead, asks init to end all; from then on, init ends soon.
int end_signal();

// Whether ckpt-restart is dead. The leash must be open at its other end there alone.
bool has_lost(int leash);

// In init, first of all: from here on it and all below it end together with ckpt-restart, at whatever moment that may be, and take
// the control file along.
void end_with_restart(bool has_namespace, const std::string& control_path, int leash);

// Reaps; reports `program` if that is a child of init; ends with the last process once the leash is off.
[[noreturn]] void be_init(const Channels& channels, pid_t program);

// Reports `program`, a child of the caller, and ends with it.
[[noreturn]] void be_stand_in(int events, pid_t program);

}  // namespace ckpt
