// The trigger's side of the protocol in lib/format/control.h. Order: lock the page, clear what a dead trigger left, write the
// request, knock at the doors until the runtime answers, wait for the image. Only the first step before the answer has a time
// limit: after it the runtime is at work and reports itself.
#include "lib/common/checkpoint.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <boost/filesystem.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <vector>

#include "lib/common/error.h"
#include "lib/common/helper.h"
#include "lib/common/proc.h"
#include "lib/common/store.h"

namespace ckpt {
namespace {

using format::Stage;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kFirstPause{50}, kLongestPause{1000};  // before what was postponed is tried again
constexpr milliseconds kKnockInterval{100};
constexpr milliseconds kWriterGrace{5000};  // between the stage kWriting and the writer's lock
constexpr milliseconds kKillGrace{5000};    // between the commit and the end of a program that waits for it
constexpr int kPollMs = 100;

std::string name_process(pid_t pid) {
  const auto status = read_status(pid);
  return "process " + std::to_string(pid) + (status ? " (" + mask(status->name) + ")" : "");
}

// Between vfork and exec. Our handler would run in its parent's memory there, beside the parent's own threads. Where the kernel
// does not tell, it counts as none.
bool is_in_vfork(pid_t pid) {
  const auto status = read_status(pid);
  return status && status->parent > 0 && syscall(SYS_kcmp, pid, status->parent, KCMP_VM, 0, 0) == 0;
}

// Whether a process lives, without mistaking a later one with its number for it.
class Liveness {
 public:
  explicit Liveness(pid_t pid) : pid_(pid), fd_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))), start_(read_start_time(pid)) {}

  bool is_alive() const {
    if (!fd_.is_open()) return start_.has_value() && read_start_time(pid_) == start_;
    pollfd entry{fd_.get(), POLLIN, 0};
    return poll(&entry, 1, 0) == 0;
  }

  // It is about to end itself; if it does not, we help.
  void await_end(milliseconds limit) const {
    const auto deadline = steady_clock::now() + limit;
    while (is_alive()) {
      if (steady_clock::now() >= deadline) {
        if (fd_.is_open()) syscall(SYS_pidfd_send_signal, fd_.get(), SIGKILL, nullptr, 0);
        return;
      }
      pollfd entry{fd_.get(), POLLIN, 0};  // -1 is skipped: then it is the time alone
      poll(&entry, 1, 10);
    }
  }

 private:
  pid_t pid_;
  Fd fd_;
  std::optional<std::uint64_t> start_;
};

bool has_signal(std::uint64_t set, int signal) { return (set >> (signal - 1) & 1) != 0; }

// Sends the token by the doors in turn: each knock takes the next one that somebody listens at. 33 comes last, where the others
// have long been in vain: glibc takes it at the first pthread_create, and a call that a handler of glibc's ends reads EINTR; 32
// only at the first pthread_cancel.
class Doors {
 public:
  // `door` is told where the thread was before each knock.
  Doors(pid_t pid, std::uint32_t request_id, int public_signal, format::SyscallFacts* door)
      : pid_(pid),
        request_id_(request_id),
        door_(door),
        read_signals_(read_signals_of(pid)),
        signals_{format::kQuietSignal, public_signal, format::kReservedSignal2, format::kReservedSignal} {}

  void knock() {
    const std::size_t count = std::size(signals_);
    for (std::size_t i = 0; i < count; ++i) {
      const int signal = signals_[(next_ + i) % count];
      if (signal == format::kReservedSignal && knocks_ > 0 && knocks_ < kPatientKnocks) continue;
      const pid_t tid = find_listener(signal);
      if (tid == 0) continue;
      *door_ = read_syscall_facts(pid_, tid);
      if (!send(tid, signal)) continue;
      next_ = (next_ + i + 1) % count;
      ++knocks_;
      return;
    }
  }

  // False if there never was a thread to send anything to.
  bool was_open() const { return knocks_ > 0; }

 private:
  static constexpr int kPatientKnocks = 20;

  // A thread that has the signal caught and not blocked; 0 if there is none.
  pid_t find_listener(int signal) const {
    if (signal < 1 || signal > 64 || has_signal(read_signals_, signal)) return 0;
    for (const pid_t tid : list_threads(pid_)) {
      const auto status = read_thread_status(pid_, tid);
      if (!status || status->state == 'Z' || status->state == 'X') continue;
      if (!has_signal(status->caught, signal)) return 0;
      if (!has_signal(status->blocked, signal)) return tid;
    }
    return 0;
  }

