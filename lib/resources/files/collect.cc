// files: collects descriptors and the open file descriptions behind them.
//
// A descriptor of a kind that is not known here is refused by name. Pipes and sockets that lead outside can only be saved as a
// standard stream, or as a copy of one: on a restart they become that stream of ckpt-restart.
#include "lib/resources/files/collect.h"

#include "lib/resources/collector.h"
#include "lib/resources/terminals/collect.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using format::DescriptionKind;
using format::DescriptionRecord;
using Open = OpenDescription;

constexpr std::uint32_t kTypeMask = 0170000, kFifo = 0010000, kCharacter = 0020000, kDirectory = 0040000, kRegular = 0100000,
                        kBlock = 0060000;
constexpr unsigned kMaxDescriptions = 1U << 20;
constexpr int kDupQuery = 1024 + 3;  // F_DUPFD_QUERY, Linux 6.10
constexpr int kSetSignal = 10, kGetSignal = 11;

constexpr std::size_t kMaxState = 1U << 20;  // of one description

// Kinds that have a place of their own. Everything else is told by its type in classify().
constexpr DescriptorKind kKinds[] = {
    {"anon_inode:[eventfd]", DescriptionKind::kEventFd, collect_eventfd, nullptr},
    {"anon_inode:[timerfd]", DescriptionKind::kTimerFd, collect_timerfd, nullptr},
    {"anon_inode:[signalfd]", DescriptionKind::kSignalFd, collect_signalfd, nullptr},
    {"anon_inode:[eventpoll]", DescriptionKind::kEpoll, collect_epoll, settle_epoll},
    {"anon_inode:[pidfd]", DescriptionKind::kPidFd, collect_pidfd, nullptr},
    {"anon_inode:inotify", DescriptionKind::kInotify, collect_inotify, nullptr},
    {"socket:", DescriptionKind::kUnixSocket, collect_socket, settle_unix_socket},
    {"/memfd:", DescriptionKind::kMemFd, collect_memfd, nullptr},
    {"socket:", DescriptionKind::kInetSocket, collect_socket, settle_inet_socket},
};

const DescriptorKind* kind_of(const Descriptor& descriptor) {
  for (const DescriptorKind& kind : kKinds) {
    if (sys::starts_with(descriptor.path, kind.link)) return &kind;
  }
  return nullptr;
}

bool is_null_like(std::uint64_t raw_device) {
  const std::uint64_t major = raw_device >> 32;
  const std::uint64_t minor = raw_device & 0xffffffffU;
  return major == 1 && (minor == 3 || minor == 5 || minor == 7 || minor == 8 || minor == 9);
}

bool is_terminal_device(std::uint64_t raw_device) {
  const std::uint64_t major = raw_device >> 32;
  const std::uint64_t minor = raw_device & 0xffffffffU;
  return major == 4 || (major == 5 && minor != 2) || (major >= 136 && major <= 143);
}

bool is_same_description(int a, int b) {
  const auto answer = sys::call(__NR_fcntl, a, kDupQuery, b);
  if (!answer.failed()) return answer.value() == 1;
  // An old kernel and a filter against kcmp: a mark that belongs to the open file, set on one, is seen on the other. It is the
  // signal of O_ASYNC, which nobody else looks at.
  const auto own = sys::call(__NR_fcntl, a, kGetSignal);
  const auto other = sys::call(__NR_fcntl, b, kGetSignal);
  if (own.failed() || other.failed() || own.value() != other.value()) return false;
  const long mark = own.value() == sys::kSignals ? own.value() - 1 : sys::kSignals;
  if (sys::call(__NR_fcntl, a, kSetSignal, mark).failed()) return false;
  const bool is_same = sys::call(__NR_fcntl, b, kGetSignal).value() == mark;
  sys::call(__NR_fcntl, a, kSetSignal, own.value()).ignore();
  return is_same;
}

