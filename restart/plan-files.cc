// Decides what becomes of files. Reads the world, changes nothing.
#include "restart/plan-files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>

#include "lib/common/hash.h"
#include "lib/common/proc.h"
#include "lib/common/store.h"

namespace ckpt {

namespace {

using format::FilePolicy;

std::int64_t modified_ns(const struct stat& status) { return status.st_mtim.tv_sec * 1'000'000'000LL + status.st_mtim.tv_nsec; }

std::optional<struct stat> status_of_link(const std::string& path) {
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0) return std::nullopt;
  return status;
}

bool read_at(int fd, std::span<std::byte> to, std::uint64_t offset) {
  for (std::size_t done = 0; done < to.size();) {
    const ssize_t count = pread(fd, to.data() + done, to.size() - done, static_cast<off_t>(offset + done));
    if (count <= 0) return false;
    done += static_cast<std::size_t>(count);
  }
  return true;
}

std::uint64_t bytes_of_tail(const format::DescriptionRecord& record) {
  return std::min<std::uint64_t>(record.size, std::uint64_t{record.tail_mib} << 20);
}

// Whether the file's last bytes before `size` are those of the checkpoint.
bool has_same_tail(const std::string& path, const format::DescriptionRecord& record) {
  if (record.tail_mib == 0) return false;
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.is_open()) return false;
  Hasher hasher;
  std::vector<std::byte> bytes(1U << 20);
  for (std::uint64_t at = record.size - bytes_of_tail(record); at < record.size;) {
    const std::span part(bytes.data(), std::min<std::uint64_t>(bytes.size(), record.size - at));
    if (!read_at(fd.get(), part, at)) return false;
    hasher.update(part);
    at += part.size();
  }
  return hasher.digest() == record.tail_hash;
}

bool is_same_file(const format::DescriptionRecord& record, const struct stat& status) {
  const std::uint64_t device = std::uint64_t{major(status.st_dev)} << 32 | minor(status.st_dev);
  return status.st_ino == record.inode && device == record.device;
}

// A file that was made since has only got the same number.
bool is_older(const std::string& path, std::int64_t modified_ns) {
  if (modified_ns == 0) return true;
  struct statx status {};
  if (statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, STATX_BTIME, &status) != 0 || (status.stx_mask & STATX_BTIME) == 0)
    return true;
  return status.stx_btime.tv_sec * 1'000'000'000LL + status.stx_btime.tv_nsec <= modified_ns;
}

// Another name of the file in its folder: where it was renamed to. Empty: none is known.
std::string find_new_name(const Description& description) {
  const std::string folder = std::filesystem::path(description.path).parent_path();
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(opendir(folder.c_str()), closedir);
  while (const dirent* entry = entries ? readdir(entries.get()) : nullptr) {
    if (entry->d_ino != description.record.inode) continue;
    const std::string path = folder + "/" + entry->d_name;
    const auto status = status_of_link(path);
    const bool is_it = status && is_same_file(description.record, *status) && is_older(path, description.record.modified_ns);
    if (is_it && path != description.path) return path;
  }
  return "";
}

// What has become of it, for a message: "is gone", and under which name it is there.
std::string text_of_absence(const Description& description) {
  const std::string name = find_new_name(description);
  return name.empty() ? "is gone" : "is gone (renamed to " + quote(name) + ")";
}

bool is_zero(int fd, std::uint64_t begin, std::uint64_t end) {
  std::vector<std::byte> bytes(1U << 20);
  while (begin < end) {
    const std::span part(bytes.data(), std::min<std::uint64_t>(bytes.size(), end - begin));
    if (!read_at(fd, part, begin)) return false;
    if (std::ranges::any_of(part, [](std::byte byte) { return byte != std::byte{0}; })) return false;
    begin += part.size();
  }
  return true;
}

// Whether the file holds the very bytes that the image has of it.
bool has_content(const Image& image, const std::string& path, const FileContent& content) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.is_open()) return false;
  std::uint64_t end = 0;
  std::vector<std::byte> bytes;
  for (const auto& extent : content.extents) {
    const auto wanted = image.read_frame(extent.frame);
    bytes.resize(extent.size);
    if (!is_zero(fd.get(), end, extent.offset) || !read_at(fd.get(), bytes, extent.offset)) return false;
    if (std::memcmp(bytes.data(), wanted.data() + extent.frame_offset, extent.size) != 0) return false;
    end = extent.offset + extent.size;
  }
  return is_zero(fd.get(), end, content.size);
}

