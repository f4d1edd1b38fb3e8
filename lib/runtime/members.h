// The other processes of the job: found, knocked at, and gathered until none is left that runs.
#pragma once

#include "lib/format/session.h"
#include "lib/resources/collector.h"

namespace ckpt {

// Processes that have been looked at and have nothing to do with the job: a later look, while all stand, costs next to nothing.
class Strangers {
 public:
  static constexpr std::size_t kBytes = (4U << 20) / 8;  // a bit for each number that there can be (PID_MAX_LIMIT)
  explicit Strangers(void* zeroed) : bits_(static_cast<std::uint64_t*>(zeroed)) {}
  bool has(int pid) const { return bits_ != nullptr && (bits_[pid / 64 % kWords] >> pid % 64 & 1) != 0; }
  void add(int pid) {
    if (bits_ != nullptr) bits_[pid / 64 % kWords] |= 1ULL << pid % 64;
  }

 private:
  static constexpr std::size_t kWords = kBytes / 8;
  std::uint64_t* bits_;
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
bool look_at_job(format::Session* session, int session_fd, Strangers* strangers, JobLook* look, Message* message);

// A look before anybody is stopped: who is there, and is somebody among them who can't be saved? Programs that have just been
// started get a second to come up. False: `message` names the one.
bool look_before(Strangers* strangers, Message* message);
void say_out_of_control(Message* message, int pid);

// Adds to a line why a process does not come.
void say_what_keeps(Message* message, int pid);

// Members that had been stopped, were let go to come, and are too late now: they stop again.
void stop_latecomers(const format::Session& session);

// Knocks again at members that have not come, and notices those that ended. Returns how many are still awaited.
unsigned count_awaited(format::Session* session, int session_fd, int* awaited);

// The last process number that the kernel gave (proc_loadavg(5)).
std::uint64_t last_pid();

// Whether this very process (not a later one with its number) still lives, and not as a zombie.
bool is_process_alive(int pid, std::uint64_t start_time);
std::uint64_t start_time_of(int pid);

}  // namespace ckpt
