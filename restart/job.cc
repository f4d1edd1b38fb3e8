// See job.h for who is who. ckpt-restart must be single-threaded here (a user namespace wants it so).
#include "restart/job.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <vector>

#include "lib/common/control.h"
#include "lib/common/proc.h"
#include "lib/common/standard-streams.h"
#include "lib/common/store.h"
#include "lib/resources/memory/rebuild.h"
#include "lib/resources/saved/rebuild.h"
#include "lib/resources/sysv/rebuild.h"
#include "restart/channels.h"
#include "restart/namespaces.h"
#include "restart/numbers.h"
#include "restart/plain.h"
#include "restart/plan-files.h"
#include "restart/program.h"
#include "restart/terminal.h"
#include "restart/tree.h"
#include "restart/witness.h"

namespace ckpt {

namespace {

// Signals that a person or a batch system sends to ckpt-restart and means for the program.
constexpr int kForwarded[] = {SIGHUP,   SIGINT,  SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2,   SIGALRM,
                              SIGWINCH, SIGXCPU, SIGURG,  SIGIO,   SIGPWR,  SIGVTALRM, SIGPROF};

std::vector<pid_t> children_of_self() {
  std::vector<pid_t> children;
  std::ifstream file("/proc/thread-self/children");
  for (pid_t child = 0; file >> child;) children.push_back(child);
  return children;
}

// The program's own limit is set by the restorer; on the way more descriptors are open than it had.
void allow_descriptors() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

class Job {
 public:
  explicit Job(const RestartPlan& plan) : plan_(plan), process_(plan.process->process) {}

  int run() {
    allow_descriptors();
    terminal_.find(highest_fd() + 1);
    fds_.terminal = terminal_.fd();
    create_control();
    channels_ = make_channels();
    block_signals();
    if (!plan_.is_plain) witness_.start();  // before what is forked is in the program's namespaces
    for (int i = 0; i < 3; ++i) fds_.streams[i] = had_stream(i) ? fcntl(i, F_DUPFD_CLOEXEC, highest_fd() + 1) : -1;
    // The program's descriptors will be laid over the low numbers, and an error must still find its way afterwards.
    channels_.report_there = Fd(fcntl(channels_.report_there.get(), F_DUPFD_CLOEXEC, highest_fd() + 1));
    fds_.report = channels_.report_there.get();
    if (is_tree() || plan_.needs_ipc_namespace()) make_gate();
    if (is_tree()) make_memory();
    terminal_.set_modes(plan_);
    if (plan_.is_plain && has_system_v(plan_.image->job())) in_child([this] { make_system_v(plan_); });
    if (plan_.is_plain && !is_tree()) {
      start_plainly();
    } else if (plan_.is_plain) {
      start_init();
    } else {
      namespaces_ = enter_mount_namespace();
      if (plan_.needs_ipc_namespace()) prepare_ipc();
      enter_child_namespaces(plan_.process->clocks);
      start_init();
    }
    channels_.report_there.reset();
    channels_.events_there.reset();
    channels_.leash_there.reset();
    close_shared();
    await_start();
    seal_shared_objects(plan_);
    if (plan_.is_plain) witness_.start();  // now that it can't take a number of the program's
    if (plan_.needs_ipc_namespace()) finish_system_v(plan_);
    gate_here_.reset();
    terminal_.announce();
    const int status = supervise();
    if (find_mappers(plan_.control_path).member == 0) unlink(plan_.control_path.c_str());
    let_init_go();
    return status;
  }

 private:
  int highest_fd() const {
    int highest = 2;
    for (const ProcessImage& process : plan_.image->job().processes) {
      for (const auto& entry : process.descriptors) highest = std::max(highest, entry.fd);
    }
    return highest;
  }

