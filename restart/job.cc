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

#include <chrono>
#include <cstring>
#include <vector>

#include "lib/common/control.h"
#include "lib/common/proc.h"
#include "lib/common/standard-streams.h"
#include "lib/common/store.h"
#include "lib/resources/memory/rebuild.h"
#include "lib/resources/saved/rebuild.h"
#include "lib/resources/sysv/rebuild.h"
#include "restart/channels.h"
#include "restart/init.h"
#include "restart/namespaces.h"
#include "restart/numbers.h"
#include "restart/plain.h"
#include "restart/plan-files.h"
#include "restart/program.h"
#include "restart/supervision.h"
#include "restart/terminal.h"
#include "restart/tree.h"
#include "restart/watch.h"
#include "restart/witness.h"

namespace ckpt {

namespace {

// Signals that a person or a batch system sends to ckpt-restart and means for the program.
constexpr int kForwarded[] = {SIGHUP,   SIGINT,  SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2,   SIGALRM,
                              SIGWINCH, SIGXCPU, SIGURG,  SIGIO,   SIGPWR,  SIGVTALRM, SIGPROF};

// The program's own limit is set by the restorer; on the way more descriptors are open than it had.
void allow_descriptors() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

constexpr std::chrono::milliseconds kLook{100};  // between two looks at who has ended
constexpr useconds_t kSettling = 50'000;         // after one was seen
constexpr int kRounds = 100;

class Job {
 public:
  explicit Job(const RestartPlan& plan) : plan_(plan), process_(plan.process->process) {}

  int run() {
    int status = 0;
    try {
      build();
    } catch (const std::exception& error) {
      abandon();
      const bool has_lost = meeting_ != nullptr && __atomic_load_n(&meeting_->has_lost, __ATOMIC_ACQUIRE) != 0;
      if (is_interrupted_ || !(has_lost || dynamic_cast<const NumbersLost*>(&error) != nullptr || has_lost_numbers(plan_))) throw;
      clean_up();
      throw NumbersLost(error.what());
    }
    try {
      terminal_.announce();
      const int events = is_own_child() ? -1 : channels_.events_here.get();
      Supervision supervision(terminal_, witness_, watch_, handled_, program_, events);
      if (is_stopped_) supervision.stop_with_program(SIGSTOP);  // until here, we must be able to end
      status = supervision.run();
    } catch (...) {
      abandon();
      throw;
    }
    if (find_mappers(plan_.control_path).member == 0) unlink(plan_.control_path.c_str());
    let_init_go();
    return status;
  }

 private:
  // Returns when all processes are ready, and free to run.
  void build() {
    allow_descriptors();
    terminal_.find(highest_fd() + 1);
    fds_.terminal = terminal_.fd();
    block_signals();
    create_control();
    channels_ = make_channels();
    if (!plan_.is_plain) witness_.start();  // before what is forked is in the program's namespaces
    for (int i = 0; i < 3; ++i) fds_.streams[i] = had_stream(i) ? fcntl(i, F_DUPFD_CLOEXEC, highest_fd() + 1) : -1;
    // The program's descriptors will be laid over the low numbers, and an error must still find its way afterwards.
    channels_.report_there = Fd(fcntl(channels_.report_there.get(), F_DUPFD_CLOEXEC, highest_fd() + 1));
    fds_.report = channels_.report_there.get();
    make_gate();
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
    await_start();
    seal_shared_objects(plan_);
    if (plan_.is_plain) witness_.start();  // now that it can't take a number of the program's
    if (plan_.needs_ipc_namespace()) finish_system_v(plan_);
    if (plan_.is_plain) Control(plan_.control_path).page().root_pid = program_;
    open_gate();
  }

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
    has_control_ = true;
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
    // Where the job's numbers are waited for, it must not take one.
    init_ = plan_.is_plain ? fork_with_other_pid(numbers_of(plan_.image->job()), SIGCHLD) : fork();
    if (init_ < 0) throw Error::from_errno("create", "the first process of the namespace", errno, ExitCode::kRunner);
    if (init_ == 0) report_failure([this] { become_init(); });
    watch_.add(init_, is_first_process() ? describe_process(process_) : "the process above the job (ckpt-init)");
  }

