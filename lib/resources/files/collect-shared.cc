// Descriptions that several processes of a job share: each member publishes what it has open, and finds out what an earlier one
// describes already. kcmp(2) compares across processes; where a filter refuses it, the same number, file, offset and flags will do.
#include "lib/sys/proc-file.h"

#include "lib/resources/terminals/collect.h"

namespace ckpt {

namespace {

using format::OpenEntry;

constexpr int kCompareFile = 0;  // KCMP_FILE

OpenEntry* entries_of(format::Session* session) {
  return reinterpret_cast<OpenEntry*>(reinterpret_cast<char*>(session) + format::kEntriesAt);
}
const OpenEntry* entries_of(const format::Session* session) {
  return reinterpret_cast<const OpenEntry*>(reinterpret_cast<const char*>(session) + format::kEntriesAt);
}

bool read_entry(const Collector& collector, int fd, OpenEntry* entry) {
  FileFacts facts{};
  const auto flags = sys::call(__NR_fcntl, fd, F_GETFL);
  if (flags.failed() || read_facts(fd, "", &facts).failed()) return false;
  const auto offset = sys::call(__NR_lseek, fd, 0, 1 /* SEEK_CUR */);
  *entry = {collector.member,
            fd,
            facts.device,
            facts.inode,
            facts.mode,
            static_cast<std::uint32_t>(flags.value()),
            offset.failed() ? 0 : static_cast<std::uint64_t>(offset.value()),
            facts.raw_device,
            pair_of_master(fd, facts.raw_device),
            0,
            {}};
  return true;
}

bool is_alike(const OpenEntry& one, const OpenEntry& other) {
  return one.inode == other.inode && one.device == other.device && one.mode == other.mode && one.status_flags == other.status_flags;
}

bool is_same(const Collector& collector, const OpenEntry& other, const OpenEntry& own) {
  if (!is_alike(other, own)) return false;
  const int pid = collector.session->members[other.member].pid;
  const auto order = sys::call(__NR_kcmp, pid, collector.pid, kCompareFile, other.fd, own.fd);
  if (!order.failed()) return order.value() == 0;
  return other.fd == own.fd && other.offset == own.offset;
}

// That of an earlier member with the lowest number above this one.
const OpenEntry* find_alike(const format::Session& session, const OpenEntry& own, std::uint32_t above) {
  const OpenEntry* entries = entries_of(&session);
  const OpenEntry* best = nullptr;
  std::uint32_t lowest = 0;
  for (std::uint32_t i = 0; i < session.entry_count; ++i) {
    const OpenEntry& other = entries[i];
    if (other.inode != own.inode || other.member >= own.member || !is_alike(other, own)) continue;
    const std::uint32_t id = description_id(other.member, other.fd);
    if (id > above && (best == nullptr || id < lowest)) best = &other, lowest = id;
  }
  return best;
}

// The session's claims, while nobody else adds any.
class Claims {
 public:
  explicit Claims(format::Session* session)
      : session_(session), all_(reinterpret_cast<format::Claim*>(reinterpret_cast<char*>(session) + format::kClaimsAt)) {
    while (__atomic_exchange_n(&session_->lock, 1U, __ATOMIC_ACQUIRE) != 0) sys::call(__NR_sched_yield).ignore();
  }
  Claims(const Claims&) = delete;
  Claims& operator=(const Claims&) = delete;
  ~Claims() { __atomic_store_n(&session_->lock, 0U, __ATOMIC_RELEASE); }

  bool has(const format::Claim& wanted) const {
    for (std::uint32_t i = 0; i < session_->claim_count; ++i) {
      if (all_[i].device == wanted.device && all_[i].inode == wanted.inode) return true;
    }
    return false;
  }
  // False: somebody has it.
  bool add(const format::Claim& claim) {
    if (has(claim)) return false;
    if (session_->claim_count < format::kMaxClaims) all_[session_->claim_count++] = claim;
    return true;
  }

