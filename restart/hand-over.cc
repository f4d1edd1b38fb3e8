// The hand-over: lists put one behind the other, each aligned, found by offset.
#include "restart/hand-over.h"

#include <fcntl.h>
#include <sched.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "lib/resources/memory/rebuild.h"
#include "restart/engine/hand-over.h"
#include "restart/numbers.h"
#include "restart/plain.h"

namespace ckpt {

namespace {

using format::AreaKind;
using format::Extent;
using format::HandArea;
using format::HandFrame;
using format::HandList;
using format::HandLock;
using format::HandObject;
using format::HandOpen;
using format::HandOver;
using format::HandOwner;
using format::HandRing;
using format::HandWatch;
using format::PageKind;

class Builder {
 public:
  Builder() : bytes_(sizeof(HandOver)) {}

  template <typename T>
  HandList add(const std::vector<T>& items) {
    return add(items.data(), items.size());
  }
  template <typename T>
  HandList add(const T* items, std::size_t count) {
    bytes_.resize(format::align_up(bytes_.size(), 16));
    const HandList list{bytes_.size(), count};
    const auto* data = reinterpret_cast<const std::byte*>(items);
    bytes_.insert(bytes_.end(), data, data + count * sizeof(T));
    return list;
  }
  std::uint64_t add_text(const std::string& text) { return add(text.c_str(), text.size() + 1).offset; }

  std::vector<std::byte> finish(const HandOver& header) {
    std::memcpy(bytes_.data(), &header, sizeof(header));
    return std::move(bytes_);
  }