// Open descriptions in an order: by inode, device, serial, and that of kcmp(2), which is random and so keeps the tree flat.
enum class Order { kSame, kLess, kMore };
Order compare(const Collector& collector, const Descriptor& descriptor, const Open& other) {
  if (descriptor.facts.inode != other.facts.inode) return descriptor.facts.inode < other.facts.inode ? Order::kLess : Order::kMore;
  if (descriptor.facts.device != other.facts.device)
    return descriptor.facts.device < other.facts.device ? Order::kLess : Order::kMore;
  if (descriptor.serial != other.serial) return descriptor.serial < other.serial ? Order::kLess : Order::kMore;
  const auto order = sys::call(__NR_kcmp, collector.pid, collector.pid, 0 /* KCMP_FILE */, descriptor.fd, other.fd);
  if (order.failed()) return is_same_description(descriptor.fd, other.fd) ? Order::kSame : Order::kMore;
  return order.value() == 0 ? Order::kSame : order.value() == 1 ? Order::kLess : Order::kMore;
}

sys::Fd open_again(int fd, int flags) { return sys::Fd(sys::open(sys::descriptor_path(fd).c_str(), flags)); }

// The bytes of the open file, through a description of our own, which leaves the offset alone; 0: it can't be read, or there is no
// memory to copy it.
std::uint32_t keep_open_file(Collector* collector, const Descriptor& descriptor) {
  struct Job {
    const Descriptor* descriptor;
    std::uint32_t content;
  } job{&descriptor, 0};
  const auto keep = [](Collector* all, void* argument) {
    auto* wanted = static_cast<Job*>(argument);
    const sys::Fd again = open_again(wanted->descriptor->fd, O_RDONLY);
    wanted->content = again.is_open() ? keep_file(all, again.get(), wanted->descriptor->facts) : 0;
    return wanted->content != 0;
  };
  if (descriptor.is_leased) {
    const auto offset = sys::call(__NR_lseek, descriptor.fd, 0, 1 /* SEEK_CUR */);
    if ((descriptor.status_flags & O_ACCMODE) != O_WRONLY) job.content = keep_file(collector, descriptor.fd, descriptor.facts);
    sys::call(__NR_lseek, descriptor.fd, offset.value(), 0 /* SEEK_SET */).ignore();
  } else if (!keeping_locks(collector, descriptor.facts.inode, keep, &job)) {
    return 0;
  }
  return job.content;
}

// Bytes of a file without a name, copied while everything stands.
bool keep_deleted(Collector* collector, const Descriptor& descriptor, std::uint32_t* content) {
  *content = keep_open_file(collector, descriptor);
  if (*content != 0) return true;
  refuse_descriptor(collector, descriptor).add("this deleted file can't be read, or there is no memory to copy it");
  return false;
}

// How the file goes back with memory. Where the last byte is, there a log is written; another's bytes behind ours show that it is
// shared; everything else is kept as it is, if it is not too large.
void choose_policy(Collector* collector, const Descriptor& descriptor, DescriptionRecord* record) {
  const auto offset = sys::call(__NR_lseek, descriptor.fd, 0, 1 /* SEEK_CUR */);
  const std::uint64_t at = offset.failed() ? 0 : static_cast<std::uint64_t>(offset.value());
  const bool is_append = (descriptor.status_flags & O_APPEND) != 0;
  const bool is_at_end = at == descriptor.facts.size;
  const bool is_read_too = (descriptor.status_flags & O_ACCMODE) == O_RDWR;
  if (is_saved(*collector, descriptor.path)) {
    record->policy = format::FilePolicy::kSaved;
  } else if (is_append) {
    record->policy = at != 0 && !is_at_end && !is_read_too ? format::FilePolicy::kShared : format::FilePolicy::kAppend;
  } else if (is_at_end && !is_read_too) {
    record->policy = format::FilePolicy::kAppend;
  } else {
    record->policy = format::FilePolicy::kRefuse;
    if (descriptor.facts.size <= kMaxKeptFile) record->content = keep_open_file(collector, descriptor);
    if (record->content != 0) record->policy = format::FilePolicy::kKept;
    const bool is_cloned =
        record->content == 0 && !descriptor.is_leased && clone_file(collector, descriptor.fd, descriptor.facts, record->id);
    if (record->content == 0 && !is_cloned) await_other_time(descriptor.facts.modified_ns);
  }
}

// A file with several names that was opened by one of those that are gone.
bool take_other_name(Collector* collector, Descriptor* descriptor) {
  if (descriptor->facts.links == 0) return false;
  const char* name = find_name_of(collector, descriptor->facts, descriptor->path);
  if (name == nullptr) return false;
  sys::copy_text(descriptor->path, sizeof(descriptor->path), name);
  return is_found_by_name(*descriptor);
}

