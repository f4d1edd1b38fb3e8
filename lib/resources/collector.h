// The collect side of every resource kind: what each writes its records into. Freestanding; in the leader, all threads standing.
//
// A kind is one function here, one record.h, one rebuild; the table in lib/runtime/process-save.cc lists them in order. Each either
// adds its records, or refuses with one line that names process, object and reason. Nothing of the program is changed.
#pragma once

#include <span>

#include "lib/format/control.h"
#include "lib/format/image.h"
#include "lib/format/numbers.h"
#include "lib/format/session.h"
#include "lib/resources/files/record.h"
#include "lib/resources/memory/record.h"
#include "lib/resources/mqueue/record.h"
#include "lib/resources/process/record.h"
#include "lib/sys/arena.h"
#include "lib/sys/file-facts.h"
#include "lib/sys/proc-file.h"
#include "lib/sys/signals.h"
#include "lib/sys/text.h"

namespace ckpt {

using Message = sys::Text<1024>;

// Exit codes that a refusal can carry (docs: CONVENTIONS; lib/common/exit-codes.h has all).
inline constexpr int kCodeFailed = 1;
inline constexpr int kCodeUnsupported = 1;
inline constexpr int kCodeBusy = 75;

struct Range {
  std::uint64_t begin;
  std::uint64_t end;
};

// Bytes of a file that were copied while everything stood; the writer puts them into frames. Holes stay holes.
struct KeptPiece {
  const std::uint8_t* data;
  std::uint64_t offset;  // in the file
  std::uint64_t size;
};
struct KeptContent {
  std::uint64_t device, inode;
  std::uint64_t size;  // of the file
  std::uint32_t first_piece;
  std::uint32_t piece_count;
};

struct CollectedFile {
  format::MappedFileRecord* record;  // in the index; the writer fills in the hash
  const char* path;
  bool is_library;  // executable code: its bytes are kept
  bool is_written;  // through a shared mapping
};

// All unix sockets of the network namespace, once many were asked for (lib/resources/sockets/collect-unix-diag.cc).
struct UnixSockets {
  unsigned asked = 0;
  std::uint32_t count = 0;
  std::uint32_t places = 0;        // a power of two
  std::uint32_t* place = nullptr;  // index and one; 0: free
  const void* first = nullptr;
};

// A memory object and the ways to its bytes. They are copied when all areas and descriptors are known.
struct CollectedObject {
  std::uint64_t device, inode;
  format::ObjectKind kind;
  const char* path;
  int fd;                   // a descriptor of the program that leads to it, or −1
  std::uint64_t address;    // of the area that maps it from the lowest offset on; 0: none
  std::uint64_t offset;     // … in the object
  std::uint64_t end;        // of what is mapped, in the object
  std::uint64_t page_size;  // of the reserved pool; 0: of none
};

// A private mapping of a file that can't be found by its name. Something else may lead to it.
struct GoneMapping {
  format::AreaRecord* area;
  std::uint64_t device, inode;
  std::uint64_t offset;
};

// Memory that a fork leaves out, copied beforehand: the writer moves the copy to where it belongs.
struct StandIn {
  std::uint64_t address, copy, size;
};

inline constexpr std::uint64_t kMaxKeptFile = 64U << 20;  // bytes of a written file that is not asked for by --save
inline constexpr unsigned kMaxMemoryObjects = 4096;
inline constexpr unsigned kMaxMappedFiles = 4096;
inline constexpr unsigned kMaxGoneMappings = 4096;
inline constexpr unsigned kMaxTails = 1024;
inline constexpr unsigned kMaxContents = 1U << 20;
inline constexpr unsigned kMaxPieces = 1U << 20;
inline constexpr unsigned kMaxChunksOfCopies = 4096;

inline constexpr unsigned kMaxAlone = 256;

struct Listing;  // lib/resources/files

// Limits that would leave no room for a checkpoint, as the program has them: for as long as that lasts they are raised.
struct SoftLimits {
  static constexpr unsigned kResources[] = {2, 9};  // RLIMIT_DATA, RLIMIT_AS
  std::uint64_t soft[2];
  bool is_raised[2];
};

struct Collector {
  int pid;
  const char* control_path;
  Range scratch;  // ours, not the program's
  Arena* arena;
  Buffer index;
  Message* message;
  int code = 0;
  bool may_be_helped = false;  // the trigger may open the image for us (HelpGrant in lib/format/control.h)

