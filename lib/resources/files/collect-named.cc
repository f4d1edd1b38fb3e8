// Descriptors of what is found again by its name: folders, O_PATH, files of the kernel. Owners of O_ASYNC.
#include <linux/magic.h>

#include "lib/resources/files/collect.h"
#include "lib/resources/files/proc-path.h"
#include "lib/resources/process/collect.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using format::DescriptionKind;

constexpr int kGetOwner = 16, kGetSignal = 11;  // F_GETOWN_EX, F_GETSIG
constexpr int kOwnerThread = 0, kOwnerProcess = 1, kOwnerGroup = 2;

struct Owner {
  std::int32_t type;
  std::int32_t id;
};

bool is_own_thread(int tid) {
  sys::Text<64> path;
  path.add("/proc/thread-self/../").add_signed(tid);
  FileFacts facts{};
  return !read_facts(AT_FDCWD, path.c_str(), &facts).failed();
}

bool is_group_of_member(const Collector& collector, int group) {
  if (group == sys::call(__NR_getpgid, 0).value()) return true;
  const format::Session* session = collector.session;
  for (std::uint32_t i = 0; session != nullptr && i < session->member_count; ++i) {
    const int pid = session->members[i].pid;
    if (is_member(collector, pid) && group == sys::call(__NR_getpgid, pid).value()) return true;
  }
  return false;
}

// A process or group of the job, or a thread of this process: the others' threads come back last of all.
bool is_own(const Collector& collector, const Owner& owner) {
  switch (owner.type) {
    case kOwnerThread:
      return is_own_thread(owner.id);
    case kOwnerProcess:
      return is_member(collector, owner.id);
    case kOwnerGroup:
      return is_group_of_member(collector, owner.id);
    default:
      return false;
  }
}

// What shows a process is opened again when all are there; what shows its memory, last of all, by that process itself.
bool is_shown_at_restart(Collector* collector, const Descriptor& descriptor) {
  const ProcFile file = parse_proc_path(descriptor.path);
  if (file.pid == 0) return true;
  const bool is_last = is_shown_last(file);
  if (file.pid == collector->pid ? is_last && is_open_elsewhere(*collector, descriptor.fd)
                                 : is_last || (!is_member(*collector, file.pid) && !is_ended_child(*collector, file.pid))) {
    refuse_descriptor(collector, descriptor)
        .add(file.pid == collector->pid ? "a file that shows this to another process as well" : "this file of another process")
        .add(" can't be saved; close it and try again");
    return false;
  }
  return true;
}

}  // namespace

const char* name_of_kernel_object(const char* path, const char* otherwise) {
  constexpr struct {
    const char* link;
    const char* name;
  } kNames[] = {{"anon_inode:[io_uring]", "an io_uring"},
                {"anon_inode:[userfaultfd]", "a userfaultfd"},
                {"anon_inode:[perf_event]", "a performance counter"},
                {"anon_inode:bpf", "a bpf object"},
                {"anon_inode:[fanotify]", "a fanotify group"},
                {"anon_inode:[landlock-ruleset]", "a landlock ruleset"},
                {"anon_inode:seccomp", "the listener of a seccomp filter"},
                {"anon_inode:kvm", "a virtual machine"},
                {"/secretmem", "secret memory"}};
  for (const auto& known : kNames) {
    if (sys::starts_with(path, known.link)) return known.name;
  }
  return otherwise;
}

bool is_found_by_name(const Descriptor& descriptor) {
  FileFacts named{};
  const bool is_link = (descriptor.facts.mode & 0170000) == 0120000;  // only by O_PATH
  const auto result = is_link ? read_link_facts(descriptor.path, &named) : read_facts(AT_FDCWD, descriptor.path, &named);
  return !result.failed() && named.inode == descriptor.facts.inode && named.device == descriptor.facts.device;
}

bool is_made_up(int fd) {
  constexpr long kTypes[] = {PROC_SUPER_MAGIC,   SYSFS_MAGIC,         DEBUGFS_MAGIC, TRACEFS_MAGIC,
                             CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, SELINUX_MAGIC, SECURITYFS_MAGIC};
  long status[16]{};  // struct statfs; f_type comes first
  if (sys::call(__NR_fstatfs, fd, status).failed()) return false;
  for (const long type : kTypes) {
    if (status[0] == type) return true;
  }
  return false;
}

bool is_namespace(int fd) {
  constexpr long kNamespaces = 0x6e736673;  // NSFS_MAGIC
  long status[16]{};                        // struct statfs; f_type comes first
  return !sys::call(__NR_fstatfs, fd, status).failed() && status[0] == kNamespaces;
}

bool collect_namespace(Collector* collector, Descriptor* descriptor, format::DescriptionRecord* record) {
  record->kind = DescriptionKind::kProcFile;
  for (const char* name : {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts", "pid_for_children", "time_for_children"}) {
    sys::Text<64> path;
    path.add("/proc/").add_signed(collector->pid).add("/ns/").add(name);
    char link[64];
    if (!sys::read_link(path.c_str(), link, sizeof(link)) || !sys::equal(link, descriptor->path)) continue;
    sys::copy_text(descriptor->path, sizeof(descriptor->path), path.c_str());
    return true;
  }
  refuse_descriptor(collector, *descriptor).add("a namespace that is not the process's own can't be saved; close it and try again");
  return false;
}

bool collect_proc_file(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record) {
  record->kind = DescriptionKind::kProcFile;
  if (!is_shown_at_restart(collector, descriptor)) return false;
  if (is_found_by_name(descriptor)) return true;
  refuse_descriptor(collector, descriptor).add("this file of the kernel can't be found by its name; close it and try again");
  return false;
}

bool collect_directory(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record, Buffer* state) {
  if (is_made_up(descriptor.fd)) return collect_proc_file(collector, descriptor, record);
  record->kind = DescriptionKind::kDirectory;
  if (!collect_locks(collector, descriptor, state)) return false;
  if (is_found_by_name(descriptor)) return true;
  if (descriptor.facts.links == 0) {
    record->kind = DescriptionKind::kGoneFolder;
    return true;
  }
  refuse_descriptor(collector, descriptor)
      .add("this folder was renamed or hidden, and can't be found by its name; close it and try again");
  return false;
}

bool collect_path_only(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record) {
  record->kind = DescriptionKind::kPathOnly;
  if (!is_shown_at_restart(collector, descriptor)) return false;
  if (is_found_by_name(descriptor)) return true;
  refuse_descriptor(collector, descriptor)
      .add("an O_PATH descriptor of what can't be found by its name can't be saved; close it and try again");
  return false;
}

bool collect_owner(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record) {
  Owner owner{};
  const auto signal = sys::call(__NR_fcntl, descriptor.fd, kGetSignal);
  if (signal.failed() || sys::call(__NR_fcntl, descriptor.fd, kGetOwner, &owner).failed()) return true;
  record->signal = static_cast<std::uint16_t>(signal.value());
  if (owner.id == 0) return true;
  const bool is_ours = is_own(*collector, owner);
  if (!is_ours && descriptor.fd <= 2) return true;  // a stream that is shared with whoever set it
  record->owner_type = static_cast<std::uint16_t>(owner.type);
  record->owner = owner.id;
  if (is_ours) return true;
  refuse_descriptor(collector, descriptor)
      .add("it raises signals (F_SETOWN) in process or group ")
      .add_signed(owner.id)
      .add(", which is not saved");
  return false;
}

}  // namespace ckpt
