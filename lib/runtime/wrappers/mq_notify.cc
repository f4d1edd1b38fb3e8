// Wrapper of mq_notify(3): of a notification the kernel shows who is told and by which signal, but not with which value.
//
// And it takes it back when a thread of the process closes any descriptor of the queue, even a copy (aside.h).
#include "lib/runtime/state.h"
#include "lib/runtime/wrappers/libc.h"
#include "lib/sys/file-facts.h"

namespace {

using namespace ckpt;

struct Event {  // struct sigevent
  std::uint64_t value;
  std::int32_t signal;
  std::int32_t kind;
};

using Notify = int(int, const Event*);

constinit Notify* libc_notify = nullptr;

int raw_notify(int fd, const Event* event) {
  const auto result = sys::call(__NR_mq_notify, fd, event);
  return result.failed() ? fail_with(result.error()) : 0;
}

void note(int fd, const Event* event) {
  FileFacts facts{};
  if (tables() == nullptr || read_facts(fd, "", &facts).failed()) return;
  format::QueueNotificationRecord* free = nullptr;
  for (format::QueueNotificationRecord& entry : g_state.tables->notifications) {
    if (entry.inode == facts.inode || entry.fd == fd) entry = {};
    if (entry.inode == 0) free = &entry;
  }
  if (event != nullptr && free != nullptr) *free = {facts.inode, event->value, fd, event->kind, event->signal, 0};
}

}  // namespace

extern "C" [[gnu::visibility("default")]] int mq_notify(int fd, const Event* event) {
  if (libc_notify == nullptr) libc_notify = reinterpret_cast<Notify*>(find_in_libc("mq_notify"));
  g_state.has_notification = 1;
  const int result = libc_notify != nullptr ? libc_notify(fd, event) : raw_notify(fd, event);
  if (result == 0) note(fd, event);
  return result;
}
