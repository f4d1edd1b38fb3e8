// memory: see rebuild.h. Seals are set when all is mapped: by the restorer, or by ckpt-restart where several processes share.
#include "lib/resources/memory/rebuild.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <utility>
#include <vector>

#include "lib/resources/files/rebuild.h"

namespace ckpt {

namespace {

using format::ObjectKind;

constexpr std::string_view kDeletedMark = " (deleted)", kMemFdMark = "/memfd:";
constexpr unsigned kExecutable = 0x10;           // MFD_EXEC, Linux 6.3
constexpr std::uint32_t kSealExecutable = 0x20;  // F_SEAL_EXEC

std::vector<int> g_objects;  // of the one process that is rebuilt here

using Identity = std::pair<std::uint64_t, std::uint64_t>;  // device, inode
std::map<Identity, int> g_shared;                          // of a job of several processes, made before they exist

Identity identity_of(const MemoryObject& object) { return {object.record.device, object.record.inode}; }

int duplicate(int fd, int lowest) {
  const int above = fcntl(fd, F_DUPFD_CLOEXEC, lowest);
  if (above < 0) throw Error::from_errno("duplicate", "a descriptor (see RLIMIT_NOFILE)", errno, ExitCode::kRunner);
  return above;
}

std::string without_mark(const std::string& path) {
  return path.ends_with(kDeletedMark) ? path.substr(0, path.size() - kDeletedMark.size()) : path;
}

Fd make_memory_file(const MemoryObject& object) {
  std::string name = without_mark(object.path);
  if (name.starts_with(kMemFdMark)) name = name.substr(kMemFdMark.size());
  // Whether it may be executed is set later; without the flag, the system's setting could forbid it for ever.
  const bool is_plain = (object.record.seals & kSealExecutable) == 0 || (object.record.mode & 0111) != 0;
  const unsigned pages = object.record.page_shift == 0 ? 0 : MFD_HUGETLB | object.record.page_shift << MAP_HUGE_SHIFT;
  Fd fd(is_plain ? memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | kExecutable | pages) : -1);
  if (!fd.is_open()) fd = Fd(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | pages));
  if (!fd.is_open()) throw Error::from_errno("create", "memory file " + name, errno, ExitCode::kRunner);
  return fd;
}

// Beside where it was, or in a temporary folder, without a name.
Fd make_deleted(const MemoryObject& object) {
  const std::string folder = std::filesystem::path(object.path).parent_path();
  for (const std::string& place : {folder, std::string("/dev/shm"), std::string("/tmp"), std::string("/var/tmp")}) {
    Fd fd(open(place.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (fd.is_open()) return fd;
  }
  throw Error::from_errno("create again the deleted", without_mark(object.path), errno, ExitCode::kRunner);
}

// The file as it is there, or a new one.
Fd open_named(const MemoryObject& object) {
  const char* path = object.path.c_str();
  Fd fd(open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.is_open() && errno == ENOENT) {
    fd = Fd(open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (fd.is_open()) fchmod(fd.get(), object.record.mode);
  }
  if (!fd.is_open()) throw Error::from_errno("open", object.path, errno, ExitCode::kRunner);
  return fd;
}

// What the image does not hold is a hole: others may have the file mapped, so it is not cut off and made anew.
void punch_holes(const FileContent& content, int fd) {
  std::uint64_t at = 0;
  const auto punch = [&](std::uint64_t end) {
    if (end > at) fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at), static_cast<off_t>(end - at));
  };
  for (const auto& extent : content.extents) {
    punch(extent.offset);
    at = extent.offset + extent.size;
  }
  punch(content.size);
}

// A file of huge pages can't be written to but through memory; a page of it is taken from the pool where there are bytes.
void fill_huge(const RestartPlan& plan, const MemoryObject& object, int fd) {
  const std::uint64_t page_size = std::uint64_t{1} << object.record.page_shift;
  std::byte* page = nullptr;
  std::uint64_t number = 0;
  const auto close_page = [&] {
    if (page != nullptr) munmap(page, page_size);
    page = nullptr;
  };
  for (const auto& extent : plan.process->contents.at(object.record.content - 1).extents) {
    const auto bytes = plan.image->read_frame(extent.frame);
    for (std::uint64_t done = 0; done < extent.size;) {
      const std::uint64_t at = extent.offset + done;
      if (page == nullptr || at / page_size != number) {
        close_page();
        number = at / page_size;
        void* room = mmap(nullptr, page_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(number * page_size));
        if (room == MAP_FAILED)
          throw Error::plain("the reserved pool has no huge page left for " + object.path + " (see vm.nr_hugepages)",
                             ExitCode::kRunner);
        page = static_cast<std::byte*>(room);
      }
      const std::uint64_t count = std::min(extent.size - done, page_size - at % page_size);
      std::memcpy(page + at % page_size, bytes.data() + extent.frame_offset + done, count);
      done += count;
    }
  }
  close_page();
}

Fd make_object(const RestartPlan& plan, const MemoryObject& object) {
  const auto& record = object.record;
  const bool is_memory_file = record.kind == ObjectKind::kMemoryFile || record.kind == ObjectKind::kAnonymous;
  Fd fd = is_memory_file ? make_memory_file(object) : record.kind == ObjectKind::kNamed ? open_named(object) : make_deleted(object);
  if (ftruncate(fd.get(), static_cast<off_t>(record.size)) != 0)
    throw Error::from_errno("give its size to", object.path, errno, ExitCode::kRunner);
  if (record.kind == ObjectKind::kNamed) punch_holes(plan.process->contents.at(record.content - 1), fd.get());
  if (record.page_shift == 0) write_content(plan, record.content, fd.get(), object.path);
  if (record.page_shift != 0) fill_huge(plan, object, fd.get());
  return fd;
}

}  // namespace

