// sysv: semaphore sets, and what the end of this process would undo (SEM_UNDO).
//
// No call shows an adjustment. But a semop(2) whose adjustment would leave its range fails with ERANGE before it is tried whether
// it would have to wait; and one that would have to wait, asked not to, changes nothing. So operations that end in an impossible
// one tell, by how they fail, how far the adjustment is from the end of its range. A process that has asked so is one that may undo
// something: its end makes the set look used (sem_otime).
#include <linux/sem.h>

#include "lib/resources/sysv/collect.h"

namespace ckpt {

namespace {

constexpr int kGetPid = 11, kGetValue = 12, kGetAll = 13, kGetWaiting = 14, kGetWaitingForZero = 15;
constexpr int kErange = 34;
constexpr int kNoWait = 04000;  // IPC_NOWAIT
constexpr int kUndo = 0x1000;   // SEM_UNDO
constexpr int kMost = 32767;    // SEMVMX, SEMAEM; an adjustment may be one less at the lower end

enum class Trial { kInRange, kOutOfRange, kUnknown };

// Operations that undo nothing, to bring the semaphore to where the ones with undo can be done, and those; never carried out.
class Operations {
 public:
  explicit Operations(std::uint16_t semaphore) : semaphore_(semaphore) {}
  void add(int by, int flags) {
    if (by == 0) return;
    operations_[count_++] = {semaphore_, static_cast<short>(by), static_cast<short>(flags | kNoWait)};
  }
  Trial run(int set) {
    add(-kMost - 1, 0);  // no semaphore has so much
    const auto result = sys::call(__NR_semop, set, operations_, count_);
    if (result.error() == sys::kEagain) return Trial::kInRange;
    return result.error() == kErange ? Trial::kOutOfRange : Trial::kUnknown;
  }

 private:
  std::uint16_t semaphore_;
  sembuf operations_[6];
  unsigned count_ = 0;
};

// Is the adjustment more than what leaves room for `step` above it? (takes_away), or below it?
Trial try_step(int set, std::uint16_t semaphore, bool takes_away, int step) {
  const auto value = sys::call(__NR_semctl, set, semaphore, kGetValue);
  if (value.failed()) return Trial::kUnknown;
  Operations operations(semaphore);
  const int first = step < kMost ? step : kMost;
  operations.add((takes_away ? kMost : 0) - static_cast<int>(value.value()), 0);
  operations.add(takes_away ? -first : first, kUndo);
  if (step > first) {
    operations.add(takes_away ? first : -first, 0);
    operations.add(takes_away ? first - step : step - first, kUndo);
  }
  return operations.run(set);
}

// How far the adjustment is above zero (takes_away), or below. False: nobody may ask.
bool measure(int set, std::uint16_t semaphore, bool takes_away, int* distance) {
  // The smallest step that leads out of the range; none if the adjustment is zero, or on the other side.
  const int range = takes_away ? kMost : kMost + 1;
  const Trial widest = try_step(set, semaphore, takes_away, range);
  *distance = 0;
  if (widest != Trial::kOutOfRange) return widest == Trial::kInRange;
  int low = 1;
  int high = range;
  while (low < high) {
    const int middle = low + (high - low) / 2;
    const Trial trial = try_step(set, semaphore, takes_away, middle);
    if (trial == Trial::kUnknown) return false;
    (trial == Trial::kOutOfRange ? high : low) = trial == Trial::kOutOfRange ? middle : middle + 1;
  }
  *distance = range + 1 - low;
  return true;
}

// Where the set may not be changed, there is nothing to be undone.
void add_undo(Collector* collector, int set, std::uint32_t semaphore) {
  int above = 0;
  int below = 0;
  const auto number = static_cast<std::uint16_t>(semaphore);
  if (!measure(set, number, true, &above) || (above == 0 && !measure(set, number, false, &below))) return;
  if (above == 0 && below == 0) return;
  auto* record = collector->add_record<format::SemaphoreUndoRecord>(format::RecordType::kSemaphoreUndo);
  if (record != nullptr) *record = {set, semaphore, above != 0 ? above : -below, 0};
}

// The last users; empty: they can't be read.
std::span<const std::int32_t> list_users(Collector* collector, const SystemVEntry& entry) {
  auto* users = collector->arena->take_array<std::int32_t>(entry.size);
  if (users == nullptr) return {};
  for (std::uint64_t i = 0; i < entry.size; ++i) {
    const auto pid = sys::call(__NR_semctl, entry.object.id, i, kGetPid);
    if (pid.failed()) return {};
    users[i] = static_cast<std::int32_t>(pid.value());
  }
  return {users, entry.size};
}

// Our own threads do not wait while they stand.
bool is_waited_for(const SystemVEntry& entry) {
  for (std::uint64_t i = 0; i < entry.size; ++i) {
    for (const int question : {kGetWaiting, kGetWaitingForZero}) {
      if (sys::call(__NR_semctl, entry.object.id, i, question).value() > 0) return true;
    }
  }
  return false;
}

bool add_set(Collector* collector, const SystemVEntry& entry, bool is_certain) {
  auto* values = collector->arena->take_array<std::uint16_t>(entry.size);
  const auto read = values == nullptr ? sys::SysResult(-sys::kEnomem) : sys::call(__NR_semctl, entry.object.id, 0, kGetAll, values);
  if (read.failed()) {
    if (!is_certain) return true;
    refuse_object(collector, entry).add("its values can't be read: ").add(sys::error_text(read.error()));
    return false;
  }
  if (is_certain && !is_in_own_namespace(*collector) && is_waited_for(entry)) return refuse_shared(collector, entry, 0);
  auto* record = collector->add_record<format::SemaphoreSetRecord>(format::RecordType::kSemaphoreSet,
                                                                   entry.size * sizeof(std::uint16_t), values);
  if (record != nullptr) *record = {entry.object, static_cast<std::uint32_t>(entry.size), entry.used_at != 0 ? 1U : 0U};
  return true;
}

}  // namespace

bool collect_semaphores(Collector* collector) {
  SystemVTable table(SystemVKind::kSemaphores);
  for (SystemVEntry entry; table.next(&entry);) {
    int stranger = 0;
    const Owner owner = owner_of(*collector, entry, list_users(collector, entry), &stranger);
    if (owner == Owner::kOthers) continue;
    if (owner == Owner::kShared) return refuse_shared(collector, entry, stranger);
    if (collector->member == 0 && !add_set(collector, entry, owner == Owner::kJob)) return false;
    const bool is_used = entry.used_at != 0;  // by semop(2): without one there is nothing to be undone
    for (std::uint32_t i = 0; is_used && i < entry.size; ++i) add_undo(collector, entry.object.id, i);
  }
  return true;
}

}  // namespace ckpt
