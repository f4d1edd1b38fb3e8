// Readers of /proc. A process may vanish between any two reads: that is no error but an empty result, except for read_maps.
#include "lib/common/proc.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string_view>

#include "lib/common/error.h"
#include "lib/common/fd.h"
#include "lib/format/control.h"

namespace ckpt {
namespace {

std::string path_of(pid_t pid, const char* name) { return "/proc/" + std::to_string(pid) + "/" + name; }

bool is_gone(int error) { return error == ENOENT || error == ESRCH; }

std::uint64_t parse_hex(std::string_view text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value, 16);
  return value;
}

// The value of the line "KEY:\tVALUE"; empty without one.
std::string_view field_of(std::string_view text, std::string_view key) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    if (line.starts_with(key) && line.substr(key.size()).starts_with(":\t")) return line.substr(key.size() + 2);
    at = end + 1;
  }
  return {};
}

long number_of(std::string_view text) { return std::strtol(std::string(text).c_str(), nullptr, 10); }

std::optional<std::string> read_if_there(const std::string& path) {
  try {
    return read_whole_file(path);
  } catch (const Error& error) {
    if (is_gone(error.error())) return std::nullopt;
    throw;
  }
}

std::optional<ProcessStatus> parse_status(const std::string& path) {
  const auto text = read_if_there(path);
  if (!text) return std::nullopt;
  ProcessStatus status;
  status.name = field_of(*text, "Name");
  const auto state = field_of(*text, "State");
  if (!state.empty()) status.state = state[0];
  status.tgid = static_cast<pid_t>(number_of(field_of(*text, "Tgid")));
  status.parent = static_cast<pid_t>(number_of(field_of(*text, "PPid")));
  status.tid = static_cast<pid_t>(number_of(field_of(*text, "Pid")));
  const auto numbers = field_of(*text, "NSpid");
  status.inner_tid = numbers.empty() ? status.tid : static_cast<pid_t>(number_of(numbers.substr(numbers.rfind('\t') + 1)));
  const auto uids = field_of(*text, "Uid");
  if (const auto tab = uids.find('\t'); tab != uids.npos) status.uid = static_cast<uid_t>(number_of(uids.substr(tab + 1)));
  status.blocked = parse_hex(field_of(*text, "SigBlk"));
  status.caught = parse_hex(field_of(*text, "SigCgt"));
  status.ignored = parse_hex(field_of(*text, "SigIgn"));
  status.seccomp_filters = static_cast<std::uint32_t>(number_of(field_of(*text, "Seccomp_filters")));
  if (status.seccomp_filters == 0 && number_of(field_of(*text, "Seccomp")) != 0) status.seccomp_filters = 1;
  return status;
}

// maps prints newlines of a path as \012 and nothing else escaped.
std::string undo_escapes(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const bool is_newline = text.starts_with("\\012");
    result += is_newline ? '\n' : text[0];
    text.remove_prefix(is_newline ? 4 : 1);
  }
  return result;
}

std::optional<MapLine> parse_map_line(const std::string& line) {
  MapLine map{};
  char permissions[5] = {};
  int path_at = 0;
  const int fields = std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*x:%*x %" SCNu64 " %n", &map.start,
                                 &map.end, permissions, &map.offset, &map.inode, &path_at);
  if (fields < 5) return std::nullopt;
  map.permissions = permissions;
  map.path = undo_escapes(std::string_view(line).substr(static_cast<std::size_t>(path_at)));
  return map;
}

}  // namespace

std::string read_whole_file(const std::string& path) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.is_open()) throw Error::from_errno("open", path, errno);
  std::string text;
  char buffer[16384];
  for (;;) {
    const ssize_t got = read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error::from_errno("read", path, errno);
    if (got == 0) return text;
    text.append(buffer, static_cast<std::size_t>(got));
  }
}

std::optional<ProcessStatus> read_status(pid_t pid) { return parse_status(path_of(pid, "status")); }

std::optional<ProcessStatus> read_thread_status(pid_t pid, pid_t tid) {
  return parse_status(path_of(pid, "task/") + std::to_string(tid) + "/status");
}

std::vector<pid_t> list_threads(pid_t pid) {
  std::vector<pid_t> threads;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(path_of(pid, "task").c_str()), closedir);
  if (!folder) return threads;
  while (const dirent* entry = readdir(folder.get())) {
    if (entry->d_name[0] != '.') threads.push_back(static_cast<pid_t>(number_of(entry->d_name)));
  }
  return threads;
}

std::uint64_t read_signals_of(pid_t pid) {
  constexpr std::string_view kLink = "anon_inode:[signalfd]", kField = "sigmask:\t";
  std::uint64_t all = 0;
  const std::string path = path_of(pid, "fd");
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(path.c_str()), closedir);
  while (const dirent* entry = folder ? readdir(folder.get()) : nullptr) {
    char link[64];
    const ssize_t size = readlink((path + "/" + entry->d_name).c_str(), link, sizeof link);
    if (size < 0 || std::string_view(link, static_cast<std::size_t>(size)) != kLink) continue;
    const std::string text = read_whole_file(path_of(pid, "fdinfo") + "/" + entry->d_name);
    const std::size_t at = text.find(kField);
    if (at != std::string::npos) all |= std::strtoull(text.c_str() + at + kField.size(), nullptr, 16);
  }
  return all;
}

