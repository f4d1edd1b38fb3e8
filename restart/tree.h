// The processes of a job of several: each forks its children while it is still ours, so that parents, sessions and shared files are
// as they were; then all meet, join their groups, and become what they were.
#pragma once

#include <signal.h>

#include <cstdint>

#include "lib/resources/files/rebuild.h"
#include "restart/program.h"

namespace ckpt {

// Where processes wait for each other; in memory that all share.
struct Meeting {
  std::uint32_t expected;
  std::uint32_t arrived[2];
  std::uint32_t lock;        // of those that fork for a moment: for a group or a session
  std::uint32_t has_failed;  // somebody will never come
  std::uint32_t has_lost;    // for want of a number (NumbersLost)
  std::uint32_t known;       // how many have told ckpt-restart of themselves: a futex
  std::uint32_t new_count;   // of those whose number is somebody else's, and that are there
  std::uint32_t* is_known;   // of each process, in the order of the image
  format::NumberPair new_numbers[];
};

struct Tree {
  const RestartPlan* plan;
  ProgramFds fds;
  bool has_user_namespace;
  OpenedFiles opened;  // what can be opened before the processes exist
  Meeting* meeting;
  sigset_t mask;  // of signals, as ckpt-restart was started with
  int events;     // to ckpt-restart; see channels.h
};

// Memory for the meeting of all processes of the plan. Throws Error.
Meeting* make_meeting(const RestartPlan& plan);

// Forks a process of the job, which becomes what it was; returns when ckpt-restart knows of it. Throws Error.
pid_t start_process(const Tree& tree, const ProcessImage& process);

// Returns when ckpt-restart knows of the process, which a child of ours starts or is: from then on, that finds out when it ends.
// Until then we do. Throws Error.
void await_known(const Tree& tree, const ProcessImage& process, pid_t child);

// In the process that has the right pid already: becomes that process of the job, with all below it.
[[noreturn]] void become_process(const Tree& tree, const ProcessImage& process);

// In init: starts all that have no parent in the job, but the root.
void start_orphans(const Tree& tree);

}  // namespace ckpt