// A name in the store for what is taken away from `path`.
std::string aside_name(const RestartPlan& plan, const std::string& path, const std::string& detail) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  const std::string folder = std::string(plan.settings.directory) + "/" + plan.image->job().job.settings.job_name + "/cut/";
  return folder + std::filesystem::path(path).filename().string() + "." + detail + "." + std::to_string(now.tv_sec) + "-" +
         std::to_string(now.tv_nsec);
}

bool has_open_for_writing(pid_t pid, const struct stat& wanted) {
  const std::string folder = "/proc/" + std::to_string(pid) + "/fd";
  const std::unique_ptr<DIR, int (*)(DIR*)> fds(opendir(folder.c_str()), closedir);
  if (!fds) return false;
  while (const dirent* entry = readdir(fds.get())) {
    struct stat status {};
    if (stat((folder + "/" + entry->d_name).c_str(), &status) != 0) continue;
    if (status.st_ino != wanted.st_ino || status.st_dev != wanted.st_dev) continue;
    struct stat link {};
    const bool is_writable = lstat((folder + "/" + entry->d_name).c_str(), &link) == 0 && (link.st_mode & S_IWUSR) != 0;
    if (is_writable) return true;
  }
  return false;
}

// Its shells have the program's streams, for complaints.
bool is_ours(pid_t pid) {
  const auto status = read_status(pid);
  return status && (status->name == "ckpt-run" || status->name == "ckpt-every");
}

// A process, other than this one and those that stand around it, that could write to the file; 0: none that we can see.
pid_t find_writer(const struct stat& wanted) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir("/proc"), closedir);
  if (!folder) return 0;
  while (const dirent* entry = readdir(folder.get())) {
    const pid_t pid = std::atoi(entry->d_name);
    if (pid <= 0 || pid == getpid() || !has_open_for_writing(pid, wanted) || is_ours(pid)) continue;
    if (has_open_for_writing(pid, wanted)) return pid;  // still: one that has just ended has no name that could tell
  }
  return 0;
}

bool is_same(const format::DescriptionRecord& record, const struct stat& status) {
  return static_cast<std::uint64_t>(status.st_size) == record.size && modified_ns(status) == record.modified_ns;
}

// Written in place, and too large to be kept: nothing but its times can tell whether it is what memory remembers.
void check_unkept(const Description& description, const struct stat& status) {
  if (is_same(description.record, status)) return;
  throw refuse_file(description.path,
                    "is written in place, was too large to be kept, and has changed since the checkpoint; with "
                    "ckpt-launch --save PATH it would be in the image");
}

// Written at its end: whatever was there at the checkpoint must be there.
void check_log(const Description& description, const struct stat& status) {
  const auto& record = description.record;
  const auto size = static_cast<std::uint64_t>(status.st_size);
  const std::string name = is_same_file(record, status) ? "" : find_new_name(description);
  const std::string other = is_same_file(record, status) ? ""
                            : name.empty()               ? "is another file now, and "
                                                         : "is another file now (the old one is " + quote(name) + "), and ";
  if (size < record.size) throw refuse_file(description.path, other + "is shorter than at the checkpoint");
  const bool is_whole = bytes_of_tail(record) == record.size;
  const bool was_written = size == record.size && !is_whole;  // in place, before what the hash covers
  if (!was_written && has_same_tail(description.path, record)) return;
  throw refuse_file(description.path, other.empty() ? "was overwritten since the checkpoint" : other + "holds other bytes");
}

// The standard stream of ckpt-restart that takes the place of the program's is the same file, and open for writing.
bool is_own_stream(const RestartPlan& plan, const Description& description, const struct stat& status) {
  const int stream = description.record.stream;
  if (stream < 0 || plan.options.stdio == StdioPolicy::kOriginal || !description.state.empty()) return false;
  struct stat own {};
  const int flags = fcntl(stream, F_GETFL);
  if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY || fstat(stream, &own) != 0) return false;
  return own.st_ino == status.st_ino && own.st_dev == status.st_dev;
}