  // The store may be gone, or may never have been here: an image in one file is enough.
  void create_control() {
    create_private_folder(plan_.control_path.substr(0, plan_.control_path.rfind('/')));
    unlink(plan_.control_path.c_str());  // of the job that is dead; the plan made sure
    create_control_file(plan_.control_path, plan_.settings);
    control_ = Fd(open(plan_.control_path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (!control_.is_open()) throw Error::from_errno("open", plan_.control_path, errno, ExitCode::kRunner);
    Control control(plan_.control_path);
    control.page().root_pid = process_.pid;
    control.page().launched_ticks = 0;  // everybody is of the job
    fds_.control = control_.get();
  }

  void block_signals() {
    sigemptyset(&handled_);
    for (const int signal : kForwarded) sigaddset(&handled_, signal);
    sigaddset(&handled_, SIGCHLD);
    sigaddset(&handled_, SIGTSTP);
    sigaddset(&handled_, SIGTTOU);
    sigprocmask(SIG_BLOCK, &handled_, &original_mask_);
  }

  void start_init() {
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) != 0) throw Error::from_errno("create", "a pipe", errno, ExitCode::kRunner);
    init_ = fork();
    if (init_ < 0) throw Error::from_errno("create", "the first process of the namespace", errno, ExitCode::kRunner);
    if (init_ == 0) {
      if (plan_.is_plain) {
        prctl(PR_SET_CHILD_SUBREAPER, 1);
      } else {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        mount_proc();
      }
      if (plan_.needs_ipc_namespace() && !plan_.is_plain) mount_message_queues();
      if (is_tree()) report_failure([this] { prepare_tree(); });
      if (is_first_process()) {
        if (write(ready[1], "", 1) != 1) _exit(125);
        enter_program();
      }
      prctl(PR_SET_NAME, "ckpt-init");
      close(ready[0]);
      report_failure([this] { process_.parent_pid > 1 && !plan_.is_plain ? start_stand_in() : start_program(); });
      if (is_tree()) report_failure([this] { start_orphans(tree_); });
      if (write(ready[1], "", 1) != 1) _exit(125);
      close(ready[1]);
      be_init();
    }
    close(ready[1]);
    char byte = 0;
    const bool is_ready = read(ready[0], &byte, 1) == 1;
    close(ready[0]);
    if (!is_ready) throw_report("the namespace's init did not start");
  }

  // Without namespaces the program is our own child, and ends with us.
  void start_plainly() {
    const pid_t self = getpid();
    const bool is_renamed = plan_.renamed.contains(process_.pid);
    init_ = is_renamed ? fork_with_other_pid(numbers_of(plan_.image->job())) : fork_with_pid(process_.pid);
    if (init_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != self) _exit(125);
    enter_program();
  }

  // Reaps; reports the program if it is our child; ends with the last process once the leash is off.
  [[noreturn]] void be_init() {
    channels_.report_there.reset();
    channels_.events_here.reset();
    channels_.leash_here.reset();
    close_foreign_fds();
    sigset_t none;
    sigemptyset(&none);
    sigaddset(&none, SIGCHLD);
    const Fd children(signalfd(-1, &none, SFD_CLOEXEC));
    bool is_free = false;
    for (;;) {
      pollfd polled[2] = {{children.get(), POLLIN, 0}, {is_free ? -1 : channels_.leash_there.get(), POLLIN, 0}};
      poll(polled, 2, -1);
      signalfd_siginfo info;
      if ((polled[0].revents & POLLIN) != 0 && read(children.get(), &info, sizeof(info)) < 0) continue;
      char byte = 0;
      if (polled[1].revents != 0) {
        if (read(channels_.leash_there.get(), &byte, 1) != 1) end_all();  // ckpt-restart is dead
        prctl(PR_SET_PDEATHSIG, 0);
        is_free = true;
        if (write(channels_.leash_there.get(), "", 1) != 1) _exit(0);
      }
      if (!reap() && is_free) _exit(0);
    }
  }

  // All processes of a namespace end with its init.
  [[noreturn]] void end_all() {
    while (plan_.is_plain) {
      for (const pid_t child : children_of_self()) kill(child, SIGKILL);
      if (waitpid(-1, nullptr, 0) < 0 && errno == ECHILD) break;  // theirs have become ours
    }
    _exit(0);
  }

  // False: no children are left.
  bool reap() {
    for (;;) {
      int status = 0;
      const pid_t pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED);
      if (pid == 0) return true;
      if (pid < 0) return errno != ECHILD;
      if (pid == program_) tell(channels_.events_there.get(), status);
    }
  }

  // Several processes, or one with children that have ended.
  bool is_tree() const {
    const auto& processes = plan_.image->job().processes;
    return processes.size() > 1 || !processes.at(0).zombies.empty();
  }

  // Nobody goes on before all are ready.
  void make_gate() {
    int gate[2];
    if (pipe2(gate, O_CLOEXEC) != 0) throw Error::from_errno("create", "a pipe", errno, ExitCode::kRunner);
    gate_here_ = Fd(fcntl(gate[1], F_DUPFD_CLOEXEC, highest_fd() + 1));
    gate_there_ = Fd(fcntl(gate[0], F_DUPFD_CLOEXEC, highest_fd() + 1));
    close(gate[0]);
    close(gate[1]);
    fds_.gate = gate_there_.get();
  }

