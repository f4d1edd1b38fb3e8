// What an image says, decoded and checked: the records of its index as values.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "lib/format/image.h"
#include "lib/format/numbers.h"
#include "lib/resources/epoll/record.h"
#include "lib/resources/eventfd/record.h"
#include "lib/resources/files/record.h"
#include "lib/resources/inotify/record.h"
#include "lib/resources/memory/record.h"
#include "lib/resources/mqueue/record.h"
#include "lib/resources/pidfd/record.h"
#include "lib/resources/process/record.h"
#include "lib/resources/saved/record.h"
#include "lib/resources/signalfd/record.h"
#include "lib/resources/signals/record.h"
#include "lib/resources/sockets/record.h"
#include "lib/resources/sysv/record.h"
#include "lib/resources/terminals/record.h"
#include "lib/resources/threads/record.h"
#include "lib/resources/timerfd/record.h"
#include "lib/resources/timers/record.h"

namespace ckpt {

struct Area {
  format::AreaRecord record;
  std::string name;
};

struct MappedFile {
  format::MappedFileRecord record;
  std::string path;
};

struct MemoryObject {
  format::MemoryObjectRecord record;
  std::string path;
};

struct Description {
  format::DescriptionRecord record;
  std::string path;
  std::vector<std::byte> state;  // of the kind; its size has been checked (index-check.cc)
};

template <typename T>
T state_of(const Description& description) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value{};
  std::memcpy(&value, description.state.data(), std::min(sizeof(T), description.state.size()));
  return value;
}

struct AioRing {
  format::AioRingRecord record;
  std::vector<format::AioEvent> events;
};

struct ThreadFolder {
  format::ThreadFolderRecord record;
  std::string path;
};

struct FileContent {
  std::uint64_t size = 0;
  std::vector<format::ContentExtent> extents;
};

struct SavedFile {
  format::SavedFileRecord record;
  std::string path;
  std::string target;
};

struct SemaphoreSet {
  format::SemaphoreSetRecord record;
  std::vector<std::uint16_t> values;
};

struct ProcessImage {
  format::ProcessRecord process{};
  std::string cwd, root, executable;
  std::vector<std::string> arguments;
  format::MemoryLayoutRecord layout{};
  std::vector<std::byte> auxv;
  std::vector<Area> areas;        // ascending, not overlapping
  std::vector<MappedFile> files;  // AreaRecord::file is an index into it
  std::vector<MemoryObject> objects;
  format::MemoryLocksRecord locks{};
  std::vector<format::Extent> extents;
  std::vector<format::ThreadRecord> threads;
  format::RuntimeRecord runtime{};
  std::vector<format::SignalActionRecord> actions;
  std::vector<format::PendingSignalRecord> pending;
  std::vector<Description> descriptions;
  std::vector<format::DescriptorRecord> descriptors;
  std::vector<format::ThreadDescriptorRecord> thread_descriptors;  // ascending, each thread's together
  std::vector<format::ProcessLockRecord> process_locks;
  std::vector<format::QueueNotificationRecord> notifications;
  std::vector<FileContent> contents;
  std::set<std::uint32_t> clones;  // DescriptionRecord::id of files that the file system keeps beside the image
  std::vector<SavedFile> saved;
  std::vector<AioRing> aio_rings;  // in order of address
  std::vector<format::ZombieRecord> zombies;
  std::vector<format::NumberPair> numbers;  // what runs under a new number; everything else has the old ones already
  std::vector<format::IntervalTimerRecord> timers;
  std::vector<format::PosixTimerRecord> posix_timers;
  format::ClocksRecord clocks{};
  std::vector<format::LimitRecord> limits;
  std::vector<format::ThreadStateRecord> thread_states;
  std::vector<ThreadFolder> thread_folders;
  std::vector<format::SegmentRecord> segments;
  std::vector<SemaphoreSet> semaphore_sets;
  std::vector<format::SemaphoreUndoRecord> semaphore_undos;
  std::vector<format::MessageQueueRecord> message_queues;
  bool has_state = false;  // an image may lack what is below
  format::ProcessStateRecord state{};
  std::vector<std::uint32_t> groups;
};

struct JobImage {
  format::ImageHeader header{};
  format::JobRecord job{};
  std::vector<format::Frame> frames;
  std::vector<ProcessImage> processes;
};

}  // namespace ckpt
