// files: the rebuild side. See rebuild.h.
#include "lib/resources/files/rebuild.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "lib/common/store.h"
#include "lib/resources/files/proc-path.h"
#include "lib/resources/memory/rebuild.h"
#include "lib/resources/sockets/rebuild.h"
#include "lib/resources/terminals/rebuild.h"

namespace ckpt {

namespace {

// What open(2) takes of F_GETFL's flags; the rest (O_APPEND, O_NONBLOCK …) is set by F_SETFL, which never truncates or creates.
constexpr int kPathFlags = O_PATH | O_NOFOLLOW | O_DIRECTORY;
constexpr int kOpenFlags = O_ACCMODE | O_APPEND | O_NONBLOCK | O_DSYNC | O_SYNC | O_DIRECT | O_LARGEFILE | O_NOATIME;

void copy_bytes(int from, int to, std::uint64_t offset, std::uint64_t size, const std::string& path) {
  std::vector<char> buffer(1U << 20);
  while (size > 0) {
    const ssize_t count = pread(from, buffer.data(), std::min<std::uint64_t>(size, buffer.size()), static_cast<off_t>(offset));
    if (count <= 0) throw Error::from_errno("read", path, count < 0 ? errno : EIO, ExitCode::kRunner);
    for (ssize_t done = 0; done < count;) {
      const ssize_t written = write(to, buffer.data() + done, static_cast<std::size_t>(count - done));
      if (written < 0) throw Error::from_errno("save the end of", path, errno, ExitCode::kRunner);
      done += written;
    }
    offset += static_cast<std::uint64_t>(count);
    size -= static_cast<std::uint64_t>(count);
  }
}

void cut_back(const CutPlan& cut) {
  create_folder(std::filesystem::path(cut.kept_as).parent_path());
  const Fd file(open(cut.path.c_str(), O_RDWR | O_CLOEXEC));
  if (!file.is_open()) throw Error::from_errno("open", cut.path, errno, ExitCode::kRunner);
  const Fd kept(open(cut.kept_as.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!kept.is_open()) throw Error::from_errno("create", cut.kept_as, errno, ExitCode::kRunner);
  copy_bytes(file.get(), kept.get(), cut.size, cut.grown_to - cut.size, cut.path);
  if (fsync(kept.get()) != 0) throw Error::from_errno("sync", cut.kept_as, errno, ExitCode::kRunner);
  if (ftruncate(file.get(), static_cast<off_t>(cut.size)) != 0)
    throw Error::from_errno("cut back", cut.path, errno, ExitCode::kRunner);
  // It is as it was: the next restart from this image must see that. Only its owner may do this.
  const timespec times[2] = {{0, UTIME_OMIT}, {cut.modified_ns / 1'000'000'000, cut.modified_ns % 1'000'000'000}};
  futimens(file.get(), times);
}

int open_path(const std::string& path, std::uint32_t flags) {
  int wanted = static_cast<int>(flags) & ((flags & O_PATH) != 0 ? kPathFlags : kOpenFlags);
  int fd = open(path.c_str(), wanted | O_CLOEXEC | O_NOCTTY);
  if (fd < 0 && errno == EPERM && (wanted & O_NOATIME) != 0) fd = open(path.c_str(), (wanted & ~O_NOATIME) | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) throw Error::from_errno("open", path, errno, ExitCode::kRunner);
  return fd;
}

// Files without a name by device and inode: one that is open twice is made once, also where each of two processes describes one of
// its openings, and has kept the bytes.
using Contents = std::map<std::pair<std::uint64_t, std::uint64_t>, Fd>;

// A file that had lost its name: made again beside where it was, or in a temporary folder, without one.
Fd make_content(const RestartPlan& plan, const Description& description) {
  const auto& record = description.record;
  const int mapped = fd_of_deleted(plan, record);
  if (mapped >= 0) return Fd(fcntl(mapped, F_DUPFD_CLOEXEC, 0));
  std::string folder = std::filesystem::path(description.path).parent_path();
  Fd file(open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, record.mode & 07777));
  for (const char* place : {"/tmp", "/var/tmp"}) {
    if (!file.is_open()) file = Fd(open(place, O_TMPFILE | O_RDWR | O_CLOEXEC, record.mode & 07777));
  }
  if (!file.is_open()) throw Error::from_errno("create again the deleted", description.path, errno, ExitCode::kRunner);
  const FileContent& content = plan.content_of(description);
  for (const auto& extent : content.extents) {
    const auto bytes = plan.image->read_frame(extent.frame);
    const auto written = pwrite(file.get(), bytes.data() + extent.frame_offset, extent.size, static_cast<off_t>(extent.offset));
    if (written != static_cast<ssize_t>(extent.size)) throw Error::from_errno("fill", description.path, errno, ExitCode::kRunner);
  }
  if (ftruncate(file.get(), static_cast<off_t>(content.size)) != 0)
    throw Error::from_errno("fill", description.path, errno, ExitCode::kRunner);
  const timespec times[2] = {{0, UTIME_OMIT}, {record.modified_ns / 1'000'000'000, record.modified_ns % 1'000'000'000}};
  futimens(file.get(), times);
  return file;
}

int open_content(const RestartPlan& plan, const Description& description, Contents& contents) {
  const auto& record = description.record;
  auto found = contents.find({record.device, record.inode});
  if (found == contents.end()) found = contents.try_emplace({record.device, record.inode}, make_content(plan, description)).first;
  return open_path("/proc/self/fd/" + std::to_string(found->second.get()), record.status_flags);
}

// Pipes by inode: both ends until a description of the program has been opened through them, and then that one. So there are never
// many more descriptors than the program had, and what is closed in the image is closed afterwards.
struct OwnPipe {
  std::pair<Fd, Fd> ends;
  int placed = -1;
};
using Pipes = std::map<std::uint64_t, OwnPipe>;

// The end whose record points to what was in the pipe; nullptr: it was empty.
const Description* find_keeper(const RestartPlan& plan, const format::DescriptionRecord& end) {
  for (const DescriptionPlan& item : plan.descriptions) {
    const auto& record = item.description->record;
    const bool is_of_pipe = record.kind == end.kind && record.inode == end.inode && record.device == end.device;
    if (is_of_pipe && record.content != 0) return item.description;
  }
  return nullptr;
}

// Some end of it writes packets (pipe(2), O_DIRECT).
bool is_in_packet_mode(const RestartPlan& plan, const format::DescriptionRecord& end) {
  return std::ranges::any_of(plan.descriptions, [&](const DescriptionPlan& item) {
    const auto& record = item.description->record;
    return record.kind == end.kind && record.inode == end.inode && record.device == end.device &&
           (record.status_flags & O_DIRECT) != 0;
  });
}

std::pair<Fd, Fd> make_empty_pipe(int flags) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK | flags) != 0) throw Error::from_errno("create", "a pipe", errno, ExitCode::kRunner);
  return {Fd(ends[0]), Fd(ends[1])};
}