std::vector<MapLine> read_maps(pid_t pid) {
  const std::string text = read_whole_file(path_of(pid, "maps"));
  std::vector<MapLine> maps;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    if (auto map = parse_map_line(text.substr(at, end - at))) maps.push_back(std::move(*map));
    at = end + 1;
  }
  return maps;
}

namespace {

// Of proc_pid_stat(5), counted as there. The name, field 2, may hold anything: counted from behind its last parenthesis.
std::optional<std::uint64_t> read_stat_field(pid_t pid, int wanted) {
  const auto text = read_if_there(path_of(pid, "stat"));
  if (!text) return std::nullopt;
  std::size_t at = text->rfind(')');
  for (int field = 2; field < wanted && at != std::string::npos; ++field) at = text->find(' ', at + 1);
  if (at == std::string::npos) return std::nullopt;
  return std::strtoull(text->c_str() + at, nullptr, 10);
}

}  // namespace

std::optional<std::uint64_t> read_start_time(pid_t pid) {
  constexpr int kStartTime = 22;
  return read_stat_field(pid, kStartTime);
}

bool is_ending(pid_t pid) {
  constexpr int kFlags = 9;
  constexpr std::uint64_t kExiting = 4;  // PF_EXITING
  const auto flags = read_stat_field(pid, kFlags);
  return !flags || (*flags & kExiting) != 0;
}

std::string read_command_line(pid_t pid) {
  auto text = read_if_there(path_of(pid, "cmdline")).value_or("");
  while (!text.empty() && text.back() == '\0') text.pop_back();
  for (char& c : text) {
    if (c == '\0') c = ' ';
  }
  return text;
}

std::string read_executable(pid_t pid) {
  char target[4096];
  const ssize_t length = readlink(path_of(pid, "exe").c_str(), target, sizeof target);
  return length > 0 ? std::string(target, static_cast<std::size_t>(length)) : std::string();
}

std::string folder_of_command() {
  char target[4096];
  const ssize_t length = readlink("/proc/self/exe", target, sizeof target);
  if (length <= 0) throw Error::from_errno("read", "/proc/self/exe", errno);
  const std::string path(target, static_cast<std::size_t>(length));
  return path.substr(0, path.rfind('/'));
}

// A thread's number in its own pid namespace, the innermost one.
static pid_t inner_tid(const std::string& status_path, pid_t tid) {
  std::ifstream status(status_path);
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("NSpid:")) continue;
    const auto last = line.find_last_of("\t ");
    return static_cast<pid_t>(std::stol(line.substr(last + 1)));
  }
  return tid;
}

// Field 39 of stat; 0 if it can't be read.
static std::uint32_t last_cpu(const std::string& stat_path) {
  std::ifstream file(stat_path);
  std::string line;
  std::getline(file, line);
  const auto name_end = line.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(line.substr(name_end + 1));
  std::string value;
  for (int field = 3; field <= 39; ++field) fields >> value;
  return fields ? static_cast<std::uint32_t>(std::stoul(value)) : 0;
}

format::SyscallFacts read_syscall_facts(pid_t pid, pid_t tid) {
  const std::string folder = "/proc/" + std::to_string(pid) + "/task/" + std::to_string(tid) + "/";
  format::SyscallFacts facts{};
  std::ifstream call(folder + "syscall");
  if (!(call >> facts.number) || facts.number < 0) return {};  // "running", or not in a call
  call >> std::hex;
  for (std::uint64_t& argument : facts.arguments) call >> argument;
  if (!(call >> facts.stack >> facts.pc)) return {};
  facts.tid = inner_tid(folder + "status", tid);
  facts.is_set = 1;
  facts.cpu = last_cpu(folder + "stat");
  std::ifstream schedule(folder + "sched");
  for (std::string line; std::getline(schedule, line);) {
    if (!line.starts_with("se.exec_start")) continue;
    const auto colon = line.find(':');
    if (colon == std::string::npos) break;
    facts.slept_since_ns = static_cast<std::uint64_t>(std::stod(line.substr(colon + 1)) * 1e6);
  }
  return facts;
}

std::vector<pid_t> list_processes() {
  std::vector<pid_t> pids;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") == std::string::npos) pids.push_back(static_cast<pid_t>(std::stol(name)));
  }
  return pids;
}

bool maps_file(pid_t pid, const std::string& path) {
  try {
    const auto maps = read_maps(pid);
    return std::ranges::any_of(maps, [&](const MapLine& line) { return line.path == path; });
  } catch (const Error&) {
    return false;  // not ours, or gone meanwhile
  }
}

// One of ours: a trigger maps the page of the job that it waits for. Where /proc shows another namespace, there is none of us.
static bool is_command(pid_t pid) {
  std::error_code error;
  const auto own = std::filesystem::read_symlink("/proc/self/exe", error);
  return !error && read_executable(pid).starts_with(own.parent_path().string() + "/ckpt-");
}

Mappers find_mappers(const std::string& path) {
  Mappers found;
  for (const pid_t pid : list_processes()) {
    if (!maps_file(pid, path) || is_command(pid)) continue;
    const auto status = read_status(pid);
    if (!status) continue;
    (status->name == format::kWriterName ? found.writer : found.member) = pid;
  }
  return found;
}

}  // namespace ckpt
