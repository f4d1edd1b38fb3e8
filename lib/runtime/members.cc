// Members are known by the control page that they map: it follows them through fork, double fork and setsid, and comes back with
// the runtime after an exec. A child of a member that does not map it is on its way there, or can't be controlled.
#include "lib/runtime/members.h"

#include <linux/capability.h>

#include <initializer_list>

#include "lib/runtime/interrupted-call.h"
#include "lib/sys/kcmp.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using format::Member;
using format::MemberState;
using format::Session;

constexpr std::int64_t kKnockAgainNs = 50'000'000;
constexpr std::int64_t kLookAgainNs = 10'000'000;
constexpr unsigned long kExiting = 4;  // PF_EXITING

struct Process {
  int pid = 0;
  int parent = 0;
  char state = 'X';
  bool is_exiting = false;  // has no memory any more, and will be a zombie
  std::uint64_t start_time = 0;
  std::uint64_t stack = 0;  // begin of the main thread's; 0: not told
  char name[32] = "";
};

// A process whose main thread has ended (pthread_exit) looks like a zombie: one of its other threads, or 0.
int other_thread(int pid) {
  char buffer[512];
  sys::NumberDirectory tasks(sys::proc_path(pid, "task").c_str(), buffer);
  for (int tid = tasks.is_open() ? tasks.next() : -1; tid >= 0; tid = tasks.next()) {
    if (tid != pid) return tid;
  }
  return 0;
}

bool read_process(int pid, Process* process) {
  const sys::StatFile stat(sys::proc_path(pid, "stat").c_str());
  if (!stat.is_read()) return false;
  sys::copy_text(process->name, sizeof(process->name), stat.name());
  process->pid = pid;
  process->state = *stat.field(3);
  process->parent = static_cast<int>(stat.number(4));
  process->is_exiting = (stat.number(9) & kExiting) != 0;
  process->start_time = stat.number(22);
  process->stack = stat.number(28);
  if (process->state == 'Z' && other_thread(pid) != 0) {
    process->state = 'S';
    process->is_exiting = false;
  }
  return true;
}

// Whether its environment has this entry; true also where it can't be told yet: in the midst of an exec there is none.
bool may_have(int pid, const char* wanted, std::size_t size, std::span<char> buffer) {
  const auto opened = sys::open(sys::proc_path(pid, "environ").c_str(), O_RDONLY);
  if (opened.failed()) return opened.error() != sys::kEacces && opened.error() != sys::kEperm;  // it may just be ending
  const sys::Fd fd(opened);
  std::size_t have = 0;
  for (bool is_empty = true;; is_empty = false) {
    const auto count = sys::read(fd.get(), buffer.data() + have, buffer.size() - have);
    if (count.failed() || count.value() == 0) return is_empty;
    have += static_cast<std::size_t>(count.value());
    for (std::size_t i = 0; i + size < have; ++i) {
      if ((i == 0 || buffer[i - 1] == '\0') && memcmp(&buffer[i], wanted, size + 1) == 0) return true;
    }
    const std::size_t keep = have < size + 1 ? have : size + 1;
    memmove(buffer.data(), buffer.data() + have - keep, keep);
    have = keep;
  }
}

// Tries the job's page, that of the launch, and those that it had in between: a restart beside others adds to the name
// (ckpt-restart --again).
template <typename Test>
bool is_any_page(Test test) {
  if (test(g_state.control_path) || test(g_state.launched_path)) return true;
  for (const char* at = g_state.control_path; *at != '\0'; ++at) {
    if (!sys::starts_with(at, "-again-")) continue;
    sys::Text<format::kPathBytes> earlier;
    earlier.add(g_state.control_path);
    earlier.shorten(static_cast<std::size_t>(at - g_state.control_path));
    earlier.add(format::kControlSuffix);
    if (test(earlier.c_str())) return true;
  }
  return false;
}

// Whether it will come to a page of the job once it has started (see maps_control).
bool may_come(int pid, std::span<char> buffer) {
  return is_any_page([&](const char* control) {
    sys::Text<format::kPathBytes + 16> wanted;
    wanted.add("CKPT_CONTROL=").add(control);
    return may_have(pid, wanted.c_str(), wanted.size(), buffer);
  });
}

Member* find_member(Session* session, int pid) {
  for (std::uint32_t i = 0; i < session->member_count; ++i) {
    if (session->members[i].pid == pid && session->members[i].state != MemberState::kGone) return &session->members[i];
  }
  return nullptr;
}

bool has_signal(std::uint64_t set, int signal) { return (set & sys::signal_bit(signal)) != 0; }

// proc_pid_status(5) of a thread.
struct Masks {
  std::uint64_t blocked = 0, caught = 0;
  unsigned long user = 0;          // effective
  std::uint64_t capabilities = 0;  // ″
  char state = 'X';
};

