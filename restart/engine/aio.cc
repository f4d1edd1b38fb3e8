// Contexts of Linux AIO. The kernel makes a ring anywhere, and a context follows its ring when that is moved (fs/aio.c:
// aio_ring_mremap). What the program has not fetched yet is made by requests that end at once, whose events are then written over.
#include <linux/aio_abi.h>

#include "restart/engine/engine.h"

namespace ckpt::engine {

namespace {

using format::AioEvent;
using format::AioRing;
using format::HandRing;

constexpr int kMove = 1 | 2;  // MAYMOVE | FIXED

// The number of requests for which io_setup(2) makes a ring of this size: it doubles it, and adds two.
std::uint64_t requests_of(const HandRing& ring) { return ring.size / sizeof(AioEvent) / 2 - 2; }

void add_event(const Engine& engine, std::uint64_t context, int null) {
  char byte = 0;
  iocb request{};
  request.aio_lio_opcode = IOCB_CMD_PREAD;
  request.aio_fildes = static_cast<std::uint32_t>(null);
  request.aio_buf = reinterpret_cast<std::uint64_t>(&byte);
  request.aio_nbytes = 1;
  iocb* list[] = {&request};
  const auto result = sys::call(__NR_io_submit, context, 1, list);
  if (result.value() != 1) die(engine, "cannot fill a context of Linux AIO", result.error());
}

void fill_ring(const Engine& engine, const HandRing& ring) {
  if (ring.events.count == 0) return;
  const sys::Fd null(sys::open("/dev/null", O_RDONLY));
  auto* own = reinterpret_cast<AioRing*>(ring.address);
  for (std::uint64_t i = 0; i < ring.events.count; ++i) add_event(engine, ring.address, null.get());
  if (own->head != 0 || own->tail != ring.events.count) die(engine, "cannot fill a context of Linux AIO", sys::kEbusy);
  memcpy(own + 1, list<AioEvent>(engine, ring.events), ring.events.count * sizeof(AioEvent));
}

void make_ring(const Engine& engine, const HandRing& ring) {
  if (ring.has_context == 0) {
    const auto mapped = sys::map(ring.address, ring.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED);
    if (mapped.failed()) die_at(engine, "cannot map", ring.address, mapped.error());
    return;
  }
  aio_context_t context = 0;
  auto result = sys::call(__NR_io_setup, requests_of(ring), &context);
  if (result.failed()) die(engine, "cannot make a context of Linux AIO (see aio-max-nr)", result.error());
  const std::uint64_t room = reinterpret_cast<const AioRing*>(context)->size * sizeof(AioEvent) + sizeof(AioRing);
  if (room != ring.size) die(engine, "this machine has more CPUs, for which its rings of Linux AIO are larger", 0);
  result = sys::call(__NR_mremap, context, ring.size, ring.size, kMove, ring.address);
  if (result.failed()) die_at(engine, "cannot move a ring of Linux AIO to", ring.address, result.error());
  fill_ring(engine, ring);
}

}  // namespace

void make_aio_rings(const Engine& engine) {
  const auto* rings = list<HandRing>(engine, engine.hand->rings);
  for (std::uint64_t i = 0; i < engine.hand->rings.count; ++i) make_ring(engine, rings[i]);
}

}  // namespace ckpt::engine