 private:
  format::Session* session_;
  format::Claim* all_;
};

}  // namespace

bool is_socket(const OpenEntry& entry) {
  constexpr std::uint32_t kTypeMask = 0170000, kSocketType = 0140000;
  return (entry.mode & kTypeMask) == kSocketType;
}

bool claim_file(Collector* collector, std::uint64_t device, std::uint64_t inode) {
  return collector->session == nullptr || Claims(collector->session).add({device, inode});
}

bool misses_other_end(Collector* collector, EndPlace place, std::uint64_t inode, bool is_writer) {
  if (collector->session == nullptr || inode == 0) return false;
  const auto device_of = [](bool is_in_flight, bool writes) {  // there are none like that
    return ~0ULL - (is_in_flight ? 2 : 0) - (writes ? 1 : 0);
  };
  const bool is_in_flight = place == EndPlace::kInFlight;
  Claims claims(collector->session);
  claims.add({device_of(is_in_flight, is_writer), inode});
  return claims.has({device_of(!is_in_flight, !is_writer), inode});
}

bool is_member(const Collector& collector, int pid) {
  if (pid == collector.pid) return true;
  const format::Session* session = collector.session;
  for (std::uint32_t i = 0; session != nullptr && i < session->member_count; ++i) {
    if (session->members[i].pid == pid && session->members[i].state == format::MemberState::kActive) return true;
  }
  return false;
}

bool publish_descriptors(Collector* collector) {
  char buffer[1024];
  format::Session* session = collector->session;
  sys::NumberDirectory descriptors("/proc/thread-self/fd", buffer);
  if (!descriptors.is_open()) {
    collector->refuse(kCodeFailed).add("its descriptors can't be listed: no descriptor left");
    return false;
  }
  for (int fd = descriptors.next(); fd >= 0; fd = descriptors.next()) {
    if (fd == descriptors.fd() || fd == collector->session_fd) continue;
    OpenEntry entry;
    const bool is_read = read_entry(*collector, fd, &entry);
    if (!is_read && sys::call(__NR_fcntl, fd, F_GETFD).failed()) continue;  // of a process that shares the table, and gone
    if (!is_read) return refuse_examination(collector, fd);
    if (is_socket(entry)) describe_inet(fd, &entry.inet);
    const std::uint32_t at = __atomic_fetch_add(&session->entry_count, 1, __ATOMIC_RELAXED);
    if (at >= format::kMaxOpenEntries) {
      collector->refuse(kCodeFailed).add("the job has too many descriptors");
      return false;
    }
    entries_of(session)[at] = entry;
  }
  return true;
}

bool is_open_elsewhere(const Collector& collector, int fd) {
  const format::Session* session = collector.session;
  OpenEntry own;
  if (session == nullptr || !read_entry(collector, fd, &own)) return false;
  const OpenEntry* entries = entries_of(collector.session);
  for (std::uint32_t i = 0; i < session->entry_count; ++i) {
    if (entries[i].member != own.member && is_same(collector, entries[i], own)) return true;
  }
  return false;
}

const OpenEntry* next_published(Collector* collector) {
  const format::Session* session = collector->session;
  while (collector->next_entry < session->entry_count) {
    const OpenEntry* entry = &entries_of(session)[collector->next_entry++];
    if (entry->member == collector->member) return entry;
  }
  return nullptr;
}

std::uint32_t find_elsewhere(const Collector& collector, const OpenEntry& own) {
  for (std::uint32_t id = 0;;) {  // the lowest number that fits, most often the first one
    const OpenEntry* other = find_alike(*collector.session, own, id);
    if (other == nullptr) return 0;
    id = description_id(other->member, other->fd);
    if (is_same(collector, *other, own)) return id;
  }
}

const OpenEntry* find_open_elsewhere(const Collector& collector, bool (*fits)(const OpenEntry&, void*), void* argument) {
  format::Session* session = collector.session;
  if (session == nullptr) return nullptr;
  const OpenEntry* entries = entries_of(session);
  for (std::uint32_t i = 0; i < session->entry_count; ++i) {
    if (entries[i].member != collector.member && fits(entries[i], argument)) return &entries[i];
  }
  return nullptr;
}

bool is_open_elsewhere(const Collector& collector, std::uint64_t socket_inode) {
  const auto has_inode = [](const OpenEntry& entry, void* wanted) {
    return is_socket(entry) && entry.inode == *static_cast<std::uint64_t*>(wanted);
  };
  return socket_inode != 0 && find_open_elsewhere(collector, has_inode, &socket_inode) != nullptr;
}

bool has_device_elsewhere(const Collector& collector, std::uint64_t raw_device) {
  const auto has_device = [](const OpenEntry& entry, void* wanted) {
    return entry.raw_device == *static_cast<std::uint64_t*>(wanted);
  };
  return find_open_elsewhere(collector, has_device, &raw_device) != nullptr;
}

bool has_terminal_master_elsewhere(const Collector& collector, std::uint32_t number) {
  const auto has_number = [](const OpenEntry& entry, void* wanted) { return entry.pair == *static_cast<std::uint32_t*>(wanted); };
  return find_open_elsewhere(collector, has_number, &number) != nullptr;
}

bool has_other_end(const Collector& collector, const FileFacts& facts, int direction) {
  format::Session* session = collector.session;
  if (session == nullptr) return false;
  const OpenEntry* entries = entries_of(session);
  for (std::uint32_t i = 0; i < session->entry_count; ++i) {
    const OpenEntry& other = entries[i];
    const bool is_other_way = static_cast<int>(other.status_flags & O_ACCMODE) != direction;
    if (other.inode == facts.inode && other.device == facts.device && other.member != collector.member && is_other_way) return true;
  }
  return false;
}

}  // namespace ckpt
