// What the parts of collecting descriptors share: the descriptor at hand, the kinds, and pipes when all are known.
#pragma once

#include <span>

#include "lib/resources/collector.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

// Everything that is known about the descriptor at hand.
struct Descriptor {
  int fd;
  FileFacts facts;
  std::uint32_t status_flags;     // F_GETFL
  char path[format::kPathBytes];  // what /proc/self/fd shows
  bool is_leased;                 // to be opened by nobody: that would break the lease (fcntl(2))
  char fdinfo[512];               // of an eventfd; else empty
  std::uint64_t serial;           // tells an eventfd from all others, which have the same inode (Linux 5.2); 0: nothing does
};

// An open file description, by the first descriptor that leads to it.
struct OpenDescription {
  int fd;
  FileFacts facts;
  std::uint64_t serial;
  format::DescriptionRecord* record;
  std::uint32_t less, more;  // of the tree in which they are found
};

// A kind of descriptor with a place of its own (lib/resources/<kind>): named by how its link in /proc/self/fd begins. `collect`
// fills in the record and adds the kind's state to `state`; false: refused by name. `settle`, where there is one, is called when
// all descriptions are known, and may change the record and the state behind it in place.
struct DescriptorKind {
  const char* link;
  format::DescriptionKind kind;
  bool (*collect)(Collector*, const Descriptor&, format::DescriptionRecord*, Buffer* state);
  bool (*settle)(Collector*, OpenDescription*, OpenDescription* known, unsigned count);
};

bool collect_eventfd(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record, Buffer* state);
bool collect_timerfd(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record, Buffer* state);
bool collect_signalfd(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record, Buffer* state);
bool collect_epoll(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record, Buffer* state);
bool settle_epoll(Collector* collector, OpenDescription* self, OpenDescription* known, unsigned count);
// A name that the file has by now, which once was `path`: looked for in the folder of that one and below, then as for a watch of
// inotify. nullptr: not found.
const char* find_name_of(Collector* collector, const FileFacts& facts, const char* path);
bool collect_inotify(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record, Buffer* state);
bool collect_pidfd(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record, Buffer* state);
bool collect_socket(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record, Buffer* state);

// A descriptor that was in the queue of a unix socket, or is one of a thread's own, and is ours while we collect.
struct Taken {
  int fd;
  int from;  // the descriptor whose queue it is in, or its number in the thread
  int tid;   // of that thread, or 0
};

// All descriptions that are known so far; more turn up in flight, within messages of unix sockets (SCM_RIGHTS).
struct Listing {
  OpenDescription* known;
  unsigned count, capacity;
  std::uint32_t* roots;    // of the trees, by inode; 1 + index, 0: none
  Descriptor* descriptor;  // at hand
  void* state_room;
  Taken* taken;
  unsigned taken_count;
};

// The description behind a descriptor that was taken from elsewhere, and is ours now to close; nullptr: refused by name, or the
// index is full. `is_new`: nothing else is known to lead to it.
format::DescriptionRecord* describe_taken(Collector* collector, Listing* listing, const Taken& taken, bool* is_new);
// What threads have open in tables of their own (collect-tables.cc).
bool collect_tables(Collector* collector, Listing* listing);

// The description behind a descriptor that was in the queue of `socket`, and is ours now to close; nullptr: refused by name, or the
// index is full.
format::DescriptionRecord* describe_in_flight(Collector* collector, Listing* listing, int fd, int socket);
// One end of a pipe or unix socket is only in flight to a member; another member has the other one, and takes it for an end that
// leads outside. Each says so; for the second, this is true. Sockets go by the inode of the end in flight, and do not write.
enum class EndPlace { kOutside, kInFlight };
bool misses_other_end(Collector* collector, EndPlace place, std::uint64_t inode, bool is_writer);
// The refusal then; false.
bool postpone_end(Collector* collector, int fd);
// Keeps what is in all unix sockets, also in those that are in flight themselves.
bool keep_unix_queues(Collector* collector, Listing* listing);
bool settle_unix_socket(Collector* collector, OpenDescription* end, OpenDescription* known, unsigned count);
bool collect_memfd(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record, Buffer* state);
// A POSIX message queue has the link of a file in the root folder.
bool is_message_queue(const Descriptor& descriptor);
bool collect_message_queue(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record, Buffer* state);
// Records of those that were found with the queues.
void collect_queue_notifications(Collector* collector);
bool settle_inet_socket(Collector* collector, OpenDescription* end, OpenDescription* known, unsigned count);

