// Logs that others write as well: array jobs that append to one file, say. Looked for by the writer, while the job runs on: with
// many processes it takes its time. Whoever may not be looked at (another user's process), or is outside our pid namespace, is not
// seen.
//
// Ancestors do not count: a script, or ckpt-restart, whose output the log is. They wait for us, as a rule, and end with us. Nor
// does ckpt-every: it has no more than complaints to write.
#include "lib/resources/files/collect.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

constexpr unsigned kMaxAncestors = 64;

struct Strangers {
  Collector* collector;
  int ancestors[kMaxAncestors];
  unsigned ancestor_count;
  char names[1024];
  char target[format::kPathBytes];
};

struct Birth {
  int parent;
  std::uint64_t time;  // in ticks since boot
};

Birth birth_of(int pid) {
  const sys::StatFile stat(sys::proc_path(pid, "stat").c_str());
  return {static_cast<int>(stat.number(4)), stat.number(22)};
}

bool is_ancestor(const Strangers& strangers, int pid) {
  for (unsigned i = 0; i < strangers.ancestor_count; ++i) {
    if (strangers.ancestors[i] == pid) return true;
  }
  return false;
}

// A member, or a writer of one: they map the control page.
bool is_of_job(const Collector& collector, int pid) {
  if (is_member(collector, pid)) return true;
  char buffer[4096];
  sys::LineReader lines(sys::proc_path(pid, "maps").c_str(), buffer);
  const std::size_t wanted = strlen(collector.control_path);
  while (const char* line = lines.next()) {
    const std::size_t length = strlen(line);
    if (length >= wanted && sys::equal(line + length - wanted, collector.control_path)) return true;
  }
  return false;
}

bool is_timer(int pid) {
  char name[32] = "";
  sys::read_file(sys::proc_path(pid, "comm").c_str(), name, sizeof(name)).ignore();
  return sys::equal(name, "ckpt-every\n");
}

// By the name first: asking a file system for a stranger's file may take long (a server that is gone).
bool is_open_for_writing(Strangers* strangers, const char* link, const char* path, const format::DescriptionRecord& record) {
  const auto size = sys::call(__NR_readlinkat, AT_FDCWD, link, strangers->target, sizeof(strangers->target) - 1);
  if (size.failed()) return false;
  strangers->target[size.value()] = '\0';
  if (!sys::equal(strangers->target, path)) return false;
  FileFacts file{}, way{};
  if (read_facts(AT_FDCWD, link, &file).failed() || read_link_facts(link, &way).failed()) return false;
  return file.inode == record.inode && file.device == record.device && (way.mode & 0200U) != 0;
}

void look_at(Strangers* strangers, int pid) {
  Collector* collector = strangers->collector;
  char numbers[1024];
  sys::NumberDirectory descriptors(sys::proc_path(pid, "fd").c_str(), numbers);
  for (int fd = descriptors.is_open() ? descriptors.next() : -1; fd >= 0; fd = descriptors.next()) {
    sys::ProcPath link = sys::proc_path(pid, "fd/");
    link.add_signed(fd);
    for (unsigned i = 0; i < collector->tail_count; ++i) {
      format::DescriptionRecord* record = collector->tails[i];
      if (record->policy != format::FilePolicy::kAppend) continue;
      if (!is_open_for_writing(strangers, link.c_str(), collector->tail_paths[i], *record)) continue;
      if (is_of_job(*collector, pid) || is_timer(pid)) return;
      record->policy = format::FilePolicy::kShared;
    }
  }
}

}  // namespace

void find_shared_logs(Collector* collector) {
  auto* strangers = collector->tail_count == 0 ? nullptr : collector->arena->take_array<Strangers>(1);
  if (strangers == nullptr) return;
  strangers->collector = collector;
  strangers->ancestor_count = 0;
  for (int pid = birth_of(collector->pid).parent; pid > 0 && strangers->ancestor_count < kMaxAncestors;
       pid = birth_of(pid).parent) {
    strangers->ancestors[strangers->ancestor_count++] = pid;
  }
  const int self = sys::getpid();
  const std::uint64_t snapshot = birth_of(self).time;
  sys::NumberDirectory processes("/proc", strangers->names);
  for (int pid = processes.is_open() ? processes.next() : -1; pid >= 0; pid = processes.next()) {
    if (pid == self || pid == collector->pid || is_ancestor(*strangers, pid)) continue;
    // The job runs on, and starts others, which are not known as members.
    if (birth_of(pid).time < snapshot) look_at(strangers, pid);
  }
}

}  // namespace ckpt