bool classify_regular(Collector* collector, Descriptor* descriptor, DescriptionRecord* record, Buffer* state) {
  if (is_namespace(descriptor->fd)) return collect_namespace(collector, descriptor, record);
  if (is_made_up(descriptor->fd)) return collect_proc_file(collector, *descriptor, record);
  if (!collect_locks(collector, *descriptor, state)) return false;
  for (std::size_t at = 0; at + sizeof(format::FileLock) <= state->size(); at += sizeof(format::FileLock)) {
    const auto* lock = reinterpret_cast<const format::FileLock*>(state->data() + at);
    descriptor->is_leased |= lock->kind == format::LockKind::kLease;
  }
  record->kind = DescriptionKind::kRegular;
  if (is_found_by_name(*descriptor) || take_other_name(collector, descriptor)) {
    if ((descriptor->status_flags & O_ACCMODE) != O_RDONLY) choose_policy(collector, *descriptor, record);
    return true;
  }
  if (descriptor->facts.links > 0) {
    refuse_descriptor(collector, *descriptor).add("the file was renamed or hidden, and can't be found by its name");
    return false;
  }
  record->kind = DescriptionKind::kDeleted;
  return keep_deleted(collector, *descriptor, &record->content);
}

bool classify_character(Collector* collector, Descriptor* descriptor, DescriptionRecord* record, Buffer* state) {
  const std::uint64_t device = descriptor->facts.raw_device;
  if (is_terminal_device(device)) return collect_terminal(*descriptor, record, state);
  if (pair_of_master(descriptor->fd, device) != format::kNoPair)
    return collect_terminal_master(collector, *descriptor, record, state);
  if (is_null_like(device)) {
    record->kind = DescriptionKind::kDevice;
    return true;
  }
  refuse_descriptor(collector, *descriptor).add("a device can't be saved; close it and try again");
  return false;
}

bool classify_fifo(const Descriptor& descriptor, DescriptionRecord* record, Buffer* state) {
  const bool is_named = !sys::starts_with(descriptor.path, "pipe:") && is_found_by_name(descriptor);
  const format::FifoState fifo{1, 0};
  record->kind = is_named ? DescriptionKind::kFifo : DescriptionKind::kPipe;
  if (is_named) state->add(&fifo, sizeof(fifo));
  return true;  // settle_pipes() has the last word, when all ends are known
}

bool classify(Collector* collector, Descriptor* descriptor, DescriptionRecord* record, Buffer* state) {
  const std::uint32_t type = descriptor->facts.mode & kTypeMask;
  if ((descriptor->status_flags & O_PATH) != 0) return collect_path_only(collector, *descriptor, record);
  if (!collect_owner(collector, *descriptor, record)) return false;
  if (const DescriptorKind* kind = kind_of(*descriptor); kind != nullptr) {
    record->kind = kind->kind;
    return kind->collect(collector, *descriptor, record, state);
  }
  if (type == kRegular && is_message_queue(*descriptor)) return collect_message_queue(collector, *descriptor, record, state);
  if (type == kRegular) return classify_regular(collector, descriptor, record, state);
  if (type == kDirectory) return collect_directory(collector, *descriptor, record, state);
  if (type == kCharacter) return classify_character(collector, descriptor, record, state);
  if (type == kFifo) return classify_fifo(*descriptor, record, state);
  const char* kind = type == kBlock ? "a device" : name_of_kernel_object(descriptor->path, "a descriptor of this kind");
  refuse_descriptor(collector, *descriptor).add(kind).add(" can't be saved; close it and try again");
  return false;
}

// Record, path and state, as one record of the index.
DescriptionRecord* append_description(Collector* collector, DescriptionRecord facts, const char* path, const Buffer& state) {
  facts.path_size = static_cast<std::uint32_t>(strlen(path) + 1);
  facts.state_size = static_cast<std::uint32_t>(state.size());
  const std::size_t padded = format::align_up(facts.path_size, 8);
  auto* record = collector->add_record<DescriptionRecord>(format::RecordType::kDescription, padded + state.size());
  if (record == nullptr) return nullptr;
  *record = facts;
  memcpy(record + 1, path, facts.path_size);
  memcpy(state_of(record), state.data(), state.size());
  return record;
}