// What is found again by its name (collect-named.cc); owner and signal of O_ASYNC; locks (collect-locks.cc).
bool is_found_by_name(const Descriptor& descriptor);
bool is_made_up(int fd);
// A namespace (/proc/PID/ns): that of the process itself is found again by its name there, which then is the descriptor's path.
bool is_namespace(int fd);
bool collect_namespace(Collector* collector, Descriptor* descriptor, format::DescriptionRecord* record);
bool collect_directory(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record, Buffer* state);
bool collect_path_only(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record);
bool collect_proc_file(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record);
bool collect_owner(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record);
// Whether a file of /proc/PID/fdinfo shows a lock of fcntl(2) that its process holds.
bool has_process_lock(const char* fdinfo);
bool collect_locks(Collector* collector, const Descriptor& descriptor, Buffer* state);
// Whether the process holds a lock of fcntl(2) on this file, through whichever descriptor; true also if that can't be told.
bool may_be_locked(Collector* collector, std::uint64_t inode);
// Those that the process took through a descriptor whose description does not have them: another member's, or a memory file.
void collect_process_locks(Collector* collector, int fd);

// Starts the line that says why a descriptor can't be saved. One that is in flight is named by the socket it is in.
Message& refuse_descriptor(Collector* collector, int fd);
Message& refuse_descriptor(Collector* collector, const Descriptor& descriptor);
// Where not even its file can be seen; false.
bool refuse_examination(Collector* collector, int fd);

// The kind's own state, behind record and path.
std::uint8_t* state_of(format::DescriptionRecord* record);

sys::ProcPath path_of_fdinfo(int fd);
// Reads the file of fdinfo whole, NUL-terminated, and finds the number behind `name` at the start of a line in it.
bool read_fdinfo(int fd, std::span<char> text);
bool find_field(const char* fdinfo, const char* name, int base, std::uint64_t* value);

// Number of a description in the image: by the first descriptor, of the first member, that leads to it.
constexpr std::uint32_t description_id(std::uint32_t member, int fd) { return (member << 20) + static_cast<std::uint32_t>(fd) + 1; }

// What this member has published of its descriptors, one after the other; nullptr: that was the last.
const format::OpenEntry* next_published(Collector* collector);
// The number of a description that an earlier member of the job has as well; 0: none has.
std::uint32_t find_elsewhere(const Collector& collector, const format::OpenEntry& own);
// Whether another process has the same description open.
bool is_open_elsewhere(const Collector& collector, int fd);
// What other members need to know of a TCP or UDP socket to find its other end.
void describe_inet(int fd, format::InetFacts* facts);
// The first open file of another member that fits; nullptr: none does.
const format::OpenEntry* find_open_elsewhere(const Collector& collector, bool (*fits)(const format::OpenEntry&, void*),
                                             void* argument);
bool is_socket(const format::OpenEntry& entry);
// Whether another member has a socket of this inode open.
bool is_open_elsewhere(const Collector& collector, std::uint64_t socket_inode);
// Whether another member has this device open; whether one has the master of this pseudo-terminal.
bool has_device_elsewhere(const Collector& collector, std::uint64_t raw_device);
bool has_terminal_master_elsewhere(const Collector& collector, std::uint32_t number);
// Whether another member holds an end of this pipe or FIFO that is open for the other direction.
bool has_other_end(const Collector& collector, const FileFacts& facts, int direction);

// In a pipe or socket; 0 also where that can't be told.
int unread_bytes(int fd);

// Tells pipes within the process from those that lead outside, and keeps what is in the former.
bool settle_pipes(Collector* collector, OpenDescription* known, unsigned count);

// Tells terminals whose master is open in the job from those that lead outside (lib/resources/terminals).
bool settle_terminals(Collector* collector, OpenDescription* known, unsigned count);

}  // namespace ckpt