  bool send(pid_t tid, int signal) const {
    siginfo_t info{};
    info.si_signo = signal;
    info.si_code = format::kDoorCode;
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_ptr = reinterpret_cast<void*>(static_cast<std::uintptr_t>(request_id_));
    if (syscall(SYS_rt_tgsigqueueinfo, pid_, tid, signal, &info) == 0) return true;
    if (errno == EPERM) throw Error::plain(name_process(pid_) + " is not ours: it may not be signalled", ExitCode::kNotPermitted);
    return false;
  }

  pid_t pid_;
  std::uint32_t request_id_;
  format::SyscallFacts* door_;
  std::uint64_t read_signals_;  // by signalfds: who reads there would take ours for the program's
  int signals_[4];
  std::size_t next_ = 0;
  int knocks_ = 0;  // that somebody was there for
};

class Requester {
 public:
  Requester(Control& control, const CheckpointRequest& request) : control_(control), request_(request), liveness_(request.pid) {}

  // What passes by itself (a message that nobody has accepted yet) is waited for, as long as for threads that do not stop.
  format::Result run() {
    if (!control_.try_lock()) fail_busy();
    const auto deadline = steady_clock::now() + request_.timeout;
    std::string reason;  // that it waits for
    for (auto pause = kFirstPause;; pause = std::min(pause * 2, kLongestPause)) {
      await_exec(deadline);
      clear_page();
      await_last_writer(deadline);
      refuse_threads();
      write_request();
      const format::Result result = wait_for_outcome();
      const bool is_transient = result.code == static_cast<int>(ExitCode::kBusy) && (request_.flags & format::kCheckOnly) == 0;
      if (!is_transient || steady_clock::now() + pause >= deadline) return result;
      if (request_.waiting && reason != result.message) request_.waiting(reason = result.message);
      poll(nullptr, 0, static_cast<int>(pause.count()));
    }
  }

 private:
  [[noreturn]] void fail_busy() const {
    throw Error::plain("a checkpoint of " + name_process(request_.pid) + " is being made already", ExitCode::kBusy);
  }

  // Its parent can't be saved instead: nothing stops a thread that waits in vfork.
  void await_exec(steady_clock::time_point deadline) const {
    while (is_in_vfork(request_.pid)) {
      if (steady_clock::now() >= deadline) {
        throw Error::plain(
            name_process(request_.pid) + " was not saved: it is between vfork and exec; try again when it has called exec",
            ExitCode::kBusy);
      }
      poll(nullptr, 0, 10);
    }
  }

  // Gives the page up and throws.
  [[noreturn]] void fail(const std::string& line) {
    control_.set_stage(Stage::kIdle);
    throw Error::plain(line);
  }

  // What could end the program at the first call of our handler is looked at from outside.
  void refuse_threads() const {
    for (const pid_t tid : list_threads(request_.pid)) {
      const auto status = read_thread_status(request_.pid, tid);
      const char* reason = status ? complaint(*status) : nullptr;
      if (reason == nullptr) continue;
      throw Error::plain("not saved: process " + std::to_string(request_.pid) + ": thread " + std::to_string(tid) + reason);
    }
  }

  const char* complaint(const ProcessStatus& thread) const {
    const format::ControlPage& page = control_.page();
    if (thread.seccomp_filters > page.seccomp_filters)
      return " runs under a seccomp filter that it has installed itself; start it without its sandbox";
    if (std::ranges::find(page.dispatchers, thread.inner_tid) != std::end(page.dispatchers))
      return " has its system calls sent to itself (PR_SET_SYSCALL_USER_DISPATCH); switch that off and try again";
    return nullptr;
  }

  // We hold the lock, so what the page shows was left by a trigger that died, or is the runtime's own doing (a bare kill -USR2).
  void clear_page() {
    switch (control_.stage()) {
      case Stage::kIdle:
        return;
      case Stage::kCommitted:
      case Stage::kFailed:
        return reset_from(control_.stage());
      case Stage::kRequested:
        for (int i = 0; i < 3 && control_.stage() == Stage::kRequested; ++i) control_.wait_while(Stage::kRequested, kPollMs);
        return reset_from(Stage::kRequested);
      case Stage::kFreezing:
      case Stage::kCollecting:
        return fail_busy();
      case Stage::kWriting:
        for (int i = 0; i < 10 && control_.stage() == Stage::kWriting && !may_have_writer(); ++i) {
          control_.wait_while(Stage::kWriting, kPollMs);
        }
        if (control_.stage() != Stage::kWriting) return clear_page();
        if (may_have_writer()) fail_busy();
        return reset_from(Stage::kWriting);
    }
    fail_busy();
  }