// Shared with a script, say, the stream has one offset for both: opened again, each would write over the other's lines. And what
// was emptied for it (`ckpt-restart >log`) is not what the program had, but where its output is wanted.
bool plan_own_stream(RestartPlan& plan, const Description& description, const struct stat& status) {
  if (!is_own_stream(plan, description, status)) return false;
  const pid_t writer = find_writer(status);
  const bool was_emptied = static_cast<std::uint64_t>(status.st_size) < description.record.size;
  if (writer == 0 && !was_emptied) return false;
  const std::string reason = was_emptied ? " was emptied: the program"
                                         : " is written by process " + std::to_string(writer) +
                                               " as well: not cut back, what came since the checkpoint may come twice; the program";
  plan.notes.push_back(quote(description.path) + reason + " goes on with the standard stream of ckpt-restart");
  return true;
}

// One path a line, in the job's folder. None with a newline in it: it would be another's.
std::string list_of_shared_logs(const RestartPlan& plan, const char* job) {
  return std::string(plan.settings.directory) + "/" + job + "/shared-logs";
}

std::set<std::string> read_shared_logs(const std::string& list) {
  std::set<std::string> paths;
  std::ifstream in(list);
  for (std::string line; std::getline(in, line);) paths.insert(line);
  return paths;
}

bool was_shared(const RestartPlan& plan, const Description& description) {
  if (description.record.policy == FilePolicy::kShared) return true;
  if (description.record.policy != FilePolicy::kAppend) return false;
  return read_shared_logs(list_of_shared_logs(plan, plan.image->job().job.settings.job_name)).contains(description.path);
}

void plan_shared(RestartPlan& plan, const Description& description, const struct stat& status, DescriptionPlan& item) {
  item.goes_on_at_end = (description.record.status_flags & O_APPEND) == 0;
  plan.shared_logs.push_back(description.path);
  if (static_cast<std::uint64_t>(status.st_size) != description.record.size)
    plan.notes.push_back(quote(description.path) + " was written by others as well: not cut back");
}

void plan_cut(RestartPlan& plan, const Description& description, const struct stat& status, DescriptionPlan& item) {
  const auto& record = description.record;
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (was_shared(plan, description)) return plan_shared(plan, description, status, item);
  if (is_same(record, status)) return;
  check_log(description, status);
  if (size == record.size) return;
  if (const pid_t writer = find_writer(status); writer != 0) {
    item.goes_on_at_end = (record.status_flags & O_APPEND) == 0;
    plan.notes.push_back(quote(description.path) + " is written by process " + std::to_string(writer) +
                         " as well: not cut back, what came since the checkpoint may come twice");
    return;
  }
  for (CutPlan& cut : plan.cuts) {
    if (cut.path != description.path) continue;
    cut.size = std::min(cut.size, record.size);
    return;
  }
  const std::string kept = aside_name(plan, description.path, std::to_string(record.size) + "-" + std::to_string(size));
  plan.cuts.push_back({description.path, record.size, size, record.modified_ns, kept});
  plan.notes.push_back(quote(description.path) + " grew by " + std::to_string(size - record.size) +
                       " bytes since the checkpoint: cut back, the bytes are kept as " + quote(kept));
}

void plan_absent(RestartPlan& plan, const std::string& path) {
  const std::string aside = aside_name(plan, path, "new");
  plan.changes.push_back({FileChange::Action::kMoveAside, path, nullptr, "", 0, 0, aside});
  plan.notes.push_back(quote(path) + " was made since the checkpoint: moved to " + quote(aside));
}

// What is in a saved folder now and was not there then.
void plan_strangers(RestartPlan& plan, const std::string& folder, const std::set<std::string>& known) {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(opendir(folder.c_str()), closedir);
  if (!entries) return;
  while (const dirent* entry = readdir(entries.get())) {
    const std::string name = entry->d_name;
    const std::string path = folder + "/" + name;
    if (name == "." || name == ".." || known.contains(path)) continue;
    const auto status = status_of_link(path);
    if (status && (S_ISSOCK(status->st_mode) || S_ISCHR(status->st_mode) || S_ISBLK(status->st_mode))) continue;  // never saved
    plan_absent(plan, path);
  }
}