bool read_masks(int pid, int tid, Masks* masks) {
  char buffer[sys::FieldReader::kEnough];
  sys::FieldReader status(sys::task_path(pid, tid, "status").c_str(), buffer);
  if (const char* state = status.find("State")) masks->state = *state;
  if (const char* user = status.find("Uid")) {
    sys::parse_decimal(&user);
    ++user;
    masks->user = sys::parse_decimal(&user);
  }
  if (const char* blocked = status.find("SigBlk")) masks->blocked = sys::parse_hex(&blocked);
  const char* caught = status.find("SigCgt");
  if (caught == nullptr) return false;
  masks->caught = sys::parse_hex(&caught);
  if (const char* capabilities = status.find("CapEff")) masks->capabilities = sys::parse_hex(&capabilities);
  return true;
}

bool is_listening(int pid, int tid) {
  Masks masks;
  if (!read_masks(pid, tid, &masks)) return false;
  for (const int signal : {format::kQuietSignal, format::kReservedSignal, format::kReservedSignal2,
                           static_cast<int>(g_state.control->settings.public_signal)}) {
    if (has_signal(masks.caught, signal)) return true;
  }
  return false;
}

// A trigger maps the page as well, but does not listen. Files tell nothing: the runtime may have been replaced on disk since, and
// after a restart it may be a copy, or no file at all. A child may have an earlier page of the job, from an environment of then.
bool maps_control(int pid, bool is_child, std::span<char> buffer) {
  const int other = other_thread(pid);  // the main one may have ended, and has no map then
  sys::LineReader maps(sys::task_path(pid, other != 0 ? other : pid, "maps").c_str(), buffer);
  while (const char* line = maps.is_open() ? maps.next() : nullptr) {
    if (!sys::ends_with(line, format::kControlSuffix)) continue;
    const bool is_of_job = sys::ends_with(line, g_state.control_path) ||
                           (is_child && is_any_page([line](const char* control) { return sys::ends_with(line, control); }));
    if (is_of_job) return is_listening(pid, other != 0 ? other : pid);
  }
  return false;
}

bool send_knock(Member* member, int tid, int signal, int session_fd) {
  read_syscall_facts_of(member->pid, tid, &member->door);
  siginfo_t info{};
  info.si_signo = signal;
  info.si_code = format::kMemberCode;
  info.si_pid = g_state.pid;
  info.si_ptr = reinterpret_cast<void*>(static_cast<std::uint64_t>(g_state.pid) << 32 | static_cast<std::uint32_t>(session_fd));
  return !sys::queue_to_thread(member->pid, tid, signal, &info).failed();
}

bool is_listening_at(const Masks& masks, int signal) {
  return masks.state != 'Z' && masks.state != 'X' && has_signal(masks.caught, signal) && !has_signal(masks.blocked, signal);
}

// At the first door that somebody listens at, in the order of lib/common/checkpoint.cc. `is_listening`: lately the main thread did.
void knock(Member* member, int session_fd, bool is_listening) {
  if (is_listening && send_knock(member, member->pid, format::kQuietSignal, session_fd)) return;
  const int doors[] = {format::kQuietSignal, static_cast<int>(g_state.control->settings.public_signal), format::kReservedSignal2,
                       format::kReservedSignal};
  for (const int signal : doors) {
    char buffer[512];
    sys::NumberDirectory tasks(sys::proc_path(member->pid, "task").c_str(), buffer);
    if (!tasks.is_open()) return;
    for (int tid = tasks.next(); tid >= 0; tid = tasks.next()) {
      Masks masks;
      if (!read_masks(member->pid, tid, &masks) || masks.state == 'Z' || masks.state == 'X') continue;
      if (!has_signal(masks.caught, signal)) break;
      if (!has_signal(masks.blocked, signal) && send_knock(member, tid, signal, session_fd)) return;
    }
  }
}

bool enter_member(Session* session, int session_fd, const Process& process, bool is_listening, Message* message) {
  if (session->member_count == format::kMaxMembers) {
    message->add("the job has more than ").add_number(format::kMaxMembers).add(" processes");
    return false;
  }
  Member* member = &session->members[session->member_count];
  *member = {};
  member->pid = process.pid;
  member->start_time = process.start_time;
  member->state = MemberState::kAsked;
  member->is_stopped = process.state == 'T' ? 1 : 0;
  __atomic_store_n(&session->member_count, session->member_count + 1, __ATOMIC_RELEASE);
  knock(member, session_fd, is_listening);
  if (member->is_stopped != 0) sys::call(__NR_kill, process.pid, SIGCONT).ignore();
  return true;
}

