// The writer's main work: every page of every area, by as many threads as there are CPUs (at most kMaxWorkers).
//
// The address space is cut into spans; threads take span after span, look which pages are there, leave zeros out, and gather the
// rest into frames of up to 1 MiB. Each notes the extents of its spans; in the end they are put together in order of address.
#include <linux/sched.h>

#include <new>

#include "lib/runtime/entry-points.h"
#include "lib/runtime/pagemap.h"
#include "lib/runtime/writer.h"

namespace ckpt {

namespace {

using format::AreaKind;
using format::AreaRecord;
using format::Extent;
using format::kPageSize;
using format::PageKind;

constexpr unsigned kMaxWorkers = 8;
constexpr std::uint64_t kSpanBytes = 64U << 20;
constexpr std::size_t kWorkerStack = 256U << 10;
constexpr unsigned kMaxPieces = format::kMaxFrameSize / kPageSize;

struct Span {
  const AreaRecord* area;
  std::uint64_t begin, end;
  std::uint32_t worker;  // who took it, and where its extents are in that worker's list
  std::uint32_t reserved;
  std::uint64_t first_extent, extent_count;
};

struct Plan {
  Collector* collector;
  Output* output;
  Span* spans;
  std::uint64_t span_count;
  std::uint64_t next_span;
  std::uint32_t working;
};

// One thread's state. Frames may gather pages of several spans.
struct Worker {
  Plan* plan;
  std::uint32_t number;
  FrameTools tools;
  Extent* extents;
  std::uint64_t extent_count;
  std::uint64_t extent_capacity;
  Piece pieces[kMaxPieces];
  unsigned piece_count;
  std::uint32_t gathered;       // bytes in pieces
  std::uint64_t first_pending;  // extents from here on of kind kHere wait for the number of the frame at hand
  std::uint8_t* bounce;         // for memory that is read through /proc/self/mem
  int memory_fd;
  PageMap* map;
};

bool is_zero_page(const void* page) {
  const auto* words = static_cast<const std::uint64_t*>(page);
  for (std::size_t i = 0; i < kPageSize / 8; i += 8) {
    const std::uint64_t any =
        words[i] | words[i + 1] | words[i + 2] | words[i + 3] | words[i + 4] | words[i + 5] | words[i + 6] | words[i + 7];
    if (any != 0) return false;
  }
  return true;
}

bool fail(Worker* worker, int error) {
  int expected = 0;
  __atomic_compare_exchange_n(&worker->plan->output->error, &expected, error, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return false;
}

bool add_extent(Worker* worker, Span* span, std::uint64_t start, std::uint64_t pages, PageKind kind, std::uint64_t frame_offset) {
  if (pages == 0) return true;
  if (span->extent_count > 0) {
    Extent* last = &worker->extents[worker->extent_count - 1];
    const bool follows =
        kind != PageKind::kHere || (frame_offset != 0 && last->frame_offset + last->pages * kPageSize == frame_offset);
    if (last->kind == kind && last->start + last->pages * kPageSize == start && follows) {
      last->pages += pages;
      return true;
    }
  }
  if (worker->extent_count == worker->extent_capacity) return fail(worker, sys::kEnomem);
  worker->extents[worker->extent_count++] = {start, pages, kind, 0, frame_offset};
  ++span->extent_count;
  return true;
}

bool flush(Worker* worker) {
  if (worker->gathered == 0) return true;
  std::uint32_t frame = 0;
  if (!write_frame(worker->plan->output, worker->tools, worker->pieces, worker->piece_count, worker->gathered, &frame))
    return false;
  for (std::uint64_t i = worker->first_pending; i < worker->extent_count; ++i) {
    if (worker->extents[i].kind == PageKind::kHere) worker->extents[i].frame = frame;
  }
  __atomic_fetch_add(&g_state.control->progress_done, worker->gathered, __ATOMIC_RELAXED);
  worker->first_pending = worker->extent_count;
  worker->piece_count = 0;
  worker->gathered = 0;
  return true;
}

// One page that is not zero: into the frame at hand.
bool gather_page(Worker* worker, Span* span, std::uint64_t address) {
  if (worker->gathered == format::kMaxFrameSize && !flush(worker)) return false;
  Piece* last = worker->piece_count > 0 ? &worker->pieces[worker->piece_count - 1] : nullptr;
  if (last != nullptr && reinterpret_cast<std::uint64_t>(last->data) + last->size == address) {
    last->size += kPageSize;
  } else {
    worker->pieces[worker->piece_count++] = {reinterpret_cast<const std::uint8_t*>(address), kPageSize};
  }
  const std::uint32_t offset = worker->gathered;
  worker->gathered += kPageSize;
  return add_extent(worker, span, address, 1, PageKind::kHere, offset);
}

bool gather_run(Worker* worker, Span* span, std::uint64_t begin, std::uint64_t end) {
  for (std::uint64_t page = begin; page < end; page += kPageSize) {
    if (is_zero_page(reinterpret_cast<const void*>(page))) {
      if (!add_extent(worker, span, page, 1, PageKind::kZero, 0)) return false;
    } else if (!gather_page(worker, span, page)) {
      return false;
    }
  }
  return true;
}

// Guards (madvise(2), MADV_GUARD_INSTALL, Linux 6.13) can't be touched. They are taken away here, in the copy: what was one is not
// there afterwards, and what is swapped stays so.
bool gather_swapped_run(Worker* worker, Span* span, std::uint64_t begin, std::uint64_t end) {
  constexpr int kGuardRemove = 103;
  if (sys::call(__NR_madvise, begin, end - begin, kGuardRemove).failed()) return gather_run(worker, span, begin, end);
  for (std::uint64_t page = begin; page < end; page += kPageSize) {
    const bool is_done = worker->map->is_there(page) ? gather_run(worker, span, page, page + kPageSize)
                                                     : add_extent(worker, span, page, 1, PageKind::kGuard, 0);
    if (!is_done) return false;
  }
  return true;
}

// A mapping whose file is gone: every page counts, and those behind the end of the file can't be touched but only asked for.
bool gather_gone_file(Worker* worker, Span* span) {
  if (!flush(worker)) return false;
  for (std::uint64_t page = span->begin; page < span->end; page += kPageSize) {
    if (worker->gathered == format::kMaxFrameSize && !flush(worker)) return false;
    std::uint8_t* copy = worker->bounce + worker->gathered;
    const auto count = sys::pread(worker->memory_fd, copy, kPageSize, page);
    const bool is_zero = count.failed() || count.value() != static_cast<long>(kPageSize) || is_zero_page(copy);
    if (is_zero) {
      if (!add_extent(worker, span, page, 1, PageKind::kZero, 0)) return false;
      continue;
    }
    worker->pieces[worker->piece_count++] = {copy, kPageSize};
    const std::uint32_t offset = worker->gathered;
    worker->gathered += kPageSize;
    if (!add_extent(worker, span, page, 1, PageKind::kHere, offset)) return false;
  }
  return flush(worker);
}

bool write_span(Worker* worker, Span* span) {
  const AreaRecord& area = *span->area;
  span->worker = worker->number;
  span->first_extent = worker->extent_count;
  if ((area.flags & format::kFileGone) != 0) return gather_gone_file(worker, span);
  const bool has_file = format::shows_file(area.kind) || area.kind == AreaKind::kSharedReadOnly ||
                        area.kind == AreaKind::kSharedFile || area.kind == AreaKind::kSharedObject;
  const PageKind absent = has_file ? PageKind::kFile : PageKind::kZero;
  if (area.kind == AreaKind::kVdso)
    return gather_run(worker, span, span->begin, span->end);  // to be compared with the next kernel's
  if (!format::has_own_pages(area.kind)) {
    return add_extent(worker, span, span->begin, (span->end - span->begin) / kPageSize, absent, 0);
  }
  if ((area.protection & PROT_READ) == 0) {
    const auto result = sys::protect(span->begin, span->end - span->begin, PROT_READ);
    if (result.error() == sys::kEperm) return gather_gone_file(worker, span);  // sealed; /proc/self/mem reads it all the same
    if (result.failed()) return fail(worker, result.error());
  }
  constexpr unsigned kRuns = 64;
  PageRun runs[kRuns];
  std::uint64_t covered = span->begin;
  for (std::uint64_t at = span->begin; at < span->end;) {
    const int count = worker->map->find(&at, span->end, runs, kRuns);
    if (count < 0) return fail(worker, sys::kEio);
    for (int i = 0; i < count; ++i) {
      if (!add_extent(worker, span, covered, (runs[i].begin - covered) / kPageSize, absent, 0)) return false;
      const auto gather = runs[i].is_present ? gather_run : gather_swapped_run;
      if (!gather(worker, span, runs[i].begin, runs[i].end)) return false;
      covered = runs[i].end;
    }
  }
  return add_extent(worker, span, covered, (span->end - covered) / kPageSize, absent, 0);
}

void work(Worker* worker) {
  Plan* plan = worker->plan;
  for (;;) {
    const std::uint64_t index = __atomic_fetch_add(&plan->next_span, 1, __ATOMIC_RELAXED);
    if (index >= plan->span_count || !write_span(worker, &plan->spans[index])) break;
  }
  if (__atomic_load_n(&plan->output->error, __ATOMIC_RELAXED) == 0) flush(worker);
}

int work_in_thread(void* argument) {
  auto* worker = static_cast<Worker*>(argument);
  Plan* plan = worker->plan;
  work(worker);
  __atomic_fetch_sub(&plan->working, 1, __ATOMIC_RELEASE);
  sys::futex_wake(&plan->working);
  return 0;
}

void* take_memory(std::size_t size) {
  const auto room = sys::map(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  return room.failed() ? nullptr : reinterpret_cast<void*>(room.value());
}

bool prepare_worker(Plan* plan, Worker* worker, std::uint32_t number, PageMap* map) {
  worker->plan = plan;
  worker->number = number;
  worker->map = map;
  worker->bounce = static_cast<std::uint8_t*>(take_memory(format::kMaxFrameSize));
  worker->memory_fd = static_cast<int>(sys::open("/proc/self/mem", O_RDONLY).value());
  for (worker->extent_capacity = 256U << 20; worker->extent_capacity >= 65536; worker->extent_capacity /= 2) {
    worker->extents = static_cast<Extent*>(take_memory(worker->extent_capacity * sizeof(Extent)));
    if (worker->extents != nullptr) break;
  }
  return worker->bounce != nullptr && worker->extents != nullptr && map->is_open() && make_tools(*plan->output, &worker->tools);
}

bool plan_spans(Plan* plan) {
  const Collector& collector = *plan->collector;
  std::uint64_t count = 0;
  for (unsigned i = 0; i < collector.area_count; ++i)
    count += (collector.areas[i]->end - collector.areas[i]->start) / kSpanBytes + 1;
  plan->spans = static_cast<Span*>(take_memory(count * sizeof(Span)));
  if (plan->spans == nullptr) return false;
  for (unsigned i = 0; i < collector.area_count; ++i) {
    const AreaRecord* area = collector.areas[i];
    for (std::uint64_t at = area->start; at < area->end;) {
      const std::uint64_t end = area->end - at > kSpanBytes ? at + kSpanBytes : area->end;
      plan->spans[plan->span_count++] = {area, at, end, 0, 0, 0, 0};
      at = end;
    }
  }
  return true;
}

unsigned count_cpus() {
  std::uint64_t set[16]{};
  const auto bytes = sys::call(__NR_sched_getaffinity, 0, sizeof(set), set);
  unsigned count = 0;
  for (std::uint64_t word : set) {
    for (; word != 0; word &= word - 1) ++count;
  }
  if (bytes.failed() || count == 0) return 1;
  return count < kMaxWorkers ? count : kMaxWorkers;
}

// Consecutive spans' extents, joined where one goes on in the next; one record.
bool add_extents(Plan* plan, Worker* const* workers) {
  Buffer* index = &plan->collector->index;
  format::RecordHeader header{static_cast<std::uint16_t>(format::RecordType::kExtents), 1, 0};
  const std::size_t header_at = index->size();
  index->add(&header, sizeof(header));
  for (std::uint64_t i = 0; i < plan->span_count; ++i) {
    const Span& span = plan->spans[i];
    index->add(&workers[span.worker]->extents[span.first_extent], span.extent_count * sizeof(Extent));
  }
  if (index->is_full()) return false;
  header.length = static_cast<std::uint32_t>(index->size() - header_at - sizeof(header));
  memcpy(index->data() + header_at, &header, sizeof(header));
  return true;
}

// About what there is to write: resident pages that are not of files. proc_pid_statm(5).
std::uint64_t resident_bytes() {
  char text[128];
  if (sys::read_file("/proc/self/statm", text, sizeof(text)).failed()) return 0;
  const char* at = text;
  std::uint64_t pages[3]{};
  for (std::uint64_t& value : pages) {
    value = sys::parse_decimal(&at);
    sys::skip_spaces(&at);
  }
  return pages[1] > pages[2] ? (pages[1] - pages[2]) * kPageSize : 0;
}

}  // namespace

bool write_pages(Collector* collector, Output* output) {
  Plan plan{collector, output, nullptr, 0, 0, 0};
  __atomic_store_n(&g_state.control->progress_total, resident_bytes(), __ATOMIC_RELAXED);
  if (!plan_spans(&plan)) return refuse_io(collector, "write", output->path, sys::kEnomem);
  Worker* workers[kMaxWorkers]{};
  alignas(PageMap) char map_room[kMaxWorkers][sizeof(PageMap)];
  const unsigned wanted = count_cpus();
  unsigned count = 0;
  for (; count < wanted; ++count) {
    workers[count] = static_cast<Worker*>(take_memory(sizeof(Worker)));
    if (workers[count] == nullptr) break;
    auto* map = new (map_room[count]) PageMap;
    if (!prepare_worker(&plan, workers[count], count, map)) break;
  }
  if (count == 0) return refuse_io(collector, "write", output->path, sys::kEnomem);
  constexpr unsigned long kThread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
  for (unsigned i = 1; i < count; ++i) {
    auto* stack = static_cast<char*>(take_memory(kWorkerStack));
    if (stack == nullptr) break;
    __atomic_fetch_add(&plan.working, 1, __ATOMIC_RELAXED);
    if (ckpt_clone_on(kThread, stack + kWorkerStack - 64, work_in_thread, workers[i]) < 0)
      __atomic_fetch_sub(&plan.working, 1, __ATOMIC_RELAXED);
  }
  work(workers[0]);
  for (std::uint32_t left = 0; (left = __atomic_load_n(&plan.working, __ATOMIC_ACQUIRE)) != 0;) {
    sys::futex_wait(&plan.working, left, -1).ignore();
  }
  if (output->error != 0) return refuse_io(collector, "write", output->path, output->error);
  return add_extents(&plan, workers) || refuse_io(collector, "write the index of", output->path, sys::kEnomem);
}

}  // namespace ckpt