  // Where the file system knows no locks, nobody can be told dead.
  bool may_have_writer() { return control_.has_writer().value_or(true); }

  // It says that it is done just before it lets go of the lock, and does not always run at once then. The program need not stand
  // meanwhile.
  void await_last_writer(steady_clock::time_point deadline) {
    for (; control_.has_writer().value_or(false); poll(nullptr, 0, 1)) {
      if (steady_clock::now() >= deadline) fail_busy();
    }
  }

  void reset_from(Stage stage) {
    if (!control_.move_stage(stage, Stage::kIdle) && control_.stage() != Stage::kIdle) fail_busy();
  }

  void write_request() {
    format::ControlPage& page = control_.page();
    page.progress_done = 0;
    page.progress_total = 0;
    page.help = 0;
    helper_.emplace(control_, request_.pid, request_.file);
    page.result = {};
    page.request.id += 1;
    const auto status = read_status(request_.pid);
    is_stopped_ = status && status->state == 'T';
    page.request.flags = request_.flags | (is_stopped_ ? format::kIsStopped : 0U) | (helper_->may_help() ? format::kMayHelp : 0U);
    page.request.timeout_ms = static_cast<std::uint32_t>(request_.timeout.count());
    std::memset(page.request.file, 0, sizeof page.request.file);
    std::memcpy(page.request.file, request_.file.c_str(), std::min(request_.file.size(), sizeof page.request.file - 1));
    if (!control_.move_stage(Stage::kIdle, Stage::kRequested)) fail_busy();
  }

  format::Result wait_for_outcome() {
    Doors doors(request_.pid, control_.page().request.id, static_cast<int>(control_.page().settings.public_signal),
                &control_.page().request.door);
    const auto deadline = steady_clock::now() + request_.timeout;
    for (;;) {
      const Stage stage = control_.stage();
      switch (stage) {
        case Stage::kIdle:
          throw Error::plain(name_process(request_.pid) + " dropped the request");
        case Stage::kRequested:
          wait_for_answer(doors, deadline);
          break;
        case Stage::kFreezing:
        case Stage::kCollecting:
          wait_while_frozen(stage);
          break;
        case Stage::kWriting:
          wait_for_writer();
          break;
        case Stage::kCommitted:
        case Stage::kFailed:
          return take_result(stage);
        default:
          fail("the control page of " + name_process(request_.pid) + " is damaged");
      }
    }
  }

  void wait_for_answer(Doors& doors, steady_clock::time_point deadline) {
    if (!liveness_.is_alive()) return fail_if_still(Stage::kRequested, " ended before it could be saved");
    const auto now = steady_clock::now();
    if (now >= deadline) return give_up(doors);
    if (now >= next_knock_) {
      doors.knock();
      next_knock_ = now + kKnockInterval;
      if (is_stopped_ && !has_continued_) has_continued_ = kill(request_.pid, SIGCONT) == 0;
    }
    const auto left = std::chrono::ceil<milliseconds>(std::min(next_knock_, deadline) - now).count();
    control_.wait_while(Stage::kRequested, static_cast<int>(std::max<std::int64_t>(left, 1)));
  }

  // Takes the request back, unless the runtime has just answered.
  void give_up(const Doors& doors) {
    if (!control_.move_stage(Stage::kRequested, Stage::kIdle)) return;
    if (has_continued_) kill(request_.pid, SIGSTOP);
    const auto status = read_status(request_.pid);
    std::string reason = doors.was_open() ? "it did not answer" : "it blocks every signal that could reach it, or has just started";
    if (status && status->state == 't') reason = "a debugger has stopped it";
    throw Error::plain(name_process(request_.pid) + " was not saved within " + std::to_string(request_.timeout.count()) +
                       " ms: " + reason);
  }

  void fail_if_still(Stage stage, const char* what) {
    if (control_.stage() == stage) fail("process " + std::to_string(request_.pid) + what);
  }

