// Files and futexes of the control page; lib/format/control.h has the protocol.
#include "lib/common/control.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <memory>
#include <optional>
#include <string_view>

#include "lib/common/error.h"
#include "lib/common/proc.h"

namespace ckpt {
namespace {

constexpr std::time_t kSweepAge = 60;

// Ignores a signal whose default action would end us without a word.
class IgnoreSignal {
 public:
  explicit IgnoreSignal(int signal) : signal_(signal), old_(std::signal(signal, SIG_IGN)) {}
  ~IgnoreSignal() { std::signal(signal_, old_); }
  IgnoreSignal(const IgnoreSignal&) = delete;
  IgnoreSignal& operator=(const IgnoreSignal&) = delete;

 private:
  int signal_;
  void (*old_)(int);
};

int fill_control_file(int fd, const format::ControlPage& page) {
  if (const int error = posix_fallocate(fd, 0, format::kControlSize); error != 0) return error;
  const ssize_t written = pwrite(fd, &page, sizeof page, 0);
  if (written < 0) return errno;
  return written == sizeof page ? 0 : ENOSPC;
}

// A read lease is refused while the file is open for writing anywhere, and a shared writable mapping counts as that. On file
// systems where it does not (overlayfs, network), the mapping is looked for in /proc as well.
bool is_open_for_writing(const std::string& path) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.is_open()) return true;
  if (fcntl(fd.get(), F_SETLEASE, F_RDLCK) != 0) return true;
  fcntl(fd.get(), F_SETLEASE, F_UNLCK);
  return false;
}

bool is_mapped_anywhere(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir("/proc"), closedir);
  if (!folder) return true;
  while (const dirent* entry = readdir(folder.get())) {
    const pid_t pid = std::atoi(entry->d_name);
    if (pid > 0 && maps_file(pid, path)) return true;
  }
  return false;
}

// The status of the process; of another thread if the main one has ended (pthread_exit) and looks like a zombie.
std::optional<ProcessStatus> read_living_status(pid_t pid) {
  auto status = read_status(pid);
  if (!status || status->state != 'Z') return status;
  for (const pid_t tid : list_threads(pid)) {
    const auto thread = read_thread_status(pid, tid);
    if (thread && thread->state != 'Z' && thread->state != 'X') return thread;
  }
  return status;
}

bool has_caught(const ProcessStatus& status, int signal) { return (status.caught >> (signal - 1) & 1) != 0; }

// Why the maps of a process can't be read, and what may be done. A signal is advised only to what has the runtime in it, which
// takes all of the quiet doors: it would end anybody else.
std::string explain_hidden(const ProcessStatus& status, pid_t pid, const Error& error) {
  if (status.uid != geteuid()) return "is not ours: " + describe_errno(error.error());
  const std::string reason = "may not be looked at, for it is not dumpable (see prctl(2))";
  const bool is_launched = pid != 1 && has_caught(status, format::kQuietSignal) && has_caught(status, format::kReservedSignal) &&
                           has_caught(status, format::kReservedSignal2);
  if (!is_launched) return reason + ", and does not look as if it had been launched for checkpointing (use ckpt-launch)";
  if (has_caught(status, format::kPublicSignal)) return reason + ": kill -USR2 " + std::to_string(pid) + " saves it";
  return reason + ": the signal that ckpt-launch -s was given saves it";
}

bool is_control_name(std::string_view path) { return path.ends_with(format::kControlSuffix); }

