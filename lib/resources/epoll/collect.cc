// epoll: the entries, from fdinfo (proc_pid_fdinfo(5)).
//
// fdinfo shows the number that an entry was added by. Its descriptor may have been closed or used anew since, while a duplicate
// keeps the open file: kcmp(2) tells, and finds the duplicate. Without it such an entry is refused.
//
// Of an edge-triggered entry the kernel also knows whether its edge has been reported; that is found out by asking for events, and
// what came is armed again. Everybody stands, so nobody sees it.
#include "lib/resources/epoll/record.h"

#include <linux/eventpoll.h>

#include "lib/resources/files/collect.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using format::EpollEntry;
using format::EpollState;

constexpr unsigned kGetParameters = 0x80088a02;    // EPIOCGPARAMS, Linux 6.9
constexpr std::uint32_t kElsewhere = 0xffffffffU;  // in EpollEntry::description until all are known

struct EpollSlot {
  std::uint32_t epoll_fd, target_fd, target_offset;
};

// Which of the entries with the same number this one is: the kernel counts them in the order of fdinfo.
EpollSlot slot_of(int epoll_fd, const EpollEntry* entries, std::size_t index) {
  EpollSlot slot{static_cast<std::uint32_t>(epoll_fd), static_cast<std::uint32_t>(entries[index].fd), 0};
  for (std::size_t i = 0; i < index; ++i) slot.target_offset += entries[i].fd == entries[index].fd ? 1 : 0;
  return slot;
}

sys::SysResult compare_target(const Collector& collector, int fd, const EpollSlot& slot) {
  return sys::call(__NR_kcmp, collector.pid, collector.pid, 7 /* KCMP_EPOLL_TFD */, fd, &slot);
}

// "tfd: 5 events: 19 data: 4d pos:0 ino:61af sdev:7"
bool parse_entry(const char* line, EpollEntry* entry, std::uint64_t* inode) {
  const auto find = [&line](const char* name) {
    while (*line != '\0' && !sys::starts_with(line, name)) ++line;
    const bool is_there = *line != '\0';
    if (is_there) line += strlen(name);
    sys::skip_spaces(&line);
    return is_there;
  };
  if (!find("tfd:")) return false;
  entry->fd = static_cast<std::int32_t>(sys::parse_decimal(&line));
  if (!find("events:")) return false;
  entry->events = static_cast<std::uint32_t>(sys::parse_hex(&line));
  if (!find("data:")) return false;
  entry->data = sys::parse_hex(&line);
  *inode = find("ino:") ? sys::parse_hex(&line) : 0;
  return true;
}

bool is_kcmp_missing(const sys::SysResult& order) { return order.failed() && order.error() != sys::kEbadf; }

// Where kcmp is missing or forbidden: what this number leads to can't be added once more if it is in the set by this number.
bool is_in_set(int epoll_fd, int fd) {
  epoll_event none{};
  const auto added = sys::call(__NR_epoll_ctl, epoll_fd, EPOLL_CTL_ADD, fd, &none);
  if (!added.failed()) sys::call(__NR_epoll_ctl, epoll_fd, EPOLL_CTL_DEL, fd, &none).ignore();
  return added.error() == sys::kEexist;
}

// Whether the number still leads to what was added.
bool is_in_place(const Collector& collector, int fd, const EpollSlot& slot, std::uint64_t inode) {
  const auto order = compare_target(collector, fd, slot);
  if (!is_kcmp_missing(order)) return !order.failed() && order.value() == 0;
  FileFacts facts{};
  const bool is_alike = !read_facts(fd, "", &facts).failed() && facts.inode == inode;
  return is_alike && slot.target_offset == 0 && is_in_set(static_cast<int>(slot.epoll_fd), fd);
}

bool refuse_entry(Collector* collector, int epoll_fd, const EpollEntry& entry, bool has_kcmp) {
  Message& message = collector->refuse().add("descriptor ").add_signed(epoll_fd).add(" (epoll): waits for what was descriptor ");
  message.add_signed(entry.fd);
  message.add(has_kcmp ? " and is open in another process only" : " and can't be found, for kcmp(2) is missing or not allowed");
  message.add("; take it out (EPOLL_CTL_DEL) before it is closed");
  return false;
}

std::uint32_t events_at(int fd, std::uint32_t wanted) {
  struct {
    int fd;
    std::int16_t events, returned;
  } entry{fd, static_cast<std::int16_t>(wanted), 0};
  const __kernel_timespec at_once{};
  if (sys::call(__NR_ppoll, &entry, 1, &at_once, nullptr, 8).failed()) return 0;
  return static_cast<std::uint16_t>(entry.returned) & wanted;
}

bool is_edge(const EpollEntry& entry) {
  return (entry.events & format::kEpollEdge) != 0 && (entry.events & format::kEpollOneShot) == 0 && entry.description == 0;
}