  // For the writer.
  format::AreaRecord** areas = nullptr;  // in order of address, in the index
  unsigned area_count = 0;
  unsigned area_capacity = 0;
  bool has_locked_memory = false;     // mlock(2)
  bool must_stand_for_flags = false;  // an earlier writer did not find all areas as they were
  bool has_flags = false;             // of all areas, already
  GoneMapping* gone = nullptr;
  unsigned gone_count = 0;
  StandIn* stand_ins = nullptr;
  unsigned stand_in_count = 0;
  unsigned file_count = 0;
  unsigned tail_count = 0;
  KeptContent* contents = nullptr;
  unsigned object_count = 0;
  unsigned content_count = 0;
  KeptPiece* pieces = nullptr;
  unsigned piece_count = 0;
  unsigned chunk_count = 0;
  std::uint64_t copy_next = 0, copy_left = 0;  // in the last chunk
  std::uint64_t copied = 0, copy_limit = 0;    // bytes of all chunks
  format::Session* session = nullptr;          // with the other processes of the job; nullptr: there are none
  int session_fd = -1;
  std::uint32_t member = 0;              // place in the session
  std::uint32_t next_entry = 0;          // of what all members have open: up to here, this one's have been collected
  void* errand_stack = nullptr;          // of `apart`
  const char* clone_folder = "";         // where clone_file() puts them; empty: no file is cloned
  const char* saved_paths = nullptr;     // of --save; each NUL-terminated, an empty one at the end
  siginfo_t* process_signals = nullptr;  // taken out; to be queued again
  unsigned process_signal_count = 0;
  std::uint32_t launch_filters = 0;                                // ControlPage::seccomp_filters
  std::uint64_t own_ipc_namespace = 0;                             // ControlPage::ipc_namespace
  format::Translation translation{};                               // images tell the program's times
  const std::uint64_t* launch_namespaces = nullptr;                // ControlPage::namespaces
  std::span<const format::QueueNotificationRecord> notifications;  // that the program has asked for
  std::uint32_t told = 0;                                          // bit n: number n of them is still there
  std::uint32_t dumpable = 1;                                      // PR_GET_DUMPABLE of the program; now it is
  const SoftLimits* limits = nullptr;                              // of the program, while they are raised
  bool is_stopped = false;                                         // by SIGSTOP or job control; it goes on for the checkpoint only
  const format::ProcessRecord* process = nullptr;                  // of this process, once it has been collected
  const sys::StatFile* stat = nullptr;                             // of the calling thread, once the process has been collected
  int* threads = nullptr;                                          // all of them
  unsigned thread_count = 0;
  unsigned alone_count = 0;
  const std::uint64_t* online_cpus = nullptr;  // lib/resources/threads

  UnixSockets unix_sockets;
  const Listing* listing = nullptr;       // once descriptors are being collected
  std::uint64_t* locked_files = nullptr;  // lib/resources/files: inodes
  unsigned locked_file_count = 0;
  bool has_looked_for_locks = false, has_all_locked_files = false;

  // At the end, so that what every checkpoint needs is together in memory.
  CollectedFile files[kMaxMappedFiles];
  format::DescriptionRecord* tails[kMaxTails];  // files whose last bytes the writer hashes
  const char* tail_paths[kMaxTails];
  CollectedObject objects[kMaxMemoryObjects];
  Range chunks[kMaxChunksOfCopies];  // memory that the pieces are in
  int alone[kMaxAlone];              // lib/resources/threads: those with a folder of their own

  // Runs a function in a child that shares memory and has descriptors of its own: where a file is opened and closed here, the
  // program would lose its locks on it (fcntl_locking(2)). False: that of the function, or there was no child.
  bool (*apart)(Collector* collector, bool (*function)(Collector*, void*), void* argument) = nullptr;