DescriptionRecord* add_description(Collector* collector, Descriptor* descriptor, std::uint32_t id, void* state_room) {
  DescriptionRecord facts{};
  facts.id = id;
  Buffer state(state_room, kMaxState);
  if (!classify(collector, descriptor, &facts, &state)) return nullptr;
  if (state.is_full()) {
    refuse_descriptor(collector, *descriptor).add("it holds more than can be described");
    return nullptr;
  }
  auto* record = append_description(collector, facts, descriptor->path, state);
  if (record == nullptr) return nullptr;
  record->device = descriptor->facts.device;
  record->inode = descriptor->facts.inode;
  record->size = descriptor->facts.size;
  record->modified_ns = descriptor->facts.modified_ns;
  record->raw_device = descriptor->facts.raw_device;
  record->mode = descriptor->facts.mode;
  record->status_flags = descriptor->status_flags;
  record->stream = descriptor->fd <= 2 ? descriptor->fd : -1;
  const auto offset = sys::call(__NR_lseek, descriptor->fd, 0, 1 /* SEEK_CUR */);
  record->offset = offset.failed() ? 0 : static_cast<std::uint64_t>(offset.value());
  const bool is_log = record->policy == format::FilePolicy::kAppend;
  if (record->kind == DescriptionKind::kRegular && is_log && !descriptor->is_leased && collector->tail_count < kMaxTails) {
    collector->tail_paths[collector->tail_count] = reinterpret_cast<const char*>(record + 1);
    collector->tails[collector->tail_count++] = record;
  }
  return record;
}

constexpr std::size_t kRoots = 1U << 16;

// The known description of this descriptor, or the place where it belongs.
std::uint32_t* find_description(const Collector& collector, const Descriptor& descriptor, Listing* listing) {
  const std::uint64_t hash = (descriptor.facts.inode ^ descriptor.facts.device << 20 ^ descriptor.serial) * 0x9e3779b97f4a7c15ULL;
  std::uint32_t* link = &listing->roots[hash >> 48];
  while (*link != 0) {
    Open* other = &listing->known[*link - 1];
    const Order order = compare(collector, descriptor, *other);
    if (order == Order::kSame) break;
    link = order == Order::kLess ? &other->less : &other->more;
  }
  return link;
}

bool read_descriptor(Descriptor* descriptor) {
  const auto flags = sys::call(__NR_fcntl, descriptor->fd, F_GETFL);
  if (flags.failed() || read_facts(descriptor->fd, "", &descriptor->facts).failed()) return false;
  descriptor->status_flags = static_cast<std::uint32_t>(flags.value());
  descriptor->is_leased = false;
  descriptor->fdinfo[0] = '\0';
  descriptor->serial = 0;
  if (!sys::read_link(sys::descriptor_path(descriptor->fd).c_str(), descriptor->path, sizeof(descriptor->path))) return false;
  if (!sys::equal(descriptor->path, "anon_inode:[eventfd]")) return true;
  if (read_fdinfo(descriptor->fd, descriptor->fdinfo)) find_field(descriptor->fdinfo, "eventfd-id:", 10, &descriptor->serial);
  return true;
}

// The description behind the descriptor at hand; nullptr: refused, or the index is full.
DescriptionRecord* find_or_add_description(Collector* collector, Listing* listing) {
  Descriptor* descriptor = listing->descriptor;
  if (!read_descriptor(descriptor)) {
    refuse_examination(collector, descriptor->fd);
    return nullptr;
  }
  std::uint32_t* place = find_description(*collector, *descriptor, listing);
  if (*place != 0) return listing->known[*place - 1].record;
  if (listing->count == listing->capacity) {
    collector->refuse().add("it has more than ").add_number(listing->capacity).add(" files open");
    return nullptr;
  }
  DescriptionRecord* record =
      add_description(collector, descriptor, description_id(collector->member, descriptor->fd), listing->state_room);
  if (record == nullptr) return nullptr;
  listing->known[listing->count++] = {descriptor->fd, descriptor->facts, descriptor->serial, record, 0, 0};
  *place = listing->count;
  return record;
}

