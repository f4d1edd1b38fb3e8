// sysv: see collect.h. Called when memory has been collected: attached segments are described there (collect-segments.cc).
#include "lib/resources/sysv/collect.h"

namespace ckpt {

namespace {

constexpr std::int64_t kNanoseconds = 1'000'000'000;

// Where things stand in a line (proc(5)); −1: there is no such column. Key, id and mode come first.
struct Columns {
  const char* path;
  const char* name;
  int size, count, users[2], uid, gid, creator, used_at[2], changed_at;
};
constexpr Columns kColumns[] = {
    {"/proc/sysvipc/shm", "shared memory", 3, 6, {4, -1}, 7, 8, 9, {11, 12}, 13},
    {"/proc/sysvipc/sem", "semaphore set", 3, -1, {-1, -1}, 4, 5, 6, {8, -1}, 9},
    {"/proc/sysvipc/msg", "message queue", 3, 4, {5, 6}, 7, 8, 9, {11, 12}, 13},
};
constexpr int kMaxColumns = 16;

const Columns& columns_of(SystemVKind kind) { return kColumns[static_cast<int>(kind)]; }

std::int64_t parse_signed(const char** at) {
  const bool is_negative = **at == '-';
  if (is_negative) ++*at;
  const auto value = static_cast<std::int64_t>(sys::parse_decimal(at));
  return is_negative ? -value : value;
}

std::uint32_t octal_from_decimal(std::int64_t digits) {
  std::uint32_t value = 0;
  for (std::uint32_t shift = 0; digits > 0; digits /= 10, shift += 3) value |= static_cast<std::uint32_t>(digits % 10) << shift;
  return value;
}

// In ticks after the boot; 0: there is no such process.
std::uint64_t start_of(int pid) { return sys::StatFile(sys::proc_path(pid, "stat").c_str()).number(22); }

// Seconds of CLOCK_REALTIME, at the latest.
std::int64_t time_of_start(std::uint64_t ticks) {
  constexpr std::int64_t kTickNs = kNanoseconds / 100;  // USER_HZ
  const std::int64_t age = sys::clock_ns(CLOCK_BOOTTIME) - static_cast<std::int64_t>(ticks) * kTickNs;
  return (sys::clock_ns(CLOCK_REALTIME) - age) / kNanoseconds;
}

std::int64_t time_of_first_member(const Collector& collector) {
  std::uint64_t first = start_of(collector.pid);
  const format::Session* session = collector.session;
  for (std::uint32_t i = 0; session != nullptr && i < session->member_count; ++i) {
    const std::uint64_t start = session->members[i].start_time;
    if (start != 0 && start < first) first = start;
  }
  return time_of_start(first);
}

// A process with this number that lives and has not come later: numbers are used again.
bool is_living_user(int pid, std::int64_t used_at) {
  const std::uint64_t start = start_of(pid);
  return start != 0 && time_of_start(start) <= used_at + 1;
}

struct Evidence {
  bool has_member = false;
  int stranger = 0;
};

void weigh(const Collector& collector, const SystemVEntry& entry, std::int32_t pid, Evidence* evidence) {
  if (pid <= 0) return;
  if (is_member(collector, pid)) {
    evidence->has_member = true;
  } else if (is_living_user(pid, entry.used_at > entry.changed_at ? entry.used_at : entry.changed_at)) {
    evidence->stranger = pid;
  }
}

std::uint64_t count_areas(const char* maps_path, std::int32_t id, bool* is_empty) {
  char buffer[4608];
  sys::LineReader maps(maps_path, buffer);
  std::uint64_t count = 0;
  *is_empty = true;
  while (const char* line = maps.is_open() ? maps.next() : nullptr) {
    *is_empty = false;
    const char* name = line;
    std::uint64_t inode = 0;
    for (int column = 0; column < 5 && *name != '\0'; ++column) {
      if (column == 4) inode = sys::parse_decimal(&name);
      while (*name != ' ' && *name != '\0') ++name;
      sys::skip_spaces(&name);
    }
    count += sys::starts_with(name, "/SYSV") && inode == static_cast<std::uint64_t>(id) ? 1 : 0;
  }
  return count;
}

// A process whose main thread has ended shows its memory by another thread.
std::uint64_t count_areas_of(int pid, std::int32_t id) {
  bool is_empty = false;
  const std::uint64_t count = count_areas(sys::proc_path(pid, "maps").c_str(), id, &is_empty);
  if (!is_empty) return count;
  char buffer[512];
  sys::NumberDirectory tasks(sys::proc_path(pid, "task").c_str(), buffer);
  for (int tid = tasks.is_open() ? tasks.next() : -1; tid >= 0; tid = tasks.next()) {
    if (tid != pid) return count_areas(sys::task_path(pid, tid, "maps").c_str(), id, &is_empty);
  }
  return 0;
}

}  // namespace

SystemVTable::SystemVTable(SystemVKind kind) : kind_(kind), lines_(columns_of(kind).path, buffer_) {
  if (lines_.is_open()) lines_.next();  // the heading
}

bool SystemVTable::next(SystemVEntry* entry) {
  const char* at = lines_.is_open() ? lines_.next() : nullptr;
  if (at == nullptr) return false;
  std::int64_t values[kMaxColumns]{};
  for (std::int64_t& value : values) {
    sys::skip_spaces(&at);
    value = parse_signed(&at);
  }
  const Columns& columns = columns_of(kind_);
  const auto number = [&](int column) { return column < 0 ? 0 : values[column]; };
  *entry = {};
  entry->kind = kind_;
  entry->object = {static_cast<std::int32_t>(values[1]),
                   static_cast<std::int32_t>(values[0]),
                   static_cast<std::uint32_t>(number(columns.uid)),
                   static_cast<std::uint32_t>(number(columns.gid)),
                   octal_from_decimal(values[2]),
                   0};
  entry->creator = static_cast<std::uint32_t>(number(columns.creator));
  entry->size = static_cast<std::uint64_t>(number(columns.size));
  entry->count = static_cast<std::uint64_t>(number(columns.count));
  for (int i = 0; i < 2; ++i) {
    entry->users[i] = static_cast<std::int32_t>(number(columns.users[i]));
    if (number(columns.used_at[i]) > entry->used_at) entry->used_at = number(columns.used_at[i]);
  }
  entry->changed_at = number(columns.changed_at);
  return true;
}

bool find_object(SystemVKind kind, std::int32_t id, SystemVEntry* entry) {
  SystemVTable table(kind);
  while (table.next(entry)) {
    if (entry->object.id == id) return true;
  }
  return false;
}

bool is_in_own_namespace(const Collector& collector) {
  return collector.own_ipc_namespace != 0 && collector.own_ipc_namespace == sys::read_namespace("/proc/thread-self/ns", "ipc");
}

Owner owner_of(const Collector& collector, const SystemVEntry& entry, std::span<const std::int32_t> noted, int* stranger) {
  if (is_in_own_namespace(collector)) return Owner::kJob;
  Evidence evidence;
  for (const std::int32_t pid : entry.users) weigh(collector, entry, pid, &evidence);
  std::int32_t last = 0;
  for (const std::int32_t pid : noted) {
    if (pid != last) weigh(collector, entry, pid, &evidence);
    last = pid;
  }
  *stranger = evidence.stranger;
  if (evidence.has_member) return evidence.stranger != 0 ? Owner::kShared : Owner::kJob;
  const bool is_ours = entry.creator == static_cast<std::uint32_t>(sys::call(__NR_geteuid).value());
  const bool is_new = is_ours && entry.changed_at >= time_of_first_member(collector);
  return is_new && evidence.stranger == 0 ? Owner::kPerhapsJob : Owner::kOthers;
}

std::uint64_t count_attachments(const Collector& collector, std::int32_t id) {
  bool is_empty = false;
  std::uint64_t count = count_areas("/proc/thread-self/maps", id, &is_empty);
  const format::Session* session = collector.session;
  for (std::uint32_t i = 0; session != nullptr && i < session->member_count; ++i) {
    const format::Member& member = session->members[i];
    if (member.pid != collector.pid && member.state == format::MemberState::kActive) count += count_areas_of(member.pid, id);
  }
  return count;
}

Message& refuse_object(Collector* collector, const SystemVEntry& entry) {
  Message& message = collector->refuse().add("System V ").add(columns_of(entry.kind).name).add_char(' ');
  message.add_signed(entry.object.id).add(" (key 0x").add_hex(static_cast<std::uint32_t>(entry.object.key)).add("): ");
  return message;
}

bool refuse_shared(Collector* collector, const SystemVEntry& entry, int stranger) {
  Message& message = refuse_object(collector, entry);
  if (stranger != 0) {
    message.add("process ").add_signed(stranger).add(", which is not of the job, uses it too");
  } else {
    message.add("processes that are not of the job use it too");
  }
  message.add("; launch them as one job, or let them end first");
  return false;
}

bool collect_sysv(Collector* collector) {
  if (collector->member == 0 && (!collect_detached_segments(collector) || !collect_queues(collector))) return false;
  return collect_semaphores(collector);
}

}  // namespace ckpt
