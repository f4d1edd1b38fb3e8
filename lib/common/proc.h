// What /proc says about other processes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/format/control.h"

namespace ckpt {

// Of /proc/PID/status or /proc/PID/task/TID/status.
struct ProcessStatus {
  std::string name;
  char state = '?';  // R S D T t Z X …
  pid_t tgid = 0;
  pid_t parent = 0;
  pid_t tid = 0;
  pid_t inner_tid = 0;  // in its own pid namespace
  uid_t uid = 0;        // effective
  std::uint64_t blocked = 0;
  std::uint64_t caught = 0;
  std::uint64_t ignored = 0;
  std::uint32_t seccomp_filters = 0;  // strict mode counts as one
};

// Nothing if there is no such process or thread (any more). Throws Error if it can't be read.
std::optional<ProcessStatus> read_status(pid_t pid);
std::optional<ProcessStatus> read_thread_status(pid_t pid, pid_t tid);
std::vector<pid_t> list_threads(pid_t pid);
// All signals that some signalfd of the process reads.
std::uint64_t read_signals_of(pid_t pid);

struct MapLine {
  std::uint64_t start;
  std::uint64_t end;
  std::string permissions;
  std::uint64_t offset;
  std::uint64_t inode;
  std::string path;  // as the kernel prints it, escapes undone
};

// Throws Error: EACCES for a process that is not ours, ESRCH or ENOENT for one that is gone.
std::vector<MapLine> read_maps(pid_t pid);

// In which system call a thread is blocked, and since when; all zero when it is in none, or we may not look (ptrace(2), yama).
format::SyscallFacts read_syscall_facts(pid_t pid, pid_t tid);

std::vector<pid_t> list_processes();
// Who maps the control page `path`, as far as this user may look; 0: nobody. A writer of images is not of the job: it ends by
// itself, and may outlive it.
struct Mappers {
  pid_t member = 0;
  pid_t writer = 0;
};
bool maps_file(pid_t pid, const std::string& path);
Mappers find_mappers(const std::string& path);

// Ticks after the boot: with the pid it names a process for ever. Nothing if it is gone.
std::optional<std::uint64_t> read_start_time(pid_t pid);
// It is gone, or on its way: the kernel takes it down. Of a thread, too.
bool is_ending(pid_t pid);
// Arguments joined by spaces; empty for a zombie or a kernel thread.
std::string read_command_line(pid_t pid);
// Target of /proc/PID/exe; empty if it can't be read.
std::string read_executable(pid_t pid);
// Of this process: the folder of the running command, symbolic links resolved.
std::string folder_of_command();

// A file of unknown size, as in /proc. Throws Error.
std::string read_whole_file(const std::string& path);

}  // namespace ckpt