void arm_again(int fd, const EpollEntry& entry) {
  epoll_event event{entry.events, entry.data};
  if ((entry.events & format::kEpollExclusive) == 0) {
    sys::call(__NR_epoll_ctl, fd, EPOLL_CTL_MOD, entry.fd, &event).ignore();
    return;
  }
  sys::call(__NR_epoll_ctl, fd, EPOLL_CTL_DEL, entry.fd, &event).ignore();
  sys::call(__NR_epoll_ctl, fd, EPOLL_CTL_ADD, entry.fd, &event).ignore();
}

// Some edges are waiting to be reported: which are not? Takes what there is and puts it back.
void find_reported(int fd, EpollEntry* entries, std::size_t count, epoll_event* room) {
  const auto waiting = sys::call(__NR_epoll_pwait, fd, room, count, 0, nullptr, 8);
  const std::size_t got = waiting.failed() ? 0 : static_cast<std::size_t>(waiting.value());
  for (std::size_t i = 0; i < count; ++i) {
    bool is_waiting = false;
    for (std::size_t k = 0; k < got && !is_waiting; ++k) is_waiting = room[k].data == entries[i].data;
    if (!is_waiting) continue;
    if (is_edge(entries[i])) entries[i].consumed = 0;
    const bool is_armed = (entries[i].events & ~format::kEpollPrivate) != 0;
    if (is_armed && (entries[i].events & (format::kEpollEdge | format::kEpollOneShot)) != 0) arm_again(fd, entries[i]);
  }
}

bool find_consumed(Collector* collector, int fd, EpollEntry* entries, std::size_t count) {
  bool has_edges = false;
  for (std::size_t i = 0; i < count; ++i) {
    if (!is_edge(entries[i])) continue;
    entries[i].consumed = events_at(entries[i].fd, entries[i].events & 0xffff);
    has_edges |= entries[i].consumed != 0;
  }
  if (!has_edges || events_at(fd, EPOLLIN) == 0) return true;
  bool can_ask = true;  // what is added by a number that leads elsewhere could not be armed again
  for (std::size_t i = 0; i < count; ++i) can_ask &= entries[i].description == 0;
  if (!can_ask) {
    for (std::size_t i = 0; i < count; ++i) entries[i].consumed = 0;  // edges may come once more
    return true;
  }
  auto* room = collector->arena->take_array<epoll_event>(count);
  if (room == nullptr) return false;
  find_reported(fd, entries, count, room);
  return true;
}

}  // namespace

bool collect_epoll(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord*, Buffer* state) {
  EpollState head{};
  sys::call(__NR_ioctl, descriptor.fd, kGetParameters, &head).ignore();
  state->add(&head, sizeof(head));
  char buffer[1024];
  const sys::ProcPath path = path_of_fdinfo(descriptor.fd);
  sys::LineReader lines(path.c_str(), buffer, sys::Made::kWhole);
  if (!lines.is_open()) {
    refuse_descriptor(collector, descriptor).add("what it waits for can't be read");
    return false;
  }
  std::uint64_t inode = 0;
  for (EpollEntry entry{}; const char* line = lines.next(); entry = {}) {
    if (!parse_entry(line, &entry, &inode)) continue;
    const std::size_t index = (state->size() - sizeof(head)) / sizeof(entry);
    state->add(&entry, sizeof(entry));
    if (state->is_full()) return true;  // refused by the caller
    auto* entries = reinterpret_cast<EpollEntry*>(state->data() + sizeof(head));
    const EpollSlot slot = slot_of(descriptor.fd, entries, index);
    if (!is_in_place(*collector, entry.fd, slot, inode)) entries[index].description = kElsewhere;
  }
  return true;
}

bool settle_epoll(Collector* collector, OpenDescription* self, OpenDescription* known, unsigned known_count) {
  auto* entries = reinterpret_cast<EpollEntry*>(state_of(self->record) + sizeof(EpollState));
  const std::size_t count = (self->record->state_size - sizeof(EpollState)) / sizeof(EpollEntry);
  for (std::size_t i = 0; i < count; ++i) {
    if (entries[i].description != kElsewhere) continue;
    const EpollSlot slot = slot_of(self->fd, entries, i);
    bool has_kcmp = true;
    for (unsigned k = 0; k < known_count && entries[i].description == kElsewhere; ++k) {
      const auto order = compare_target(*collector, known[k].fd, slot);
      has_kcmp &= !is_kcmp_missing(order);
      if (!order.failed() && order.value() == 0) entries[i].description = known[k].record->id;
    }
    if (entries[i].description == kElsewhere) return refuse_entry(collector, self->fd, entries[i], has_kcmp);
  }
  if (find_consumed(collector, self->fd, entries, count)) return true;
  collector->refuse(kCodeFailed).add("descriptor ").add_signed(self->fd).add(" (epoll): no memory to ask for its events");
  return false;
}

}  // namespace ckpt
