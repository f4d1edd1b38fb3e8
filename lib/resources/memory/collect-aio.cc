// Rings of Linux AIO. The kernel does not tell how many requests are in flight, and one that is could end in memory that is saved
// already. But it gives out no more than so many: those that are free now are counted by taking them all, for requests that wait on
// an event of ours, on each CPU, for each may keep some back (fs/aio.c: get_reqs_available). What is missing then is in flight.
#include <linux/aio_abi.h>

#include "lib/resources/memory/collect.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using format::AioEvent;
using format::AioRing;

constexpr unsigned kMaxCpus = 8192;
constexpr std::uint32_t kPollIn = 1;

struct CpuSet {
  std::uint64_t bits[kMaxCpus / 64];
};

AioEvent* events_of(AioRing* ring) { return reinterpret_cast<AioEvent*>(ring + 1); }

std::uint32_t tail_of(const AioRing* ring) { return __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE) % ring->size; }

struct Cpus {
  unsigned count = 0;  // 0: not known
  unsigned end = 0;    // the highest number and one
};

// CPUs that the machine may ever have: "0-3" or "0,2-3".
Cpus possible_cpus() {
  char text[512];
  Cpus cpus;
  if (sys::read_file("/sys/devices/system/cpu/possible", text, sizeof(text)).failed()) return cpus;
  for (const char* at = text; *at >= '0' && *at <= '9';) {
    const std::uint64_t first = sys::parse_decimal(&at);
    if (*at == '-') ++at;
    const std::uint64_t last = at[-1] == '-' ? sys::parse_decimal(&at) : first;
    if (last < first || last >= kMaxCpus) return {};
    cpus.count += static_cast<unsigned>(last - first + 1);
    cpus.end = static_cast<unsigned>(last + 1);
    if (*at == ',') ++at;
  }
  return cpus;
}

// Requests that the context can give out: CPUs fetch them in batches, and what is less than one is never used.
std::uint32_t capacity_of(const AioRing& ring, unsigned cpus) {
  const std::uint32_t all = ring.size - 1;
  const std::uint32_t batch = all / (cpus * 4) != 0 ? all / (cpus * 4) : 1;
  return all / batch * batch;
}

// All free requests of the context, each waiting for `event`. Leaves the thread on any CPU.
std::uint32_t take_requests(AioRing* ring, unsigned cpus, int event, std::uint64_t mark, iocb** list) {
  iocb request{};
  request.aio_data = mark;
  request.aio_lio_opcode = IOCB_CMD_POLL;
  request.aio_fildes = static_cast<std::uint32_t>(event);
  request.aio_buf = kPollIn;
  for (std::uint32_t i = 0; i < ring->size; ++i) list[i] = &request;
  std::uint32_t taken = 0;
  for (unsigned cpu = 0; cpu < cpus; ++cpu) {
    CpuSet one{};
    one.bits[cpu / 64] = 1ULL << cpu % 64;
    if (sys::call(__NR_sched_setaffinity, 0, sizeof(one), &one).failed()) continue;
    for (;;) {
      const auto result = sys::call(__NR_io_submit, ring, ring->size, list);
      if (result.failed() || result.value() == 0) break;
      taken += static_cast<std::uint32_t>(result.value());
    }
  }
  return taken;
}

