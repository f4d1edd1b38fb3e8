// sysv: see rebuild-plain.h.
#include "lib/resources/sysv/rebuild-plain.h"

#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>

#include "lib/common/error.h"

namespace ckpt {

namespace {

using format::SystemVObject;

constexpr std::chrono::seconds kPatience{300};  // a whole round is 4.2 million objects

// What there is of an id on this machine.
struct Found {
  bool is_there = false;
  ipc_perm access{};
  std::uint64_t size = 0;  // bytes of a segment, semaphores of a set
  bool is_used = false;
};

Found look_at(SystemVKind kind, int id) {
  Found found;
  int result = -1;
  if (kind == SystemVKind::kSegment) {
    shmid_ds status{};
    result = shmctl(id, IPC_STAT, &status);
    found = {true, status.shm_perm, status.shm_segsz, status.shm_nattch != 0};
  } else if (kind == SystemVKind::kSet) {
    semid_ds status{};
    result = semctl(id, 0, IPC_STAT, &status);
    found = {true, status.sem_perm, status.sem_nsems, false};
  } else {
    msqid_ds status{};
    result = msgctl(id, IPC_STAT, &status);
    found = {true, status.msg_perm, 0, false};
  }
  if (result != 0) found = {errno == EACCES, {}, 0, true};
  return found;
}

int id_of_key(SystemVKind kind, key_t key) {
  if (key == IPC_PRIVATE) return -1;
  const int id = kind == SystemVKind::kSegment ? shmget(key, 0, 0) : kind == SystemVKind::kSet ? semget(key, 0, 0) : msgget(key, 0);
  return id < 0 && errno == EACCES ? 0 : id;
}

void remove(SystemVKind kind, int id) {
  if (kind == SystemVKind::kSegment) shmctl(id, IPC_RMID, nullptr);
  if (kind == SystemVKind::kSet) semctl(id, 0, IPC_RMID);
  if (kind == SystemVKind::kQueue) msgctl(id, IPC_RMID, nullptr);
}

// So that it can be filled; its own mode comes later.
bool open_up(SystemVKind kind, int id) {
  constexpr unsigned kOwnerOnly = 0600;
  if (kind == SystemVKind::kSegment) {
    shmid_ds status{};
    if (shmctl(id, IPC_STAT, &status) != 0) return false;
    status.shm_perm.mode = kOwnerOnly;
    return shmctl(id, IPC_SET, &status) == 0;
  }
  if (kind == SystemVKind::kSet) {
    semid_ds status{};
    if (semctl(id, 0, IPC_STAT, &status) != 0) return false;
    status.sem_perm.mode = kOwnerOnly;
    return semctl(id, 0, IPC_SET, &status) == 0;
  }
  msqid_ds status{};
  if (msgctl(id, IPC_STAT, &status) != 0) return false;
  status.msg_perm.mode = kOwnerOnly;
  return msgctl(id, IPC_SET, &status) == 0;
}

bool is_left_over(const Found& found, const SystemVObject& object, std::uint64_t size) {
  return found.is_there && !found.is_used && found.access.__key == key_of(object) && found.access.cuid == geteuid() &&
         found.size == size;
}

std::string find_obstacle(SystemVKind kind, const SystemVObject& object, std::uint64_t size) {
  const Found found = look_at(kind, object.id);
  if (is_left_over(found, object, size)) return "";
  if (found.is_there) return name_of(kind, object.id) + " is somebody else's" + (found.is_used ? ", or in use" : "");
  const int other = id_of_key(kind, key_of(object));
  if (other < 0) return "";
  char key[16];
  std::snprintf(key, sizeof key, "0x%x", static_cast<unsigned>(object.key));
  return "the key " + std::string(key) + " of " + name_of(kind, object.id) + " is that of another object";
}

}  // namespace

std::string name_of(SystemVKind kind, int id) {
  const char* name = kind == SystemVKind::kSegment ? "shared memory"
                     : kind == SystemVKind::kSet   ? "semaphore set"
                                                   : "message queue";
  return std::string("System V ") + name + " " + std::to_string(id);
}

key_t key_of(const SystemVObject& object) { return (object.mode & format::kRemoved) != 0 ? IPC_PRIVATE : object.key; }

std::string find_system_v_obstacle(const JobImage& job) {
  std::string obstacle;
  const auto look = [&](SystemVKind kind, const SystemVObject& object, std::uint64_t size) {
    if (obstacle.empty()) obstacle = find_obstacle(kind, object, size);
  };
  for (const ProcessImage& process : job.processes) {
    for (const auto& segment : process.segments) look(SystemVKind::kSegment, segment.object, segment.size);
    for (const auto& set : process.semaphore_sets) look(SystemVKind::kSet, set.record.object, set.values.size());
    for (const auto& queue : process.message_queues) look(SystemVKind::kQueue, queue.object, 0);
  }
  return obstacle;
}

bool take_or_make(SystemVKind kind, const SystemVObject& object, const std::function<int()>& create) {
  if (look_at(kind, object.id).is_there) {  // the plan has seen that it is ours
    if (open_up(kind, object.id)) return true;
    throw Error::from_errno("take again", name_of(kind, object.id), errno, ExitCode::kRunner);
  }
  const auto end = std::chrono::steady_clock::now() + kPatience;
  for (;;) {
    const int id = create();
    if (id == object.id) return false;
    if (id < 0) throw Error::from_errno("create", name_of(kind, object.id), errno, ExitCode::kRunner);
    remove(kind, id);
    if (std::chrono::steady_clock::now() > end)
      throw Error::plain("the kernel does not come to the id of " + name_of(kind, object.id), ExitCode::kRunner);
  }
}

}  // namespace ckpt