std::pair<Fd, Fd> make_pipe(const RestartPlan& plan, const Description& description) {
  auto made = make_empty_pipe(is_in_packet_mode(plan, description.record) ? O_DIRECT : 0);
  const auto& record = description.record;
  // An ordinary user with many pipes gets small ones (pipe-user-pages-soft), as the program would have; what is in it has to fit.
  if (record.size > 0 && fcntl(made.second.get(), F_SETPIPE_SZ, static_cast<int>(record.size)) < 0 && errno != EPERM) {
    throw Error::from_errno("enlarge", "a pipe (see pipe-max-size)", errno, ExitCode::kRunner);
  }
  const Description* keeper = find_keeper(plan, record);
  if (keeper == nullptr) return made;
  for (const auto& extent : plan.content_of(*keeper).extents) {
    const auto bytes = plan.image->read_frame(extent.frame);
    if (write(made.second.get(), bytes.data() + extent.frame_offset, extent.size) != static_cast<ssize_t>(extent.size)) {
      throw Error::from_errno("fill", "a pipe", errno, ExitCode::kRunner);
    }
  }
  return made;
}

// Through another end that is open here as `fd`. Packet mode can't be asked for in open(2).
int open_end(int fd, std::uint32_t flags) {
  const std::uint32_t packets = O_DIRECT;
  const int end = open_path("/proc/self/fd/" + std::to_string(fd), flags & ~packets);
  if ((flags & packets) != 0) fcntl(end, F_SETFL, fcntl(end, F_GETFL) | O_DIRECT);
  return end;
}