  // Adds a record with `extra` bytes behind T; nullptr when the index is full (checked once at the end).
  template <typename T>
  T* add_record(format::RecordType type, std::size_t extra = 0, const void* from = nullptr) {
    const format::RecordHeader header{static_cast<std::uint16_t>(type), 1, static_cast<std::uint32_t>(sizeof(T) + extra)};
    index.add(&header, sizeof(header));
    auto* payload = reinterpret_cast<T*>(index.extend(sizeof(T)));
    std::uint8_t* tail = index.extend(extra);
    if (tail != nullptr && from != nullptr) memcpy(tail, from, extra);
    index.align(8);
    return index.is_full() ? nullptr : payload;
  }

  // Starts the line that says why this program can't be saved as it is; returns false for `return collector->refuse()…`.
  Message& refuse(int exit_code = kCodeUnsupported) {
    code = exit_code;
    message->clear();
    return message->add("process ").add_signed(pid).add(": ");
  }
  // What was just refused passes by itself when the program goes on: the trigger asks again for a while. False, as the rest.
  bool postpone() {
    code = kCodeBusy;
    return false;
  }
};

// Memory for bytes that are kept (collect-contents.cc), `offset` within their file; nullptr: too much for this machine.
std::uint8_t* add_piece(Collector* collector, std::uint64_t offset, std::uint64_t size);
// The last piece turned out to be smaller.
void shorten_piece(Collector* collector, std::uint64_t size);
// Makes a content of the pieces from first_piece on. Returns 1 + its index; 0: no room.
std::uint32_t add_content(Collector* collector, const FileFacts& facts, std::uint64_t size, unsigned first_piece);
// That of the same file, if it is kept already; 0: it is not.
std::uint32_t find_content(const Collector& collector, const FileFacts& facts);
// The whole open file, hole by hole; 0: it can't be read, or there is no memory for it.
std::uint32_t keep_file(Collector* collector, int fd, const FileFacts& facts);
void free_copies(Collector* collector);
// Waits until a file that is written again has another time of modification: file systems take theirs from a clock that ticks.
void await_other_time(std::int64_t modified_ns);

// Runs a function that opens this file and closes it again: apart, where the process holds a lock of fcntl(2) on it, through
// whichever descriptor.
bool keeping_locks(Collector* collector, std::uint64_t inode, bool (*function)(Collector*, void*), void* argument);

// In the writer: logs that processes outside the job have open as well become FilePolicy::kShared (collect-strangers.cc).
void find_shared_logs(Collector* collector);

// What the kernel calls its own objects, by their link in /proc/self/fd; `otherwise` if it has no name here.
const char* name_of_kernel_object(const char* path, const char* otherwise);

// Whether the path is one that --save gave, or below one.
bool is_saved(const Collector& collector, const char* path);

// Large files that the file system keeps by reflink, in a folder (collect-clones.cc); none is there when there are none.
bool clone_file(Collector* collector, int fd, const FileFacts& facts, std::uint32_t description);
// Takes the folder away with all that is in it.
void discard_clones(const char* folder);
// Syncs them, and gives the folder its final name. Returns the error; 0: none.
int keep_clones(const char* folder, const char* name);

// True for the one member of the job that may keep this file's bytes in the image (collect-shared.cc).
bool claim_file(Collector* collector, std::uint64_t device, std::uint64_t inode);

// Whether the process takes part in this checkpoint.
bool is_member(const Collector& collector, int pid);
// One that has ended, and that its parent has not waited for: made again with its parent (collect-children.cc).
bool is_ended_child(const Collector& collector, int pid);

// What is open, for the other processes of the job to see: before anything is collected.
bool publish_descriptors(Collector* collector);
// All signals that some signalfd of this process reads (lib/resources/signalfd): whoever waits there would be handed one of ours.
std::uint64_t signals_read_by_descriptors();

bool collect_process(Collector* collector);
bool collect_children(Collector* collector);
// In the writer: a process or thread that has moved to another namespace since the launch can't be saved.
bool check_namespaces(Collector* collector);
bool collect_saved(Collector* collector);
bool collect_memory(Collector* collector);
bool collect_signals(Collector* collector);
bool collect_files(Collector* collector);
// When everything is collected: what was taken from elsewhere for that.
void close_taken(Collector* collector);
bool collect_timers(Collector* collector);
bool collect_memory_objects(Collector* collector);
bool collect_sysv(Collector* collector);

// A fork would count as one more attachment of System V shared memory, and be noted as its last user.
void hide_segments_from_fork(const Collector& collector, bool is_hidden);

}  // namespace ckpt