void write_content(const RestartPlan& plan, std::uint32_t content, int fd, const std::string& path) {
  for (const auto& extent : plan.process->contents.at(content - 1).extents) {
    const auto bytes = plan.image->read_frame(extent.frame);
    for (std::uint64_t done = 0; done < extent.size;) {
      const auto count =
          pwrite(fd, bytes.data() + extent.frame_offset + done, extent.size - done, static_cast<off_t>(extent.offset + done));
      if (count <= 0) throw Error::from_errno("fill", path, count < 0 ? errno : EIO, ExitCode::kRunner);
      done += static_cast<std::uint64_t>(count);
    }
  }
}

void make_memory_objects(const RestartPlan& plan, int lowest) {
  g_objects.clear();
  for (const MemoryObject& object : plan.process->objects) {
    const auto shared = g_shared.find(identity_of(object));
    if (shared != g_shared.end()) {
      g_objects.push_back(duplicate(shared->second, lowest));
    } else if (object.record.kind == ObjectKind::kAnonymous || object.record.kind == ObjectKind::kSegment) {
      g_objects.push_back(-1);
    } else {
      g_objects.push_back(duplicate(make_object(plan, object).get(), lowest));
    }
  }
}

void make_shared_objects(const RestartPlan& plan, int lowest) {
  std::map<Identity, unsigned> users;
  for (const ProcessImage& process : plan.image->job().processes) {
    for (const MemoryObject& object : process.objects) ++users[identity_of(object)];
  }
  for (const ProcessImage& process : plan.image->job().processes) {
    const RestartPlan view = plan.seen_by(process);
    for (const MemoryObject& object : process.objects) {
      const bool is_own = object.record.kind == ObjectKind::kAnonymous && users[identity_of(object)] == 1;
      if (is_own || object.record.content == 0 || g_shared.contains(identity_of(object))) continue;
      g_shared[identity_of(object)] = duplicate(make_object(view, object).get(), lowest);
    }
  }
}

void forget_memory_objects() {
  for (const int fd : g_objects) close(fd);
  g_objects.clear();
}

void close_shared_objects() {
  for (const auto& [identity, fd] : g_shared) close(fd);
  g_shared.clear();
}

// A seal that one process set would be in the way of the others, which are not through yet.
void seal_shared_objects(const RestartPlan& plan) {
  constexpr int kAddSeals = 1033;           // F_ADD_SEALS
  std::map<Identity, std::uint32_t> seals;  // a process that has an object mapped only does not know them
  for (const ProcessImage& process : plan.image->job().processes) {
    for (const MemoryObject& object : process.objects) seals[identity_of(object)] |= object.record.seals;
  }
  for (const auto& [identity, fd] : g_shared) {
    if (seals[identity] != 0 && fcntl(fd, kAddSeals, seals[identity]) != 0)
      throw Error::from_errno("seal", "a memory file", errno, ExitCode::kRunner);
  }
  close_shared_objects();
}

bool is_shared_object(const MemoryObject& object) { return g_shared.contains(identity_of(object)); }

int fd_of_object(std::uint32_t object) { return g_objects.at(object); }

int fd_of_deleted(const RestartPlan& plan, const format::DescriptionRecord& file) {
  const auto& objects = plan.process->objects;
  for (std::size_t i = 0; i < objects.size(); ++i) {
    if (objects[i].record.content == file.content) return g_objects.at(i);
  }
  const auto shared = g_shared.find({file.device, file.inode});
  return shared == g_shared.end() ? -1 : shared->second;
}

void finish_memory_objects(const RestartPlan& plan) {
  const auto& objects = plan.process->objects;
  for (std::size_t i = 0; i < objects.size(); ++i) {
    const bool has_mode = objects[i].record.kind == ObjectKind::kMemoryFile || objects[i].record.kind == ObjectKind::kDeleted;
    if (has_mode && fchmod(g_objects.at(i), objects[i].record.mode) != 0)
      throw Error::from_errno("set the mode of", objects[i].path, errno, ExitCode::kRunner);
  }
}

int rebuild_memfd(const RestartPlan&, const Description& description) {
  constexpr int kOpenFlags = O_ACCMODE | O_APPEND | O_NONBLOCK | O_DSYNC | O_SYNC | O_DIRECT | O_LARGEFILE | O_NOATIME;
  const int object = fd_of_object(state_of<format::MemFdState>(description).object);
  const std::string path = "/proc/self/fd/" + std::to_string(object);
  const int fd = open(path.c_str(), (static_cast<int>(description.record.status_flags) & kOpenFlags) | O_CLOEXEC);
  if (fd < 0) throw Error::from_errno("open again", description.path, errno, ExitCode::kRunner);
  if (lseek(fd, static_cast<off_t>(description.record.offset), SEEK_SET) < 0)
    throw Error::from_errno("seek in", description.path, errno, ExitCode::kRunner);
  return fd;
}

}  // namespace ckpt