  // Modes and removals come last: processes have to attach what they had.
  void prepare_ipc() {
    Control(plan_.control_path).page().ipc_namespace = enter_ipc_namespace();
    make_system_v(plan_);
  }

  // By a process that lives for a moment only: the kernel notes who has made a System V object, and a later checkpoint would take
  // ckpt-restart for somebody who shares it.
  template <typename Step>
  void in_child(Step step) {
    const pid_t child = fork();
    if (child < 0) throw Error::from_errno("create", "a process", errno, ExitCode::kRunner);
    if (child == 0) {
      report_failure(step);
      _exit(0);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (status != 0) throw_report("a process that makes System V objects failed");
  }

  // Files are back before they are opened. What is made for all stays with us until it is sealed.
  void make_memory() {
    put_files_back(plan_);
    make_shared_objects(plan_, highest_fd() + 1);
  }

  // In init, which has the numbers of the job's namespace: what the processes share is opened here, and inherited.
  void prepare_tree() {
    const OpenedFiles opened = open_shared_files(plan_, fds_.streams, highest_fd() + 1);
    cut_files_back(plan_);
    note_shared_logs(plan_);
    tree_ = {&plan_, fds_, namespaces_.has_user, opened, make_meeting(plan_), original_mask_};
  }

  // In init and stand-in: what fails here is told by ckpt-restart.
  template <typename Step>
  void report_failure(Step step) {
    try {
      step();
    } catch (const std::exception& error) {
      const std::string line = std::string(error.what()) + "\n";
      if (write(channels_.report_there.get(), line.data(), line.size()) < 0) _exit(125);
      _exit(125);
    }
  }

  void close_shared() {
    for (const auto& [id, fd] : tree_.opened) close(fd);
    tree_.opened.clear();
    gate_there_.reset();
  }

  void close_foreign_fds() {
    close_shared();
    close_shared_objects();
    gate_here_.reset();
    for (int fd = 0; fd < 3; ++fd) {
      close(fd);
      if (fds_.streams[fd] >= 0) close(fds_.streams[fd]);
    }
    terminal_.close();
    control_.reset();
  }

  void start_stand_in() {
    if (fork_with_pid(process_.parent_pid) != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "ckpt-parent");
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, nullptr);  // it shares the job's group, and must not share its ^C
    if (process_.group_id == process_.parent_pid) setpgid(0, 0);
    report_failure([this] { start_program(); });
    channels_.report_there.reset();
    channels_.events_here.reset();
    channels_.leash_here.reset();
    channels_.leash_there.reset();
    close_foreign_fds();
    for (;;) {
      int status = 0;
      if (waitpid(program_, &status, WUNTRACED | WCONTINUED) < 0) {
        if (errno == EINTR) continue;
        _exit(0);
      }
      tell(channels_.events_there.get(), status);
      if (WIFEXITED(status) || WIFSIGNALED(status)) _exit(0);
    }
  }

  void start_program() {
    program_ = is_tree() ? fork_member(tree_, process_.pid) : fork_with_pid(process_.pid);
    if (program_ != 0) return;
    send_event(channels_.events_there.get(), {Event::kStarted, 0});
    enter_program();
  }

  void enter_program() {
    sigprocmask(SIG_SETMASK, &original_mask_, nullptr);
    if (plan_.is_plain) Control(plan_.control_path).page().root_pid = getpid();
    gate_here_.reset();
    if (is_tree()) become_process(tree_, *plan_.process);
    become_program(plan_, fds_, namespaces_.has_user);
  }

  // A program that was the first process of a container is that again: our own child, with no init above it.
  bool is_first_process() const { return process_.pid == 1; }
  bool is_own_child() const { return is_first_process() || (plan_.is_plain && !is_tree()); }

  // The first line that comes, up to the end: each process of a tree may have one.
  std::string read_report() {
    std::string text;
    char buffer[512];
    for (ssize_t count = 0; (count = read(channels_.report_here.get(), buffer, sizeof(buffer))) > 0;) {
      text.append(buffer, static_cast<std::size_t>(count));
    }
    return text.substr(0, text.find('\n'));
  }