 private:
  std::vector<std::byte> bytes_;
};

unsigned count_cpus() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? static_cast<unsigned>(CPU_COUNT(&set)) : 1;
}

// What the program has called the area (prctl(2), PR_SET_VMA_ANON_NAME); "": nothing.
std::string given_name(const std::string& shown) {
  for (const std::string_view mark : {"[anon:", "[anon_shmem:"}) {
    if (shown.starts_with(mark) && shown.ends_with("]")) return shown.substr(mark.size(), shown.size() - mark.size() - 1);
  }
  return "";
}

std::vector<HandArea> list_areas(const RestartPlan& plan, Builder& builder) {
  std::vector<HandArea> areas;
  std::map<std::string, std::uint64_t> paths;
  std::size_t extent = 0;
  const auto& extents = plan.process->extents;
  for (const Area& area : plan.process->areas) {
    const auto& record = area.record;
    HandArea hand{
        record.start, record.end,     record.offset, format::kNoPath, 0, record.kind, record.protection, record.flags, 0, 0,
        record.marks, format::kNoPath};
    if (const std::string name = given_name(area.name); !name.empty()) hand.name = builder.add_text(name);
    for (; extent < extents.size() && extents[extent].start < record.end; ++extent) {
      const PageKind kind = extents[extent].kind;
      const bool is_cleared = kind == PageKind::kZero && format::shows_file(record.kind);
      if (kind == PageKind::kHere || kind == PageKind::kGuard || is_cleared) hand.has_pages = 1;
    }
    if (format::is_of_object(record.kind)) hand.object = record.file;
    if (record.kind == AreaKind::kPrivateFile || record.kind == AreaKind::kSharedReadOnly || record.kind == AreaKind::kSharedFile) {
      const MappedFilePlan& file = plan.files.at(record.file);
      auto [entry, is_new] = paths.try_emplace(file.path, 0);
      if (is_new) entry->second = builder.add_text(file.path);
      hand.path = entry->second;
      hand.inode = file.inode;
    }
    const bool is_of_kernel = record.kind >= AreaKind::kVdso && record.kind <= AreaKind::kVvarClock;
    if (is_of_kernel && plan.replaces_vdso()) hand.kind = AreaKind::kAnonymous;
    if (hand.kind == AreaKind::kVdso) hand.has_pages = 0;
    areas.push_back(hand);
  }
  return areas;
}

void note_old_vdso(const ProcessImage& process, HandOver& hand) {
  for (const Area& area : process.areas) {
    const auto& record = area.record;
    if (record.kind < AreaKind::kVdso || record.kind > AreaKind::kVvarClock) continue;
    if (hand.old_vdso_data == 0) hand.old_vdso_data = record.start;
    if (record.kind != AreaKind::kVdso) continue;
    hand.old_vdso = record.start;
    hand.old_vdso_size = record.end - record.start;
  }
}

std::vector<HandObject> list_objects(const ProcessImage& process, int next_fd) {
  std::vector<HandObject> objects;
  for (std::uint32_t i = 0; i < process.objects.size(); ++i) {
    const auto& record = process.objects[i].record;
    const bool is_segment = record.kind == format::ObjectKind::kSegment;
    const std::uint32_t seals = is_shared_object(process.objects[i]) ? 0 : record.seals;
    objects.push_back({record.size, record.size, fd_of_object(i) < 0 ? -1 : next_fd++, seals, 0,
                       is_segment ? static_cast<std::int32_t>(record.inode) : -1});
  }
  for (const Area& area : process.areas) {
    if (area.record.kind != AreaKind::kSharedObject) continue;
    HandObject& object = objects.at(area.record.file);
    object.span = std::max(object.span, area.record.offset + (area.record.end - area.record.start));
    object.flags |= area.record.flags;
  }
  return objects;
}

struct MarkedExtent {
  Extent extent;
  std::uint32_t mark;  // HandExtentMark
};

// Anonymous shared memory is filled as an object; where it will be, the restorer decides.
void list_object_pages(const ProcessImage& process, std::vector<MarkedExtent>& extents) {
  for (std::uint32_t i = 0; i < process.objects.size(); ++i) {
    if (fd_of_object(i) >= 0 || process.objects[i].record.kind == format::ObjectKind::kSegment) continue;
    for (const auto& piece : process.contents.at(process.objects[i].record.content - 1).extents) {
      const Extent extent{piece.offset, piece.size / format::kPageSize, PageKind::kHere, piece.frame, piece.frame_offset};
      extents.push_back({extent, format::kFirstObject + i});
    }
  }
}

// Pages of large areas that are not writable are opened up one by one: their extents carry a mark in `frame` (fill.cc).
bool is_opened_singly(const HandArea& area) {
  constexpr std::uint64_t kLargeArea = 1ULL << 30;
  return area.end - area.start > kLargeArea && (area.protection & 3) != 3;
}

// Extents by frame, and where each frame's are.
void list_frames(const RestartPlan& plan, const std::vector<HandArea>& areas, std::vector<HandFrame>& frames,
                 std::vector<Extent>& extents) {
  std::vector<MarkedExtent> marked;
  std::size_t index = 0;
  for (const Extent& extent : plan.process->extents) {
    while (areas[index].end <= extent.start) ++index;
    const std::uint32_t mark = is_opened_singly(areas[index]) ? format::kMakeWritable : format::kPlain;
    if (extent.kind == PageKind::kHere && areas[index].kind != AreaKind::kVdso) marked.push_back({extent, mark});
  }
  list_object_pages(*plan.process, marked);
  std::stable_sort(marked.begin(), marked.end(), [](const MarkedExtent& a, const MarkedExtent& b) {
    return a.extent.frame != b.extent.frame ? a.extent.frame < b.extent.frame : a.extent.frame_offset < b.extent.frame_offset;
  });
  for (std::size_t i = 0; i < marked.size(); ++i) {
    const std::uint32_t frame = marked[i].extent.frame;
    if (i == 0 || frame != marked[i - 1].extent.frame) frames.push_back({plan.image->job().frames.at(frame), i, 0});
    ++frames.back().extent_count;
  }
  for (const MarkedExtent& item : marked) {
    extents.push_back(item.extent);
    extents.back().frame = item.mark;
  }
}

// Elsewhere zeros are there already. Guards are among them.
std::vector<Extent> list_zeros(const RestartPlan& plan, const std::vector<HandArea>& areas) {
  std::vector<Extent> zeros;
  std::size_t index = 0;
  for (const Extent& extent : plan.process->extents) {
    while (areas[index].end <= extent.start) ++index;
    const bool is_guard = extent.kind == PageKind::kGuard;
    if (!is_guard && (extent.kind != PageKind::kZero || !format::shows_file(areas[index].kind))) continue;
    zeros.push_back(extent);
    zeros.back().frame = is_guard ? format::kGuard : is_opened_singly(areas[index]) ? format::kMakeWritable : format::kPlain;
  }
  return zeros;
}

void add_pages(const RestartPlan& plan, const std::vector<HandArea>& areas, Builder& builder, HandOver& hand) {
  std::vector<HandFrame> frames;
  std::vector<Extent> extents;
  list_frames(plan, areas, frames, extents);
  hand.frames = builder.add(frames);
  hand.extents = builder.add(extents);
  hand.zeros = builder.add(list_zeros(plan, areas));
}

std::vector<format::ThreadRecord> list_threads(const ProcessImage& process) {
  std::vector<format::ThreadRecord> threads = process.threads;
  std::stable_sort(threads.begin(), threads.end(), [](const auto& a, const auto& b) { return a.is_main > b.is_main; });
  return threads;
}

std::vector<format::ThreadStateRecord> list_states(const ProcessImage& process) {
  std::vector<format::ThreadStateRecord> states;
  for (const auto& thread : list_threads(process)) {
    const auto state = std::ranges::find(process.thread_states, thread.tid, &format::ThreadStateRecord::tid);
    if (state == process.thread_states.end()) return {};
    states.push_back(*state);
  }
  return states;
}

std::vector<format::PosixTimerRecord> list_posix_timers(const ProcessImage& process) {
  std::vector<format::PosixTimerRecord> timers = process.posix_timers;
  std::ranges::sort(timers, {}, &format::PosixTimerRecord::id);
  return timers;
}

bool is_stream(const RestartPlan& plan, const format::DescriptorRecord& entry) {
  const auto source = plan.description_of(entry).source;
  return source == DescriptionPlan::Source::kStream || source == DescriptionPlan::Source::kTerminal;
}

std::vector<HandOpen> list_opens(const RestartPlan& plan, Builder& builder) {
  std::vector<HandOpen> opens;
  std::map<std::uint32_t, std::int32_t> first;  // descriptor by description
  for (const auto& entry : plan.process->descriptors) {
    const DescriptionPlan& item = plan.description_of(entry);
    if (item.source != DescriptionPlan::Source::kLate) continue;
    const auto& record = item.description->record;
    const auto [known, is_new] = first.try_emplace(entry.description, entry.fd);
    const std::uint64_t path = is_new ? builder.add_text(item.description->path) : format::kNoPath;
    constexpr std::uint32_t kFlags = O_ACCMODE | O_NONBLOCK | O_DIRECTORY | O_PATH | O_NOFOLLOW;
    opens.push_back({path, record.offset, record.status_flags & kFlags, entry.fd, known->second, entry.flags & FD_CLOEXEC});
  }
  return opens;
}

// A lock of the process is shown with every descriptor of its file, and can be taken through those that are open for it.
bool can_take(const format::DescriptionRecord& record, const format::FileLock& lock) {
  const std::uint32_t mode = record.status_flags & O_ACCMODE;
  return lock.kind != format::LockKind::kProcess || mode == O_RDWR || mode == (lock.type == F_WRLCK ? O_WRONLY : O_RDONLY);
}

bool may_hold_locks(format::DescriptionKind kind) {
  using Kind = format::DescriptionKind;
  return kind == Kind::kRegular || kind == Kind::kDeleted || kind == Kind::kDirectory || kind == Kind::kGoneFolder;
}

std::vector<HandLock> list_locks(const RestartPlan& plan, Builder& builder) {
  std::vector<HandLock> locks;
  std::set<std::uint32_t> done;
  for (const auto& entry : plan.process->descriptors) {
    const Description& description = *plan.description_of(entry).description;
    if (!may_hold_locks(description.record.kind) || description.state.empty() || is_stream(plan, entry)) continue;
    if (!done.insert(entry.description).second) continue;
    std::vector<format::FileLock> held(description.state.size() / sizeof(format::FileLock));
    std::memcpy(held.data(), description.state.data(), held.size() * sizeof(format::FileLock));
    const std::uint64_t path = builder.add_text(description.path);
    for (const format::FileLock& lock : held) {
      const bool is_own = lock.kind != format::LockKind::kProcess || plan.is_own(description);
      if (is_own && can_take(description.record, lock)) locks.push_back({lock, path, entry.fd, 0});
    }
  }
  for (const format::ProcessLockRecord& own : plan.process->process_locks) {
    const auto entry = std::ranges::find(plan.process->descriptors, own.fd, &format::DescriptorRecord::fd);
    if (entry == plan.process->descriptors.end() || is_stream(plan, *entry)) continue;
    locks.push_back({own.lock, builder.add_text(plan.description_of(*entry).description->path), own.fd, 0});
  }
  return locks;
}

std::vector<HandOwner> list_owners(const RestartPlan& plan) {
  std::vector<HandOwner> owners;
  for (const auto& entry : plan.process->descriptors) {
    const auto& record = plan.description_of(entry).description->record;
    const bool is_async = (record.status_flags & O_ASYNC) != 0;
    if ((record.owner == 0 && record.signal == 0 && !is_async) || is_stream(plan, entry)) continue;
    owners.push_back({entry.fd, record.owner_type, record.owner, record.signal, is_async ? 1U : 0U});
  }
  return owners;
}

void list_watches_of(const Description& description, int fd, Builder& builder, std::vector<HandWatch>& watches) {
  const auto head = state_of<format::InotifyState>(description);
  std::size_t at = sizeof(head);
  for (std::uint32_t i = 0; i < head.count; ++i) {
    format::InotifyWatch watch{};
    if (description.state.size() - at < sizeof(watch)) break;
    std::memcpy(&watch, description.state.data() + at, sizeof(watch));
    at += sizeof(watch);
    if (watch.path_size == 0 || description.state.size() - at < format::align_up(watch.path_size, 8)) break;
    const std::string path(reinterpret_cast<const char*>(description.state.data() + at), watch.path_size - 1);
    watches.push_back({builder.add_text(path), fd, watch.descriptor, watch.mask, 0});
    at += format::align_up(watch.path_size, 8);
  }
}

std::vector<HandWatch> list_watches(const RestartPlan& plan, Builder& builder) {
  std::vector<HandWatch> watches;
  std::set<std::uint32_t> done;
  for (const auto& entry : plan.process->descriptors) {
    const Description& description = *plan.description_of(entry).description;
    if (description.record.kind != format::DescriptionKind::kInotify || !done.insert(entry.description).second) continue;
    list_watches_of(description, entry.fd, builder, watches);
  }
  std::stable_sort(watches.begin(), watches.end(),
                   [](const HandWatch& a, const HandWatch& b) { return a.descriptor < b.descriptor; });
  return watches;
}

std::vector<HandRing> list_rings(const ProcessImage& process, Builder& builder) {
  std::vector<HandRing> rings;
  auto ring = process.aio_rings.begin();
  for (const Area& area : process.areas) {
    if (area.record.kind != AreaKind::kAioRing) continue;
    rings.push_back(
        {area.record.start, area.record.end - area.record.start, ring->record.has_context, 0, builder.add(ring->events)});
    ++ring;
  }
  return rings;
}

// Those of threads are filled in as they come to be.
std::vector<format::NumberPair> list_numbers(const RestartPlan& plan) {
  std::vector<format::NumberPair> numbers = plan.new_numbers;
  const std::int32_t pid = plan.process->process.pid;
  if (numbers.empty() && plan.renamed.contains(pid)) numbers.push_back({pid, plan.new_number(pid)});
  for (const auto& thread : plan.process->threads) {
    if (thread.tid != pid && plan.renamed.contains(thread.tid)) numbers.push_back({thread.tid, 0});
  }
  return numbers;
}

std::string executable_path(const RestartPlan& plan) {
  for (std::size_t i = 0; i < plan.files.size(); ++i) {
    if (plan.process->files[i].record.is_executable != 0) return plan.files[i].path;
  }
  return "";
}

}  // namespace

