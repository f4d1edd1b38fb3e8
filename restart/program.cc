// Becoming the program: group and terminal, folder, files, then the restorer with what is left to do.
#include "restart/program.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "lib/common/proc.h"
#include "lib/resources/files/rebuild.h"
#include "lib/resources/memory/rebuild.h"
#include "lib/resources/saved/rebuild.h"
#include "lib/resources/sysv/rebuild.h"
#include "lib/resources/terminals/rebuild.h"
#include "restart/hand-over.h"
#include "restart/numbers.h"
#include "restart/plan-files.h"

namespace ckpt {

namespace {

[[noreturn]] void report_and_exit(int report, const std::string& line) {
  const std::string text = line + "\n";
  if (write(report, text.data(), text.size()) < 0) _exit(125);
  _exit(125);
}

int move_above(int fd, int lowest) {
  const int above = fcntl(fd, F_DUPFD, lowest);
  if (above < 0) throw Error::from_errno("duplicate", "a descriptor (see RLIMIT_NOFILE)", errno, ExitCode::kRunner);
  return above;
}

void write_own(const char* path, const std::string& text) {
  const Fd fd(open(path, O_WRONLY | O_CLOEXEC));
  if (fd.is_open() && write(fd.get(), text.data(), text.size()) < 0) return;  // the plan has said so
}

// What stays over an exec. Nothing of it makes the restart fail: restart/attributes.cc tells what can't be had.
void restore_state(const ProcessImage& process) {
  const format::ProcessStateRecord& state = process.state;
  if (!process.has_state) return;
  write_own("/proc/self/oom_score_adj", std::to_string(state.oom_score_adj));
  char filter[16];
  snprintf(filter, sizeof(filter), "0x%x", state.coredump_filter);
  if (state.coredump_filter != 0) write_own("/proc/self/coredump_filter", filter);
  prctl(PR_SET_CHILD_SUBREAPER, state.is_subreaper);
  // Above the lowest bit are the flags of newer kernels.
  prctl(PR_SET_THP_DISABLE, state.thp_disabled & 1, state.thp_disabled & ~1U, 0, 0);
}

bool enter_deleted_folder(const std::string& path) {
  if (!path.ends_with(" (deleted)")) return false;
  const Fd folder = open_deleted_folder();
  return folder.is_open() && fchdir(folder.get()) == 0;
}

void restore_identity(const ProcessImage& process) {
  if (chdir(process.cwd.c_str()) != 0 && !enter_deleted_folder(process.cwd))
    throw Error::from_errno("enter", process.cwd, errno, ExitCode::kRunner);
  umask(static_cast<mode_t>(process.process.umask));
  if (process.thread_states.empty()) {
    setpriority(PRIO_PROCESS, 0, process.process.nice);
    if (process.process.no_new_privs != 0) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  }
  restore_state(process);
  restore_undo(process);
  if (process.has_state && geteuid() == 0 && setgroups(process.groups.size(), process.groups.data()) != 0 && errno != EPERM) {
    throw Error::from_errno("set", "the supplementary groups", errno, ExitCode::kRunner);  // EPERM: a user namespace keeps them
  }
}

void take_terminal(int terminal, pid_t group) {
  if (terminal < 0) return;
  sigset_t set;
  sigset_t old;
  sigemptyset(&set);
  sigaddset(&set, SIGTTOU);
  sigprocmask(SIG_BLOCK, &set, &old);
  if (group <= 0 || tcsetpgrp(terminal, group) != 0) tcsetpgrp(terminal, getpgrp());
  sigprocmask(SIG_SETMASK, &old, nullptr);
}

// A single process that leads a session on a pair whose master it has itself.
void take_terminal_of_own(const RestartPlan& plan) {
  const Description* master = find_controlling_master(plan, *plan.process);
  if (master == nullptr || plan.process->process.session_id != plan.process->process.pid) return;
  for (const auto& entry : plan.process->descriptors) {
    if (entry.description != master->record.id) continue;
    take_own_terminal(entry.fd);
    const auto state = state_of<format::TerminalMasterState>(*master);
    return set_own_foreground(entry.fd, plan.new_number(state.foreground_group));
  }
}

// An exec by anybody but root gives up all capabilities that are not ambient; the restorer needs this one, and drops it at the end.
void keep_restore_capability() {
  constexpr unsigned kCheckpointRestore = 40;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  if (syscall(SYS_capget, &header, data) != 0) return;
  data[kCheckpointRestore / 32].inheritable |= 1U << kCheckpointRestore % 32;
  if (syscall(SYS_capset, &header, data) != 0) return;
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, kCheckpointRestore, 0, 0);
}

// The kernel chooses at exec where mappings go, by how large the stack may become.
void set_stack_limit(const ProcessImage& process) {
  rlimit now{};
  if (getrlimit(RLIMIT_STACK, &now) != 0) return;
  for (const auto& limit : process.limits) {
    if (limit.resource != RLIMIT_STACK) continue;
    now.rlim_cur = std::min<rlim_t>(limit.soft, now.rlim_max);
    setrlimit(RLIMIT_STACK, &now);
  }
}

int make_hand_over(const std::vector<std::byte>& bytes, int lowest) {
  const Fd memory(memfd_create("ckpt-hand-over", 0));
  if (!memory.is_open()) throw Error::from_errno("create", "the hand-over", errno, ExitCode::kRunner);
  if (write(memory.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
    throw Error::from_errno("write", "the hand-over", errno, ExitCode::kRunner);
  }
  return move_above(memory.get(), lowest);
}

void close_from(int lowest) {
  if (syscall(SYS_close_range, lowest, ~0U, 0) == 0) return;
  std::vector<int> open_fds;  // Linux before 5.9
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    if (const int fd = std::stoi(entry.path().filename()); fd >= lowest) open_fds.push_back(fd);
  }
  for (const int fd : open_fds) close(fd);
}

void exec_restorer(const RestartPlan& plan, const ProgramFds& fds, bool has_user_namespace, const OpenedFiles* opened) {
  const std::string restorer = folder_of_command() + "/../libexec/ckpt/ckpt-restorer";
  const ProcessImage& process = *plan.process;
  int highest = 2;
  for (const auto& entry : process.descriptors) highest = std::max(highest, entry.fd);
  const int base = highest + 1;
  // Out of the way of the program's numbers first; in the end a row right above them, and what was opened on the way is closed.
  const RestorerFds own{base, base + 1, base + 2, base + 5, base + 4};
  const int parked[] = {move_above(plan.image->fd(), base + 64), move_above(fds.control, base + 64),
                        move_above(fds.report, base + 64), move_above(fds.gate, base + 64)};
  make_memory_objects(plan, base + 64);
  if (opened == nullptr) {
    rebuild_files(plan, fds.streams);
    take_terminal_of_own(plan);
  } else {
    install_files(plan, fds.streams, *opened);
  }
  finish_memory_objects(plan);
  const int hand = make_hand_over(build_hand_over(plan, own, has_user_namespace), base + 64);
  if (opened == nullptr) {
    cut_files_back(plan);
    note_shared_logs(plan);
  }
  for (int i = 0; i < 3; ++i) dup2(parked[i], base + i);
  dup2(hand, base + 3);
  dup2(parked[3], base + 4);
  int next = base + 5;
  for (std::uint32_t i = 0; i < process.objects.size(); ++i) {
    if (fd_of_object(i) >= 0) dup2(fd_of_object(i), next++);
  }
  close_from(next);
  if (has_user_namespace) keep_restore_capability();
  set_stack_limit(process);
  const std::string number = std::to_string(base + 3);
  char* const arguments[] = {const_cast<char*>("ckpt-restorer"), const_cast<char*>(number.c_str()), nullptr};
  char* const environment[] = {nullptr};
  execve(restorer.c_str(), arguments, environment);
  report_and_exit(base + 2, Error::from_errno("execute", restorer, errno).what());
}

}  // namespace