int open_pipe(const RestartPlan& plan, const Description& description, Pipes& pipes) {
  auto found = pipes.find(description.record.inode);
  if (found == pipes.end()) found = pipes.emplace(description.record.inode, OwnPipe{make_pipe(plan, description), -1}).first;
  const OwnPipe& pipe = found->second;
  return open_end(pipe.placed >= 0 ? pipe.placed : pipe.ends.first.get(), description.record.status_flags);
}

// An end whose other end is gone: reading comes to the end at once, writing is EPIPE.
int open_cut_pipe(const Description& description) {
  const auto ends = make_empty_pipe(0);
  return open_end(ends.first.get(), description.record.status_flags);
}

int open_stream(const DescriptionPlan& plan, const int (&streams)[3]) {
  const int stream = plan.description->record.stream;
  const int fd = stream >= 0 && streams[stream] >= 0 ? fcntl(streams[stream], F_DUPFD_CLOEXEC, 0) : -1;
  if (fd >= 0) return fd;
  return open_path("/dev/null", O_RDWR);  // ckpt-restart itself was started with this stream closed
}

int rebuild_gone_folder(const RestartPlan&, const Description& description) {
  Fd folder = open_deleted_folder();
  if (!folder.is_open() || fchmod(folder.get(), description.record.mode & 07777) != 0)
    throw Error::from_errno("create again the deleted", description.path, errno, ExitCode::kRunner);
  return folder.release();
}

constexpr DescriptorRebuilder kRebuilders[] = {
    {format::DescriptionKind::kGoneFolder, rebuild_gone_folder, nullptr},
    {format::DescriptionKind::kEventFd, rebuild_eventfd, nullptr},
    {format::DescriptionKind::kTimerFd, rebuild_timerfd, nullptr},
    {format::DescriptionKind::kSignalFd, rebuild_signalfd, nullptr},
    {format::DescriptionKind::kEpoll, rebuild_epoll, finish_epoll},
    {format::DescriptionKind::kPidFd, rebuild_pidfd, nullptr},
    {format::DescriptionKind::kMemFd, rebuild_memfd, nullptr},
    {format::DescriptionKind::kFifo, rebuild_fifo, nullptr},
    {format::DescriptionKind::kInotify, rebuild_inotify, nullptr},
    {format::DescriptionKind::kTerminalMaster, rebuild_terminal_master, nullptr},
    {format::DescriptionKind::kOwnTerminal, rebuild_own_terminal, nullptr},
    {format::DescriptionKind::kPlainSocket, rebuild_plain_socket, nullptr},
    {format::DescriptionKind::kMessageQueue, rebuild_message_queue, finish_message_queue},
};

const DescriptorRebuilder& rebuilder_of(const Description& description) {
  for (const DescriptorRebuilder& rebuilder : kRebuilders) {
    if (rebuilder.kind == description.record.kind) return rebuilder;
  }
  throw Error::plain("open file " + std::to_string(description.record.id) + " is of a kind that can't be made again",
                     ExitCode::kRunner);
}

int make_again(const RestartPlan& plan, const Description& description) {
  constexpr int kSettable = O_APPEND | O_NONBLOCK | O_NOATIME | O_DIRECT;
  const int fd = rebuilder_of(description).open(plan, description);
  const int flags = static_cast<int>(description.record.status_flags) & kSettable;
  if ((fcntl(fd, F_GETFL) & kSettable) != flags && fcntl(fd, F_SETFL, flags) != 0) {
    throw Error::from_errno("set the flags of", description.path, errno, ExitCode::kRunner);
  }
  return fd;
}

int open_description(const RestartPlan& plan, const DescriptionPlan& item, const int (&streams)[3], Contents& contents,
                     Pipes& pipes) {
  const auto& record = item.description->record;
  switch (item.source) {
    case DescriptionPlan::Source::kStream:
      return open_stream(item, streams);
    case DescriptionPlan::Source::kTerminal:
      return open_outer_terminal(record.status_flags);
    case DescriptionPlan::Source::kOwnPipe:
      return open_pipe(plan, *item.description, pipes);
    case DescriptionPlan::Source::kCutPipe:
      return open_cut_pipe(*item.description);
    case DescriptionPlan::Source::kMade:
      return make_again(plan, *item.description);
    case DescriptionPlan::Source::kLate:
      return open_path("/dev/null", O_RDWR);  // keeps the number
    case DescriptionPlan::Source::kContent:
    case DescriptionPlan::Source::kOpen:
      break;
  }
  const int fd = item.source == DescriptionPlan::Source::kContent ? open_content(plan, *item.description, contents)
                                                                  : open_path(item.description->path, record.status_flags);
  const bool has_position = record.kind != format::DescriptionKind::kPathOnly && record.offset != 0;
  const auto moved = item.goes_on_at_end ? lseek(fd, 0, SEEK_END)
                     : has_position      ? lseek(fd, static_cast<off_t>(record.offset), SEEK_SET)
                                         : 0;
  if (moved < 0) {
    throw Error::from_errno("seek in", item.description->path, errno, ExitCode::kRunner);
  }
  return fd;
}

