// Threads with a table of descriptors of their own (unshare(2), CLONE_FILES). What is open there is taken over while we collect
// (pidfd_getfd(2), of a thread since Linux 6.9), under numbers above all that are in use. What the process has not open under the
// same number is in the image as if it had it under that one, and the restorer gives it to the thread from there.
#include "lib/resources/files/collect.h"
#include "lib/sys/kcmp.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

constexpr unsigned kMaxTables = 256;
constexpr int kOfThread = 0200;                   // PIDFD_THREAD
constexpr std::uint64_t kCloseOnExec = 02000000;  // O_CLOEXEC

bool is_apart(int one, int other) { return sys::is_apart(one, other, KCMP_FILES); }

int highest_number(int tid) {
  char buffer[1024];
  int highest = 2;
  sys::NumberDirectory numbers(sys::task_path(tid, "fd").c_str(), buffer);
  for (int fd = numbers.next(); fd >= 0; fd = numbers.next()) highest = fd > highest ? fd : highest;
  return highest;
}

Message& refuse_thread(Collector* collector, int tid) { return collector->refuse().add("thread ").add_signed(tid).add(" "); }

// Those that have a table which no other has. False: refused.
bool find_tables(Collector* collector, int* tables, unsigned* count) {
  const int self = sys::gettid();
  for (unsigned thread = 0; thread < collector->thread_count; ++thread) {
    const int tid = collector->threads[thread];
    if (tid == self || !is_apart(self, tid)) continue;
    if (tid == collector->pid) {
      refuse_thread(collector, self).add("has descriptors of its own, and was asked instead of the main thread");
      return false;
    }
    bool is_alone = *count < kMaxTables;
    for (unsigned i = 0; i < *count && is_alone; ++i) is_alone = is_apart(tables[i], tid);
    if (!is_alone) {
      refuse_thread(collector, tid).add("shares descriptors with another thread, but not with the main one");
      return false;
    }
    tables[(*count)++] = tid;
  }
  return true;
}

// What fdinfo(5) tells of the thread's descriptor. False: refused.
bool read_flags(Collector* collector, int tid, int fd, std::uint32_t* flags) {
  char buffer[512];
  sys::ProcPath path = sys::task_path(tid, "fdinfo/");
  path.add_signed(fd);
  sys::FieldReader fields(path.c_str(), buffer);
  const char* octal = fields.find("flags");
  const std::uint64_t value = octal == nullptr ? 0 : sys::parse_octal(&octal);
  if (has_process_lock(path.c_str())) {
    refuse_thread(collector, tid).add("holds a lock (fcntl(2)) through descriptor ").add_signed(fd).add(" of a table of its own");
    return false;
  }
  *flags = (value & kCloseOnExec) != 0 ? 1 : 0;
  return true;
}

struct Thread {
  int tid;
  int pidfd;
  int lowest;  // number for what is taken next
};

// Kinds that depend on the numbers of the table they were made in.
bool is_of_table(const format::DescriptionRecord& record) {
  return record.kind == format::DescriptionKind::kEpoll || record.kind == format::DescriptionKind::kInotify ||
         record.kind == format::DescriptionKind::kMessageQueue;
}

bool take(Collector* collector, Listing* listing, Thread& thread, int fd) {
  std::uint32_t flags = 0;
  if (!read_flags(collector, thread.tid, fd, &flags)) return false;
  FileFacts facts{};
  sys::ProcPath path = sys::task_path(thread.tid, "fd/");
  path.add_signed(fd);
  const bool is_known = !read_facts(AT_FDCWD, path.c_str(), &facts).failed();
  if (is_known && may_be_locked(collector, facts.inode)) {  // the end of our copy would be the end of the lock
    refuse_thread(collector, thread.tid).add("has a descriptor of its own, ").add_signed(fd);
    collector->message->add(", of a file on which the process holds a lock (fcntl(2))");
    return false;
  }
  const auto taken = sys::call(__NR_pidfd_getfd, thread.pidfd, fd, 0);
  const sys::Fd low(taken);
  const auto above = sys::call(__NR_fcntl, low.get(), F_DUPFD_CLOEXEC, thread.lowest);
  if (!is_known || above.failed()) {
    refuse_thread(collector, thread.tid).add("has a descriptor ").add_signed(fd).add(" that can't be examined: ");
    collector->message->add(sys::error_text(taken.failed() ? taken.error() : above.error()));
    return false;
  }
  const int own = static_cast<int>(above.value());
  thread.lowest = own + 1;
  const bool is_in_place = sys::call(__NR_kcmp, collector->pid, collector->pid, KCMP_FILE, fd, own).value() == 0;
  bool is_new = false;
  const auto* record = describe_taken(collector, listing, {own, fd, thread.tid}, &is_new);
  if (record == nullptr) return collector->code == 0;
  if (is_new && is_of_table(*record)) {
    refuse_descriptor(collector, own).add(": a descriptor of this kind, in a table of a thread's own, can't be saved");
    return false;
  }
  if (!is_in_place) {
    auto* entry = collector->add_record<format::DescriptorRecord>(format::RecordType::kDescriptor);
    if (entry != nullptr) *entry = {own, record->id, 1, 1};
  }
  auto* entry = collector->add_record<format::ThreadDescriptorRecord>(format::RecordType::kThreadDescriptor);
  if (entry != nullptr) *entry = {thread.tid, fd, is_in_place ? fd : own, flags};
  return true;
}

bool take_all(Collector* collector, Listing* listing, int tid, int* lowest) {
  const auto opened = sys::call(__NR_pidfd_open, tid, kOfThread);
  if (opened.failed()) {
    refuse_thread(collector, tid).add("has descriptors of its own (unshare(CLONE_FILES)), which takes Linux 6.9 or later");
    return false;
  }
  const sys::Fd pidfd(opened);
  Thread thread{tid, pidfd.get(), *lowest};
  auto* mark = collector->add_record<format::ThreadDescriptorRecord>(format::RecordType::kThreadDescriptor);
  if (mark != nullptr) *mark = {tid, -1, -1, 0};
  char buffer[1024];
  sys::NumberDirectory numbers(sys::task_path(tid, "fd").c_str(), buffer);
  for (int fd = numbers.next(); fd >= 0; fd = numbers.next()) {
    if (!take(collector, listing, thread, fd)) return false;
  }
  *lowest = thread.lowest;
  return true;
}

}  // namespace

bool collect_tables(Collector* collector, Listing* listing) {
  int tables[kMaxTables];
  unsigned count = 0;
  if (!find_tables(collector, tables, &count)) return false;
  if (count == 0) return true;
  if (collector->session != nullptr) {
    refuse_thread(collector, tables[0]).add("has descriptors of its own (unshare(CLONE_FILES)), in a job of several processes");
    return false;
  }
  int highest = highest_number(sys::gettid());
  for (unsigned i = 0; i < count; ++i) {
    const int own = highest_number(tables[i]);
    highest = own > highest ? own : highest;
  }
  int lowest = highest + 1;
  for (unsigned i = 0; i < count; ++i) {
    if (!take_all(collector, listing, tables[i], &lowest)) return false;
  }
  return true;
}

}  // namespace ckpt