void join_group(pid_t group, pid_t pid, pid_t parent, const std::function<pid_t(pid_t)>& fork_leader) {
  if (group == pid) {
    setpgid(0, 0);
  } else if (group > 1 && group != parent) {
    const pid_t leader = fork_leader(group);
    if (leader == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      setpgid(0, 0);
      pause();
      _exit(0);
    }
    setpgid(leader, leader);
    setpgid(0, leader);
    kill(leader, SIGKILL);
    waitpid(leader, nullptr, 0);
  }
}

void become_program(const RestartPlan& plan, const ProgramFds& fds, bool has_user_namespace) {
  const auto& process = plan.process->process;
  try {
    const bool has_own_terminal = find_controlling_master(plan, *plan.process) != nullptr;
    if (process.session_id == process.pid && (process.foreground_group < 0 || has_own_terminal)) {
      setsid();
    } else if (!plan.is_plain || process.group_id == process.pid) {
      join_group(process.group_id, process.pid, process.parent_pid);
    }
    take_terminal(fds.terminal, 0);
    put_files_back(plan);  // the program's working directory may be among them
    restore_identity(*plan.process);
    exec_restorer(plan, fds, has_user_namespace, nullptr);
  } catch (const std::exception& error) {
    report_and_exit(fds.report, error.what());
  }
  _exit(125);
}

void become_member(const RestartPlan& plan, const ProgramFds& fds, bool has_user_namespace, const OpenedFiles& opened,
                   bool is_root) {
  try {
    if (is_root) take_terminal(fds.terminal, plan.new_number(plan.process->process.foreground_group));
    restore_identity(*plan.process);
    exec_restorer(plan, fds, has_user_namespace, &opened);
  } catch (const std::exception& error) {
    report_and_exit(fds.report, error.what());
  }
  _exit(125);
}

}  // namespace ckpt