void plan_saved_file(RestartPlan& plan, const SavedFile& file, const std::set<std::string>& known) {
  const auto& record = file.record;
  const auto status = status_of_link(file.path);
  const bool has_type = status && (status->st_mode & S_IFMT) == (record.mode & S_IFMT);
  if (record.mode == 0) {
    if (status) plan_absent(plan, file.path);
    return;
  }
  if (S_ISREG(record.mode) && record.content != 0) {
    return plan_content(plan, file.path, record.content, record.mode & 07777, record.modified_ns);
  }
  if (S_ISDIR(record.mode) && has_type) return plan_strangers(plan, file.path, known);
  if (S_ISFIFO(record.mode) && has_type) return;
  if (S_ISLNK(record.mode) && has_type && std::filesystem::read_symlink(file.path) == file.target) return;
  const auto action = S_ISDIR(record.mode)   ? FileChange::Action::kFolder
                      : S_ISLNK(record.mode) ? FileChange::Action::kLink
                                             : FileChange::Action::kFifo;
  const std::string aside = status ? aside_name(plan, file.path, "before") : "";
  plan.changes.push_back({action, file.path, nullptr, file.target, record.mode & 07777, record.modified_ns, aside});
  plan.notes.push_back(quote(file.path) + (status ? " is something else now" : " is gone") + ": made again");
}

}  // namespace

std::optional<struct stat> status_of(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return std::nullopt;
  return status;
}

Error refuse_file(const std::string& path, const std::string& reason) {
  return Error::plain("file " + quote(path) + " " + reason + " (--files keep takes it as it is)", ExitCode::kRunner);
}

Error refuse_gone(const Description& description) {
  const bool is_read = (description.record.status_flags & O_ACCMODE) == O_RDONLY;
  const std::string name = find_new_name(description);
  const std::string back = name.empty() ? "put it back" : "rename it back";
  const std::string instead = is_read ? "" : ", or make a new one and use --files keep";
  return Error::plain("file " + quote(description.path) + ", which the program has open, " + text_of_absence(description) + " (" +
                          back + instead + ")",
                      ExitCode::kRunner);
}

void check_folder(const RestartPlan& plan, const std::string& folder) {
  if (folder.ends_with(" (deleted)")) return;  // any empty one will do
  const auto status = status_of(folder);
  if (status && S_ISDIR(status->st_mode)) return;
  if (!status && errno != ENOENT && errno != ENOTDIR) throw Error::from_errno("enter", folder, errno, ExitCode::kRunner);
  for (const FileChange& change : plan.changes) {
    const bool is_made = change.action != FileChange::Action::kMoveAside;
    if (is_made && (change.path == folder || change.path.starts_with(folder + "/"))) return;
  }
  throw Error::plain("folder " + quote(folder) + ", in which the program works, is " + (status ? "no folder any more" : "gone") +
                         ": make it again (mkdir -p) and restart",
                     ExitCode::kRunner);
}

void plan_content(RestartPlan& plan, const std::string& path, std::uint32_t content, mode_t mode, std::int64_t modified) {
  for (const FileChange& change : plan.changes) {
    if (change.path == path) return;
  }
  const FileContent& wanted = plan.process->contents.at(content - 1);
  const auto status = status_of_link(path);
  const bool is_regular = status && S_ISREG(status->st_mode);
  if (is_regular && static_cast<std::uint64_t>(status->st_size) == wanted.size && has_content(*plan.image, path, wanted)) return;
  const std::string aside = status ? aside_name(plan, path, "before") : "";
  plan.changes.push_back({FileChange::Action::kContent, path, &wanted, "", mode, modified, aside});
  plan.notes.push_back(quote(path) + (status ? " has changed since the checkpoint: put back, its bytes are kept as " + quote(aside)
                                             : " is gone: made again from the image"));
}

namespace {

// The image has the whole file, for it is open a second time, to be written in place: then it is put back as that. True if so.
bool plan_kept_elsewhere(RestartPlan& plan, const std::string& path) {
  const ProcessImage* own = plan.process;
  for (const ProcessImage& process : plan.image->job().processes) {
    for (const Description& other : process.descriptions) {
      const auto& record = other.record;
      if (record.policy != FilePolicy::kKept || record.kind != format::DescriptionKind::kRegular || other.path != path) continue;
      plan.process = &process;
      plan_content(plan, path, record.content, record.mode & 07777, record.modified_ns);
      plan.process = own;
      return true;
    }
  }
  return false;
}

}  // namespace

