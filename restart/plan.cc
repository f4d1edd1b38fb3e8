// Decides a restart. Reads the world, changes nothing.
#include "restart/plan.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>

#include "lib/common/control.h"
#include "lib/common/hash.h"
#include "lib/common/proc.h"
#include "lib/common/standard-streams.h"
#include "lib/common/store.h"
#include "lib/common/units.h"
#include "lib/resources/files/proc-path.h"
#include "lib/resources/sysv/rebuild-plain.h"
#include "lib/resources/sysv/rebuild.h"
#include "restart/attributes.h"
#include "restart/compatibility.h"
#include "restart/kernel-check.h"
#include "restart/plain.h"
#include "restart/plan-files.h"
#include "restart/plan-sockets.h"
#include "restart/store-choice.h"
#include "restart/translation.h"
#include "restart/vdso.h"

namespace ckpt {

namespace {

using format::DescriptionKind;

std::int64_t modified_ns(const struct stat& status) { return status.st_mtim.tv_sec * 1'000'000'000LL + status.st_mtim.tv_nsec; }

class Planner {
 public:
  Planner(const Image& image, const RestartOptions& options) {
    plan_.image = &image;
    root_ = &image.job().processes.at(0);
    for (const ProcessImage& process : image.job().processes) {
      if (process.process.pid == static_cast<std::int32_t>(image.job().header.pid)) root_ = &process;
    }
    plan_.process = root_;
    plan_.options = options;
    plan_.settings = image.job().job.settings;
  }

  RestartPlan make() {
    plan_.notes = check_cpu(*plan_.image);
    choose_job();
    add_notes(check_machine());
    for (const ProcessImage& process : plan_.image->job().processes) {
      plan_.process = &process;
      check_user();
      plan_saved_files(plan_);
    }
    for (const ProcessImage& process : plan_.image->job().processes) plan_process(process);
    plan_.process = root_;
    plan_.files = plan_.files_of.at(static_cast<std::size_t>(root_ - plan_.image->job().processes.data()));
    drop_repeated_notes();
    check_translation(plan_);
    return std::move(plan_);
  }

 private:
  void add_notes(const std::vector<std::string>& notes) { plan_.notes.insert(plan_.notes.end(), notes.begin(), notes.end()); }

  std::vector<std::string> check_machine() {
    KernelFindings findings = check_kernel(plan_.image->job());
    if (findings.refused_namespace.empty()) return findings.notes;
    const std::string obstacle = find_system_v_obstacle(plan_.image->job());
    if (!obstacle.empty())
      throw Error::plain(findings.refused_namespace + "; without namespaces it can't be restarted: " + obstacle, ExitCode::kRunner);
    plan_.is_plain = true;
    PlainFindings plain = check_without_namespaces(*plan_.image, findings.refused_namespace);
    plan_.renamed = std::move(plain.taken);
    plan_.translations = std::move(plain.translations);
    return plain.notes;
  }

  void plan_process(const ProcessImage& process) {
    plan_.process = &process;
    plan_.files.clear();
    check_folder(plan_, process.cwd);
    for (std::uint32_t i = 0; i < process.files.size(); ++i) {
      const MappedFile& file = process.files[i];
      plan_.files.push_back(is_written_through_memory(i) ? plan_shared_file(file) : plan_mapped_file(file));
    }
    plan_.files_of.push_back(plan_.files);
    for (const MemoryObject& object : process.objects) plan_object(object);
    check_reserved_pool();
    plan_vdso();
    for (const Description& description : process.descriptions) plan_.descriptions.push_back(plan_description(description));
    const auto lacks = list_degradations(process);
    plan_.notes.insert(plan_.notes.end(), lacks.begin(), lacks.end());
  }

  // Processes of one job map the same files.
  void drop_repeated_notes() {
    std::vector<std::string> notes;
    for (const std::string& note : plan_.notes) {
      if (std::ranges::find(notes, note) == notes.end()) notes.push_back(note);
    }
    plan_.notes = std::move(notes);
  }

  // What root has launched may have become somebody else; what somebody else has launched keeps its files in a store of theirs.
  bool is_from_our_launch() const {
    struct stat status {};
    return geteuid() == 0 && (stat(std::string(plan_.settings.directory).c_str(), &status) != 0 || status.st_uid == 0);
  }

  void check_user() {
    if (plan_.process->process.uid[1] != geteuid() && !is_from_our_launch()) {
      throw Error::plain("the program ran as user " + std::to_string(plan_.process->process.uid[1]) + ", and you are user " +
                             std::to_string(geteuid()),
                         ExitCode::kRunner);
    }
    for (const std::uint32_t uid : plan_.process->process.uid) {
      if (geteuid() == 0 || uid == geteuid()) continue;
      throw Error::plain("the program ran with the rights of user " + std::to_string(uid) + " as well, which you can't take",
                         ExitCode::kRunner);
    }
  }

  // A writer that has committed its image is only about to end; one that has not would give the job a newer image than ours.
  static void check_original(const std::string& control_path) {
    const Mappers found = find_mappers(control_path);
    const std::string remedy = ", or use --again to run both";
    if (found.member != 0)
      throw Error::plain("the job still lives as process " + std::to_string(found.member) + "; end it first" + remedy,
                         ExitCode::kRunner);
    if (found.writer != 0 && Control(control_path).stage() == format::Stage::kWriting)
      throw Error::plain("process " + std::to_string(found.writer) + " still writes an image of the job; wait for it" + remedy,
                         ExitCode::kRunner);
  }

  void choose_job() {
    std::string name(plan_.settings.job_name);
    const std::string former = plan_.settings.directory;
    const std::string store = choose_store(*plan_.image);
    const auto control_in = [&name](const std::string& folder) {
      return folder + "/" + kRunFolder + "/" + name + format::kControlSuffix;
    };
    if (!plan_.options.is_again) {
      for (const std::string& folder : {former, store}) check_original(control_in(folder));
    }
    if (store.size() >= sizeof(plan_.settings.directory))
      throw Error::plain("the path of the store is too long", ExitCode::kRunner);
    std::memcpy(plan_.settings.directory, store.c_str(), store.size() + 1);
    if (store != former)
      plan_.notes.push_back("it is saved in the store " + quote(store) + " from now on, not in " + quote(former));
    if (plan_.options.is_again) name += "-again-" + std::to_string(getpid());
    if (name.size() >= sizeof(plan_.settings.job_name)) throw Error::plain("the job's name is too long", ExitCode::kRunner);
    std::memcpy(plan_.settings.job_name, name.c_str(), name.size() + 1);
    plan_.control_path = control_in(store);
  }

  // What a memory file has in it, in whole huge pages.
  std::uint64_t bytes_of_pool(const MemoryObject& object) const {
    std::set<std::uint64_t> pages;
    for (const auto& extent : plan_.process->contents.at(object.record.content - 1).extents) {
      for (std::uint64_t at = extent.offset; at < extent.offset + extent.size; at += format::kPageSize)
        pages.insert(at >> object.record.page_shift);
    }
    return pages.size() << object.record.page_shift;
  }

  // Pages of the reserved pool are taken for a moment: that tells whether there are enough.
  void check_reserved_pool() {
    std::map<std::uint64_t, std::uint64_t> wanted;  // bytes by size of a page
    for (const Area& area : plan_.process->areas) {
      if ((area.record.marks & format::kReservedPool) == 0) continue;
      const std::uint64_t size = area.record.end - area.record.start;
      if (area.record.kind == format::AreaKind::kAnonymous) wanted[area.record.offset] += size;
      if (area.record.kind == format::AreaKind::kPrivateObject)
        wanted[std::uint64_t{1} << plan_.process->objects.at(area.record.file).record.page_shift] += size;
    }
    for (const MemoryObject& object : plan_.process->objects) {
      if (object.record.page_shift != 0 && object.record.content != 0)
        wanted[std::uint64_t{1} << object.record.page_shift] += bytes_of_pool(object);
    }
    for (const auto& [page_size, bytes] : wanted) {
      const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | __builtin_ctzll(page_size) << MAP_HUGE_SHIFT;
      void* room = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
      if (room == MAP_FAILED) {
        throw Error::plain("the program needs " + std::to_string(bytes / page_size) + " huge pages of " +
                               std::to_string(page_size >> 10) + " KiB, and the reserved pool has less (see vm.nr_hugepages)",
                           ExitCode::kRunner);
      }
      munmap(room, bytes);
    }
  }

  void plan_vdso() {
    plan_.has_other_vdso = has_other_vdso(*plan_.image, *plan_.process);
    if (!plan_.has_other_vdso) return;
    plan_.notes.emplace_back("the kernel is another one: its vdso takes the place of the old one");
    for (const std::int32_t tid : threads_in_vdso(*plan_.image, *plan_.process)) {
      plan_.notes.push_back("thread " + std::to_string(tid) + " was just asking the old vdso: that one answer may be wrong");
    }
  }

  bool is_written_through_memory(std::uint32_t file) const {
    return std::ranges::any_of(plan_.process->areas, [&](const Area& area) {
      const bool is_shared =
          area.record.kind == format::AreaKind::kSharedFile ||
          (area.record.kind == format::AreaKind::kSharedReadOnly && (area.record.flags & format::kMayWrite) != 0);
      return is_shared && area.record.file == file;
    });
  }

  // A file that is written through memory is itself the memory: no copy can take its place.
  MappedFilePlan plan_shared_file(const MappedFile& file) {
    const auto& record = file.record;
    if (record.content_record != 0 && plan_.options.files == FilesPolicy::kPolicy)
      plan_content(plan_, file.path, record.content_record, record.mode & 07777, record.modified_ns);
    const auto status = status_of(file.path);
    if (will_put_back(plan_, file.path)) return {file.path, status ? status->st_ino : 0, ""};
    if (!status || !S_ISREG(status->st_mode))
      throw Error::plain("file " + quote(file.path) + ", which the program has mapped, is gone", ExitCode::kRunner);
    const auto size = static_cast<std::uint64_t>(status->st_size);
    if (size < record.size) throw refuse_file(file.path, "is shorter than at the checkpoint");
    const bool is_same = size == record.size && modified_ns(*status) == record.modified_ns;
    if (!is_same && record.content_record == 0 && plan_.options.files == FilesPolicy::kPolicy && !is_saved(file.path))
      throw refuse_file(file.path, "which the program writes through memory, has changed since the checkpoint");
    return {file.path, status->st_ino, ""};
  }

  bool is_saved(const std::string& path) const {
    return std::ranges::any_of(plan_.process->saved, [&](const SavedFile& file) { return file.path == path; });
  }

  // A file of a memory file system does not outlive the machine: it is made again.
  void plan_object(const MemoryObject& object) {
    if (object.record.kind != format::ObjectKind::kNamed) return;
    const auto status = status_of(object.path);
    if (!status) {
      if (will_put_back(plan_, object.path)) return;
      const std::string folder = std::filesystem::path(object.path).parent_path();
      if (access(folder.c_str(), W_OK) != 0) throw Error::from_errno("create again", object.path, errno, ExitCode::kRunner);
      plan_.notes.push_back(quote(object.path) + " is gone: made again");
    } else if (!S_ISREG(status->st_mode) || access(object.path.c_str(), R_OK | W_OK) != 0) {
      throw Error::plain("shared memory " + quote(object.path) + " can't be written to", ExitCode::kRunner);
    }
  }

  bool is_memory_object(const format::DescriptionRecord& record) const {
    return std::ranges::any_of(plan_.process->objects, [&](const MemoryObject& object) {
      return object.record.inode == record.inode && object.record.device == record.device;
    });
  }

  MappedFilePlan plan_mapped_file(const MappedFile& file) {
    const auto status = status_of(file.path);
    const bool is_same = status && S_ISREG(status->st_mode) && static_cast<std::uint64_t>(status->st_size) == file.record.size &&
                         modified_ns(*status) == file.record.modified_ns;
    if (is_same || (status && will_put_back(plan_, file.path))) return {file.path, status->st_ino, ""};
    const bool has_content = file.record.content != format::Hash128{};
    if (has_content && status && S_ISREG(status->st_mode) && content_of(file.path) == file.record.content) {
      return {file.path, status->st_ino, ""};
    }
    const std::string problem = status ? "has changed since the checkpoint" : "is gone";
    if (!has_content)
      throw Error::plain("file " + quote(file.path) + ", which the program has mapped, " + problem, ExitCode::kRunner);
    const std::string copy = path_of_content(plan_.settings.directory, file.record.content);
    const bool is_inside = file.record.content_record != 0;
    if (content_of(copy) != file.record.content) {
      if (!is_inside) {
        throw Error::plain("file " + quote(file.path) + ", which the program has mapped, " + problem + ", and its copy " +
                               quote(copy) + (status_of(copy) ? " is damaged" : " is gone too"),
                           ExitCode::kRunner);
      }
      extract(file, copy);
    }
    const auto copied = status_of(copy);
    const std::string note = quote(file.path) + " " + problem + ": mapped from the copy " + quote(copy);
    plan_.notes.push_back(note);
    return {copy, copied ? copied->st_ino : 0, note};
  }

  static format::Hash128 content_of(const std::string& path) {
    const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.is_open()) return {};
    Hasher hasher;
    std::vector<std::byte> buffer(1U << 20);
    for (;;) {
      const ssize_t count = read(fd.get(), buffer.data(), buffer.size());
      if (count < 0) return {};
      if (count == 0) return hasher.digest();
      hasher.update(std::span(buffer.data(), static_cast<std::size_t>(count)));
    }
  }

  // The copy is inside the image: it becomes a file of the store, which is nothing that anybody could miss.
  void extract(const MappedFile& file, const std::string& copy) {
    if (plan_.options.is_dry_run) return;
    const FileContent& content = plan_.process->contents.at(file.record.content_record - 1);
    create_folder(std::filesystem::path(copy).parent_path());
    const std::string temporary = copy + ".tmp-" + std::to_string(getpid());
    unlink(temporary.c_str());  // of an earlier one with our pid, that was killed
    const Fd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd.is_open()) throw Error::from_errno("create", temporary, errno, ExitCode::kRunner);
    for (const format::ContentExtent& extent : content.extents) {
      const auto bytes = plan_.image->read_frame(extent.frame);
      if (pwrite(fd.get(), bytes.data() + extent.frame_offset, extent.size, static_cast<off_t>(extent.offset)) !=
          static_cast<ssize_t>(extent.size)) {
        unlink(temporary.c_str());
        throw Error::from_errno("write", temporary, errno, ExitCode::kRunner);
      }
    }
    if (rename(temporary.c_str(), copy.c_str()) != 0) {
      const int error = errno;
      unlink(temporary.c_str());
      throw Error::from_errno("create", copy, error, ExitCode::kRunner);
    }
  }

