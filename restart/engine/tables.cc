// Threads with a table of descriptors of their own (CLONE_FILES): each takes a copy of the process's, as soon as that is complete,
// and makes its own of it. What is for threads only goes from the process's afterwards.
#include <linux/sched.h>

#include "restart/engine/engine.h"

namespace ckpt::engine {

namespace {

using format::ThreadDescriptorRecord;

constexpr int kCloseOnExec = 02000000, kSetFlags = 2;  // O_CLOEXEC, F_SETFD

void close_between(std::int32_t first, std::int32_t last) {
  if (first <= last) sys::call(__NR_close_range, first, last, 0).ignore();
}

// From the same number, or from one above all that are given out.
void give_out(const Engine& engine, const ThreadDescriptorRecord& own) {
  const auto result = own.source == own.fd ? sys::call(__NR_fcntl, own.fd, kSetFlags, own.flags)
                                           : sys::call(__NR_dup3, own.source, own.fd, own.flags != 0 ? kCloseOnExec : 0);
  if (result.failed()) die_at(engine, "cannot give a thread its descriptor", static_cast<std::uint64_t>(own.fd), result.error());
}

// `first` is the mark of the thread's table, and its descriptors follow, ascending.
void leave_own(const Engine& engine, const ThreadDescriptorRecord* first, const ThreadDescriptorRecord* end) {
  const auto* last = first + 1;
  for (; last != end && last->tid == first->tid; ++last) give_out(engine, *last);
  for (const auto* own = first + 1; own != last; ++own) close_between(own[-1].fd + 1, own->fd - 1);
  close_between(last[-1].fd + 1, INT32_MAX);
}

}  // namespace

void take_table(Engine* engine, std::int32_t tid) {
  const auto* all = list<ThreadDescriptorRecord>(*engine, engine->hand->tables);
  const auto* end = all + engine->hand->tables.count;
  const auto* first = all;
  while (first != end && first->tid != tid) ++first;
  if (first == end) return;
  while (__atomic_load_n(&engine->has_files, __ATOMIC_ACQUIRE) == 0) sys::futex_wait(&engine->has_files, 0, -1).ignore();
  const auto result = sys::call(__NR_unshare, CLONE_FILES);
  if (result.failed()) die(*engine, "cannot give a thread descriptors of its own", result.error());
  leave_own(*engine, first, end);
  __atomic_fetch_add(&engine->tables, 1, __ATOMIC_RELEASE);
  sys::futex_wake(&engine->tables);
}

void share_out_tables(Engine* engine) {
  const auto* all = list<ThreadDescriptorRecord>(*engine, engine->hand->tables);
  std::uint32_t count = 0;
  for (std::uint64_t i = 0; i < engine->hand->tables.count; ++i) count += all[i].fd < 0 ? 1 : 0;
  __atomic_store_n(&engine->has_files, 1, __ATOMIC_RELEASE);
  sys::futex_wake(&engine->has_files);
  for (std::uint32_t done = 0; (done = __atomic_load_n(&engine->tables, __ATOMIC_ACQUIRE)) < count;) {
    sys::futex_wait(&engine->tables, done, -1).ignore();
  }
  const auto* sources = list<std::int32_t>(*engine, engine->hand->for_threads);
  for (std::uint64_t i = 0; i < engine->hand->for_threads.count; ++i) sys::close(sources[i]);
}

}  // namespace ckpt::engine
