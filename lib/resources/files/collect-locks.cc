// Locks on files: those of an open file are part of its description, those of the process (fcntl(2)) of the process. The latter end
// when the process closes any descriptor of the file, also one that was opened here (fcntl_locking(2)).
#include "lib/resources/files/collect.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using format::FileLock;
using format::LockKind;

constexpr unsigned kMaxLockedFiles = 4096;

const char* skip_word(const char* at) {
  while (*at != ' ' && *at != '\0') ++at;
  sys::skip_spaces(&at);
  return at;
}

bool parse_lock_kind(const char* at, LockKind* kind) {
  constexpr struct {
    const char* name;
    LockKind kind;
  } kNames[] = {
      {"POSIX", LockKind::kProcess}, {"OFDLCK", LockKind::kDescription}, {"FLOCK", LockKind::kWhole}, {"LEASE", LockKind::kLease}};
  for (const auto& known : kNames) {
    *kind = known.kind;
    if (sys::starts_with(at, known.name)) return true;
  }
  return false;
}

// "1: POSIX  ADVISORY  WRITE 28581 fe:00:10954293 10 29": what fdinfo shows behind "lock:". False: of an unknown kind, or a lease
// that somebody wants to have.
bool parse_lock(const char* at, FileLock* lock) {
  *lock = {};
  sys::skip_spaces(&at);
  at = skip_word(at);
  if (!parse_lock_kind(at, &lock->kind)) {
    lock->kind = {};
    return false;
  }
  at = skip_word(at);
  if (lock->kind == LockKind::kLease && !sys::starts_with(at, "ACTIVE")) return false;
  at = skip_word(at);
  lock->type = sys::starts_with(at, "WRITE") ? F_WRLCK : F_RDLCK;
  at = skip_word(skip_word(skip_word(at)));
  lock->start = sys::parse_decimal(&at);
  sys::skip_spaces(&at);
  if (!sys::starts_with(at, "EOF")) lock->size = sys::parse_decimal(&at) - lock->start + 1;
  return true;
}

// The locks that fdinfo shows: a lock stands with the open file through which it was taken, and those of other processes do not.
class Locks {
 public:
  explicit Locks(const char* fdinfo) : lines_(fdinfo, buffer_, sys::Made::kWhole) {}
  // What stands behind "lock:"; nullptr at the end.
  const char* next() {
    while (const char* line = lines_.next()) {
      if (sys::starts_with(line, "lock:")) return line + 5;
    }
    return nullptr;
  }

 private:
  char buffer_[512];
  sys::LineReader lines_;
};

// All files that the process holds locks on, through whichever descriptor. By inode alone: memory may be shown with another device
// than descriptors (btrfs), and one too many does no harm.
void list_locked_files(Collector* collector) {
  char buffer[1024];
  sys::NumberDirectory descriptors("/proc/thread-self/fd", buffer);
  collector->locked_files = collector->arena->take_array<std::uint64_t>(kMaxLockedFiles);
  collector->has_all_locked_files = collector->locked_files != nullptr && descriptors.is_open();
  while (collector->has_all_locked_files) {
    const int fd = descriptors.next();
    if (fd < 0) return;
    if (fd == descriptors.fd() || !has_process_lock(path_of_fdinfo(fd).c_str())) continue;
    FileFacts facts{};
    collector->has_all_locked_files = collector->locked_file_count < kMaxLockedFiles && !read_facts(fd, "", &facts).failed();
    if (collector->has_all_locked_files) collector->locked_files[collector->locked_file_count++] = facts.inode;
  }
}

}  // namespace

bool has_process_lock(const char* fdinfo) {
  Locks locks(fdinfo);
  FileLock lock;
  while (const char* text = locks.next()) {
    if (parse_lock(text, &lock) && lock.kind == LockKind::kProcess) return true;
  }
  return false;
}

bool may_be_locked(Collector* collector, std::uint64_t inode) {
  if (!collector->has_looked_for_locks) list_locked_files(collector);
  collector->has_looked_for_locks = true;
  for (unsigned i = 0; i < collector->locked_file_count; ++i) {
    if (collector->locked_files[i] == inode) return true;
  }
  return !collector->has_all_locked_files;
}

bool keeping_locks(Collector* collector, std::uint64_t inode, bool (*function)(Collector*, void*), void* argument) {
  return may_be_locked(collector, inode) ? collector->apart(collector, function, argument) : function(collector, argument);
}

bool collect_locks(Collector* collector, const Descriptor& descriptor, Buffer* state) {
  Locks locks(path_of_fdinfo(descriptor.fd).c_str());
  while (const char* text = locks.next()) {
    FileLock lock;
    if (!parse_lock(text, &lock)) {
      Message& message = refuse_descriptor(collector, descriptor);
      if (lock.kind == LockKind::kLease) {
        message.add("a lease that is being broken can't be saved; try again later");
        return collector->postpone();
      }
      while (*text == '\t') ++text;
      message.add("this lock is of an unknown kind and can't be saved: ").add(text);
      return false;
    }
    state->add(&lock, sizeof(lock));
  }
  return true;
}

void collect_process_locks(Collector* collector, int fd) {
  Locks locks(path_of_fdinfo(fd).c_str());
  while (const char* text = locks.next()) {
    FileLock lock;
    if (!parse_lock(text, &lock) || lock.kind != LockKind::kProcess) continue;
    auto* record = collector->add_record<format::ProcessLockRecord>(format::RecordType::kProcessLock);
    if (record != nullptr) *record = {lock, fd, 0};
  }
}

}  // namespace ckpt