  DescriptionPlan plan_description(const Description& description) {
    const auto& record = description.record;
    using Source = DescriptionPlan::Source;
    const bool may_inherit = record.stream >= 0 && record.kind != DescriptionKind::kOwnPipe &&
                             record.kind != DescriptionKind::kOwnTerminal && !is_own_socket(description);
    if (may_inherit && plan_.options.stdio == StdioPolicy::kInherit && had_stream(record.stream)) {
      return {&description, Source::kStream, ""};
    }
    switch (record.kind) {
      case DescriptionKind::kRegular:
        return plan_regular(description);
      case DescriptionKind::kDeleted:
        return {&description, Source::kContent, ""};
      case DescriptionKind::kDevice:
        return {&description, Source::kOpen, ""};
      case DescriptionKind::kTerminal:
        if (plan_.options.stdio == StdioPolicy::kOriginal) return {&description, Source::kOpen, ""};
        return record.stream >= 0 ? DescriptionPlan{&description, Source::kStream, ""} : plan_terminal(description);
      case DescriptionKind::kPipe:
        return record.stream < 0 ? DescriptionPlan{&description, Source::kCutPipe, ""} : plan_foreign_stream(description);
      case DescriptionKind::kSocket:
        return plan_foreign_stream(description);
      case DescriptionKind::kOwnPipe:
        return {&description, Source::kOwnPipe, ""};
      case DescriptionKind::kUnixSocket:
      case DescriptionKind::kInetSocket:
        return plan_socket(plan_, description);
      case DescriptionKind::kPlainSocket:
        return plan_plain_socket(plan_, description);
      case DescriptionKind::kDirectory:
      case DescriptionKind::kPathOnly:
      case DescriptionKind::kProcFile:
        return plan_named(description, is_late(description) ? Source::kLate : Source::kOpen);
      case DescriptionKind::kFifo:
        return plan_named(description, Source::kMade);
      default:
        return {&description, Source::kMade, ""};
    }
  }

