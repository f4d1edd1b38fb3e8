// terminals: the rebuild side. Pairs are made with their old numbers, where those are free.
#pragma once

#include "restart/plan.h"

namespace ckpt {

int rebuild_terminal_master(const RestartPlan& plan, const Description& description);
int rebuild_own_terminal(const RestartPlan& plan, const Description& description);

// /dev/tty, for a terminal that led outside. Where there is none, as under cron, one whose other end is gone: reading comes to the
// end at once, writing is EIO, as the program would find after a line was cut.
int open_outer_terminal(std::uint32_t flags);

// When all descriptors are open: closes what only kept pairs alive.
void release_terminals();

// The pair that is the controlling terminal of this process, if its master is open in the job; nullptr: none of these.
const Description* find_controlling_master(const RestartPlan& plan, const ProcessImage& process);

// In the leader of a session: makes the slave of `master`, a descriptor here, its controlling terminal.
void take_own_terminal(int master);
// In any process of that session, when all groups exist; 0: none.
void set_own_foreground(int master, pid_t group);

}  // namespace ckpt