  void wait_while_frozen(Stage stage) {
    if (!liveness_.is_alive()) return fail_if_still(stage, " ended during the checkpoint");
    helper_->serve();
    control_.wait_while(stage, kPollMs);
  }

  // The writer is a process of its own: it may outlive the program, and it may be killed alone.
  void wait_for_writer() {
    const auto now = steady_clock::now();
    helper_->serve();
    if (may_have_writer()) {
      had_writer_ = true;
    } else {
      if (!writing_since_) writing_since_ = now;
      const bool is_lost = had_writer_ || now - *writing_since_ > kWriterGrace;
      // The lock goes after the stage has moved, so a living stage without a lock is a dead writer.
      if (is_lost && control_.stage() == Stage::kWriting) {
        remove_partial();
        return fail("the writer of the image was killed");
      }
    }
    if (request_.progress) request_.progress(control_.page().progress_done, control_.page().progress_total);
    control_.wait_while(Stage::kWriting, kPollMs);
  }

  // What a dead writer began, named as lib/runtime/writer-commit.cc does: ".<image>.tmp-<pid or job>", and a copy of a library that
  // it was at. We hold the lock: no other is at work.
  void remove_partial() {
    if (helper_->has_granted()) return;  // it removes its own
    namespace fs = boost::filesystem;
    const format::ControlPage& page = control_.page();
    const fs::path file = *page.request.file != '\0' ? page.request.file : page.settings.file;
    const fs::path folder = file.empty() ? fs::path(page.settings.directory) / page.settings.job_name : file.parent_path();
    const std::string begin = file.empty() ? "." : "." + file.filename().string();
    const std::string job = page.settings.job_name;
    const std::string end = file.empty() ? kImageSuffix + (".tmp-" + std::to_string(page.root_pid)) : ".tmp-" + job;
    boost::system::error_code error;
    for (fs::directory_iterator entry(folder, error), last; !error && entry != last; entry.increment(error)) {
      const std::string name = entry->path().filename().string();
      if (name.starts_with(begin) && name.ends_with(end)) unlink(entry->path().c_str());
    }
    const fs::path files = fs::path(page.settings.directory) / kFilesFolder;
    const std::string copy_end = "-" + job;
    for (fs::directory_iterator entry(files, error), last; !error && entry != last; entry.increment(error)) {
      if (entry->path().filename().string().ends_with(copy_end)) unlink(entry->path().c_str());
    }
  }

  format::Result take_result(Stage stage) {
    format::Result result = control_.page().result;
    result.message[sizeof result.message - 1] = '\0';
    result.image[sizeof result.image - 1] = '\0';
    if (stage == Stage::kFailed && result.code == 0) result.code = static_cast<int>(ExitCode::kFailed);
    if (stage == Stage::kCommitted) result.code = 0;
    if (helper_->has_granted()) name_committed(stage, result);
    // A held program must see the stage itself, or it takes a page at rest for a failure and goes on.
    if (stage == Stage::kCommitted && (request_.flags & format::kHoldUntilCommitted) != 0) await_job_end();
    control_.set_stage(Stage::kIdle);
    return result;
  }

  // What the page says is the program's word.
  void name_committed(Stage stage, format::Result& result) {
    const std::string& image = helper_->committed();
    if (stage == Stage::kCommitted && image.empty()) fail("process " + std::to_string(request_.pid) + " has left no image");
    std::memset(result.image, 0, sizeof result.image);
    std::memcpy(result.image, image.c_str(), std::min(image.size(), sizeof result.image - 1));
  }

  // Whoever is told that the job was ended may restart it at once.
  void await_job_end() {
    const auto deadline = steady_clock::now() + kKillGrace;
    liveness_.await_end(kKillGrace);
    for (pid_t member = 0; (member = find_mappers(control_.path()).member) != 0 && steady_clock::now() < deadline;) {
      const Liveness liveness(member);
      while (liveness.is_alive() && steady_clock::now() < deadline) poll(nullptr, 0, 1);
    }
  }

  Control& control_;
  const CheckpointRequest& request_;
  Liveness liveness_;
  steady_clock::time_point next_knock_{};
  std::optional<steady_clock::time_point> writing_since_;
  std::optional<Helper> helper_;  // of this attempt
  bool had_writer_ = false;
  bool is_stopped_ = false, has_continued_ = false;
};

}  // namespace

format::Result request_checkpoint(Control& control, const CheckpointRequest& request) { return Requester(control, request).run(); }

}  // namespace ckpt
