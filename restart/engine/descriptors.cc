// What can be done with descriptors only when memory and threads are there: files that show them, locks, owners of signals,
// notifications.
#include <linux/fcntl.h>

#include "restart/engine/engine.h"

namespace ckpt::engine {

namespace {

using format::HandLock;
using format::HandOpen;
using format::HandOwner;
using format::HandWatch;
using format::LockKind;

constexpr int kSetOwner = 15, kSetSignal = 10, kAsync = 020000;  // F_SETOWN_EX, F_SETSIG, O_ASYNC

[[noreturn]] void die_of(const Engine& engine, const char* what, const char* path, int error) {
  sys::Text<4500> line;
  line.add(what).add_char(' ').add_quoted(path);
  die(engine, line.c_str(), error);
}

void open_late(const Engine& engine, const HandOpen& hand) {
  const int close_on_exec = hand.close_on_exec != 0 ? O_CLOEXEC : 0;
  if (hand.path == format::kNoPath) {
    const auto result = sys::call(__NR_dup3, hand.same_as, hand.fd, close_on_exec);
    if (result.failed()) die(engine, "cannot duplicate a descriptor", result.error());
    return;
  }
  const auto* path = reinterpret_cast<const char*>(engine.hand) + hand.path;
  const auto opened = sys::open(path, static_cast<int>(hand.flags));
  if (opened.failed()) die_of(engine, "cannot open", path, opened.error());
  if (hand.offset != 0) sys::call(__NR_lseek, opened.value(), hand.offset, 0).ignore();
  const auto result = sys::call(__NR_dup3, opened.value(), hand.fd, close_on_exec);
  if (result.failed()) die_of(engine, "cannot open", path, result.error());
  sys::close(static_cast<int>(opened.value()));
}

sys::SysResult set_lock(const HandLock& hand) {
  constexpr int kSetLease = 1024, kNow = 4 /* LOCK_NB */;
  const struct {
    std::int16_t type, whence;
    std::int64_t start, size;
    std::int32_t pid;
  } range{static_cast<std::int16_t>(hand.lock.type), 0, static_cast<std::int64_t>(hand.lock.start),
          static_cast<std::int64_t>(hand.lock.size), 0};
  switch (hand.lock.kind) {
    case LockKind::kProcess:
      return sys::call(__NR_fcntl, hand.fd, F_SETLK, &range);
    case LockKind::kDescription:
      return sys::call(__NR_fcntl, hand.fd, F_OFD_SETLK, &range);
    case LockKind::kWhole:
      return sys::call(__NR_flock, hand.fd, (hand.lock.type == F_WRLCK ? 2 : 1) | kNow);
    case LockKind::kLease:
      return sys::call(__NR_fcntl, hand.fd, kSetLease, hand.lock.type);
  }
  return sys::SysResult(-sys::kEinval);
}

void take_lock(const Engine& engine, const HandLock& hand) {
  const auto result = set_lock(hand);
  if (!result.failed()) return;
  const auto* path = reinterpret_cast<const char*>(engine.hand) + hand.path;
  const bool is_held = result.error() == sys::kEagain || result.error() == sys::kEacces;
  die_of(engine, is_held ? "another process holds the lock that the program had on" : "cannot lock", path,
         is_held ? 0 : result.error());
}

void set_owner(const Engine& engine, const HandOwner& hand) {
  const struct { std::int32_t type, owner; } wanted{hand.type, real_number(engine, hand.owner)};
  if (hand.owner != 0) sys::call(__NR_fcntl, hand.fd, kSetOwner, &wanted).ignore();
  if (hand.signal != 0) sys::call(__NR_fcntl, hand.fd, kSetSignal, hand.signal).ignore();
  const auto flags = sys::call(__NR_fcntl, hand.fd, F_GETFL);
  if (hand.is_async != 0 && !flags.failed()) sys::call(__NR_fcntl, hand.fd, F_SETFL, flags.value() | kAsync).ignore();
}

void add_watch(const Engine& engine, const HandWatch& hand) {
  constexpr unsigned kSetNext = 0x40044900;  // INOTIFY_IOC_SETNEXTWD, Linux 4.16
  const auto* path = reinterpret_cast<const char*>(engine.hand) + hand.path;
  sys::call(__NR_ioctl, hand.fd, kSetNext, hand.descriptor).ignore();
  const auto added = sys::call(__NR_inotify_add_watch, hand.fd, path, hand.mask);
  if (added.failed()) die_of(engine, "cannot watch", path, added.error());
  if (added.value() != hand.descriptor) die_of(engine, "the kernel does not give the old number to the watch of", path, 0);
}

}  // namespace

void open_late_files(const Engine& engine) {
  const auto* opens = list<HandOpen>(engine, engine.hand->opens);
  for (std::uint64_t i = 0; i < engine.hand->opens.count; ++i) open_late(engine, opens[i]);
}

void set_owners_and_locks(const Engine& engine) {
  const auto* owners = list<HandOwner>(engine, engine.hand->owners);
  for (std::uint64_t i = 0; i < engine.hand->owners.count; ++i) set_owner(engine, owners[i]);
  const auto* locks = list<HandLock>(engine, engine.hand->locks);
  for (std::uint64_t i = 0; i < engine.hand->locks.count; ++i) {
    if (locks[i].lock.kind != LockKind::kProcess) take_lock(engine, locks[i]);
  }
}

void set_own_locks(const Engine& engine) {
  const auto* locks = list<HandLock>(engine, engine.hand->locks);
  for (std::uint64_t i = 0; i < engine.hand->locks.count; ++i) {
    if (locks[i].lock.kind == LockKind::kProcess) take_lock(engine, locks[i]);
  }
  const auto* notifications = list<format::HandNotification>(engine, engine.hand->notifications);
  for (std::uint64_t i = 0; i < engine.hand->notifications.count; ++i) {
    const auto result = sys::call(__NR_mq_notify, notifications[i].fd, &notifications[i]);
    if (result.failed()) die(engine, "cannot ask again for the notification of a message queue", result.error());
  }
  const auto* watches = list<HandWatch>(engine, engine.hand->watches);
  for (std::uint64_t i = 0; i < engine.hand->watches.count; ++i) add_watch(engine, watches[i]);
}

}  // namespace ckpt::engine