bool refuse_stranger(int pid, const Process& process, Message* message) {
  message->clear();
  message->add("process ").add_signed(pid).add(" (").add(process.name).add("), a child of ").add_signed(process.parent);
  message->add(", is out of control: it is static or set-user-ID, or its environment was cleared; end it or start it otherwise");
  return true;
}

// Of a debugger; 0: none.
unsigned long tracer_of(int pid) {
  char buffer[sys::FieldReader::kEnough];
  sys::FieldReader status(sys::proc_path(pid, "status").c_str(), buffer);
  const char* tracer = status.find("TracerPid");
  return tracer == nullptr ? 0 : sys::parse_decimal(&tracer);
}

// That are permitted.
std::uint64_t own_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  sys::call(__NR_capget, &header, data).ignore();
  return static_cast<std::uint64_t>(data[1].permitted) << 32 | data[0].permitted;
}

// A daemon that root has launched, and that has given its rights up, can open neither the session nor the image. The session is a
// descriptor of ours, and so it takes all capabilities that we have (proc_pid_fd(5), ptrace(2)).
bool refuse_lowered(const Process& process, const Masks& main, Message* message) {
  constexpr std::uint64_t kPtrace = 1ULL << 19;  // CAP_SYS_PTRACE
  const bool is_other = main.user != static_cast<unsigned long>(sys::call(__NR_geteuid).value());
  const bool lacks = (own_capabilities() & ~main.capabilities) != 0 && (main.capabilities & kPtrace) == 0;
  if (!is_other && !lacks) return false;
  message->clear();
  message->add("process ").add_signed(process.pid).add(" (").add(process.name).add("), a child of ").add_signed(process.parent);
  message->add(is_other ? ", has become another user, who may not open the files of the job: launch the job as that user"
                        : ", has given up capabilities that process ");
  if (!is_other) message->add_signed(g_state.pid).add(" has, and may not look at that one: launch the job without them");
  return true;
}

// Where a process is in another user or pid namespace than we, it can't be reached, or our numbers mean others there.
bool refuse_moved(const Process& process, Message* message) {
  for (const char* kind : {"user", "pid"}) {
    const std::uint64_t own = sys::read_namespace("/proc/self/ns", kind);
    const std::uint64_t its = sys::read_namespace(sys::proc_path(process.pid, "ns").c_str(), kind);
    if (own == 0 || its == 0 || own == its) continue;
    message->clear();
    message->add("process ").add_signed(process.pid).add(" (").add(process.name).add("), a child of ").add_signed(process.parent);
    message->add(", has moved to another ").add(kind).add(" namespace (unshare(2)) than process ").add_signed(g_state.pid);
    return true;
  }
  return false;
}

// Between vfork and exec a child is still its parent, in effect.
bool shares_memory(int pid, int parent) { return sys::is_shared(pid, parent, KCMP_VM); }

// A child that the process had before it was launched: what it was then is nothing to us.
bool is_older(int pid, const Process& process) {
  for (const std::int32_t stranger : g_state.control->strangers) {
    if (stranger == pid && process.start_time <= g_state.control->launched_ticks) return true;
  }
  return false;
}

// Neither a child of those who are known by now nor on its way to our page: nothing to do with the job, for good. A child of a
// child is not that before its parent is known, which may be later: nobody's parent but strangers' makes a stranger.
bool is_foreign(const Known& seen, int pid, const Process& process, std::span<char> buffer) {
  return (process.parent == 0 || seen.is_stranger(process.parent)) && !may_come(pid, buffer);
}

// A child that does not map the page: it has just called exec and will, or it never will.
void judge_child(int pid, const Process& process, std::span<char> buffer, JobLook* look, Message* message) {
  const bool will_come = may_come(pid, buffer);
  Process now;
  const bool is_ending = !read_process(pid, &now) || now.start_time != process.start_time || now.is_exiting || now.state == 'Z';
  if (will_come || is_ending) {
    ++look->coming;
    if (!is_ending) look->coming_pid = pid;
  } else if (!look->is_refused) {
    look->is_refused = refuse_stranger(pid, process, message);
  }
}

}  // namespace

std::uint64_t start_time_of(int pid) {
  Process process;
  return read_process(pid, &process) ? process.start_time : 0;
}

bool is_process_alive(int pid, std::uint64_t start_time) {
  Process process;
  return read_process(pid, &process) && process.start_time == start_time && process.state != 'Z' && process.state != 'X';
}

std::uint64_t last_pid() {
  char text[128];
  if (sys::read_file("/proc/loadavg", text, sizeof(text)).failed()) return 0;
  const char* last = text;
  for (const char* at = text; *at != '\0'; ++at) {
    if (*at == ' ') last = at + 1;
  }
  return sys::parse_decimal(&last);
}