// `published`: what a member has told the others of it; nullptr: the process is alone.
bool collect_descriptor(Collector* collector, Listing* listing, const format::OpenEntry* published) {
  const Descriptor* descriptor = listing->descriptor;
  std::uint32_t id = published == nullptr ? 0 : find_elsewhere(*collector, *published);
  bool has_own_locks = id != 0 && (published->mode & kTypeMask) == kRegular;
  if (id == 0) {
    const DescriptionRecord* record = find_or_add_description(collector, listing);
    if (record == nullptr) return collector->code == 0;  // index full: noticed at the end
    id = record->id;
    has_own_locks = record->kind == DescriptionKind::kMemFd;
  }
  if (has_own_locks) collect_process_locks(collector, descriptor->fd);
  const auto flags = sys::call(__NR_fcntl, descriptor->fd, F_GETFD);
  auto* entry = collector->add_record<format::DescriptorRecord>(format::RecordType::kDescriptor);
  if (entry != nullptr) *entry = {descriptor->fd, id, static_cast<std::uint32_t>(flags.value()), 0};
  return true;
}

bool settle_kinds(Collector* collector, Open* known, unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    for (const DescriptorKind& kind : kKinds) {
      if (kind.kind == known[i].record->kind && kind.settle != nullptr && !kind.settle(collector, &known[i], known, count))
        return false;
    }
  }
  return true;
}

bool list_published(Collector* collector, Listing* listing) {
  while (const format::OpenEntry* entry = next_published(collector)) {
    listing->descriptor->fd = entry->fd;
    if (!collect_descriptor(collector, listing, entry)) return false;
  }
  return true;
}

bool list_descriptors(Collector* collector, Listing* listing) {
  if (collector->session != nullptr) return list_published(collector, listing);
  char buffer[1024];
  sys::NumberDirectory descriptors("/proc/thread-self/fd", buffer);
  if (!descriptors.is_open()) {
    collector->refuse(kCodeFailed).add("its descriptors can't be listed: no descriptor is left");
    return false;
  }
  for (int fd = descriptors.next(); fd >= 0; fd = descriptors.next()) {
    if (fd == descriptors.fd()) continue;
    listing->descriptor->fd = fd;
    if (!collect_descriptor(collector, listing, nullptr)) return false;
  }
  return true;
}

// nullptr: no memory.
Listing* take_listing(Arena* arena) {
  const std::size_t room = arena->left() / 4 / sizeof(Open);
  auto* listing = arena->take_array<Listing>(1);
  if (listing == nullptr) return nullptr;
  listing->capacity = room < kMaxDescriptions ? static_cast<unsigned>(room) : kMaxDescriptions;
  listing->known = arena->take_array<Open>(listing->capacity);
  listing->roots = arena->take_array<std::uint32_t>(kRoots);
  listing->descriptor = arena->take_array<Descriptor>(1);
  listing->state_room = arena->take(kMaxState);
  listing->taken = arena->take_array<Taken>(listing->capacity + 1);
  const bool has_all = listing->known != nullptr && listing->roots != nullptr && listing->descriptor != nullptr &&
                       listing->state_room != nullptr && listing->taken != nullptr;
  return has_all ? listing : nullptr;
}

bool is_missed_in_flight(Collector* collector, const Descriptor& descriptor, DescriptionKind kind) {
  const bool is_pipe = kind == DescriptionKind::kPipe || kind == DescriptionKind::kFifo;
  if (!is_pipe && kind != DescriptionKind::kUnixSocket) return false;
  const bool is_writer = is_pipe && (descriptor.status_flags & O_ACCMODE) == O_WRONLY;
  return misses_other_end(collector, EndPlace::kInFlight, descriptor.facts.inode, is_writer);
}

}  // namespace

DescriptionRecord* describe_taken(Collector* collector, Listing* listing, const Taken& taken, bool* is_new) {
  sys::Fd own(taken.fd);
  const unsigned count = listing->count;
  listing->descriptor->fd = taken.fd;
  listing->taken[listing->taken_count++] = taken;
  DescriptionRecord* record = find_or_add_description(collector, listing);
  *is_new = record != nullptr && listing->count != count;
  if (*is_new) {
    own.release();
  } else {
    --listing->taken_count;  // refused, or known already
  }
  return record;
}

