// Pages: every frame of the image read, checked, decoded and put where its pages belong, by several threads.
#include <linux/sched.h>

#include "lib/sys/codec.h"
#include "lib/sys/hash.h"
#include "restart/engine/engine.h"

namespace ckpt::engine {

namespace {

using format::Codec;
using format::Extent;
using format::HandFrame;
using format::kPageSize;

constexpr std::size_t kStoredRoom = format::kMaxFrameSize + (64U << 10);

struct Worker {
  Engine* engine;
  std::uint8_t* stored;  // a frame as it is in the file
  std::uint8_t* raw;     // … decoded, where it can't be decoded in place
  void* memory;
  std::size_t memory_size;
};

// Extents of areas that could not be made writable as a whole: one by one.
bool make_writable(const Extent& extent) {
  return !sys::protect(extent.start, extent.pages * kPageSize, PROT_READ | PROT_WRITE).failed();
}

// Straight into place, and hashed there: in pieces that are still in the CPU's cache then. Pages are asked for first, which is
// faster than one fault for each.
bool read_raw(const Worker& worker, const HandFrame& item, const Extent* extents) {
  constexpr std::uint64_t kAtOnce = 128U << 10;
  sys::Hasher hasher;
  std::uint64_t offset = item.frame.offset;
  for (std::uint64_t i = 0; i < item.extent_count; ++i) {
    const std::uint64_t end = extents[i].start + extents[i].pages * kPageSize;
    for (std::uint64_t at = extents[i].start; at < end;) {
      const std::uint64_t size = end - at < kAtOnce ? end - at : kAtOnce;
      auto* to = reinterpret_cast<std::uint8_t*>(at);
      sys::call(__NR_madvise, to, size, MADV_POPULATE_WRITE).ignore();
      const auto count = sys::pread_all(worker.engine->hand->image_fd, to, size, offset);
      if (count.failed() || static_cast<std::uint64_t>(count.value()) != size) return false;
      hasher.add(to, size);
      at += size;
      offset += size;
    }
  }
  return hasher.finish() == item.frame.hash;
}

bool decode(const Worker& worker, const HandFrame& item, const Extent* extents) {
  const format::Frame& frame = item.frame;
  const auto count = sys::pread_all(worker.engine->hand->image_fd, worker.stored, frame.stored_size, frame.offset);
  if (count.failed() || static_cast<std::uint64_t>(count.value()) != frame.stored_size) return false;
  if (!(sys::hash_bytes(worker.stored, frame.stored_size) == frame.hash)) return false;
  const bool is_in_place = item.extent_count == 1 && extents[0].pages * kPageSize == frame.raw_size;
  auto* to = is_in_place ? reinterpret_cast<std::uint8_t*>(extents[0].start) : worker.raw;
  if (frame.codec == Codec::kNone) {
    memcpy(to, worker.stored, frame.raw_size);
  } else if (!sys::decompress(frame.codec, worker.memory, worker.memory_size, worker.stored, frame.stored_size, to,
                              frame.raw_size)) {
    return false;
  }
  for (std::uint64_t i = 0; i < item.extent_count && !is_in_place; ++i) {
    memcpy(reinterpret_cast<void*>(extents[i].start), worker.raw + extents[i].frame_offset, extents[i].pages * kPageSize);
  }
  return true;
}

// A raw frame all of whose bytes are pages of ours, in order, needs no detour.
bool is_gapless(const HandFrame& item, const Extent* extents) {
  std::uint64_t position = 0;
  for (std::uint64_t i = 0; i < item.extent_count; ++i) {
    if (extents[i].frame_offset != position) return false;
    position += extents[i].pages * kPageSize;
  }
  return position == item.frame.raw_size;
}

bool fill_frame(const Worker& worker, const HandFrame& item) {
  const Extent* extents = list<Extent>(*worker.engine, worker.engine->hand->extents) + item.first_extent;
  for (std::uint64_t i = 0; i < item.extent_count; ++i) {
    if (extents[i].frame == format::kMakeWritable && !make_writable(extents[i])) return false;
  }
  if (item.frame.codec == Codec::kNone && is_gapless(item, extents)) return read_raw(worker, item, extents);
  return decode(worker, item, extents);
}

void work(Engine* engine, std::uint64_t memory) {
  Worker worker{engine, reinterpret_cast<std::uint8_t*>(memory), reinterpret_cast<std::uint8_t*>(memory + kStoredRoom), nullptr, 0};
  worker.memory = worker.raw + format::kMaxFrameSize;
  worker.memory_size = sys::decompress_memory(Codec::kZstd);
  const auto* frames = list<HandFrame>(*engine, engine->hand->frames);
  for (;;) {
    const std::uint64_t number = __atomic_fetch_add(&engine->next_frame, 1, __ATOMIC_RELAXED);
    if (number >= engine->hand->frames.count || __atomic_load_n(&engine->failed, __ATOMIC_RELAXED) != 0) return;
    if (!fill_frame(worker, frames[number])) __atomic_store_n(&engine->failed, 1, __ATOMIC_RELAXED);
  }
}

struct Start {
  Engine* engine;
  std::uint64_t memory;
};

void work_in_thread(void* argument) {
  const auto* start = static_cast<const Start*>(argument);
  Engine* engine = start->engine;
  work(engine, start->memory);
  // The kernel clears `running`'s share itself (CLONE_CHILD_CLEARTID) once this thread needs no stack any more.
  for (;;) sys::call(__NR_exit, 0).ignore();
}

// madvise(2): Linux 6.13.
void guard_pages(const Engine& engine, const Extent& extent) {
  constexpr int kGuardInstall = 102;
  const auto done = sys::call(__NR_madvise, extent.start, extent.pages * kPageSize, kGuardInstall);
  if (done.failed()) die_at(engine, "cannot guard memory (MADV_GUARD_INSTALL) at", extent.start, done.error());
}

// By way of /proc/self/mem: a page behind the end of its file can't be touched.
void clear_pages(const Engine& engine) {
  const auto* extents = list<Extent>(engine, engine.hand->zeros);
  if (engine.hand->zeros.count == 0) return;
  alignas(16) static constexpr std::uint8_t kZeros[kPageSize]{};
  const sys::Fd memory(sys::open("/proc/self/mem", O_RDWR));
  if (!memory.is_open()) die(engine, "cannot open /proc/self/mem", sys::kEacces);
  for (std::uint64_t i = 0; i < engine.hand->zeros.count; ++i) {
    const Extent& extent = extents[i];
    if (extent.frame == format::kGuard) {
      guard_pages(engine, extent);
      continue;
    }
    if (extent.frame == format::kMakeWritable && !make_writable(extent))
      die_at(engine, "cannot make writable", extent.start, sys::kEnomem);
    for (std::uint64_t page = 0; page < extent.pages; ++page) {
      const auto done = sys::call(__NR_pwrite64, memory.get(), kZeros, kPageSize, extent.start + page * kPageSize);
      if (done.failed() && done.error() != sys::kEio) die_at(engine, "cannot clear memory at", extent.start, done.error());
    }
  }
}

}  // namespace

void fill_pages(Engine* engine) {
  constexpr std::size_t kWorkerStack = 128U << 10;
  static_assert(kStoredRoom + format::kMaxFrameSize + kWorkerStack + (512U << 10) < kWorkerMemory);
  const unsigned workers = engine->hand->workers < kMaxWorkers ? engine->hand->workers : kMaxWorkers;
  Start starts[kMaxWorkers];
  std::uint32_t alive[kMaxWorkers]{};
  for (unsigned i = 1; i < workers; ++i) {
    starts[i] = {engine, engine->worker_memory + i * kWorkerMemory};
    clone_args arguments{};
    arguments.flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID |
                      CLONE_CHILD_SETTID | CLONE_SETTLS;
    arguments.child_tid = reinterpret_cast<std::uint64_t>(&alive[i]);
    arguments.stack = starts[i].memory + kWorkerMemory - kWorkerStack;
    arguments.stack_size = kWorkerStack;
    arguments.tls =
        starts[i].memory + kWorkerMemory - kWorkerStack;  // a zeroed page: the compression libraries read a canary at %fs:0x28
    alive[i] = 1;
    if (engine_clone(&arguments, sizeof(arguments), work_in_thread, &starts[i]) < 0) alive[i] = 0;
  }
  constexpr int kArchSetFs = 0x1002;
  sys::call(__NR_arch_prctl, kArchSetFs, engine->worker_memory + kWorkerMemory - kWorkerStack).ignore();
  clear_pages(*engine);
  work(engine, engine->worker_memory);
  for (unsigned i = 1; i < workers; ++i) {
    for (std::uint32_t value = 0; (value = __atomic_load_n(&alive[i], __ATOMIC_ACQUIRE)) != 0;) {
      sys::futex_wait(&alive[i], value, 100'000'000, true).ignore();
    }
  }
  if (engine->failed != 0) die(*engine, "the image changed or can't be read", sys::kEio);
}

}  // namespace ckpt::engine