// Gives the program's numbers out. Free ones are taken first, so that what is opened on the way lies above them; those that are in
// use here (the image's) are given at the end.
class Numbers {
 public:
  explicit Numbers(const ProcessImage& process) {
    for (const auto& entry : process.descriptors) {
      by_description_[entry.description].push_back(entry.fd);
      wanted_.insert(entry.fd);
      highest_ = std::max(highest_, entry.fd);
    }
    const Fd holder(open("/dev/null", O_RDWR | O_CLOEXEC));
    for (int fd = 0; fd <= highest_; ++fd) {
      if (fcntl(fd, F_GETFD) >= 0) {
        busy_.insert(fd);
      } else if (dup2(holder.get(), fd) < 0) {
        throw Error::from_errno("take", "descriptor " + std::to_string(fd), errno, ExitCode::kRunner);
      }
    }
  }

  const std::vector<int>& of(std::uint32_t description) { return by_description_[description]; }

  // The number by which the open file can be found until all is complete.
  int give(int from, int number) {
    if (!busy_.contains(number)) {
      if (dup2(from, number) < 0)
        throw Error::from_errno("give out", "descriptor " + std::to_string(number), errno, ExitCode::kRunner);
      return number;
    }
    const int above = keep(from);
    late_[number] = above;
    return above;
  }

  int keep(int from) const {
    const int above = fcntl(from, F_DUPFD_CLOEXEC, highest_ + 1);
    if (above < 0) throw Error::from_errno("duplicate", "a descriptor (see RLIMIT_NOFILE)", errno, ExitCode::kRunner);
    return above;
  }

  void complete() {
    for (const auto& [number, above] : late_) {
      dup2(above, number);
      close(above);
    }
    for (int fd = 0; fd <= highest_; ++fd) {
      if (!wanted_.contains(fd)) close(fd);
    }
  }

 private:
  int highest_ = 2;
  std::set<int> wanted_, busy_;
  std::map<int, int> late_;
  std::map<std::uint32_t, std::vector<int>> by_description_;
};

// Standard streams that led to one place may lead to three now.
int source_of(const DescriptionPlan& item, int opened, int number, const int (&streams)[3]) {
  const bool is_own_stream = item.source == DescriptionPlan::Source::kStream && number <= 2 && streams[number] >= 0;
  return is_own_stream ? streams[number] : opened;
}

void finish_all(const RestartPlan& plan) {
  for (const DescriptionPlan& item : plan.descriptions) {
    if (item.source != DescriptionPlan::Source::kMade || Sockets::holds(item) || !plan.is_own(*item.description)) continue;
    const DescriptorRebuilder& rebuilder = rebuilder_of(*item.description);
    if (rebuilder.finish == nullptr) continue;
    for (const auto& entry : plan.process->descriptors) {
      if (entry.description != item.description->record.id) continue;
      rebuilder.finish(plan, *item.description, entry.fd);
      break;
    }
  }
}

}  // namespace

Fd open_deleted_folder() {
  const char* base = getenv("TMPDIR");
  std::string path = std::string(base != nullptr && *base == '/' ? base : "/tmp") + "/ckpt-XXXXXX";
  if (mkdtemp(path.data()) == nullptr) return Fd();
  Fd folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return rmdir(path.c_str()) == 0 ? std::move(folder) : Fd();
}

void cut_files_back(const RestartPlan& plan) {
  for (const CutPlan& cut : plan.cuts) cut_back(cut);
}