  // A pipe or socket whose other end was not of the job.
  DescriptionPlan plan_foreign_stream(const Description& description) {
    if (plan_.options.stdio == StdioPolicy::kOriginal) {
      throw Error::plain("standard stream " + std::to_string(description.record.stream) + " led to a process outside the job (" +
                             quote(description.path) + "): --stdio=original can't have it again",
                         ExitCode::kRunner);
    }
    return {&description, DescriptionPlan::Source::kStream, ""};
  }

  DescriptionPlan plan_terminal(const Description& description) {
    const Fd terminal(open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (terminal.is_open() || (errno != ENXIO && errno != ENOENT)) return {&description, DescriptionPlan::Source::kTerminal, ""};
    plan_.notes.push_back("there is no terminal here: " + quote(description.path) +
                          ", which the program has open, is one that was hung up");
    return {&description, DescriptionPlan::Source::kTerminal, plan_.notes.back()};
  }

  // Files of /proc that show what is not there before the restorer has done its work.
  bool is_late(const Description& description) const {
    const ProcFile file = parse_proc_path(description.path.c_str());
    return file.pid == plan_.process->process.pid && is_shown_last(file);
  }

  DescriptionPlan plan_named(const Description& description, DescriptionPlan::Source source) {
    const bool shows_process = parse_proc_path(description.path.c_str()).pid != 0;  // one of the job
    if (shows_process || will_put_back(plan_, description.path)) return {&description, source, ""};
    struct stat status {};
    const bool is_there = lstat(description.path.c_str(), &status) == 0;
    if (is_there && (status.st_mode & S_IFMT) == (description.record.mode & S_IFMT)) return {&description, source, ""};
    throw Error::plain(quote(description.path) + ", which the program has open, is " + (is_there ? "of another type now" : "gone"),
                       ExitCode::kRunner);
  }

  DescriptionPlan plan_regular(const Description& description) {
    const auto& record = description.record;
    using Source = DescriptionPlan::Source;
    if (is_memory_object(record)) return {&description, Source::kOpen, ""};
    const auto status = status_of(description.path);
    if (will_put_back(plan_, description.path)) return {&description, Source::kOpen, ""};
    if (!status || !S_ISREG(status->st_mode)) {
      if (record.stream >= 0 && plan_.options.stdio == StdioPolicy::kAuto) {
        plan_.notes.push_back(quote(description.path) + " is gone: standard stream " + std::to_string(record.stream) +
                              " is that of ckpt-restart");
        return {&description, Source::kStream, plan_.notes.back()};
      }
      throw refuse_gone(description);
    }
    if ((record.status_flags & O_ACCMODE) != O_RDONLY) return plan_written_file(plan_, description, *status);
    if (static_cast<std::uint64_t>(status->st_size) != record.size || modified_ns(*status) != record.modified_ns) {
      plan_.notes.push_back(quote(description.path) + " has changed since the checkpoint: read as it is now");
    }
    return {&description, Source::kOpen, ""};
  }

  RestartPlan plan_;
  const ProcessImage* root_ = nullptr;
};

}  // namespace

RestartPlan RestartPlan::seen_by(const ProcessImage& other) const {
  RestartPlan view = *this;
  view.process = &other;
  view.files = files_of.at(static_cast<std::size_t>(&other - image->job().processes.data()));
  return view;
}

format::Translation RestartPlan::translation() const {
  const auto index = static_cast<std::size_t>(process - image->job().processes.data());
  return index < translations.size() ? translations[index] : format::Translation{};
}

const ProcessImage& RestartPlan::owner_of(const Description& description) const {
  for (const ProcessImage& candidate : image->job().processes) {
    if (!candidate.descriptions.empty() && &description >= candidate.descriptions.data() &&
        &description < candidate.descriptions.data() + candidate.descriptions.size()) {
      return candidate;
    }
  }
  return *process;
}

std::int32_t RestartPlan::new_number(std::int32_t old) const {
  for (const format::NumberPair& pair : new_numbers) {
    if (pair.shown == old) return pair.real;
  }
  return old == process->process.pid && renamed.contains(old) ? getpid() : old;
}

bool RestartPlan::needs_ipc_namespace() const {
  return has_system_v(image->job()) || std::ranges::any_of(descriptions, [](const DescriptionPlan& item) {
           return item.description->record.kind == DescriptionKind::kMessageQueue;
         });
}

const FileContent& RestartPlan::content_of(const Description& description) const {
  return owner_of(description).contents.at(description.record.content - 1);
}

const DescriptionPlan& RestartPlan::description_of(const format::DescriptorRecord& descriptor) const {
  // As a rule they are numbered from 1.
  const std::size_t likely = descriptor.description - 1;
  if (likely < descriptions.size() && descriptions[likely].description->record.id == descriptor.description)
    return descriptions[likely];
  for (const DescriptionPlan& plan : descriptions) {
    if (plan.description->record.id == descriptor.description) return plan;
  }
  throw Error::plain("descriptor " + std::to_string(descriptor.fd) + " has no description", ExitCode::kRunner);
}

RestartPlan make_plan(const Image& image, const RestartOptions& options) { return Planner(image, options).make(); }

}  // namespace ckpt
