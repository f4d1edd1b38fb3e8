// Checks across records. Each function throws BadIndex with a clause that names the culprit.
#include "lib/common/index-check.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <string>

#include "lib/common/image-reader.h"
#include "lib/common/index-parser.h"

namespace ckpt {
namespace {

using format::AreaKind;
using format::PageKind;

void require(bool condition, const char* what, std::uint64_t which, const char* complaint) {
  if (!condition) throw BadIndex(std::string(what) + " " + std::to_string(which) + " " + complaint);
}

void check_in_frame(const JobImage& image, const char* what, std::uint64_t which, std::uint32_t frame, std::uint64_t offset,
                    std::uint64_t size) {
  require(frame < image.frames.size(), what, which, "points to a frame that does not exist");
  const std::uint64_t raw_size = image.frames[frame].raw_size;
  require(offset <= raw_size && size <= raw_size - offset, what, which, "points outside its frame");
}

bool is_file_backed(AreaKind kind) {
  return kind == AreaKind::kPrivateFile || kind == AreaKind::kSharedReadOnly || kind == AreaKind::kSharedFile;
}

void check_extent(const JobImage& image, const Area& area, const format::Extent& extent, std::size_t number) {
  constexpr std::uint64_t kMostPages = format::kMaxFrameSize / format::kPageSize;
  switch (extent.kind) {
    case PageKind::kZero:
      return;
    case PageKind::kGuard:
      return require(format::has_own_pages(area.record.kind), "extent", number, "is a guard, in memory that can't have one");
    case PageKind::kFile:
      return require(is_file_backed(area.record.kind) || format::is_of_object(area.record.kind), "extent", number,
                     "is of a file, and its area is not");
    case PageKind::kHere:
      require(extent.pages <= kMostPages, "extent", number, "is larger than a frame");
      return check_in_frame(image, "extent", number, extent.frame, extent.frame_offset, extent.pages * format::kPageSize);
    case PageKind::kParent:
      return require(false, "extent", number, "is in a parent image, which this ckpt does not know");
  }
  require(false, "extent", number, "is of an unknown kind");
}

// Areas that the kernel or the restart provides need no pages in the image.
bool may_lack_pages(AreaKind kind) { return (kind >= AreaKind::kVdso && kind <= AreaKind::kControl) || kind == AreaKind::kAioRing; }

// The page map is complete: extents cover each area to its last page, in order, and nothing else.
void check_page_map(const JobImage& image, const ProcessImage& process) {
  const auto& extents = process.extents;
  std::size_t next = 0;
  for (const Area& area : process.areas) {
    const auto& record = area.record;
    const bool has_none = next == extents.size() || extents[next].start != record.start;
    if (has_none && may_lack_pages(record.kind)) continue;
    std::uint64_t at = record.start;
    while (at < record.end) {
      require(next < extents.size(), "extent", next, "is missing");
      const auto& extent = extents[next];
      require(extent.start == at && extent.pages != 0, "extent", next, "is not where the one before it ends");
      require(extent.pages <= (record.end - at) / format::kPageSize, "extent", next, "reaches beyond its area");
      check_extent(image, area, extent, next);
      at += extent.pages * format::kPageSize;
      ++next;
    }
  }
  require(next == extents.size(), "extent", next, "belongs to no area");
}

void check_area_files(const ProcessImage& process) {
  for (std::size_t i = 0; i < process.areas.size(); ++i) {
    const auto& record = process.areas[i].record;
    const bool has_file = record.file != format::kNoFile;
    if (format::is_of_object(record.kind)) {
      require(record.file < process.objects.size(), "area", i, "points to a memory object that does not exist");
      const auto kind = process.objects[record.file].record.kind;
      const bool can_be_private = kind == format::ObjectKind::kMemoryFile || kind == format::ObjectKind::kDeleted;
      const bool is_of_pool = (record.marks & format::kReservedPool) != 0;
      require(is_of_pool == (process.objects[record.file].record.page_shift != 0), "area", i, "has pages of an impossible size");
      require(record.kind == AreaKind::kSharedObject || can_be_private, "area", i, "is a private mapping of a wrong memory object");
      continue;
    }
    require(!has_file || record.file < process.files.size(), "area", i, "points to a file that does not exist");
    require(!is_file_backed(record.kind) || has_file, "area", i, "has no file");
  }
  for (std::size_t i = 0; i < process.files.size(); ++i) {
    require(process.files[i].record.content_record <= process.contents.size(), "mapped file", i,
            "points to contents that do not exist");
  }
}

void check_aio_rings(const ProcessImage& process) {
  std::size_t next = 0;
  for (const Area& area : process.areas) {
    if (area.record.kind != AreaKind::kAioRing) continue;
    require(next < process.aio_rings.size() && process.aio_rings[next].record.address == area.record.start, "ring of Linux AIO",
            next, "is not where an area is");
    const std::uint64_t room = (area.record.end - area.record.start - sizeof(format::AioRing)) / sizeof(format::AioEvent);
    require(process.aio_rings[next].events.size() < room, "ring of Linux AIO", next, "holds more than fits");
    ++next;
  }
  require(next == process.aio_rings.size(), "ring of Linux AIO", next, "has no area");
}

bool is_in_area(const ProcessImage& process, std::uint64_t address) {
  return std::ranges::any_of(process.areas,
                             [&](const Area& area) { return area.record.start <= address && address < area.record.end; });
}

void check_threads(const ProcessImage& process) {
  std::set<std::int32_t> tids;
  std::size_t mains = 0;
  for (const auto& thread : process.threads) {
    const auto tid = static_cast<std::uint64_t>(thread.tid);
    require(tids.insert(thread.tid).second, "thread", tid, "comes twice");
    require(is_in_area(process, thread.context), "thread", tid, "has its registers outside memory");
    mains += thread.is_main;
  }
  const auto pid = static_cast<std::uint64_t>(process.process.pid);
  require(mains <= 1 && !process.threads.empty(), "process", pid, "has no thread or two main threads");
  require(is_in_area(process, process.runtime.resume_entry), "process", pid, "has its runtime outside memory");
  for (const auto& signal : process.pending) {
    require(signal.tid == 0 || tids.contains(signal.tid), "pending signal of thread", static_cast<std::uint32_t>(signal.tid),
            "belongs to no thread");
  }
  std::set<std::int32_t> described;
  for (const auto& state : process.thread_states) {
    require(tids.contains(state.tid) && described.insert(state.tid).second, "state of thread",
            static_cast<std::uint32_t>(state.tid), "belongs to no thread or comes twice");
  }
  std::set<std::int32_t> apart;
  for (const auto& folder : process.thread_folders) {
    const auto tid = folder.record.tid;
    require(tids.contains(tid) && apart.insert(tid).second, "folder of thread", static_cast<std::uint32_t>(tid),
            "belongs to no thread or comes twice");
  }
  for (const auto& timer : process.posix_timers) {
    require(timer.tid == 0 || tids.contains(timer.tid), "POSIX timer", static_cast<std::uint32_t>(timer.id),
            "belongs to no thread");
  }
}

void check_contents(const JobImage& image, const ProcessImage& process) {
  for (std::size_t i = 0; i < process.contents.size(); ++i) {
    std::uint64_t end = 0;
    for (const auto& extent : process.contents[i].extents) {
      require(extent.offset >= end, "file content", i, "overlaps itself");
      require(extent.offset <= process.contents[i].size && extent.size <= process.contents[i].size - extent.offset, "file content",
              i, "is longer than its file");
      check_in_frame(image, "file content", i, extent.frame, extent.frame_offset, extent.size);
      end = extent.offset + extent.size;
    }
  }
}

// Bytes of state that a kind has: at least `fixed`, and beyond that items of `item` bytes.
struct StateSize {
  format::DescriptionKind kind;
  std::size_t fixed;
  std::size_t item;  // 0: none
};
constexpr StateSize kStateSizes[] = {
    {format::DescriptionKind::kEventFd, sizeof(format::EventFdState), 0},
    {format::DescriptionKind::kTimerFd, sizeof(format::TimerFdState), 0},
    {format::DescriptionKind::kSignalFd, sizeof(format::SignalFdState), 0},
    {format::DescriptionKind::kEpoll, sizeof(format::EpollState), sizeof(format::EpollEntry)},
    {format::DescriptionKind::kPidFd, sizeof(format::PidFdState), 0},
    {format::DescriptionKind::kUnixSocket, sizeof(format::SocketState), sizeof(format::SocketOption)},
    {format::DescriptionKind::kInetSocket, sizeof(format::SocketState), sizeof(format::SocketOption)},
    {format::DescriptionKind::kNetlinkSocket, sizeof(format::SocketState), sizeof(format::SocketOption)},
    {format::DescriptionKind::kPlainSocket, sizeof(format::SocketState), sizeof(format::SocketOption)},
    {format::DescriptionKind::kMemFd, sizeof(format::MemFdState), 0},
    {format::DescriptionKind::kTerminal, sizeof(format::TerminalState), sizeof(format::TerminalSettings)},
    {format::DescriptionKind::kOwnTerminal, sizeof(format::TerminalState), sizeof(format::TerminalSettings)},
    {format::DescriptionKind::kTerminalMaster, sizeof(format::TerminalMasterState), 1},
    {format::DescriptionKind::kMessageQueue, sizeof(format::PosixQueueState), 0},
    {format::DescriptionKind::kRegular, 0, sizeof(format::FileLock)},
    {format::DescriptionKind::kDeleted, 0, sizeof(format::FileLock)},
    {format::DescriptionKind::kDirectory, 0, sizeof(format::FileLock)},
    {format::DescriptionKind::kGoneFolder, 0, sizeof(format::FileLock)},
    {format::DescriptionKind::kInotify, sizeof(format::InotifyState), 8},
    {format::DescriptionKind::kFifo, sizeof(format::FifoState), 0},
    {format::DescriptionKind::kPipe, 0, sizeof(format::FifoState)},  // a named one that leads outside
};

bool has_right_state(const Description& description) {
  const std::size_t size = description.state.size();
  for (const StateSize& known : kStateSizes) {
    if (known.kind != description.record.kind) continue;
    return size == known.fixed || (known.item != 0 && size > known.fixed && (size - known.fixed) % known.item == 0);
  }
  return size == 0;
}

bool has_right_pieces(const Description& description) {
  const auto state = state_of<format::TerminalMasterState>(description);
  const std::size_t size = description.state.size() - sizeof(state);
  if (size != std::size_t{state.output_size} + state.typed_size) return false;
  for (std::size_t at = state.output_size; at < size;) {
    format::TypedPiece piece;
    if (size - at < sizeof(piece)) return false;
    std::memcpy(&piece, description.state.data() + sizeof(state) + at, sizeof(piece));
    at += sizeof(piece);
    if (piece.size > size - at || piece.end > format::TypedEnd::kEndOfFile) return false;
    at += piece.size;
  }
  return true;
}

bool is_socket(format::DescriptionKind kind) {
  return (kind >= format::DescriptionKind::kUnixSocket && kind <= format::DescriptionKind::kNetlinkSocket) ||
         kind == format::DescriptionKind::kPlainSocket;
}

bool has_right_socket(const Description& description) {
  const auto state = state_of<format::SocketState>(description);
  if (state.local_size > sizeof(state.local) || state.remote_size > sizeof(state.remote)) return false;
  constexpr std::uint32_t kFamily = 2;  // bytes, before the path
  if ((state.flags & format::SocketState::kIsRenamed) != 0 && state.remote_size <= kFamily) return false;
  if (state.stage > format::SocketStage::kLast || (state.flags & ~format::SocketState::kKnownFlags) != 0) return false;
  for (std::size_t at = sizeof(state); at < description.state.size(); at += sizeof(format::SocketOption)) {
    format::SocketOption option;
    std::memcpy(&option, description.state.data() + at, sizeof(option));
    if (option.size > sizeof(option.value)) return false;
  }
  return true;
}

// Anonymous ones are filled page by page in place.
void check_objects(const JobImage& image, const ProcessImage& process) {
  for (std::size_t i = 0; i < process.objects.size(); ++i) {
    const auto& record = process.objects[i].record;
    if (record.kind == format::ObjectKind::kSegment) continue;
    if (record.content == 0 && image.processes.size() > 1) continue;  // another one keeps what is in it
    require(record.content >= 1 && record.content <= process.contents.size(), "memory object", i,
            "points to contents that do not exist");
    const FileContent& content = process.contents[record.content - 1];
    require(content.size == record.size, "memory object", i, "is not as large as its contents");
    if (record.kind != format::ObjectKind::kAnonymous) continue;
    require(record.size > 0 && record.size % format::kPageSize == 0, "memory object", i, "is not of whole pages");
    for (const auto& extent : content.extents) {
      require((extent.offset | extent.size | extent.frame_offset) % format::kPageSize == 0, "memory object", i,
              "has contents that are not on a page border");
    }
  }
}

void check_segments(const ProcessImage& process, std::set<std::int32_t>& ids) {
  for (const auto& segment : process.segments) {
    const auto id = static_cast<std::uint64_t>(segment.object.id);
    require(ids.insert(segment.object.id).second, "System V shared memory", id, "comes twice");
    require(segment.content >= 1 && segment.content <= process.contents.size(), "System V shared memory", id,
            "points to contents that do not exist");
    require(process.contents[segment.content - 1].size == format::align_up(segment.size, format::kPageSize),
            "System V shared memory", id, "is not as large as its contents");
  }
}

// A segment stands in one process; whoever has it attached refers to it by its id.
void check_system_v(const JobImage& image) {
  std::set<std::int32_t> segments;
  std::set<std::int32_t> queues;
  std::map<std::int32_t, std::size_t> sets;
  for (const auto& process : image.processes) {
    check_segments(process, segments);
    for (const auto& queue : process.message_queues) {
      const auto id = static_cast<std::uint64_t>(queue.object.id);
      require(queues.insert(queue.object.id).second, "System V message queue", id, "comes twice");
      require(queue.content <= process.contents.size() && (queue.count == 0 || queue.content != 0), "System V message queue", id,
              "points to contents that do not exist");
    }
    for (const auto& set : process.semaphore_sets) {
      const auto id = static_cast<std::uint64_t>(set.record.object.id);
      require(sets.emplace(set.record.object.id, set.values.size()).second, "System V semaphore set", id, "comes twice");
    }
  }
  for (const auto& process : image.processes) {
    for (std::size_t i = 0; i < process.objects.size(); ++i) {
      const auto& object = process.objects[i].record;
      const bool is_there = object.kind != format::ObjectKind::kSegment ||
                            (object.inode <= INT32_MAX && segments.contains(static_cast<std::int32_t>(object.inode)));
      require(is_there, "memory object", i, "is System V shared memory that does not exist");
    }
    for (const auto& undo : process.semaphore_undos) {
      const auto set = sets.find(undo.set);
      require(set != sets.end() && undo.semaphore < set->second, "undo of semaphore", undo.semaphore, "belongs to no set");
    }
  }
}

void check_descriptions(const ProcessImage& process, std::set<std::uint32_t>& ids) {
  for (const auto& description : process.descriptions) {
    const auto& record = description.record;
    require(ids.insert(record.id).second, "open file", record.id, "comes twice");
    require(has_right_state(description), "open file", record.id, "has a state of a wrong size");
    require(!is_socket(record.kind) || has_right_socket(description), "socket", record.id, "has an impossible state");
    require(record.kind != format::DescriptionKind::kTerminalMaster || has_right_pieces(description), "terminal", record.id,
            "has an impossible state");
    require(record.content <= process.contents.size(), "open file", record.id, "points to contents that do not exist");
    require(
        record.kind != format::DescriptionKind::kMemFd || state_of<format::MemFdState>(description).object < process.objects.size(),
        "open file", record.id, "points to a memory object that does not exist");
    require(record.kind != format::DescriptionKind::kDeleted || record.content != 0, "open file", record.id,
            "is deleted without contents");
  }
}

void check_saved(const ProcessImage& process) {
  for (std::size_t i = 0; i < process.saved.size(); ++i) {
    require(process.saved[i].record.content <= process.contents.size(), "saved file", i, "points to contents that do not exist");
  }
}

void check_descriptors(const ProcessImage& process, const std::set<std::uint32_t>& ids) {
  std::set<std::int32_t> numbers;
  for (const auto& descriptor : process.descriptors) {
    const auto fd = static_cast<std::uint64_t>(descriptor.fd);
    require(numbers.insert(descriptor.fd).second, "descriptor", fd, "comes twice");
    require(ids.contains(descriptor.description), "descriptor", fd, "has no open file");
  }
  std::set<std::int32_t> tids;
  for (const auto& thread : process.threads) tids.insert(thread.tid);
  for (const auto& own : process.thread_descriptors) {
    require(tids.contains(own.tid) && (own.fd < 0 || numbers.contains(own.source)), "descriptor of thread",
            static_cast<std::uint32_t>(own.tid), "belongs to no thread or has no open file");
  }
  for (const std::uint32_t clone : process.clones) require(ids.contains(clone), "file beside the image", clone, "has no open file");
  for (const auto& held : process.process_locks) {
    require(numbers.contains(held.fd), "lock of a process on descriptor", static_cast<std::uint64_t>(held.fd), "belongs to none");
  }
}

void check_counts(const JobImage& image) {
  std::set<std::int32_t> pids;
  std::size_t thread_count = 0;
  for (const auto& process : image.processes) {
    require(pids.insert(process.process.pid).second, "process", static_cast<std::uint64_t>(process.process.pid), "comes twice");
    thread_count += process.threads.size();
  }
  if (image.header.process_count != image.processes.size() || image.job.process_count != image.processes.size() ||
      image.header.thread_count != thread_count) {
    throw BadIndex("it does not hold as many processes and threads as the header says");
  }
}

}  // namespace

void check_frames(const JobImage& image) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  ranges.reserve(image.frames.size() + 1);
  for (std::size_t i = 0; i < image.frames.size(); ++i) {
    const auto& frame = image.frames[i];
    require(frame.raw_size != 0 && frame.raw_size <= format::kMaxFrameSize, "frame", i, "has an impossible size");
    require(frame.stored_size != 0 && frame.stored_size <= kMaxStoredSize, "frame", i, "has an impossible size");
    require(frame.codec <= format::Codec::kZstd, "frame", i, "has an unknown codec");
    require(frame.transform == 0 && frame.key_id == 0, "frame", i, "is encrypted, which this ckpt does not know");
    require(frame.codec != format::Codec::kNone || frame.stored_size == frame.raw_size, "frame", i, "has an impossible size");
    require(frame.codec != format::Codec::kNone || frame.offset % format::kPageSize == 0, "frame", i, "is not on a page border");
    require(frame.offset >= format::kPageSize && frame.offset <= image.header.file_size &&
                frame.stored_size <= image.header.file_size - frame.offset,
            "frame", i, "lies outside the file");
    ranges.emplace_back(frame.offset, frame.offset + frame.stored_size);
  }
  const auto& index = image.header.index;
  ranges.emplace_back(index.offset, index.offset + index.stored_size);
  std::ranges::sort(ranges);
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    require(ranges[i - 1].second <= ranges[i].first, "the frame at offset", ranges[i].first, "overlaps another");
  }
}

void check_references(const JobImage& image) {
  std::set<std::uint32_t> descriptions;
  for (const auto& process : image.processes) check_descriptions(process, descriptions);
  for (const auto& process : image.processes) {
    check_area_files(process);
    check_aio_rings(process);
    check_page_map(image, process);
    check_threads(process);
    check_contents(image, process);
    check_saved(process);
    check_objects(image, process);
    check_descriptors(process, descriptions);
  }
  check_system_v(image);
  check_counts(image);
}

}  // namespace ckpt