bool postpone_end(Collector* collector, int fd) {
  refuse_descriptor(collector, fd).add(": its other end is in flight (SCM_RIGHTS) between processes of the job; try again");
  return collector->postpone();
}

DescriptionRecord* describe_in_flight(Collector* collector, Listing* listing, int fd, int socket) {
  // Above the standard streams, for it is none.
  const auto above = sys::call(__NR_fcntl, fd, F_DUPFD_CLOEXEC, 3);
  sys::close(fd);
  bool is_new = false;
  DescriptionRecord* record = describe_taken(collector, listing, {static_cast<int>(above.value()), socket, 0}, &is_new);
  if (record != nullptr && is_new && is_missed_in_flight(collector, *listing->descriptor, record->kind)) {
    postpone_end(collector, listing->descriptor->fd);
    return nullptr;
  }
  // Messages are made before there are processes.
  const bool is_early = is_new && (record->kind == DescriptionKind::kEpoll ||
                                   (record->kind == DescriptionKind::kPidFd && collector->session != nullptr));
  if (!is_early) return record;
  refuse_descriptor(collector, *listing->descriptor)
      .add(record->kind == DescriptionKind::kEpoll ? "an epoll descriptor" : "a pidfd")
      .add(" in flight (SCM_RIGHTS) can't be saved; try again");
  return nullptr;
}

Message& refuse_descriptor(Collector* collector, int fd) {
  Message& message = collector->refuse();
  const Listing* listing = collector->listing;
  for (unsigned i = 0; listing != nullptr && i < listing->taken_count; ++i) {
    const Taken& taken = listing->taken[i];
    if (taken.fd != fd) continue;
    fd = taken.from;
    if (taken.tid != 0) {
      message.add("thread ").add_signed(taken.tid).add(", ");
      break;
    }
    message.add("a descriptor in flight to ");
    i = ~0U;  // that one may be in flight itself
  }
  return message.add("descriptor ").add_signed(fd);
}

Message& refuse_descriptor(Collector* collector, const Descriptor& descriptor) {
  return refuse_descriptor(collector, descriptor.fd).add(" (").add(descriptor.path).add("): ");
}

bool refuse_examination(Collector* collector, int fd) {
  collector->refuse(kCodeFailed).add("descriptor ").add_signed(fd).add(" can't be examined");
  return false;
}

std::uint8_t* state_of(DescriptionRecord* record) {
  return reinterpret_cast<std::uint8_t*>(record + 1) + format::align_up(record->path_size, 8);
}

sys::ProcPath path_of_fdinfo(int fd) {
  sys::ProcPath path;
  path.add("/proc/thread-self/fdinfo/").add_signed(fd);
  return path;
}

bool read_fdinfo(int fd, std::span<char> text) {
  return !sys::read_file(path_of_fdinfo(fd).c_str(), text.data(), text.size()).failed();
}

bool find_field(const char* fdinfo, const char* name, int base, std::uint64_t* value) {
  for (const char* at = fdinfo; *at != '\0'; ++at) {
    if ((at != fdinfo && at[-1] != '\n') || !sys::starts_with(at, name)) continue;
    at += strlen(name);
    sys::skip_spaces(&at);
    *value = base == 16 ? sys::parse_hex(&at) : sys::parse_decimal(&at);
    return true;
  }
  return false;
}

bool collect_files(Collector* collector) {
  auto* listing = take_listing(collector->arena);
  if (listing == nullptr) {
    collector->refuse(kCodeFailed).add("its descriptors can't be listed: no memory");
    return false;
  }
  collector->listing = listing;
  const bool is_done = list_descriptors(collector, listing) && collect_tables(collector, listing) &&
                       keep_unix_queues(collector, listing) && settle_pipes(collector, listing->known, listing->count) &&
                       settle_terminals(collector, listing->known, listing->count) &&
                       settle_kinds(collector, listing->known, listing->count);
  collect_queue_notifications(collector);
  return is_done;
}

void close_taken(Collector* collector) {
  const Listing* listing = collector->listing;
  for (unsigned i = 0; listing != nullptr && i < listing->taken_count; ++i) sys::close(listing->taken[i].fd);
  collector->listing = nullptr;
}

}  // namespace ckpt
