// The program's side of the help that a trigger with more rights gives. All threads stand while descriptors come, so the kernel
// hands out rising numbers.
#include "lib/runtime/help.h"

#include <linux/poll.h>

#include "lib/runtime/checkpoint.h"
#include "lib/runtime/process-save.h"

namespace ckpt {

namespace {

constexpr int kUnix = 1, kSeqPacket = 5, kCloseOnExec = 02000000;
constexpr int kSocketLevel = 1, kRights = 1;
constexpr int kReceiveCloseOnExec = 0x40000000, kNoSignal = 0x4000;

// As the kernel has them (recvmsg(2)).
struct Vector {
  void* base;
  std::size_t size;
};
struct Control {
  std::size_t length = 0;
  int level = 0, type = 0;
  int fds[2] = {-1, -1};
};
struct Header {
  void* name = nullptr;
  int name_size = 0;
  Vector* vectors = nullptr;
  std::size_t vector_count = 0;
  Control* control = nullptr;
  std::size_t control_size = 0;
  unsigned flags = 0;
};

bool receive_grant(Help* help) {
  format::HelpGrant grant{};
  Vector vector{&grant, sizeof(grant)};
  Control control;
  Header header;
  header.vectors = &vector;
  header.vector_count = 1;
  header.control = &control;
  header.control_size = sizeof(control);
  const auto got = sys::call(__NR_recvmsg, help->socket.get(), &header, kReceiveCloseOnExec);
  if (got.failed() || got.value() != sizeof(grant) || control.level != kSocketLevel || control.type != kRights) return false;
  help->lock = sys::Fd(control.fds[0]);
  help->image = sys::Fd(control.length == sizeof(control) ? control.fds[1] : -1);  // cut where no descriptor was left
  help->generation = grant.generation;
  return help->image.is_open();
}

}  // namespace

bool ask_for_help(Help* help) {
  constexpr std::int64_t kLookAgainMs = 20;
  auto* word = &g_state.control->help;
  int ends[2];
  if (sys::call(__NR_socketpair, kUnix, kSeqPacket | kCloseOnExec, 0, ends).failed()) return false;
  const sys::Fd theirs(ends[0]);
  help->socket = sys::Fd(ends[1]);
  __atomic_store_n(word, theirs.get() + 1, __ATOMIC_RELEASE);
  sys::futex_wake(&g_state.control->stage, true);
  const std::int64_t begin = sys::clock_ns(CLOCK_MONOTONIC);
  bool is_granted = false;
  while (!is_granted && __atomic_load_n(word, __ATOMIC_ACQUIRE) != format::kNoHelp &&
         sys::clock_ns(CLOCK_MONOTONIC) - begin < timeout_ns()) {
    pollfd entry{help->socket.get(), POLLIN, 0};
    const __kernel_timespec pause{0, kLookAgainMs * 1'000'000};
    const auto ready = sys::call(__NR_ppoll, &entry, 1, &pause, nullptr, 0);
    if (ready.failed() || ready.value() == 0) continue;
    is_granted = receive_grant(help);
    if (!is_granted) break;
  }
  __atomic_store_n(word, 0, __ATOMIC_RELEASE);
  return is_granted;
}

int ask_for_commit(int socket) {
  const char done = 1;
  if (sys::call(__NR_sendto, socket, &done, 1, kNoSignal, nullptr, 0).failed()) return sys::kEio;
  sys::futex_wake(&g_state.control->stage, true);
  std::int32_t error = 0;
  const auto got = sys::read(socket, &error, sizeof(error));
  return got.failed() || got.value() != sizeof(error) ? sys::kEio : error;  // the trigger has been killed
}

}  // namespace ckpt
