// sysv: see rebuild.h. The kernel gives the next new object the id that is written to /proc/sys/kernel/*_next_id, if it is free.
#include "lib/resources/sysv/rebuild.h"

#include <fcntl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <string>

#include "lib/common/error.h"
#include "lib/common/fd.h"
#include "lib/resources/sysv/rebuild-plain.h"

namespace ckpt {

namespace {

using format::SystemVMessage;
using format::SystemVObject;

constexpr int kForNow = IPC_CREAT | IPC_EXCL | 0600;

Error cannot(const char* action, const std::string& name) { return Error::from_errno(action, name, errno, ExitCode::kRunner); }

// False: not allowed.
bool ask_for_id(SystemVKind kind, int id) {
  const char* setting = kind == SystemVKind::kSegment ? "shm_next_id" : kind == SystemVKind::kSet ? "sem_next_id" : "msg_next_id";
  const Fd fd(open((std::string("/proc/sys/kernel/") + setting).c_str(), O_WRONLY | O_CLOEXEC));
  const std::string text = std::to_string(id);
  return fd.is_open() && write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

// `create` makes a new object and returns its id. True: the object was there already, with what is in it.
bool make_with_id(const RestartPlan& plan, SystemVKind kind, const SystemVObject& object, const std::function<int()>& create) {
  if (plan.is_plain) {
    return take_or_make(kind, object, [&] {
      ask_for_id(kind, object.id);  // root may; else ids are gone round
      return create();
    });
  }
  if (!ask_for_id(kind, object.id)) throw cannot("ask for the id of", name_of(kind, object.id));
  const int got = create();
  if (got < 0) throw cannot("create", name_of(kind, object.id));
  if (got != object.id) throw Error::plain("the kernel does not give its old id to " + name_of(kind, object.id), ExitCode::kRunner);
  return false;
}

void fill(const RestartPlan& plan, const FileContent& content, std::byte* to) {
  for (const auto& extent : content.extents) {
    const auto bytes = plan.image->read_frame(extent.frame);
    std::memcpy(to + extent.offset, bytes.data() + extent.frame_offset, extent.size);
  }
}

void make_segment(const RestartPlan& plan, const ProcessImage& process, const format::SegmentRecord& segment) {
  const SystemVObject& object = segment.object;
  const bool was_there =
      make_with_id(plan, SystemVKind::kSegment, object, [&] { return shmget(key_of(object), segment.size, kForNow); });
  void* memory = shmat(object.id, nullptr, 0);
  if (memory == reinterpret_cast<void*>(-1)) throw cannot("fill", name_of(SystemVKind::kSegment, object.id));
  if (was_there) std::memset(memory, 0, segment.size);
  fill(plan, process.contents.at(segment.content - 1), static_cast<std::byte*>(memory));
  shmdt(memory);
}

void make_set(const RestartPlan& plan, const SemaphoreSet& set) {
  const SystemVObject& object = set.record.object;
  make_with_id(plan, SystemVKind::kSet, object, [&] { return semget(object.key, static_cast<int>(set.values.size()), kForNow); });
  if (semctl(object.id, 0, SETALL, set.values.data()) != 0)
    throw cannot("set the values of", name_of(SystemVKind::kSet, object.id));
  const short by = set.values[0] == 0 ? 1 : -1;
  sembuf pair[2] = {{0, by, IPC_NOWAIT}, {0, static_cast<short>(-by), IPC_NOWAIT}};
  if (set.record.was_used != 0 && semop(object.id, pair, 2) != 0) throw cannot("use", name_of(SystemVKind::kSet, object.id));
}

void send_messages(const format::MessageQueueRecord& queue, std::vector<std::byte> bytes) {
  std::size_t at = 0;
  for (std::uint32_t i = 0; i < queue.count; ++i) {
    SystemVMessage header{};
    const bool has_header = bytes.size() - at >= sizeof(header);
    if (has_header) std::memcpy(&header, bytes.data() + at, sizeof(header));
    if (!has_header || header.size > bytes.size() - at - sizeof(header))
      throw Error::plain(name_of(SystemVKind::kQueue, queue.object.id) + " is damaged in the image", ExitCode::kRunner);
    // msgsnd(2) wants the type right before the bytes, and so they are.
    if (msgsnd(queue.object.id, bytes.data() + at + offsetof(SystemVMessage, type), header.size, IPC_NOWAIT) != 0)
      throw cannot("fill (see msgmax and msgmnb in proc(5))", name_of(SystemVKind::kQueue, queue.object.id));
    at = std::min(bytes.size(), format::align_up(at + sizeof(header) + header.size, 8));
  }
}

// What the limit of the system does not allow stays at that.
void set_limit(const format::MessageQueueRecord& queue, std::uint64_t max_bytes) {
  msqid_ds status{};
  if (msgctl(queue.object.id, IPC_STAT, &status) != 0) throw cannot("examine", name_of(SystemVKind::kQueue, queue.object.id));
  status.msg_qbytes = max_bytes;
  if (msgctl(queue.object.id, IPC_SET, &status) != 0 && errno != EPERM)
    throw cannot("set the limit of", name_of(SystemVKind::kQueue, queue.object.id));
}

void take_all_messages(const format::MessageQueueRecord& queue) {
  long message[2]{};
  while (msgrcv(queue.object.id, message, sizeof(message[1]), 0, IPC_NOWAIT | MSG_NOERROR) >= 0) {
  }
  if (errno != ENOMSG) throw cannot("empty", name_of(SystemVKind::kQueue, queue.object.id));
}

void make_queue(const RestartPlan& plan, const ProcessImage& process, const format::MessageQueueRecord& queue) {
  const bool was_there = make_with_id(plan, SystemVKind::kQueue, queue.object, [&] { return msgget(queue.object.key, kForNow); });
  if (was_there) take_all_messages(queue);
  set_limit(queue, queue.max_bytes);
  if (queue.count == 0) return;
  const FileContent& content = process.contents.at(queue.content - 1);
  std::vector<std::byte> bytes(content.size);
  fill(plan, content, bytes.data());
  send_messages(queue, std::move(bytes));
}

// Foreign owners do not exist in a user namespace: there the object stays ours.
template <typename Status>
void set_access(const SystemVObject& object, Status& status, ipc_perm& access, const std::function<int(Status*)>& set) {
  const uid_t uid = access.uid;
  const gid_t gid = access.gid;
  access.mode = static_cast<decltype(access.mode)>(object.mode & 0777);
  access.uid = object.uid;
  access.gid = object.gid;
  if (set(&status) == 0) return;
  access.uid = uid;
  access.gid = gid;
  if (set(&status) != 0) throw cannot("set the mode of", "System V object " + std::to_string(object.id));
}

void finish_segment(const SystemVObject& object) {
  const std::string name = name_of(SystemVKind::kSegment, object.id);
  shmid_ds status{};
  if (shmctl(object.id, IPC_STAT, &status) != 0) throw cannot("examine", name);
  set_access<shmid_ds>(object, status, status.shm_perm, [&](shmid_ds* to) { return shmctl(object.id, IPC_SET, to); });
  if ((object.mode & format::kLockedSegment) != 0 && shmctl(object.id, SHM_LOCK, nullptr) != 0)
    throw cannot("lock (see RLIMIT_MEMLOCK)", name);
  if ((object.mode & format::kRemoved) != 0 && shmctl(object.id, IPC_RMID, nullptr) != 0) throw cannot("remove", name);
}

void finish_set(const SystemVObject& object) {
  semid_ds status{};
  if (semctl(object.id, 0, IPC_STAT, &status) != 0) throw cannot("examine", name_of(SystemVKind::kSet, object.id));
  set_access<semid_ds>(object, status, status.sem_perm, [&](semid_ds* to) { return semctl(object.id, 0, IPC_SET, to); });
}

void finish_queue(const SystemVObject& object) {
  msqid_ds status{};
  if (msgctl(object.id, IPC_STAT, &status) != 0) throw cannot("examine", name_of(SystemVKind::kQueue, object.id));
  set_access<msqid_ds>(object, status, status.msg_perm, [&](msqid_ds* to) { return msgctl(object.id, IPC_SET, to); });
}

// One operation with undo and one without, that together change nothing but what will be undone. Where there is no room for them in
// one order, there is in the other.
bool add_undo(const format::SemaphoreUndoRecord& undo, short by) {
  const auto semaphore = static_cast<unsigned short>(undo.semaphore);
  sembuf pair[2] = {{semaphore, static_cast<short>(-by), IPC_NOWAIT | SEM_UNDO}, {semaphore, by, IPC_NOWAIT}};
  if (semop(undo.set, pair, 2) == 0) return true;
  std::swap(pair[0], pair[1]);
  return semop(undo.set, pair, 2) == 0;
}

}  // namespace

bool has_system_v(const JobImage& job) {
  return std::ranges::any_of(job.processes, [](const ProcessImage& process) {
    return !process.segments.empty() || !process.semaphore_sets.empty() || !process.message_queues.empty();
  });
}

void make_system_v(const RestartPlan& plan) {
  // In the order of their ids: so the kernel gives them out, where none can be chosen.
  std::multimap<std::int32_t, std::function<void()>> steps;
  for (const ProcessImage& process : plan.image->job().processes) {
    for (const auto& segment : process.segments) steps.emplace(segment.object.id, [&] { make_segment(plan, process, segment); });
    for (const SemaphoreSet& set : process.semaphore_sets) steps.emplace(set.record.object.id, [&] { make_set(plan, set); });
    for (const auto& queue : process.message_queues) steps.emplace(queue.object.id, [&] { make_queue(plan, process, queue); });
  }
  for (const auto& [id, step] : steps) step();
}

void finish_system_v(const RestartPlan& plan) {
  for (const ProcessImage& process : plan.image->job().processes) {
    for (const auto& segment : process.segments) finish_segment(segment.object);
    for (const SemaphoreSet& set : process.semaphore_sets) finish_set(set.record.object);
    for (const auto& queue : process.message_queues) finish_queue(queue.object);
  }
}

void restore_undo(const ProcessImage& process) {
  constexpr int kStep = 16383;  // half of what a semaphore can have: above it or below it there is so much room
  for (const auto& undo : process.semaphore_undos) {
    for (int left = undo.adjustment; left != 0;) {
      const int by = std::clamp(left, -kStep, kStep);
      if (!add_undo(undo, static_cast<short>(by)))
        throw Error::from_errno("restore what is undone of semaphore set", std::to_string(undo.set), errno, ExitCode::kRunner);
      left -= by;
    }
  }
}

}  // namespace ckpt