bool look_at_job(Session* session, int session_fd, Known* seen, JobLook* look, Message* message) {
  char names[4096];
  char buffer[8192];
  sys::NumberDirectory processes("/proc", names);
  if (!processes.is_open()) {
    message->add("cannot list the processes of the job: no descriptor left, or /proc is not mounted");
    return false;
  }
  for (int pid = processes.next(); pid >= 0; pid = processes.next()) {
    if (pid == g_state.pid || seen->is_stranger(pid)) continue;
    if (session != nullptr && find_member(session, pid) != nullptr) continue;
    Process process;
    if (!read_process(pid, &process) || process.state == 'Z' || process.state == 'X') continue;
    if (sys::equal(process.name, format::kWriterName)) continue;
    if (process.parent == 2 || pid == 2) {  // the kernel's own
      seen->add_stranger(pid);
      continue;
    }
    const bool is_child = process.parent == g_state.pid || (session != nullptr && find_member(session, process.parent) != nullptr);
    const bool is_known = seen->is_member(pid, process.start_time, process.stack);
    const bool is_member = is_known || maps_control(pid, is_child, buffer);
    if ((is_child || is_member) && (process.is_exiting || (!is_known && shares_memory(pid, process.parent)))) {
      ++look->coming;  // to its end, or to its exec
    } else if (is_member) {
      ++look->members;
      Masks main;
      const bool is_told = !is_known && read_masks(pid, pid, &main);
      look->is_refused |= is_told && (refuse_moved(process, message) || refuse_lowered(process, main, message));
      if (!is_known) seen->add_member(pid, process.start_time, process.stack, is_listening_at(main, format::kQuietSignal));
      if (session != nullptr && !enter_member(session, session_fd, process, seen->is_listening(pid), message)) return false;
    } else if (is_child && !is_older(pid, process) && !sys::equal(process.name, "ckpt-trigger")) {
      judge_child(pid, process, buffer, look, message);
    } else if (is_child ? is_older(pid, process) : is_foreign(*seen, pid, process, buffer)) {
      seen->add_stranger(pid);
    }
  }
  return true;
}

unsigned count_awaited(Session* session, int session_fd, int* awaited) {
  static std::int64_t last_knock = 0, last_look = 0;
  const std::int64_t now = sys::clock_ns(CLOCK_MONOTONIC);
  const bool knocks_again = now - last_knock > kKnockAgainNs;
  const bool looks = now - last_look > kLookAgainNs;  // who lives: not at every arrival
  if (knocks_again) last_knock = now;
  if (looks) last_look = now;
  unsigned count = 0;
  for (std::uint32_t i = 0; i < session->member_count; ++i) {
    Member* member = &session->members[i];
    const auto state = __atomic_load_n(&member->state, __ATOMIC_ACQUIRE);
    const auto arrived = __atomic_load_n(&member->arrived, __ATOMIC_ACQUIRE);
    if (state == MemberState::kGone || (state == MemberState::kActive && arrived >= session->phase)) continue;
    if (looks && !is_process_alive(member->pid, member->start_time)) {
      member->state = MemberState::kGone;
      continue;
    }
    if (state == MemberState::kAsked && knocks_again) knock(member, session_fd, false);
    *awaited = member->pid;
    ++count;
  }
  return count;
}

void stop_latecomers(const Session& session) {
  for (std::uint32_t i = 0; i < session.member_count; ++i) {
    const Member& member = session.members[i];
    if (member.is_stopped != 0 && member.state == MemberState::kAsked) sys::call(__NR_kill, member.pid, SIGSTOP).ignore();
  }
}

void say_what_keeps(Message* message, int pid) {
  Process process;
  if (!read_process(pid, &process)) return;
  message->add(": ").add(process.state == 'D'   ? "it is in an uninterruptible call"
                         : tracer_of(pid) != 0  ? "it is under a debugger"
                         : process.state == 'T' ? "it is stopped"
                                                : "it does not take signals");
}

void say_out_of_control(Message* message, int pid) {
  Process process;
  message->add("process ").add_signed(pid);
  if (read_process(pid, &process)) message->add(" (").add(process.name).add(")");
  message->add(" of the job is out of control: it does not load the runtime (static?), or waits in a vfork");
}

bool look_before(Known* seen, Message* message) {
  int awaited = 0;
  for (int attempt = 0, since = 0;; ++attempt) {
    JobLook look;
    if (!look_at_job(nullptr, -1, seen, &look, message) || look.is_refused) return false;
    if (look.coming == 0) return true;
    if (look.coming_pid != awaited) since = attempt;
    awaited = look.coming_pid;
    if (awaited != 0 && attempt - since >= 100) {
      say_out_of_control(message, awaited);
      return false;
    }
    if (attempt == 200) return true;
    const __kernel_timespec pause{0, 10'000'000};
    sys::call(__NR_nanosleep, &pause, nullptr).ignore();
  }
}

}  // namespace ckpt