void rebuild_files(const RestartPlan& plan, const int (&streams)[3]) {
  std::map<std::uint32_t, int> opened;
  std::vector<Fd> without_number;  // what is on its way in a socket
  Contents contents;
  Pipes pipes;
  Sockets sockets(plan);
  Numbers numbers(*plan.process);
  for (const DescriptionPlan& item : plan.descriptions) {
    const auto& record = item.description->record;
    Fd fd(sockets.holds(item) ? sockets.take(item) : open_description(plan, item, streams, contents, pipes));
    const auto& own = numbers.of(record.id);
    for (const int number : own) {
      const int placed = numbers.give(source_of(item, fd.get(), number, streams), number);
      opened.try_emplace(record.id, placed);
    }
    if (own.empty()) {
      opened[record.id] = fd.get();
      without_number.push_back(std::move(fd));
    }
    if (item.source == DescriptionPlan::Source::kOwnPipe) pipes[record.inode] = {{}, opened.at(record.id)};
  }
  contents.clear();
  sockets.complete(opened);
  without_number.clear();
  release_terminals();
  numbers.complete();
  finish_all(plan);
}

namespace {

// Shows processes of the job: nobody can open it before they are there.
bool is_of_process(const DescriptionPlan& item) {
  const auto kind = item.description->record.kind;
  return item.source == DescriptionPlan::Source::kLate || kind == format::DescriptionKind::kPidFd ||
         kind == format::DescriptionKind::kProcFile || parse_proc_path(item.description->path.c_str()).pid != 0;
}

// Shows another process than that which describes it: made when all are there.
bool is_of_other(const RestartPlan& plan, const Description& description) {
  const std::int32_t shown = parse_proc_path(description.path.c_str()).pid;
  return is_pidfd_of_other(plan, description) || (shown != 0 && shown != plan.owner_of(description).process.pid);
}

int move_above(int fd, int lowest, const DescriptionPlan& item) {
  const int above = fcntl(fd, F_DUPFD_CLOEXEC, lowest);
  if (above < 0) throw Error::from_errno("open again", item.description->path, errno, ExitCode::kRunner);
  return above;
}

}  // namespace

OpenedFiles open_shared_files(const RestartPlan& plan, const int (&streams)[3], int lowest) {
  OpenedFiles opened;
  std::map<const ProcessImage*, RestartPlan> views;
  Contents contents;
  Pipes pipes;
  Sockets sockets(plan);
  for (const DescriptionPlan& item : plan.descriptions) {
    if (is_of_process(item)) continue;
    const ProcessImage* owner = &plan.owner_of(*item.description);
    const bool is_new = !views.contains(owner);
    const RestartPlan& view = views.try_emplace(owner, plan.seen_by(*owner)).first->second;
    if (is_new) {
      forget_memory_objects();
      make_memory_objects(view, lowest);
    }
    const Fd fd(sockets.holds(item) ? sockets.take(item) : open_description(view, item, streams, contents, pipes));
    opened[item.description->record.id] = move_above(fd.get(), lowest, item);
  }
  sockets.complete(opened);
  forget_memory_objects();
  release_terminals();
  return opened;
}

void open_own_files(const RestartPlan& plan, const int (&streams)[3], OpenedFiles& opened) {
  Contents contents;
  Pipes pipes;
  const int lowest = opened.empty() ? 3 : opened.begin()->second;
  for (const DescriptionPlan& item : plan.descriptions) {
    if (!is_of_process(item) || !plan.is_own(*item.description) || is_of_other(plan, *item.description)) continue;
    const Fd fd(open_description(plan, item, streams, contents, pipes));
    opened[item.description->record.id] = move_above(fd.get(), lowest, item);
  }
}

void install_files(const RestartPlan& plan, const int (&streams)[3], const OpenedFiles& opened) {
  Numbers numbers(*plan.process);
  std::map<std::uint32_t, Fd> late;
  Contents contents;
  Pipes pipes;
  for (const auto& entry : plan.process->descriptors) {
    const DescriptionPlan& item = plan.description_of(entry);
    if (!opened.contains(entry.description)) {
      // All processes are there by now. Who had it from another gets one of its own, which shows nothing else.
      if (!late.contains(entry.description)) {
        const Fd made(open_description(plan, item, streams, contents, pipes));
        late.emplace(entry.description, Fd(numbers.keep(made.get())));
      }
      numbers.give(late.at(entry.description).get(), entry.fd);
      continue;
    }
    numbers.give(source_of(item, opened.at(entry.description), entry.fd, streams), entry.fd);
  }
  numbers.complete();
  finish_all(plan);
}

}  // namespace ckpt