// Gives them back: their events are there once `count` of ours are in the ring. Returns the number of the program's.
std::uint32_t await_requests(AioRing* ring, std::uint64_t mark, std::uint32_t count) {
  for (;;) {
    std::uint32_t others = 0;
    std::uint32_t own = 0;
    for (std::uint32_t at = ring->head % ring->size; at != tail_of(ring); at = (at + 1) % ring->size) {
      ++(events_of(ring)[at].data == mark ? own : others);
    }
    if (own >= count) return others;
    const __kernel_timespec pause{0, 100'000};
    sys::call(__NR_nanosleep, &pause, nullptr).ignore();
  }
}

// Takes our events out of the ring: the program's move up to its end.
void remove_own(AioRing* ring, std::uint64_t mark) {
  const std::uint32_t size = ring->size;
  const std::uint32_t head = ring->head % size;
  std::uint32_t to = tail_of(ring);
  for (std::uint32_t at = to; at != head;) {
    at = (at + size - 1) % size;
    if (events_of(ring)[at].data == mark) continue;
    to = (to + size - 1) % size;
    events_of(ring)[to] = events_of(ring)[at];
  }
  __atomic_store_n(&ring->head, to, __ATOMIC_RELEASE);
}

struct Count {
  bool has_context;
  std::uint32_t in_flight;
};

Count count_in_flight(AioRing* ring, const Cpus& cpus, int event, iocb** list) {
  const auto mark = reinterpret_cast<std::uint64_t>(list);  // an address of ours: the program has no such
  CpuSet before{};
  const auto size = sys::call(__NR_sched_getaffinity, 0, sizeof(before), &before);
  if (sys::call(__NR_io_submit, ring, 0, list).failed()) return {false, 0};
  const std::uint32_t taken = take_requests(ring, cpus.end, event, mark, list);
  if (!size.failed()) sys::call(__NR_sched_setaffinity, 0, size.value(), &before).ignore();
  const std::uint64_t one = 1;
  sys::write(event, &one, sizeof(one)).ignore();
  const std::uint32_t others = await_requests(ring, mark, taken);
  remove_own(ring, mark);
  return {true, capacity_of(*ring, cpus.count) - taken - others};
}

bool add_ring(Collector* collector, AioRing* ring, bool has_context) {
  std::uint32_t count = 0;
  for (std::uint32_t at = ring->head % ring->size; has_context && at != tail_of(ring); at = (at + 1) % ring->size) ++count;
  auto* record = collector->add_record<format::AioRingRecord>(format::RecordType::kAioRing, count * sizeof(AioEvent));
  if (record == nullptr) return true;
  *record = {reinterpret_cast<std::uint64_t>(ring), has_context ? 1U : 0U, count};
  auto* events = reinterpret_cast<AioEvent*>(record + 1);
  for (std::uint32_t i = 0; i < count; ++i) events[i] = events_of(ring)[(ring->head + i) % ring->size];
  return true;
}

Message& refuse_ring(Collector* collector, const AioRing* ring) {
  return collector->refuse()
      .add("memory at 0x")
      .add_hex(reinterpret_cast<std::uint64_t>(ring))
      .add(": a Linux AIO context (io_setup) ");
}

}  // namespace

bool collect_aio_ring(Collector* collector, std::uint64_t begin, std::uint64_t end) {
  auto* ring = reinterpret_cast<AioRing*>(begin);
  const bool is_whole = ring->size > 1 && ring->size <= (end - begin - sizeof(AioRing)) / sizeof(AioEvent);
  const Cpus cpus = possible_cpus();
  if (ring->magic != AioRing::kMagic || ring->incompatible_features != 0 || ring->header_size != sizeof(AioRing) || !is_whole ||
      cpus.count == 0) {
    refuse_ring(collector, ring).add("can't be saved here; end it (io_destroy) and try again");
    return false;
  }
  const std::uint64_t room = ring->size * sizeof(iocb*);
  const sys::Fd event(sys::call(__NR_eventfd2, 0, 0));
  const auto list = sys::map(0, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  if (!event.is_open() || list.failed()) {
    refuse_ring(collector, ring).add("can't be examined: no descriptor or no memory left");
    return false;
  }
  const Count count = count_in_flight(ring, cpus, event.get(), reinterpret_cast<iocb**>(list.value()));
  sys::unmap(static_cast<std::uint64_t>(list.value()), room).ignore();
  if (count.in_flight == 0) return add_ring(collector, ring, count.has_context);
  refuse_ring(collector, ring).add("has requests in flight (").add_number(count.in_flight).add("); try again when they have ended");
  return collector->postpone();
}

}  // namespace ckpt
