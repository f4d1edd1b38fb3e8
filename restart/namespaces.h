// Namespaces of a restart: where the old pids are free and the clocks go on. Called once, by the single-threaded ckpt-restart.
#pragma once

#include <cstdint>

#include "lib/resources/timers/record.h"

namespace ckpt {

struct Namespaces {
  bool has_user = false;  // a user namespace of ours: its capabilities must not reach the program
};

// First the mount namespace (and a user namespace, without root's rights); then those of pids and time, where later children are:
// from there on this process can't start threads any more. Both throw Error that says which the kernel refuses.
Namespaces enter_mount_namespace();
void enter_child_namespaces(const format::ClocksRecord& clocks);

// System V objects have ids of their own there, and POSIX message queues names. Before any child is made. Returns the namespace's
// inode; throws Error.
std::uint64_t enter_ipc_namespace();

// In the first child: /proc of the new pid namespace. Where mounting is refused (containers) the outer one stays.
void mount_proc();
// … and /dev/mqueue of the new IPC namespace, where there was one.
void mount_message_queues();

}  // namespace ckpt
