// See rebuild.h. A pair is made when its first descriptor is asked for: by its master, which has all settings.
#include "lib/resources/terminals/rebuild.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "lib/common/error.h"
#include "lib/common/fd.h"
#include "lib/resources/terminals/pair.h"

namespace ckpt {

namespace {

using format::DescriptionKind;
using format::SlaveUse;
using format::TerminalMasterState;

struct OpenPair {
  Fd master, slave;
};
std::map<std::uint32_t, OpenPair> pairs;  // by old number

std::string path_of(std::uint32_t number) { return "/dev/pts/" + std::to_string(number); }

[[noreturn]] void fail(const char* what, const std::string& path) { throw Error::from_errno(what, path, errno, ExitCode::kRunner); }

std::uint32_t number_of(int master) {
  std::uint32_t number = 0;
  if (terminal_call(master, TerminalRequest::kGetNumber, &number) < 0) fail("number", "a pseudo-terminal");
  return number;
}

// The kernel gives out the lowest free number. If the old one is somebody's, the new pair is put over it, for this job to see.
Fd open_master(std::uint32_t wanted) {
  std::vector<Fd> lower;
  for (;;) {
    Fd master(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!master.is_open()) fail("open", "/dev/ptmx");
    const int unlocked = 0;
    terminal_call(master.get(), TerminalRequest::kSetLock, &unlocked);
    const std::uint32_t number = number_of(master.get());
    if (number == wanted) return master;
    if (number < wanted) {
      lower.push_back(std::move(master));
      continue;
    }
    mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr);  // ours alone
    if (mount(path_of(number).c_str(), path_of(wanted).c_str(), nullptr, MS_BIND, nullptr) != 0)
      fail("give its old number to", path_of(number));
    return master;
  }
}

int open_slave(int master, std::uint32_t number, int flags) {
  const int fd = open(path_of(number).c_str(), flags | O_NOCTTY | O_CLOEXEC);
  if (fd >= 0) return fd;
  const long peer = terminal_call(master, TerminalRequest::kOpenPeer, static_cast<unsigned long>(flags | O_NOCTTY | O_CLOEXEC));
  if (peer < 0) fail("open", path_of(number));
  return static_cast<int>(peer);
}

void fill(const OpenPair& open, const TerminalMasterState& state, const Description& description) {
  const TerminalPair pair{open.master.get(), open.slave.get(), state.settings};
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(description.state.data()) + sizeof(state);
  std::vector<std::uint8_t> room(state.typed_size + 1);
  if (!put_output(pair, bytes, state.output_size)) fail("fill", path_of(state.number));
  if (open.slave.is_open()) stop_output(pair, state.output_stop);
  if (!put_typed(pair, bytes + state.output_size, state.typed_size, room.data())) fail("fill", path_of(state.number));
}

OpenPair make_pair(const Description& description) {
  const auto state = state_of<TerminalMasterState>(description);
  OpenPair pair;
  pair.master = open_master(state.number);
  const int master = pair.master.get();
  if (state.slave != SlaveUse::kNone) pair.slave = Fd(open_slave(master, state.number, O_RDWR | O_NONBLOCK));
  terminal_call(master, TerminalRequest::kSetSize, &state.size);
  fill(pair, state, description);
  if (!write_settings(master, state.settings)) fail("set up", path_of(state.number));
  const int is_packet = static_cast<int>(state.is_packet);
  if (is_packet != 0) terminal_call(master, TerminalRequest::kSetPacket, &is_packet);
  if (state.slave == SlaveUse::kClosed) pair.slave.reset();
  const int is_locked = static_cast<int>(state.is_locked);
  if (is_locked != 0) terminal_call(master, TerminalRequest::kSetLock, &is_locked);
  return pair;
}

const Description* find_master(const RestartPlan& plan, std::uint32_t number) {
  for (const DescriptionPlan& item : plan.descriptions) {
    const Description& description = *item.description;
    if (description.record.kind == DescriptionKind::kTerminalMaster && state_of<TerminalMasterState>(description).number == number)
      return &description;
  }
  return nullptr;
}

const OpenPair& pair_with(const RestartPlan& plan, std::uint32_t number) {
  const auto found = pairs.find(number);
  if (found != pairs.end()) return found->second;
  const Description* master = find_master(plan, number);
  if (master == nullptr) throw Error::plain("terminal " + path_of(number) + " has no master in the image", ExitCode::kRunner);
  return pairs.emplace(number, make_pair(*master)).first->second;
}

}  // namespace

int rebuild_terminal_master(const RestartPlan& plan, const Description& description) {
  const OpenPair& pair = pair_with(plan, state_of<TerminalMasterState>(description).number);
  return fcntl(pair.master.get(), F_DUPFD_CLOEXEC, 0);
}

int rebuild_own_terminal(const RestartPlan& plan, const Description& description) {
  const std::uint32_t number = state_of<format::TerminalState>(description).number;
  return open_slave(pair_with(plan, number).master.get(), number, static_cast<int>(description.record.status_flags) & O_ACCMODE);
}

int open_outer_terminal(std::uint32_t flags) {
  const int mode = static_cast<int>(flags) & (O_ACCMODE | O_APPEND | O_NONBLOCK);
  const int fd = open("/dev/tty", mode | O_NOCTTY | O_CLOEXEC);
  if (fd >= 0) return fd;
  if (errno != ENXIO && errno != ENOENT) fail("open", "/dev/tty");
  const Fd master(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
  const int unlocked = 0;
  if (master.is_open()) terminal_call(master.get(), TerminalRequest::kSetLock, &unlocked);
  if (!master.is_open()) fail("there is no terminal here; make one in its place:", "/dev/ptmx");
  return open_slave(master.get(), number_of(master.get()), mode);
}

void release_terminals() { pairs.clear(); }

const Description* find_controlling_master(const RestartPlan& plan, const ProcessImage& process) {
  return process.process.terminal == format::kNoPair ? nullptr : find_master(plan, process.process.terminal);
}

void take_own_terminal(int master) {
  const Fd slave(open_slave(master, number_of(master), O_RDWR));
  if (terminal_call(slave.get(), TerminalRequest::kSetController, 0UL) < 0)
    fail("take as the controlling terminal", path_of(number_of(master)));
}

void set_own_foreground(int master, pid_t group) {
  if (group <= 0) return;
  const Fd slave(open_slave(master, number_of(master), O_RDWR));
  sigset_t set;
  sigset_t old;
  sigemptyset(&set);
  sigaddset(&set, SIGTTOU);
  sigprocmask(SIG_BLOCK, &set, &old);
  terminal_call(slave.get(), TerminalRequest::kSetGroup, &group);  // a group that has ended can't be it
  sigprocmask(SIG_SETMASK, &old, nullptr);
}

}  // namespace ckpt