// A shell that execs us may have children that nobody else knows of.
void note_strangers(format::ControlPage& page) {
  constexpr long kTickNs = 10'000'000;  // USER_HZ
  timespec since_boot{};
  clock_gettime(CLOCK_BOOTTIME, &since_boot);
  page.launched_ticks = static_cast<std::uint64_t>(since_boot.tv_sec * (1'000'000'000 / kTickNs) + since_boot.tv_nsec / kTickNs);
  std::ifstream children("/proc/thread-self/children");
  for (std::int32_t& stranger : page.strangers) children >> stranger;
}

// The page that the environment names; empty: none, or it can't be read.
std::string launched_page(pid_t pid) {
  std::ifstream environment("/proc/" + std::to_string(pid) + "/environ");
  constexpr std::string_view kName = "CKPT_CONTROL=";
  for (std::string entry; std::getline(environment, entry, '\0');) {
    if (entry.starts_with(kName)) return entry.substr(kName.size());
  }
  return "";
}

std::string why_without_page(pid_t pid) {
  if (read_executable(pid).find("/valgrind/") != std::string::npos)
    return "runs under valgrind, whose signals are its own, and can't be saved";
  const std::string page = launched_page(pid);
  if (page.empty()) return "was not launched for checkpointing (use ckpt-launch)";
  return "is of a job, but out of control: it is static or set-user-ID, or its user may not open " + quote(page);
}

// A program that ends takes its control file away a moment before.
bool ends_soon(pid_t pid) {
  constexpr int kTries = 20;
  for (int i = 0; i < kTries; ++i) {
    if (is_ending(pid)) return true;
    usleep(10'000);
  }
  return false;
}

Error refuse_ended(pid_t pid) { return Error::plain("process " + std::to_string(pid) + " has just ended", ExitCode::kNoInput); }

}  // namespace

void note_namespaces(format::ControlPage& page) {
  for (unsigned i = 0; i < format::kNamespaces; ++i) {
    struct stat status {};
    const std::string path = std::string("/proc/self/ns/") + format::kNamespaceFiles[i];
    page.namespaces[i] = stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
  }
}

void create_control_file(const std::string& path, const format::Settings& settings) {
  auto page = std::make_unique<format::ControlPage>();
  std::memcpy(page->magic, format::kControlMagic, sizeof page->magic);
  page->version = format::kControlVersion;
  page->oldest_peer = 1;
  page->size = format::kControlSize;
  page->root_pid = getpid();  // ckpt-launch becomes the program; a restart puts another one here
  const auto self = read_status(getpid());
  page->seccomp_filters = self ? self->seccomp_filters : 0;
  note_strangers(*page);
  note_namespaces(*page);
  page->settings = settings;
  const IgnoreSignal guard(SIGXFSZ);  // beyond RLIMIT_FSIZE
  const Fd fd(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.is_open()) throw Error::from_errno("create", path, errno, ExitCode::kCannotCreate);
  if (const int error = fill_control_file(fd.get(), *page); error != 0) {
    unlink(path.c_str());
    throw Error::from_errno("write", path, error, ExitCode::kInputOutput);
  }
}

void sweep_control_files(const std::string& run_folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(run_folder.c_str()), closedir);
  if (!folder) return;
  const IgnoreSignal guard(SIGIO);  // somebody opens a file while we hold a lease on it
  const std::time_t now = std::time(nullptr);
  while (const dirent* entry = readdir(folder.get())) {
    if (!is_control_name(entry->d_name)) continue;
    const std::string path = run_folder + "/" + entry->d_name;
    struct stat status {};
    if (lstat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_ctim.tv_sec + kSweepAge > now) continue;
    if (!is_open_for_writing(path) && !is_mapped_anywhere(path)) unlink(path.c_str());
  }
}

std::string find_control_file(pid_t pid) {
  const std::string who = "process " + std::to_string(pid);
  const auto status = read_living_status(pid);
  if (!status || status->state == 'X') throw Error::plain("no such process: " + std::to_string(pid), ExitCode::kNoInput);
  if (status->state == 'Z') throw Error::plain(who + " (" + mask(status->name) + ") has ended, it is a zombie", ExitCode::kNoInput);
  std::vector<MapLine> maps;
  try {
    maps = read_maps(status->tid);
  } catch (const Error& error) {
    if (error.code() == ExitCode::kNoInput) throw Error::plain("no such process: " + std::to_string(pid), ExitCode::kNoInput);
    throw Error::plain(who + " (" + mask(status->name) + ") " + explain_hidden(*status, pid, error), ExitCode::kNotPermitted);
  }
  for (const auto& map : maps) {
    if (is_control_name(map.path)) return map.path;
    if (map.path.ends_with(std::string(format::kControlSuffix) + " (deleted)")) {
      if (ends_soon(status->tid)) throw refuse_ended(pid);
      throw Error::plain("the control file of " + who + " is gone: " + quote(map.path), ExitCode::kUnavailable);
    }
  }
  if (is_ending(status->tid)) throw refuse_ended(pid);
  throw Error::plain(who + " (" + mask(status->name) + ") " + why_without_page(pid), ExitCode::kUnavailable);
}

Control open_control(pid_t pid, const std::string& path) {
  try {
    return Control(path);
  } catch (const Error& error) {
    if (error.error() == ENOENT && ends_soon(pid)) throw refuse_ended(pid);
    throw;
  }
}

Control::Control(const std::string& path) : path_(path), fd_(open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW)) {
  if (!fd_.is_open())
    throw Error::from_errno("open", path, errno, errno == EACCES ? ExitCode::kNotPermitted : ExitCode::kUnavailable);
  struct stat status {};
  if (fstat(fd_.get(), &status) != 0) throw Error::from_errno("read", path, errno);
  if (!S_ISREG(status.st_mode) || static_cast<std::uint64_t>(status.st_size) != format::kControlSize) {
    throw Error("use", path, "not a control file", ExitCode::kUnavailable);
  }
  inode_ = status.st_ino;
  void* address = mmap(nullptr, format::kControlSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  if (address == MAP_FAILED) throw Error::from_errno("map", path, errno);
  mapping_ = Mapping(address, format::kControlSize);
  if (std::memcmp(page().magic, format::kControlMagic, sizeof page().magic) != 0) {
    throw Error("use", path, "not a control file", ExitCode::kUnavailable);
  }
  if (page().oldest_peer > format::kControlVersion) {
    throw Error("use", path, "its job needs a newer ckpt (control version " + std::to_string(page().oldest_peer) + ")",
                ExitCode::kUnavailable);
  }
}

bool Control::try_lock() {
  if (flock(fd_.get(), LOCK_EX | LOCK_NB) == 0) return true;
  if (errno == EWOULDBLOCK) return false;
  throw Error::from_errno("lock", path_, errno);
}

format::Stage Control::stage() { return static_cast<format::Stage>(word().load()); }

void Control::set_stage(format::Stage stage) { word().store(static_cast<std::uint32_t>(stage)); }

bool Control::move_stage(format::Stage from, format::Stage to) {
  auto expected = static_cast<std::uint32_t>(from);
  return word().compare_exchange_strong(expected, static_cast<std::uint32_t>(to));
}

void Control::wait_while(format::Stage stage, int milliseconds) {
  const timespec time{milliseconds / 1000, milliseconds % 1000 * 1'000'000L};
  syscall(SYS_futex, &page().stage, FUTEX_WAIT, static_cast<std::uint32_t>(stage), &time, nullptr, 0);
}

std::optional<bool> Control::has_writer() {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = 0;
  lock.l_len = 1;
  if (fcntl(fd_.get(), F_OFD_GETLK, &lock) != 0) return std::nullopt;
  return lock.l_type != F_UNLCK;
}

}  // namespace ckpt