std::vector<std::byte> build_hand_over(const RestartPlan& plan, const RestorerFds& fds, bool drops_capabilities) {
  const ProcessImage& process = *plan.process;
  Builder builder;
  HandOver hand{};
  std::memcpy(hand.magic, format::kHandOverMagic, sizeof(hand.magic));
  hand.version = format::kHandOverVersion;
  hand.workers = count_cpus();
  const auto areas = list_areas(plan, builder);
  std::vector<std::int32_t> close_on_exec;
  std::vector<std::int32_t> for_threads;
  for (const auto& entry : process.descriptors) {
    if ((entry.flags & FD_CLOEXEC) != 0) close_on_exec.push_back(entry.fd);
    if (entry.is_for_thread != 0) for_threads.push_back(entry.fd);
  }
  hand.areas = builder.add(areas);
  hand.objects = builder.add(list_objects(process, fds.first_object));
  add_pages(plan, areas, builder, hand);
  hand.threads = builder.add(list_threads(process));
  hand.states = builder.add(list_states(process));
  std::vector<format::HandFolder> folders;
  for (const auto& [record, path] : process.thread_folders) folders.push_back({record.tid, record.umask, builder.add_text(path)});
  hand.folders = builder.add(folders);
  hand.tables = builder.add(process.thread_descriptors);
  hand.for_threads = builder.add(for_threads);
  hand.pending = builder.add(process.pending);
  hand.actions = builder.add(process.actions);
  hand.timers = builder.add(process.timers);
  hand.posix_timers = builder.add(list_posix_timers(process));
  hand.limits = builder.add(process.limits);
  hand.opens = builder.add(list_opens(plan, builder));
  hand.locks = builder.add(list_locks(plan, builder));
  std::vector<format::HandNotification> notifications;
  for (const auto& own : process.notifications) notifications.push_back({own.value, own.signal, own.kind, own.fd, {}});
  hand.notifications = builder.add(notifications);
  hand.owners = builder.add(list_owners(plan));
  hand.watches = builder.add(list_watches(plan, builder));
  hand.close_on_exec = builder.add(close_on_exec);
  hand.rings = builder.add(list_rings(process, builder));
  hand.auxv = builder.add(process.auxv);
  const std::string executable = plan.is_plain && !can_choose_numbers() ? "" : executable_path(plan);  // one right gives both
  hand.executable = {builder.add_text(executable), executable.size()};
  const auto numbers = list_numbers(plan);
  hand.numbers = builder.add(numbers);
  if (!numbers.empty()) hand.job_numbers = builder.add(numbers_of(plan.image->job()));
  hand.translation = plan.translation();
  hand.layout = process.layout;
  hand.runtime = process.runtime;
  if (!drops_capabilities) {
    hand.cap_permitted = process.process.cap_permitted;
    hand.cap_effective = process.process.cap_effective;
    hand.cap_inheritable = process.process.cap_inheritable;
  }
  hand.keeps_capabilities = drops_capabilities ? 0 : 1;
  hand.membarriers = process.state.membarriers;
  hand.is_stopped = process.process.is_stopped;
  hand.xstate_permitted = process.state.xstate_permitted;
  hand.write_execute = process.state.write_execute;
  hand.merges_memory = process.state.merges_memory;
  hand.dumpable = process.process.dumpable;
  hand.personality = process.process.personality;
  std::memcpy(hand.name, process.process.name, sizeof(hand.name));
  hand.image_fd = fds.image;
  hand.control_fd = fds.control;
  hand.report_fd = fds.report;
  hand.gate_fd = fds.gate;
  if (plan.replaces_vdso()) note_old_vdso(process, hand);
  hand.future_locks = process.locks.future;
  return builder.finish(hand);
}

}  // namespace ckpt
