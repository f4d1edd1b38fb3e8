// Ports are tried by binding to them, names of unix sockets are looked up; nothing stays.
#include "restart/plan-sockets.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "lib/resources/sockets/rebuild.h"

namespace ckpt {

namespace {

using format::DescriptionKind;
using format::SocketStage;
using format::SocketState;

Error refuse_name(const std::string& name, const std::string& reason) {
  return Error::plain("unix socket " + quote(name) + ", which the program has open, " + reason, ExitCode::kRunner);
}

bool is_held_by_ended_ones(const SocketState& state) {
  return state.type == SOCK_STREAM && find_ended_connections(local_name(state)).has_value();
}

// 0, or why the address can't be had.
int try_address(const Description& description) {
  try {
    make_bound_socket(describe_socket(description));
    return 0;
  } catch (const Error& error) {
    return error.error();
  }
}

// The error of the last attempt, or 0.
int await_address(const RestartPlan& plan, const Description& description, const SocketState& state, const std::string& port) {
  constexpr int kPatience = 70;
  int error = EADDRINUSE;
  for (int tries = 0; error == EADDRINUSE && tries < kPatience; ++tries) {
    if (!is_held_by_ended_ones(state)) break;
    end_old_connections(local_name(state));
    if (tries == 1 && !plan.options.is_quiet)
      say("waiting for " + port + ", which connections that have ended hold for up to a minute");
    if (tries > 0) sleep(1);
    error = try_address(description);
  }
  return error;
}

void check_inet(RestartPlan& plan, const Description& description, const SocketState& state) {
  const bool is_connection =
      state.type == SOCK_STREAM && (state.stage == SocketStage::kConnected || state.stage == SocketStage::kEnded);
  if (is_connection) return;  // has a namespace of its own
  const std::string port = (state.type == SOCK_STREAM ? "TCP port " : "UDP port ") + describe_address(local_name(state));
  int error = try_address(description);
  if (error == EADDRINUSE && is_held_by_ended_ones(state)) {
    if (plan.options.is_dry_run) {
      plan.notes.push_back(port + " is held for up to a minute by connections that have ended (TIME_WAIT): reset, or waited for");
      return;
    }
    error = await_address(plan, description, state, port);
  }
  if (error == 0) return;
  const std::string reason = error == EADDRINUSE ? "is taken by another program" : "can't be had: " + describe_errno(error);
  throw Error::plain(port + ", which the program uses, " + reason, ExitCode::kRunner);
}

// A socket that lost its name to another one of the job, and that nobody has to reach by it now.
bool has_successor(const RestartPlan& plan, const Description& description, const SocketState& state) {
  if (description.record.content != 0) return false;
  for (const ProcessImage& process : plan.image->job().processes) {
    for (const Description& other : process.descriptions) {
      if (other.record.kind != DescriptionKind::kUnixSocket) continue;
      const auto its = state_of<SocketState>(other);
      const bool is_idle = its.stage == SocketStage::kIdle || its.stage == SocketStage::kListening;
      if (is_idle && (its.flags & SocketState::kHasFile) != 0 && local_name(its) == local_name(state)) return true;
    }
  }
  return false;
}

// Folders that are not there can be made for the moment.
bool can_have_folder(std::filesystem::path folder) {
  while (!std::filesystem::exists(folder) && folder.has_relative_path()) folder = folder.parent_path();
  return access(folder.c_str(), W_OK | X_OK) == 0;
}

void check_unix(const RestartPlan& plan, const Description& description, const SocketState& state) {
  const std::string name = local_name(state);
  const std::string path = unix_path_of(name);
  const bool has_own_name = state.stage == SocketStage::kIdle || state.stage == SocketStage::kListening;
  if (!has_own_name || name.size() <= sizeof(sa_family_t)) return;
  if (is_unix_name_taken(name, plan.process->cwd, state.type))
    throw refuse_name(path.empty() ? "@" + name.substr(3) : path, "is taken by another program");
  if (path.empty()) return;
  const auto full = std::filesystem::path(plan.process->cwd) / path;
  struct stat status {};
  const bool is_there = lstat(full.c_str(), &status) == 0;
  const bool keeps_file = (state.flags & SocketState::kHasFile) != 0;
  const bool is_old = is_there && S_ISSOCK(status.st_mode) && has_successor(plan, description, state);
  if (!keeps_file && is_there && !is_old) throw refuse_name(path, "had lost its file, and another one is there now");
  if (is_there && !S_ISSOCK(status.st_mode)) throw refuse_name(path, "is another file now");
  if ((state.flags & SocketState::kIsRenamed) != 0) {
    const std::string now = unix_path_of(remote_name(state));
    if (lstat(now.c_str(), &status) == 0 && !S_ISSOCK(status.st_mode)) throw refuse_name(now, "is another file now");
    if (is_socket_file_used(now, state.type)) throw refuse_name(now, "is taken by another program");
  }
  const auto folder = full.parent_path();
  if (!(keeps_file ? std::filesystem::exists(folder) : can_have_folder(folder))) throw refuse_name(path, "has lost its folder");
}

}  // namespace

bool is_own_socket(const Description& description) {
  const auto kind = description.record.kind;
  if (kind != DescriptionKind::kUnixSocket && kind != DescriptionKind::kInetSocket) return false;
  return (state_of<SocketState>(description).flags & SocketState::kLeadsOutside) == 0;
}

DescriptionPlan plan_plain_socket(RestartPlan& plan, const Description& description) {
  constexpr std::uint32_t kUdpLite = 136;
  const auto state = state_of<SocketState>(description);
  if (state.type == SOCK_STREAM || state.protocol == kUdpLite) {
    check_inet(plan, description, state);
  } else {
    make_plain_socket(description);  // for a moment: the user may not have the right
  }
  return {&description, DescriptionPlan::Source::kMade, ""};
}

DescriptionPlan plan_socket(RestartPlan& plan, const Description& description) {
  const auto state = state_of<SocketState>(description);
  if (!is_own_socket(description) && description.record.stream >= 0) return {&description, DescriptionPlan::Source::kStream, ""};
  state.family == AF_UNIX ? check_unix(plan, description, state) : check_inet(plan, description, state);
  const bool leads_outside = (state.flags & SocketState::kLeadsOutside) != 0;
  return {&description, DescriptionPlan::Source::kMade, leads_outside ? "reset" : ""};
}

}  // namespace ckpt
