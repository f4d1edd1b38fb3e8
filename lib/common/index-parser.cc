// One function a kind of record, called through a table. Each checks what can be checked within the record; index-check.cc does the
// rest when all records are there.
#include "lib/common/index-parser.h"

#include <fcntl.h>
#include <signal.h>

#include <cstring>
#include <string>

#include "lib/common/index-check.h"
#include "lib/common/index-payload.h"
#include "lib/common/shown-numbers.h"

namespace ckpt {
namespace {

using format::RecordType;

template <std::size_t N>
bool is_terminated(const char (&text)[N]) {
  return strnlen(text, N) < N;
}

template <typename T>
T take_only(Payload& payload) {
  const T record = payload.take<T>();
  payload.expect_end();
  return record;
}

struct Parser {
  JobImage& image;
  bool has_job = false;
  bool has_frames = false;
  // Of the process being read: records that it must have once.
  bool has_layout = false;
  bool has_runtime = false;
  bool has_clocks = false;

  ProcessImage& process() { return image.processes.back(); }
  void end_process() const {
    if (image.processes.empty()) return;
    require(has_layout && has_runtime && has_clocks, "has a process without its memory layout, runtime or clocks");
  }
};

void claim_once(bool& flag) {
  require(!flag, "comes twice");
  flag = true;
}

void parse_job(Parser& parser, Payload& payload) {
  claim_once(parser.has_job);
  auto& job = parser.image.job;
  job = take_only<format::JobRecord>(payload);
  const auto& settings = job.settings;
  require(is_terminated(settings.directory) && is_terminated(settings.job_name) && is_terminated(settings.file),
          "has a string without its end");
  const auto& saved = settings.saved_paths;
  require(saved[sizeof saved - 1] == '\0' && saved[sizeof saved - 2] == '\0', "has a string without its end");
  require(settings.codec <= format::Codec::kZstd, "names an unknown codec");
  require(settings.public_signal <= 64, "names an unknown signal");
}

void parse_frames(Parser& parser, Payload& payload) {
  claim_once(parser.has_frames);
  parser.image.frames = payload.take_rest<format::Frame>();
  check_frames(parser.image);
}

std::vector<std::string> split_arguments(std::span<const std::byte> bytes) {
  std::vector<std::string> arguments;
  const auto* text = reinterpret_cast<const char*>(bytes.data());
  // A program that writes over its argv may leave the last NUL out.
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t length = strnlen(text + at, bytes.size() - at);
    arguments.emplace_back(text + at, length);
    at += length + 1;
  }
  return arguments;
}

void parse_process(Parser& parser, Payload& payload) {
  parser.end_process();
  parser.has_layout = parser.has_runtime = parser.has_clocks = false;
  ProcessImage& process = parser.image.processes.emplace_back();
  process.process = payload.take<format::ProcessRecord>();
  const auto& record = process.process;
  require(record.pid > 0, "has an impossible pid");
  require(record.umask <= 0777, "has an impossible umask");
  require(is_terminated(record.name), "has a string without its end");
  process.cwd = payload.take_string(record.string_sizes[0]);
  process.root = payload.take_string(record.string_sizes[1]);
  process.executable = payload.take_string(record.string_sizes[2]);
  process.arguments = split_arguments(payload.take_bytes(record.string_sizes[3]));
  payload.expect_end();
}

void parse_layout(Parser& parser, Payload& payload) {
  claim_once(parser.has_layout);
  auto& process = parser.process();
  process.layout = payload.take<format::MemoryLayoutRecord>();
  const auto& l = process.layout;
  for (const std::uint64_t address : {l.start_code, l.end_code, l.start_data, l.end_data, l.start_brk, l.brk, l.start_stack,
                                      l.arg_start, l.arg_end, l.env_start, l.env_end}) {
    require(address < kAddressLimit, "has an address outside user memory");
  }
  require(l.auxv_size % 16 == 0, "has an auxiliary vector of an odd size");
  const auto auxv = payload.take_bytes(l.auxv_size);
  process.auxv.assign(auxv.begin(), auxv.end());
  payload.expect_end();
}

bool is_page_aligned(std::uint64_t value) { return value % format::kPageSize == 0; }

void parse_area(Parser& parser, Payload& payload) {
  constexpr unsigned kKnownFlags = (unsigned{format::kMayWrite} << 1) - 1;
  auto& areas = parser.process().areas;
  const auto record = payload.take<format::AreaRecord>();
  require(is_page_aligned(record.start) && is_page_aligned(record.end) && is_page_aligned(record.offset),
          "is not on a page border");
  require(record.start < record.end && record.end <= kAddressLimit, "lies outside user memory");
  require(record.offset <= INT64_MAX - (record.end - record.start), "lies outside its file");
  require(areas.empty() || areas.back().record.end <= record.start, "overlaps the one before it");
  require(record.kind >= format::AreaKind::kAnonymous && record.kind <= format::AreaKind::kAioRing, "is of an unknown kind");
  require(record.protection <= 7, "has an unknown protection");
  require((record.flags & ~kKnownFlags) == 0 && (record.marks & ~format::kKnownMarks) == 0, "has unknown flags");
  const bool is_of_pool = (record.marks & format::kReservedPool) != 0 && record.kind == format::AreaKind::kAnonymous;
  require(!is_of_pool || (record.offset != 0 && (record.offset & (record.offset - 1)) == 0), "has pages of an impossible size");
  areas.push_back({record, payload.take_string(record.name_size)});
  payload.expect_end();
}

void parse_aio_ring(Parser& parser, Payload& payload) {
  const auto record = payload.take<format::AioRingRecord>();
  require(record.has_context <= 1, "has an unknown mark");
  parser.process().aio_rings.push_back({record, payload.take_array<format::AioEvent>(record.event_count)});
  payload.expect_end();
}

void parse_mapped_file(Parser& parser, Payload& payload) {
  const auto record = payload.take<format::MappedFileRecord>();
  require(record.is_executable <= 1, "has an unknown mark");
  parser.process().files.push_back({record, payload.take_string(record.path_size)});
  payload.expect_end();
}

void parse_object(Parser& parser, Payload& payload) {
  const auto record = payload.take<format::MemoryObjectRecord>();
  require(record.kind >= format::ObjectKind::kAnonymous && record.kind <= format::ObjectKind::kSegment, "is of an unknown kind");
  require(record.size <= INT64_MAX, "has an impossible size");
  require(record.mode <= 07777, "has an impossible mode");
  require(record.page_shift == 0 ||
              (record.kind == format::ObjectKind::kMemoryFile && record.page_shift >= 12 && record.page_shift < 40),
          "has impossible pages");
  parser.process().objects.push_back({record, payload.take_string(record.path_size)});
  payload.expect_end();
}

void parse_locks(Parser& parser, Payload& payload) { parser.process().locks = take_only<format::MemoryLocksRecord>(payload); }

void parse_extents(Parser& parser, Payload& payload) {
  auto& extents = parser.process().extents;
  const auto more = payload.take_rest<format::Extent>();
  extents.insert(extents.end(), more.begin(), more.end());
}

void parse_thread(Parser& parser, Payload& payload) {
  const auto record = take_only<format::ThreadRecord>(payload);
  require(record.tid > 0, "has an impossible tid");
  require(record.is_main <= 1, "has an unknown mark");
  require(is_terminated(record.name), "has a string without its end");
  parser.process().threads.push_back(record);
}

void parse_runtime(Parser& parser, Payload& payload) {
  claim_once(parser.has_runtime);
  parser.process().runtime = take_only<format::RuntimeRecord>(payload);
}

void parse_action(Parser& parser, Payload& payload) {
  const auto record = take_only<format::SignalActionRecord>(payload);
  require(record.signal >= 1 && record.signal <= 64, "names an unknown signal");
  for (const auto& other : parser.process().actions) require(other.signal != record.signal, "comes twice for one signal");
  parser.process().actions.push_back(record);
}

void parse_pending(Parser& parser, Payload& payload) {
  parser.process().pending.push_back(take_only<format::PendingSignalRecord>(payload));
}

void parse_description(Parser& parser, Payload& payload) {
  const auto record = payload.take<format::DescriptionRecord>();
  require(record.kind >= format::DescriptionKind::kRegular && record.kind <= format::kLastDescriptionKind, "is of an unknown kind");
  require(record.stream >= -1 && record.stream <= 2, "names an unknown stream");
  require(record.tail_mib <= format::kMaxTailMib, "has an impossible tail");
  require(record.policy <= format::FilePolicy::kSaved, "has an unknown policy");
  require(record.offset <= INT64_MAX && record.size <= INT64_MAX, "has an impossible size");
  Description description{record, payload.take_string(record.path_size), {}};
  for (std::uint64_t at = record.path_size; at < format::align_up(record.path_size, 8); ++at) {
    require(payload.take<std::byte>() == std::byte{0}, "has padding that is not zero");
  }
  const auto state = payload.take_bytes(record.state_size);
  description.state.assign(state.begin(), state.end());
  parser.process().descriptions.push_back(std::move(description));
  payload.expect_end();
}

void parse_descriptor(Parser& parser, Payload& payload) {
  const auto record = take_only<format::DescriptorRecord>(payload);
  require(record.fd >= 0, "has an impossible number");
  require(record.flags <= 1 && record.is_for_thread <= 1, "has unknown flags");
  parser.process().descriptors.push_back(record);
}

void parse_queue_notification(Parser& parser, Payload& payload) {
  const auto record = take_only<format::QueueNotificationRecord>(payload);
  require(record.kind == SIGEV_SIGNAL || record.kind == SIGEV_NONE, "is of an unknown kind");
  parser.process().notifications.push_back(record);
}

void parse_process_lock(Parser& parser, Payload& payload) {
  const auto record = take_only<format::ProcessLockRecord>(payload);
  require(record.lock.kind == format::LockKind::kProcess, "is of an unknown kind");
  require(record.lock.type == F_RDLCK || record.lock.type == F_WRLCK, "is neither for reading nor for writing");
  parser.process().process_locks.push_back(record);
}

void parse_thread_descriptor(Parser& parser, Payload& payload) {
  const auto record = take_only<format::ThreadDescriptorRecord>(payload);
  auto& all = parser.process().thread_descriptors;
  require(record.fd >= -1 && record.fd < INT32_MAX && record.source >= -1 && record.flags <= 1, "has an impossible number");
  const bool is_next = all.empty() || all.back().tid != record.tid ? record.fd == -1 : record.fd > all.back().fd;
  require(is_next, "comes in the wrong order");
  all.push_back(record);
}

void parse_content(Parser& parser, Payload& payload) {
  const auto record = payload.take<format::FileContentRecord>();
  require(record.size <= INT64_MAX, "has an impossible size");
  parser.process().contents.push_back({record.size, payload.take_array<format::ContentExtent>(record.extent_count)});
  payload.expect_end();
}

void parse_clone(Parser& parser, Payload& payload) {
  const auto record = take_only<format::FileCloneRecord>(payload);
  require(parser.process().clones.insert(record.description).second, "comes twice");
}

void parse_zombie(Parser& parser, Payload& payload) {
  const auto record = take_only<format::ZombieRecord>(payload);
  require(record.pid > 0, "has an impossible pid");
  parser.process().zombies.push_back(record);
}

void parse_number(Parser& parser, Payload& payload) {
  const auto record = take_only<format::NumberPair>(payload);
  require(record.shown > 0 && record.real > 0, "has an impossible number");
  parser.process().numbers.push_back(record);
}

void parse_saved(Parser& parser, Payload& payload) {
  const auto record = payload.take<format::SavedFileRecord>();
  require(record.is_root <= 1, "has an unknown mark");
  require(record.size <= INT64_MAX, "has an impossible size");
  SavedFile file{record, payload.take_string(record.path_size), payload.take_string(record.target_size)};
  require(!file.path.empty() && file.path.front() == '/', "has no absolute path");
  require((file.path + "/").find("/../") == std::string::npos, "has a path that leads out of its folder");
  parser.process().saved.push_back(std::move(file));
  payload.expect_end();
}

void parse_timer(Parser& parser, Payload& payload) {
  const auto record = take_only<format::IntervalTimerRecord>(payload);
  require(record.which <= 2, "is of an unknown kind");
  require(record.interval_us >= 0 && record.left_us >= 0, "has a negative time");
  for (const auto& other : parser.process().timers) require(other.which != record.which, "comes twice");
  parser.process().timers.push_back(record);
}

void parse_posix_timer(Parser& parser, Payload& payload) {
  const auto record = take_only<format::PosixTimerRecord>(payload);
  require(record.id >= 0 && record.tid >= 0, "has an impossible number");
  require(record.signal >= 0 && record.signal <= 64, "names an unknown signal");
  require(record.interval_ns >= 0 && record.left_ns >= 0, "has a negative time");
  for (const auto& other : parser.process().posix_timers) require(other.id != record.id, "comes twice");
  parser.process().posix_timers.push_back(record);
}

void parse_clocks(Parser& parser, Payload& payload) {
  claim_once(parser.has_clocks);
  parser.process().clocks = take_only<format::ClocksRecord>(payload);
  const auto& clocks = parser.process().clocks;
  require(clocks.monotonic_ns >= 0 && clocks.boottime_ns >= 0, "has a negative time");
}

void parse_limit(Parser& parser, Payload& payload) {
  const auto record = take_only<format::LimitRecord>(payload);
  require(record.resource < 16, "names an unknown resource");
  require(record.soft <= record.hard, "has a soft limit above the hard one");
  parser.process().limits.push_back(record);
}

void parse_thread_state(Parser& parser, Payload& payload) {
  const auto record = take_only<format::ThreadStateRecord>(payload);
  require(record.parent_death_signal >= 0 && record.parent_death_signal <= 64, "names an unknown signal");
  require(record.is_pinned <= 1, "has an unknown mark");
  parser.process().thread_states.push_back(record);
}

void parse_thread_folder(Parser& parser, Payload& payload) {
  const auto record = payload.take<format::ThreadFolderRecord>();
  require(record.umask <= 0777, "has an impossible umask");
  parser.process().thread_folders.push_back({record, payload.take_string(record.path_size)});
  payload.expect_end();
}

void parse_process_state(Parser& parser, Payload& payload) {
  auto& process = parser.process();
  require(!process.has_state, "comes twice");
  process.has_state = true;
  process.state = payload.take<format::ProcessStateRecord>();
  process.groups = payload.take_array<std::uint32_t>(process.state.group_count);
  payload.expect_end();
}

void check_system_v(const format::SystemVObject& object) {
  require(object.id >= 0, "has an impossible id");
  require((object.mode & ~(0777U | format::kRemoved | format::kLockedSegment)) == 0, "has an impossible mode");
}

void parse_segment(Parser& parser, Payload& payload) {
  const auto record = take_only<format::SegmentRecord>(payload);
  check_system_v(record.object);
  require(record.size > 0 && record.size <= kAddressLimit, "has an impossible size");
  parser.process().segments.push_back(record);
}

void parse_semaphore_set(Parser& parser, Payload& payload) {
  const auto record = payload.take<format::SemaphoreSetRecord>();
  check_system_v(record.object);
  require(record.was_used <= 1, "has an unknown mark");
  SemaphoreSet set{record, payload.take_array<std::uint16_t>(record.count)};
  require(!set.values.empty(), "is empty");
  for (const std::uint16_t value : set.values) require(value <= 32767, "has an impossible value");
  parser.process().semaphore_sets.push_back(std::move(set));
  payload.expect_end();
}

void parse_semaphore_undo(Parser& parser, Payload& payload) {
  const auto record = take_only<format::SemaphoreUndoRecord>(payload);
  require(record.adjustment >= -32768 && record.adjustment <= 32767, "has an impossible value");
  parser.process().semaphore_undos.push_back(record);
}

void parse_message_queue(Parser& parser, Payload& payload) {
  const auto record = take_only<format::MessageQueueRecord>(payload);
  check_system_v(record.object);
  parser.process().message_queues.push_back(record);
}

struct RecordKind {
  RecordType type;
  std::uint16_t version;  // the newest that this reader knows
  const char* name;
  void (*parse)(Parser&, Payload&);
};

constexpr RecordKind kKinds[] = {
    {RecordType::kJob, 1, "job", parse_job},
    {RecordType::kFrames, 1, "frames", parse_frames},
    {RecordType::kProcess, 1, "process", parse_process},
    {RecordType::kMemoryLayout, 1, "memory layout", parse_layout},
    {RecordType::kArea, 1, "area", parse_area},
    {RecordType::kMappedFile, 1, "mapped file", parse_mapped_file},
    {RecordType::kExtents, 1, "extents", parse_extents},
    {RecordType::kThread, 1, "thread", parse_thread},
    {RecordType::kRuntime, 1, "runtime", parse_runtime},
    {RecordType::kSignalAction, 1, "signal action", parse_action},
    {RecordType::kPendingSignal, 1, "pending signal", parse_pending},
    {RecordType::kDescription, 1, "open file", parse_description},
    {RecordType::kDescriptor, 1, "descriptor", parse_descriptor},
    {RecordType::kProcessLock, 1, "lock of a process", parse_process_lock},
    {RecordType::kFileContent, 1, "file content", parse_content},
    {RecordType::kFileClone, 1, "file beside the image", parse_clone},
    {RecordType::kIntervalTimer, 1, "interval timer", parse_timer},
    {RecordType::kClocks, 1, "clocks", parse_clocks},
    {RecordType::kLimit, 1, "limit", parse_limit},
    {RecordType::kZombie, 1, "zombie", parse_zombie},
    {RecordType::kNumber, 1, "number", parse_number},
    {RecordType::kSavedFile, 1, "saved file", parse_saved},
    {RecordType::kPosixTimer, 1, "POSIX timer", parse_posix_timer},
    {RecordType::kThreadState, 1, "state of a thread", parse_thread_state},
    {RecordType::kThreadFolder, 1, "folder of a thread", parse_thread_folder},
    {RecordType::kThreadDescriptor, 1, "descriptor of a thread", parse_thread_descriptor},
    {RecordType::kProcessState, 1, "state of a process", parse_process_state},
    {RecordType::kMemoryLocks, 1, "memory locks", parse_locks},
    {RecordType::kMemoryObject, 1, "memory object", parse_object},
    {RecordType::kSegment, 1, "System V shared memory", parse_segment},
    {RecordType::kSemaphoreSet, 1, "System V semaphore set", parse_semaphore_set},
    {RecordType::kSemaphoreUndo, 1, "undo of a semaphore", parse_semaphore_undo},
    {RecordType::kMessageQueue, 1, "System V message queue", parse_message_queue},
    {RecordType::kAioRing, 1, "ring of Linux AIO", parse_aio_ring},
    {RecordType::kQueueNotification, 1, "notification of a message queue", parse_queue_notification},
};

const RecordKind& find_kind(const format::RecordHeader& header, std::size_t number) {
  for (const RecordKind& kind : kKinds) {
    if (kind.type != static_cast<RecordType>(header.type)) continue;
    if (header.version >= 1 && header.version <= kind.version) return kind;
    throw BadIndex("record " + std::to_string(number) + " (" + kind.name + ") has version " + std::to_string(header.version) +
                   ", which this ckpt does not know");
  }
  throw BadIndex("record " + std::to_string(number) + " is of type " + std::to_string(header.type) +
                 ", which this ckpt does not know");
}

bool needs_process(RecordType type) {
  return type != RecordType::kJob && type != RecordType::kFrames && type != RecordType::kProcess;
}

void parse_record(Parser& parser, const RecordKind& kind, std::span<const std::byte> bytes, std::size_t number) {
  try {
    require((number == 0) == (kind.type == RecordType::kJob), "is not where it belongs");
    if (needs_process(kind.type)) require(!parser.image.processes.empty(), "belongs to no process");
    Payload payload(bytes);
    kind.parse(parser, payload);
  } catch (const BadIndex& error) {
    throw BadIndex("record " + std::to_string(number) + " (" + kind.name + ") " + error.what());
  }
}

}  // namespace

void parse_index(std::span<const std::byte> index, JobImage& image) {
  Parser parser{image};
  std::size_t number = 0;
  for (std::size_t at = 0; at < index.size(); ++number) {
    format::RecordHeader header;
    if (index.size() - at < sizeof header) throw BadIndex("it ends inside a record");
    std::memcpy(&header, index.data() + at, sizeof header);
    at += sizeof header;
    const std::uint64_t padded = format::align_up(header.length, 8);
    if (padded > index.size() - at) throw BadIndex("record " + std::to_string(number) + " is longer than the index");
    for (std::uint64_t i = header.length; i < padded; ++i) {
      if (index[at + i] != std::byte{0}) throw BadIndex("record " + std::to_string(number) + " has padding that is not zero");
    }
    parse_record(parser, find_kind(header, number), index.subspan(at, header.length), number);
    at += padded;
  }
  if (!parser.has_job || !parser.has_frames || image.processes.empty()) throw BadIndex("it has no job, no frames or no process");
  parser.end_process();
  check_references(image);
  show_old_numbers(image);
}

}  // namespace ckpt