  [[noreturn]] void throw_report(const std::string& otherwise) {
    channels_.report_there.reset();
    const std::string line = read_report();
    unlink(plan_.control_path.c_str());
    throw Error::plain(line.empty() ? otherwise : line, ExitCode::kRunner);
  }

  // The report pipe ends without a word when the program runs.
  void await_start() {
    const std::string line = read_report();
    if (line.empty()) return;
    unlink(plan_.control_path.c_str());
    throw Error::plain(line, ExitCode::kRunner);
  }

  // The next event; `program_` becomes the program's pid as it is out here, by the sender's credentials.
  bool receive(Event* event) {
    char room[CMSG_SPACE(sizeof(ucred))];
    iovec vector{event, sizeof(*event)};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = room;
    message.msg_controllen = sizeof(room);
    if (recvmsg(channels_.events_here.get(), &message, 0) != sizeof(*event)) return false;
    const cmsghdr* header = CMSG_FIRSTHDR(&message);
    if (event->kind == Event::kStarted && header != nullptr && header->cmsg_type == SCM_CREDENTIALS) {
      ucred credentials{};
      std::memcpy(&credentials, CMSG_DATA(header), sizeof(credentials));
      program_ = credentials.pid;
    }
    return true;
  }

  void stop_with_program() {
    const pid_t group = getpgid(program_);
    terminal_.give_to(getpgrp());
    raise(SIGSTOP);
    terminal_.give_to(group);
    if (group > 0 && group != getpgrp()) {
      kill(-group, SIGCONT);
    } else {
      kill(program_, SIGCONT);
    }
  }

  // What came to our group goes to the program's: batch systems, timeout(1) and `kill %1` mean all of the job, and took those in it
  // along before the checkpoint. What came to us alone is for the program alone, as it was when that had our pid.
  void forward(int signals) {
    signalfd_siginfo info;
    if (read(signals, &info, sizeof(info)) != sizeof(info)) return;
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGCHLD || signal == SIGTTOU || program_ <= 0) return;
    const pid_t group = getpgid(program_);
    if (!witness_.has_seen(signal)) {
      kill(program_, signal);
    } else if (group > 0 && group != getpgrp()) {
      kill(-group, signal);
    }
  }

  // Nobody else could tell how it fares.
  int supervise_first() {
    program_ = init_;
    const Fd signals(signalfd(-1, &handled_, SFD_CLOEXEC));
    for (;;) {
      int status = 0;
      while (waitpid(program_, &status, WNOHANG | WUNTRACED | WCONTINUED) > 0) {
        if (WIFSTOPPED(status)) stop_with_program();
        if (WIFEXITED(status) || WIFSIGNALED(status)) return status;
      }
      pollfd polled{signals.get(), POLLIN, 0};
      if (poll(&polled, 1, -1) > 0) forward(signals.get());
    }
  }

  int supervise() {
    if (is_own_child()) return supervise_first();
    const Fd signals(signalfd(-1, &handled_, SFD_CLOEXEC));
    for (;;) {
      pollfd polled[2] = {{channels_.events_here.get(), POLLIN, 0}, {signals.get(), POLLIN, 0}};
      if (poll(polled, 2, -1) < 0) continue;
      if ((polled[1].revents & POLLIN) != 0) forward(signals.get());
      if (polled[0].revents == 0) continue;
      Event event{};
      if (!receive(&event)) throw Error::plain("the program ended without a status: the namespace was killed", ExitCode::kRunner);
      if (event.kind == Event::kStopped) stop_with_program();
      if (event.kind == Event::kEnded) return event.status;
    }
  }

  // Children that the program left behind live on, as they would have without us.
  void let_init_go() {
    terminal_.take_back();
    if (is_own_child()) return;  // and all others ended with it
    char byte = 0;
    if (write(channels_.leash_here.get(), "", 1) == 1 && read(channels_.leash_here.get(), &byte, 1) < 0) return;
  }

  const RestartPlan& plan_;
  const format::ProcessRecord& process_;
  Channels channels_;
  ProgramFds fds_{};
  OuterTerminal terminal_;
  Fd control_, gate_here_, gate_there_;
  Tree tree_{};
  Namespaces namespaces_;
  Witness witness_;
  sigset_t handled_{}, original_mask_{};
  pid_t init_ = 0, program_ = 0;
};

}  // namespace

int run_job(const RestartPlan& plan) { return Job(plan).run(); }

}  // namespace ckpt