namespace {

std::string path_of_clone(const Image& image, std::uint32_t description) {
  std::error_code ignored;
  const auto path = std::filesystem::canonical(image.name(), ignored);  // the image may have been given by its link `latest`
  return std::filesystem::path(path).replace_extension(".files") / std::to_string(description);
}

// A large file goes back to what the file system has kept of it, unless nobody has touched it.
void plan_clone(RestartPlan& plan, const Description& description) {
  const auto& record = description.record;
  const auto status = status_of_link(description.path);
  const bool is_regular = status && S_ISREG(status->st_mode);
  if (will_put_back(plan, description.path) || (is_regular && is_same(record, *status))) return;
  const std::string clone = path_of_clone(*plan.image, record.id);
  const auto kept = status_of_link(clone);
  if (!kept || !S_ISREG(kept->st_mode) || static_cast<std::uint64_t>(kept->st_size) != record.size)
    throw refuse_file(description.path, std::string(status ? "has changed since the checkpoint" : "is gone") + ", and what " +
                                            "the file system had kept of it, " + quote(clone) + ", is not there any more");
  const std::string aside = status ? aside_name(plan, description.path, "before") : "";
  plan.changes.push_back(
      {FileChange::Action::kClone, description.path, nullptr, clone, record.mode & 07777, record.modified_ns, aside});
  plan.notes.push_back(quote(description.path) +
                       (status ? " has changed since the checkpoint: put back, its bytes are kept as " + quote(aside)
                               : " is gone: made again from " + quote(clone)));
}

}  // namespace

DescriptionPlan plan_written_file(RestartPlan& plan, const Description& description, const struct stat& status) {
  DescriptionPlan item{&description, DescriptionPlan::Source::kOpen, "", false};
  const auto& record = description.record;
  const bool is_log =
      record.policy == FilePolicy::kNone || record.policy == FilePolicy::kAppend || record.policy == FilePolicy::kShared;
  if (is_log && plan_own_stream(plan, description, status)) {
    item.source = DescriptionPlan::Source::kStream;
    item.note = plan.notes.back();
    return item;
  }
  if (plan.options.files == FilesPolicy::kKeep) {
    // No hole in a log that was replaced.
    item.goes_on_at_end = record.policy == FilePolicy::kAppend && static_cast<std::uint64_t>(status.st_size) < record.size;
    return item;
  }
  const bool may_be_cut = record.policy == FilePolicy::kNone || record.policy == FilePolicy::kAppend;
  if (may_be_cut && !is_same(record, status) && plan_kept_elsewhere(plan, description.path)) return item;
  switch (record.policy) {
    case FilePolicy::kKept:
      plan_content(plan, description.path, record.content, record.mode & 07777, record.modified_ns);
      break;
    case FilePolicy::kShared:
      plan_shared(plan, description, status, item);
      break;
    case FilePolicy::kSaved:
      break;
    case FilePolicy::kRefuse:
      if (!will_put_back(plan, description.path)) check_unkept(description, status);
      break;
    case FilePolicy::kNone:
    case FilePolicy::kAppend:
      plan_cut(plan, description, status, item);
      break;
  }
  return item;
}

void note_shared_logs(const RestartPlan& plan) {
  const std::string list = list_of_shared_logs(plan, plan.settings.job_name);
  const std::set<std::string> known = plan.shared_logs.empty() ? std::set<std::string>{} : read_shared_logs(list);
  for (const std::string& path : plan.shared_logs) {
    if (known.contains(path) || path.find('\n') != std::string::npos) continue;
    create_folder(std::filesystem::path(list).parent_path());
    const Fd file(open(list.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    const std::string line = path + "\n";
    if (!file.is_open() || write(file.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()))
      throw Error::from_errno("write", list, errno, ExitCode::kRunner);
  }
}

void plan_saved_files(RestartPlan& plan) {
  if (plan.options.files == FilesPolicy::kKeep) return;
  std::set<std::string> known;
  for (const SavedFile& file : plan.process->saved) known.insert(file.path);
  for (const SavedFile& file : plan.process->saved) plan_saved_file(plan, file, known);
  for (const Description& description : plan.process->descriptions) {
    const auto& record = description.record;
    if (plan.process->clones.contains(record.id)) plan_clone(plan, description);
    if (record.kind != format::DescriptionKind::kRegular || record.policy != FilePolicy::kKept) continue;
    if (status_of(description.path)) continue;
    plan_content(plan, description.path, record.content, record.mode & 07777, record.modified_ns);
    if (const std::string name = find_new_name(description); !name.empty())
      plan.notes.push_back(quote(description.path) + " was renamed to " + quote(name) + ", which stays as it is");
  }
}

bool will_put_back(const RestartPlan& plan, const std::string& path) {
  for (const FileChange& change : plan.changes) {
    const bool is_file = change.action == FileChange::Action::kContent || change.action == FileChange::Action::kClone;
    if (is_file && change.path == path) return true;
  }
  return false;
}

}  // namespace ckpt
