// Order within one process: children of its old session, its own session, the others, zombies, its group. See tree.h.
#include "restart/tree.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <map>
#include <vector>

#include "lib/common/error.h"
#include "lib/resources/terminals/rebuild.h"
#include "restart/numbers.h"

namespace ckpt {

namespace {

const std::vector<ProcessImage>& processes_of(const Tree& tree) { return tree.plan->image->job().processes; }

const ProcessImage* find_process(const Tree& tree, pid_t pid) {
  for (const ProcessImage& process : processes_of(tree)) {
    if (process.process.pid == pid) return &process;
  }
  return nullptr;
}

[[noreturn]] void fail(const Tree& tree, const std::exception& error) {
  __atomic_store_n(&tree.meeting->has_failed, 1U, __ATOMIC_RELEASE);
  const std::string line = std::string(error.what()) + "\n";
  if (write(tree.fds.report, line.data(), line.size()) < 0) _exit(125);
  _exit(125);
}

void start_process(const Tree& tree, const ProcessImage& process) {
  if (fork_with_pid(process.process.pid) == 0) become_process(tree, process);
}

bool leads_session(const format::ProcessRecord& record) { return record.session_id == record.pid; }

// Children that belong to the session that this process leads, or (false) all others.
void start_children(const Tree& tree, const format::ProcessRecord& parent, bool of_own_session) {
  for (const ProcessImage& child : processes_of(tree)) {
    if (child.process.parent_pid != parent.pid || child.process.pid == parent.pid) continue;
    const bool is_of_own = leads_session(parent) && child.process.session_id == parent.pid;
    if (is_of_own == of_own_session) start_process(tree, child);
  }
}

[[noreturn]] void end_as(std::int32_t status) {
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

// Children that have ended and not been waited for. Their SIGCHLD was told long ago.
void make_zombies(const ProcessImage& process) {
  for (const auto& zombie : process.zombies) {
    const pid_t pid = fork_with_pid(zombie.pid);
    if (pid == 0) end_as(zombie.status);
    siginfo_t info;
    while (waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
    }
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

// A group that exists by now, or one whose leader is gone: then the first that comes makes it, by a process that lives for a
// moment.
void join_old_group(const Tree& tree, const format::ProcessRecord& record) {
  if (is_outside(tree, record.group_id)) return;
  if (getpgrp() == record.group_id || setpgid(0, record.group_id) == 0) return;
  if (record.group_id <= 1 || find_process(tree, record.group_id) != nullptr) return;
  Meeting* meeting = tree.meeting;
  while (__atomic_exchange_n(&meeting->lock, 1U, __ATOMIC_ACQUIRE) != 0) usleep(200);
  try {
    if (setpgid(0, record.group_id) != 0) join_group(record.group_id, record.pid, record.parent_pid);
  } catch (const Error&) {
    // Its number is somebody's: the group stays the one it was born into.
  }
  __atomic_store_n(&meeting->lock, 0U, __ATOMIC_RELEASE);
}

void take_place(const Tree& tree, const ProcessImage& process) {
  const auto& record = process.process;
  const bool is_root = &process == tree.plan->process;
  start_children(tree, record, false);
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
  make_zombies(process);
  meet(tree.meeting, 0);
  join_old_group(tree, record);
  meet(tree.meeting, 1);
  if (leads_own_session && terminal != nullptr) set_own_foreground(tree.opened.at(terminal->record.id), *terminal);
}

}  // namespace

Meeting* make_meeting(const RestartPlan& plan) {
  void* room = mmap(nullptr, sizeof(Meeting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) throw Error::from_errno("create", "shared memory", errno, ExitCode::kRunner);
  auto* meeting = static_cast<Meeting*>(room);
  meeting->expected = static_cast<std::uint32_t>(plan.image->job().processes.size());
  return meeting;
}

void become_process(const Tree& tree, const ProcessImage& process) {
  try {
    sigprocmask(SIG_SETMASK, &tree.mask, nullptr);
    Tree own = tree;
    const RestartPlan view = tree.plan->seen_by(process);
    open_own_files(view, own.fds.streams, own.opened);
    take_place(own, process);
    become_member(view, own.fds, own.has_user_namespace, own.opened, &process == tree.plan->process);
  } catch (const std::exception& error) {
    fail(tree, error);
  }
}

void start_orphans(const Tree& tree) {
  std::map<pid_t, std::vector<const ProcessImage*>> by_session;
  for (const ProcessImage& process : processes_of(tree)) {
    if (&process != tree.plan->process && find_process(tree, process.process.parent_pid) == nullptr) {
      by_session[process.process.session_id].push_back(&process);
    }
  }
  for (const auto& [session, orphans] : by_session) {
    const bool is_gone = session > 1 && find_process(tree, session) == nullptr && session != tree.plan->process->process.session_id;
    const pid_t leader = is_gone ? fork_with_pid(session) : 0;
    if (leader == 0) {
      if (is_gone) setsid();
      for (const ProcessImage* orphan : orphans) start_process(tree, *orphan);
      if (is_gone) _exit(0);
    } else {
      waitpid(leader, nullptr, 0);
    }
  }
}

}  // namespace ckpt
