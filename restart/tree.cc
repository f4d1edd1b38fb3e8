// Order within one process: children of its old session, its own session, the others, zombies, its group. See tree.h.
//
// A child may be in a session that neither it nor its parent belongs to: the leader has ended, and the child came to this parent, a
// subreaper, as an orphan. So it comes again: a leader with the old number starts it and ends. Where the leader is a zombie still,
// it is the zombie itself that does so.
#include "restart/tree.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <set>
#include <vector>

#include "lib/common/error.h"
#include "lib/resources/terminals/rebuild.h"
#include "restart/channels.h"
#include "restart/numbers.h"
#include "restart/plain.h"
#include "restart/watch.h"

namespace ckpt {

namespace {

const std::vector<ProcessImage>& processes_of(const Tree& tree) { return tree.plan->image->job().processes; }

const ProcessImage* find_process(const Tree& tree, pid_t pid) {
  for (const ProcessImage& process : processes_of(tree)) {
    if (process.process.pid == pid) return &process;
  }
  return nullptr;
}

// The line first: others end without one, and they must not be taken for the reason.
[[noreturn]] void fail(const Tree& tree, const std::exception& error) {
  const std::string line = std::string(error.what()) + "\n";
  if (dynamic_cast<const NumbersLost*>(&error) != nullptr) __atomic_store_n(&tree.meeting->has_lost, 1U, __ATOMIC_RELEASE);
  if (write(tree.fds.report, line.data(), line.size()) < 0) _exit(125);
  __atomic_store_n(&tree.meeting->has_failed, 1U, __ATOMIC_RELEASE);
  _exit(125);
}

void end_if_failed(const Tree& tree) {
  if (__atomic_load_n(&tree.meeting->has_failed, __ATOMIC_SEQ_CST) != 0) _exit(125);
}

// By the parent: who leads a group for a moment only may be killed before it could do so itself.
void note_number(Meeting* meeting, format::NumberPair pair) {
  format::NumberPair* place = &meeting->new_numbers[__atomic_fetch_add(&meeting->new_count, 1U, __ATOMIC_ACQ_REL)];
  place->shown = pair.shown;
  __atomic_store_n(&place->real, pair.real, __ATOMIC_RELEASE);
}

void await_note(const Tree& tree, pid_t number, pid_t parent) {
  for (;;) {
    const std::uint32_t count = __atomic_load_n(&tree.meeting->new_count, __ATOMIC_ACQUIRE);
    for (std::uint32_t i = 0; i < count; ++i) {
      const format::NumberPair& pair = tree.meeting->new_numbers[i];
      if (__atomic_load_n(&pair.real, __ATOMIC_ACQUIRE) == getpid() && pair.shown == number) return;
    }
    end_if_failed(tree);
    if (getppid() != parent) _exit(125);
    usleep(100);
  }
}

// fork(2) of somebody of the job, with its old number, or another where that is somebody else's; `exit_signal` tells the parent of
// its end.
pid_t fork_member(const Tree& tree, pid_t number, int exit_signal = SIGCHLD) {
  if (!tree.plan->renamed.contains(number)) return fork_with_pid(number, exit_signal);
  const pid_t parent = getpid();
  const pid_t pid = fork_with_other_pid(numbers_of(tree.plan->image->job()), exit_signal);
  if (pid == 0) await_note(tree, number, parent);
  if (pid > 0) note_number(tree.meeting, {number, pid});
  return pid;
}

std::uint32_t* known_flag(const Tree& tree, const ProcessImage& process) {
  return &tree.meeting->is_known[&process - processes_of(tree).data()];
}

// If ckpt-restart has given up meanwhile, either it hears of us still, or we see it.
void make_known(const Tree& tree, const ProcessImage& process) {
  send_event(tree.events, {Event::kStarted, process.process.pid});
  __atomic_store_n(known_flag(tree, process), 1U, __ATOMIC_SEQ_CST);
  __atomic_add_fetch(&tree.meeting->known, 1, __ATOMIC_ACQ_REL);
  syscall(SYS_futex, &tree.meeting->known, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  end_if_failed(tree);
}

bool leads_session(const format::ProcessRecord& record) { return record.session_id == record.pid; }

bool is_zombie(const Tree& tree, pid_t pid) {
  for (const ProcessImage& process : processes_of(tree)) {
    for (const auto& zombie : process.zombies) {
      if (zombie.pid == pid) return true;
    }
  }
  return false;
}

void lock(Meeting* meeting) {
  while (__atomic_exchange_n(&meeting->lock, 1U, __ATOMIC_ACQUIRE) != 0) {
    if (__atomic_load_n(&meeting->has_failed, __ATOMIC_ACQUIRE) != 0) _exit(125);
    usleep(200);
  }
}

void unlock(Meeting* meeting) { __atomic_store_n(&meeting->lock, 0U, __ATOMIC_RELEASE); }

// That of no process, thread, group or session of the job, nor of a parent.
pid_t spare_number(const Tree& tree) {
  std::set<pid_t> taken;
  for (const ProcessImage& process : processes_of(tree)) {
    const auto& record = process.process;
    taken.insert({record.pid, record.parent_pid, record.group_id, record.session_id});
    for (const auto& thread : process.threads) taken.insert(thread.tid);
    for (const auto& zombie : process.zombies) taken.insert(zombie.pid);
  }
  pid_t number = 32767;  // there is none where the limit is lower
  while (taken.contains(number)) --number;
  return number;
}

// The session in which the job began, unless it has one of its own.
bool is_outer(const Tree& tree, pid_t session) {
  return session <= 1 || (session == tree.plan->process->process.session_id && find_process(tree, session) == nullptr);
}

// Whether its parent can't bear this process into its session: that one is not of the job, or neither is nor was in the session.
bool comes_as_orphan(const Tree& tree, const format::ProcessRecord& child) {
  if (child.pid == tree.plan->process->process.pid || leads_session(child) || is_outer(tree, child.session_id)) return false;
  const ProcessImage* parent = find_process(tree, child.parent_pid);
  if (parent == nullptr) return true;
  if (parent->process.session_id == child.session_id) return false;
  const ProcessImage* before = leads_session(parent->process) ? find_process(tree, parent->process.parent_pid) : nullptr;
  return before == nullptr || before->process.session_id != child.session_id;
}

void start_in_session(const Tree& tree, pid_t session) {
  for (const ProcessImage& process : processes_of(tree)) {
    if (process.process.session_id == session && comes_as_orphan(tree, process.process)) start_process(tree, process);
  }
}

bool has_orphans(const Tree& tree, pid_t session) {
  for (const ProcessImage& process : processes_of(tree)) {
    if (process.process.session_id == session && comes_as_orphan(tree, process.process)) return true;
  }
  return false;
}

bool are_orphans_known(const Tree& tree, pid_t session) {
  for (const ProcessImage& process : processes_of(tree)) {
    if (process.process.session_id != session || !comes_as_orphan(tree, process.process)) continue;
    if (__atomic_load_n(known_flag(tree, process), __ATOMIC_ACQUIRE) == 0) return false;
  }
  return true;
}

// One that somebody waits for is not to be left over.
void end_with(pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(125);
}

// Forks one that ends at once, for its children to be orphans. With namespaces, its number must be none that anybody is to get.
template <typename Body>
void do_in_passing(const Tree& tree, pid_t number, const Body& body) {
  const pid_t parent = getpid();
  const pid_t pid = number == 0 ? fork_with_other_pid(numbers_of(tree.plan->image->job()), SIGCHLD) : fork_member(tree, number);
  if (pid < 0) throw Error::from_errno("create", "a process that lives for a moment", errno, ExitCode::kRunner);
  if (pid == 0) {
    try {
      end_with(parent);
      body();
    } catch (const std::exception& error) {
      fail(tree, error);
    }
    _exit(0);
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (status == 0) return;
  end_if_failed(tree);
  throw Error::plain("a process that lives for a moment " + describe_end(status), ExitCode::kRunner);
}

// In the leader of a session: those of it whose parents are gone.
void start_own_orphans(const Tree& tree, pid_t session) {
  if (!has_orphans(tree, session)) return;
  lock(tree.meeting);
  do_in_passing(tree, tree.plan->is_plain ? 0 : spare_number(tree), [&] { start_in_session(tree, session); });
  unlock(tree.meeting);
}

// Sessions without a leader whose orphans have come to this parent (0: to nobody of the job). A zombie that leads one still starts
// them itself. All of one session are started at once, by the parent of the first of them.
void start_leaderless(const Tree& tree, pid_t parent) {
  std::set<pid_t> seen;
  for (const ProcessImage& process : processes_of(tree)) {
    const auto& record = process.process;
    if (!comes_as_orphan(tree, record) || !seen.insert(record.session_id).second) continue;
    const pid_t starter = find_process(tree, record.parent_pid) != nullptr ? record.parent_pid : 0;
    if (starter != parent || find_process(tree, record.session_id) != nullptr || is_zombie(tree, record.session_id)) continue;
    do_in_passing(tree, record.session_id, [&] {
      setsid();
      start_in_session(tree, record.session_id);
    });
  }
}

// Orphans come to the nearest process that asked for them.
void await_orphans(const Tree& tree, pid_t parent) {
  for (const ProcessImage& process : processes_of(tree)) {
    if (process.process.parent_pid == parent && comes_as_orphan(tree, process.process)) prctl(PR_SET_CHILD_SUBREAPER, 1);
  }
}

// Children that belong to the session that this process leads, or (false) all others.
void start_children(const Tree& tree, const format::ProcessRecord& parent, bool of_own_session) {
  for (const ProcessImage& child : processes_of(tree)) {
    if (child.process.parent_pid != parent.pid || child.process.pid == parent.pid || comes_as_orphan(tree, child.process)) continue;
    const bool is_of_own = leads_session(parent) && child.process.session_id == parent.pid;
    if (is_of_own == of_own_session) start_process(tree, child);
  }
}

[[noreturn]] void end_as(const Tree& tree, const format::ZombieRecord& zombie) {
  try {
    if (has_orphans(tree, zombie.pid)) setsid();
    start_in_session(tree, zombie.pid);
  } catch (const std::exception& error) {
    fail(tree, error);
  }
  if ((zombie.status & format::ZombieRecord::kLedSession) != 0) setsid();
  if ((zombie.status & format::ZombieRecord::kLedGroup) != 0) setpgid(0, 0);
  const std::int32_t status = zombie.status & format::ZombieRecord::kStatus;
  if (!WIFSIGNALED(status)) _exit(WEXITSTATUS(status));
  const rlimit none{};
  setrlimit(RLIMIT_CORE, &none);
  signal(WTERMSIG(status), SIG_DFL);
  sigset_t empty;
  sigemptyset(&empty);
  sigprocmask(SIG_SETMASK, &empty, nullptr);
  kill(getpid(), WTERMSIG(status));
  _exit(128 + WTERMSIG(status));
}

bool has_ended_as(const format::ZombieRecord& zombie, const siginfo_t& info) {
  const std::int32_t status = zombie.status & format::ZombieRecord::kStatus;
  if (!WIFSIGNALED(status)) return info.si_code == CLD_EXITED && info.si_status == WEXITSTATUS(status);
  return info.si_code != CLD_EXITED && info.si_status == WTERMSIG(status);
}

int exit_signal_of(const format::ZombieRecord& zombie) {
  const std::uint32_t kept = static_cast<std::uint32_t>(zombie.status) >> format::ZombieRecord::kExitSignalShift;
  return kept == 0 || kept > SIGRTMAX + 1U ? SIGCHLD : static_cast<int>(kept) - 1;
}

// Children that have ended and not been waited for. Their SIGCHLD was told long ago.
void make_zombies(const Tree& tree, const ProcessImage& process) {
  const pid_t parent = getpid();
  for (const auto& zombie : process.zombies) {
    const int exit_signal = exit_signal_of(zombie);
    if (exit_signal != SIGCHLD && exit_signal > 0) signal(exit_signal, SIG_IGN);
    const pid_t pid = fork_member(tree, zombie.pid, exit_signal);
    if (pid == 0) {
      end_with(parent);
      end_as(tree, zombie);
    }
    siginfo_t info;
    while (waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT | __WALL) != 0 && errno == EINTR) {
    }
    if (!has_ended_as(zombie, info) || !are_orphans_known(tree, zombie.pid)) {
      end_if_failed(tree);
      throw Error::plain("process " + std::to_string(zombie.pid) + " of the job did not end as it had", ExitCode::kRunner);
    }
    if (exit_signal > 0) signal(exit_signal, SIG_DFL);
  }
  signal(SIGCHLD, SIG_IGN);
  signal(SIGCHLD, SIG_DFL);
}

// The last one to come wakes all.
void meet(Meeting* meeting, unsigned which) {
  std::uint32_t* arrived = &meeting->arrived[which];
  std::uint32_t now = __atomic_add_fetch(arrived, 1, __ATOMIC_ACQ_REL);
  if (now >= meeting->expected) syscall(SYS_futex, arrived, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  const timespec while_all_is_well{0, 100'000'000};
  for (; now < meeting->expected; now = __atomic_load_n(arrived, __ATOMIC_ACQUIRE)) {
    if (__atomic_load_n(&meeting->has_failed, __ATOMIC_ACQUIRE) != 0) _exit(125);
    syscall(SYS_futex, arrived, FUTEX_WAIT, now, &while_all_is_well, nullptr, 0);
  }
}

// Without namespaces the group that the job was started in, if it was not its own, is somebody else's by now.
bool is_outside(const Tree& tree, pid_t group) {
  return tree.plan->is_plain && group == tree.plan->process->process.group_id && find_process(tree, group) == nullptr;
}

// Of one that is there.
pid_t new_number(const Tree& tree, pid_t old) {
  const std::uint32_t count = __atomic_load_n(&tree.meeting->new_count, __ATOMIC_ACQUIRE);
  for (std::uint32_t i = 0; i < count; ++i) {
    const format::NumberPair& pair = tree.meeting->new_numbers[i];
    if (pair.shown == old) return pair.real;
  }
  return old;
}

// A group that exists by now, or one whose leader is gone: then the first that comes makes it, by a process that lives for a
// moment.
void join_old_group(const Tree& tree, const format::ProcessRecord& record) {
  if (is_outside(tree, record.group_id)) return;
  const pid_t group = new_number(tree, record.group_id);
  if (getpgrp() == group || setpgid(0, group) == 0) return;
  if (record.group_id <= 1 || find_process(tree, record.group_id) != nullptr) return;
  lock(tree.meeting);
  try {
    const auto fork_leader = [&](pid_t number) { return fork_member(tree, number); };
    if (setpgid(0, new_number(tree, record.group_id)) != 0) join_group(record.group_id, record.pid, record.parent_pid, fork_leader);
  } catch (const Error&) {
    // Its number is somebody's: the group stays the one it was born into.
  }
  unlock(tree.meeting);
}

void take_place(const Tree& tree, const ProcessImage& process) {
  const auto& record = process.process;
  const bool is_root = &process == tree.plan->process;
  await_orphans(tree, record.pid);
  start_children(tree, record, false);
  start_leaderless(tree, record.pid);
  const Description* terminal = find_controlling_master(*tree.plan, process);
  const bool leads_own_session = leads_session(record) && (record.foreground_group < 0 || terminal != nullptr);
  if (leads_own_session) {
    setsid();
    if (terminal != nullptr) take_own_terminal(tree.opened.at(terminal->record.id));
  } else if (record.group_id == record.pid) {
    setpgid(0, 0);
  } else if (is_root && !is_outside(tree, record.group_id)) {
    join_group(record.group_id, record.pid, record.parent_pid);
  }
  start_children(tree, record, true);
  if (leads_session(record)) start_own_orphans(tree, record.pid);
  make_zombies(tree, process);
  meet(tree.meeting, 0);
  join_old_group(tree, record);
  meet(tree.meeting, 1);
  if (!leads_own_session || terminal == nullptr) return;
  const auto state = state_of<format::TerminalMasterState>(*terminal);
  set_own_foreground(tree.opened.at(terminal->record.id), new_number(tree, state.foreground_group));
}

}  // namespace

Meeting* make_meeting(const RestartPlan& plan) {
  const auto count = static_cast<std::uint32_t>(plan.image->job().processes.size());
  const std::size_t numbers = plan.renamed.size() * sizeof(format::NumberPair);
  const std::size_t size = sizeof(Meeting) + numbers + count * sizeof(std::uint32_t);
  void* room = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) throw Error::from_errno("create", "shared memory", errno, ExitCode::kRunner);
  auto* meeting = static_cast<Meeting*>(room);
  meeting->expected = count;
  meeting->is_known = reinterpret_cast<std::uint32_t*>(meeting->new_numbers + plan.renamed.size());
  return meeting;
}

pid_t start_process(const Tree& tree, const ProcessImage& process) {
  const pid_t pid = fork_member(tree, process.process.pid);
  if (pid == 0) {
    make_known(tree, process);
    become_process(tree, process);
  }
  await_known(tree, process, pid);
  return pid;
}

void await_known(const Tree& tree, const ProcessImage& process, pid_t child) {
  const std::uint32_t* known = &tree.meeting->known;
  const timespec pause{0, 10'000'000};
  for (;;) {
    const std::uint32_t before = __atomic_load_n(known, __ATOMIC_ACQUIRE);
    siginfo_t info{};
    const int result = waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOHANG | WNOWAIT);
    if (__atomic_load_n(known_flag(tree, process), __ATOMIC_ACQUIRE) != 0) return;
    end_if_failed(tree);
    if (result != 0 || info.si_pid != 0) {
      throw Error::plain(describe_process(process.process) + " " + describe_end(status_of(info)), ExitCode::kRunner);
    }
    syscall(SYS_futex, known, FUTEX_WAIT, before, &pause, nullptr, 0);
  }
}

void become_process(const Tree& tree, const ProcessImage& process) {
  try {
    sigprocmask(SIG_SETMASK, &tree.mask, nullptr);
    Tree own = tree;
    RestartPlan view = tree.plan->seen_by(process);
    open_own_files(view, own.fds.streams, own.opened);
    take_place(own, process);
    view.new_numbers.assign(tree.meeting->new_numbers, tree.meeting->new_numbers + tree.meeting->new_count);
    become_member(view, own.fds, own.has_user_namespace, own.opened, &process == tree.plan->process);
  } catch (const std::exception& error) {
    fail(tree, error);
  }
}

void start_orphans(const Tree& tree) {
  for (const ProcessImage& process : processes_of(tree)) {
    const auto& record = process.process;
    const bool is_ours = find_process(tree, record.parent_pid) == nullptr && &process != tree.plan->process;
    if (is_ours && !comes_as_orphan(tree, record)) start_process(tree, process);
  }
  start_leaderless(tree, 0);
}

}  // namespace ckpt
