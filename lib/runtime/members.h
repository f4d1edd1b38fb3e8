// The other processes of the job: found, knocked at, and gathered until none is left that runs.
#pragma once

#include "lib/format/session.h"
#include "lib/resources/collector.h"

namespace ckpt {

// Whether this very process (not a later one with its number) still lives, and not as a zombie.
bool is_process_alive(int pid, std::uint64_t start_time);
std::uint64_t start_time_of(int pid);

// Processes that have been looked at: a later look, while all stand, costs next to nothing.
class Known {
 public:
  static constexpr std::size_t kStrangerBytes = (4U << 20) / 8;  // a bit for each number that there can be (PID_MAX_LIMIT)
  static constexpr std::size_t kPlaces = 2UL * format::kMaxMembers;
  struct Place {
    int pid;
    std::uint64_t start_time, stack;  // of its main thread's stack: another one after an exec
    bool is_listening;                // its main thread, at the first door, when it was last asked
  };
  static constexpr std::size_t kBytes = kStrangerBytes + kPlaces * sizeof(Place);
  explicit Known(void* zeroed)
      : strangers_(static_cast<std::uint64_t*>(zeroed)),
        members_(zeroed != nullptr ? reinterpret_cast<Place*>(static_cast<char*>(zeroed) + kStrangerBytes) : nullptr) {}

  // Has nothing to do with the job.
  bool is_stranger(int pid) const { return strangers_ != nullptr && (strangers_[pid / 64 % kWords] >> pid % 64 & 1) != 0; }
  void add_stranger(int pid) {
    if (strangers_ != nullptr) strangers_[pid / 64 % kWords] |= 1ULL << pid % 64;
  }
  // Has mapped the control page, and is the same process with the same program.
  bool is_member(int pid, std::uint64_t start_time, std::uint64_t stack) const {
    const Place* place = place_of(pid);
    return place != nullptr && place->pid == pid && place->start_time == start_time && place->stack == stack;
  }
  void add_member(int pid, std::uint64_t start_time, std::uint64_t stack, bool is_listening) {
    Place* place = place_of(pid);
    if (place == nullptr || stack == 0) return;  // 0: the kernel does not tell
    *place = {pid, start_time, stack, is_listening};
    last_ = place;
  }
  bool is_listening(int pid) const {
    const Place* place = place_of(pid);
    return place != nullptr && place->pid == pid && place->is_listening;
  }
  // True: one of them lives; false: that can't be told at a glance.
  bool has_living_member() const { return last_ != nullptr && is_process_alive(last_->pid, last_->start_time); }

 private:
  static constexpr std::size_t kWords = kStrangerBytes / 8;
  // That of the number, or the free one where it belongs; nullptr: there is no room.
  Place* place_of(int pid) const {
    for (std::size_t i = 0; members_ != nullptr && i < kPlaces; ++i) {
      Place* place = &members_[(static_cast<unsigned>(pid) + i) % kPlaces];
      if (place->pid == pid || place->pid == 0) return place;
    }
    return nullptr;
  }
  std::uint64_t* strangers_;
  Place* members_;
  Place* last_ = nullptr;  // that was added
};

// What a look at /proc found.
struct JobLook {
  unsigned members = 0;     // other processes that map our control page
  unsigned coming = 0;      // children that are about to (between exec and our constructor, or in a vfork)
  int coming_pid = 0;       // one of them
  bool is_refused = false;  // a descendant that can't be controlled; `message` names it
};

// Looks at all processes. With a session, members that it does not know yet are entered and knocked at. A ckpt-trigger
// is not of the job, whoever started it. False: /proc can't be read, or there are too many members.
bool look_at_job(format::Session* session, int session_fd, Known* seen, JobLook* look, Message* message);

// A look before anybody is stopped: who is there, and is somebody among them who can't be saved? Programs that have just been
// started get a second to come up. False: `message` names the one.
bool look_before(Known* seen, Message* message);
void say_out_of_control(Message* message, int pid);

// Adds to a line why a process does not come.
void say_what_keeps(Message* message, int pid);

// Members that had been stopped, were let go to come, and are too late now: they stop again.
void stop_latecomers(const format::Session& session);

// Knocks again at members that have not come, and notices those that ended. Returns how many are still awaited.
unsigned count_awaited(format::Session* session, int session_fd, int* awaited);

// The last process number that the kernel gave (proc_loadavg(5)).
std::uint64_t last_pid();

}  // namespace ckpt