  [[noreturn]] void become_init() {
    gate_here_.reset();
    channels_.report_here.reset();
    channels_.events_here.reset();
    channels_.leash_here.reset();
    if (is_first_process()) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (has_lost(channels_.leash_there.get())) _exit(125);
    } else {
      end_with_restart(!plan_.is_plain, plan_.control_path, channels_.leash_there.get());
    }
    if (!plan_.is_plain) mount_proc();
    if (plan_.needs_ipc_namespace() && !plan_.is_plain) mount_message_queues();
    note_namespaces(Control(plan_.control_path).page());
    if (is_tree()) prepare_tree();
    if (is_first_process()) enter_program();
    prctl(PR_SET_NAME, "ckpt-init");
    process_.parent_pid > 1 && !plan_.is_plain ? start_stand_in() : start_program();
    if (is_tree()) start_orphans(tree_);
    channels_.report_there.reset();
    close_foreign_fds();
    be_init(channels_, program_ > 0 ? program_ : process_.pid);  // it comes to us if the stand-in is killed
  }

  // Without namespaces the program is our own child, and ends with us.
  void start_plainly() {
    const pid_t self = getpid();
    const bool is_renamed = plan_.renamed.contains(process_.pid);
    init_ = is_renamed ? fork_with_other_pid(numbers_of(plan_.image->job())) : fork_with_pid(process_.pid);
    if (init_ != 0) return watch_.add(init_, describe_process(process_));
    gate_here_.reset();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != self) _exit(125);
    report_failure([this] { enter_program(); });
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
    if (status != 0) throw_ended("a process that makes System V objects " + describe_end(status));
  }

  // Files are back before they are opened. What is made for all stays with us until it is sealed.
  void make_memory() {
    meeting_ = make_meeting(plan_);
    put_files_back(plan_);
    make_shared_objects(plan_, highest_fd() + 1);
  }

  // In init, which has the numbers of the job's namespace: what the processes share is opened here, and inherited.
  void prepare_tree() {
    const OpenedFiles opened = open_shared_files(plan_, fds_.streams, highest_fd() + 1);
    cut_files_back(plan_);
    note_shared_logs(plan_);
    tree_ = {&plan_, fds_, namespaces_.has_user, opened, meeting_, original_mask_, channels_.events_there.get()};
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

  void close_foreign_fds() {
    for (const auto& [id, fd] : tree_.opened) close(fd);
    tree_.opened.clear();
    close_shared_objects();
    gate_there_.reset();
    for (int fd = 0; fd < 3; ++fd) {
      close(fd);
      if (fds_.streams[fd] >= 0) close(fds_.streams[fd]);
    }
    terminal_.close();
    control_.reset();
  }

  void start_stand_in() {
    const pid_t stand_in = fork_with_pid(process_.parent_pid);
    if (stand_in != 0) {
      if (is_tree()) await_known(tree_, *plan_.process, stand_in);
      return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    send_event(channels_.events_there.get(), {Event::kStarted, process_.parent_pid});
    prctl(PR_SET_NAME, "ckpt-parent");
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, nullptr);  // it shares the job's group, and must not share its ^C
    if (process_.group_id == process_.parent_pid) setpgid(0, 0);
    report_failure([this] { start_program(); });
    channels_.report_there.reset();
    channels_.leash_there.reset();
    close_foreign_fds();
    be_stand_in(channels_.events_there.get(), program_);
  }

  void start_program() {
    if (is_tree()) {
      program_ = start_process(tree_, *plan_.process);
      return;
    }
    program_ = fork_with_pid(process_.pid);
    if (program_ != 0) return;
    send_event(channels_.events_there.get(), {Event::kStarted, process_.pid});
    enter_program();
  }

  [[noreturn]] void enter_program() {
    if (is_tree()) become_process(tree_, *plan_.process);
    sigprocmask(SIG_SETMASK, &original_mask_, nullptr);
    become_program(plan_, fds_, namespaces_.has_user);
  }

  // A program that was the first process of a container is that again: our own child, with no init above it.
  bool is_first_process() const { return process_.pid == 1; }
  bool is_own_child() const { return is_first_process() || (plan_.is_plain && !is_tree()); }

  // A line that its last breath has brought tells more.
  [[noreturn]] void throw_ended(const std::string& who) {
    Report report;
    pollfd polled{channels_.report_here.get(), POLLIN, 0};
    while (poll(&polled, 1, 0) > 0 && read_report(channels_.report_here.get(), report)) continue;
    throw Error::plain(who, ExitCode::kRunner);
  }

  // False: nobody is left to send one.
  bool take_event() {
    Event event{};
    if (!receive(&event)) return false;
    if (event.kind == Event::kStopped || event.kind == Event::kContinued) is_stopped_ = event.kind == Event::kStopped;
    if (event.kind == Event::kEnded) throw_ended(describe_process(process_) + " " + describe_end(event.status));
    return true;
  }

  // All have to say that they are ready, and nobody may end.
  void await_start() {
    if (is_own_child()) program_ = init_;
    const Fd interrupts = open_interrupts();
    const std::size_t expected = plan_.image->job().processes.size();
    Report report;
    bool has_events = true;
    auto looked = std::chrono::steady_clock::now();
    for (bool goes_on = true; goes_on;) {
      pollfd polled[] = {{interrupts.get(), POLLIN, 0},
                         {has_events ? channels_.events_here.get() : -1, POLLIN, 0},
                         {channels_.report_here.get(), POLLIN, 0}};
      if (poll(polled, 3, kLook.count()) < 0) continue;
      is_interrupted_ = polled[0].revents != 0;
      if (is_interrupted_) fail_by_interrupt(interrupts.get());
      if (polled[1].revents != 0) has_events = take_event();
      if (polled[2].revents != 0) goes_on = read_report(channels_.report_here.get(), report);
      const auto now = std::chrono::steady_clock::now();
      if (now - looked < kLook) continue;
      looked = now;
      if (!watch_.find_ended().empty()) throw_ended(find_first());
    }
    if (report.ready < expected) throw_ended(find_first());
  }

  // Who has ended for a reason of its own, once that is settled: the stand-in goes with the program, of which it or init tells; a
  // namespace takes all along before its init has ended.
  std::string find_first() {
    usleep(kSettling);
    while (has_event() && take_event()) continue;
    const std::string ended = watch_.find_ended();
    return ended.empty() ? "a process of the job " + describe_end(-1) : ended;
  }

  bool has_event() const {
    pollfd polled{channels_.events_here.get(), POLLIN, 0};
    return poll(&polled, 1, 0) > 0;
  }

  // The last moment in which nobody has run: the byte is there for all at once, and stays there if we are killed. Who is killed
  // from here on was so when the job ran.
  void open_gate() {
    if (!watch_.find_ended().empty()) throw_ended(find_first());
    if (write(gate_here_.get(), "", 1) != 1) throw Error::from_errno("open", "the gate", errno, ExitCode::kRunner);
    gate_here_.reset();
    gate_there_.reset();
  }

  // Nothing stays behind. Init ends all that are below it; if it was killed itself, those that we know are, and the others see that
  // the restart has failed.
  void abandon() {
    if (meeting_ != nullptr) __atomic_store_n(&meeting_->has_failed, 1U, __ATOMIC_SEQ_CST);
    if (init_ > 0) {
      kill(init_, plan_.is_plain && is_tree() ? end_signal() : SIGKILL);
      kill(init_, SIGCONT);
      while (waitpid(init_, nullptr, 0) < 0 && errno == EINTR) {
      }
      for (int round = 0; plan_.is_plain && round < kRounds; ++round) {
        Event event{};
        while (has_event() && receive(&event)) continue;
        if (!watch_.kill_all()) break;
        usleep(10'000);
      }
    }
    if (has_control_) unlink(plan_.control_path.c_str());
  }

  // For another Job, as if there had not been this one.
  void clean_up() {
    close_shared_objects();
    for (const int fd : fds_.streams) {
      if (fd >= 0) close(fd);
    }
    sigprocmask(SIG_SETMASK, &original_mask_, nullptr);
  }

  // `old`: its number in the job, or that of the stand-in; `pid`: as it is out here.
  void note_start(pid_t old, pid_t pid) {
    if (old == process_.pid) program_ = pid;
    for (const ProcessImage& process : plan_.image->job().processes) {
      if (process.process.pid == old) return watch_.add(pid, describe_process(process.process));
    }
    watch_.add(pid, "the one that stands for the job's parent (ckpt-parent)");
  }

  bool receive(Event* event) {
    pid_t sender = 0;
    if (!receive_event(channels_.events_here.get(), event, &sender)) return false;
    if (event->kind == Event::kStarted) note_start(event->status, sender);
    return true;
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
  Watch watch_;
  Meeting* meeting_ = nullptr;
  bool has_control_ = false, is_stopped_ = false, is_interrupted_ = false;
  pid_t init_ = 0, program_ = 0;
};

}  // namespace

int run_job(const RestartPlan& plan) { return Job(plan).run(); }

}  // namespace ckpt
