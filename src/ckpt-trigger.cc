// ckpt-trigger: save running processes now.
//
// Prints the absolute path of each committed image on stdout, or, with -o -, the image itself.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <set>
#include <utility>
#include <vector>

#include "lib/common/checkpoint.h"
#include "lib/common/error.h"
#include "lib/common/image-reader.h"
#include "lib/common/options.h"
#include "lib/common/proc.h"
#include "lib/common/progress.h"
#include "lib/common/store.h"
#include "lib/common/units.h"

namespace {

using namespace ckpt;

constexpr CommandInfo kCommand{
    .name = "ckpt-trigger",
    .synopsis = "[--kill] [-o FILE|-] [-t SECONDS] [-v|-q] PID...",
    .summary = "Save running processes, and print where.",
    .notes =
        "Exit status: 0 saved, 1 failed, 2 usage, 66 no such process, 69 not launched for checkpointing, 73 can't create the "
        "image,\n"
        "74 can't write it, 75 busy, 77 not permitted.\n",
};

struct Options {
  std::string output;
  std::chrono::milliseconds timeout{10'000};
  bool is_kill = false;
  bool is_verbose = false;
  bool is_quiet = false;

  bool is_stream() const { return output == "-"; }
};

std::chrono::milliseconds parse_timeout(const char* text) {
  const auto timeout = parse_duration(text);
  if (timeout.count() == 0 || timeout > std::chrono::hours(24)) throw UsageError("not a time limit: " + quote(text));
  return timeout;
}

std::vector<Option> make_table(Options& options) {
  return {
      {"kill", 0, nullptr, "end the program once the image is safe", [&](const char*) { options.is_kill = true; }},
      {"output", 'o', "FILE", "write the image to FILE; -: to stdout", [&](const char* v) { options.output = v; }},
      {"timeout", 't', "SECONDS", "give up when threads can't be stopped (10)",
       [&](const char* v) { options.timeout = parse_timeout(v); }},
      {"verbose", 'v', nullptr, "say how long it took, and what is waited for", [&](const char*) { options.is_verbose = true; }},
      {"quiet", 'q', nullptr, "show no progress", [&](const char*) { options.is_quiet = true; }},
  };
}

// Whoever was asked for, once each: threads stand for their process.
std::vector<pid_t> parse_pids(const std::vector<char*>& operands) {
  if (operands.empty()) throw UsageError("no process given: is the program running? (ckpt-trigger $(pidof prog))");
  std::vector<pid_t> pids;
  std::set<pid_t> seen;
  for (const char* operand : operands) {
    const auto pid = static_cast<pid_t>(parse_number(operand, "a process", 1, INT32_MAX));
    const auto status = read_status(pid);
    const pid_t process = status && status->tgid > 0 ? status->tgid : pid;
    if (seen.insert(process).second) pids.push_back(process);
  }
  return pids;
}

void check_output(const Options& options, std::size_t count) {
  if (options.output.empty()) return;
  if (count > 1) throw UsageError("--output is for one process");
  if (options.is_stream()) {
    if (isatty(STDOUT_FILENO) != 0) throw UsageError("an image is not written to a terminal: redirect standard output");
    return;
  }
  struct stat status {};
  if (lstat(options.output.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    throw Error("replace", options.output, "not a regular file", ExitCode::kCannotCreate);
  }
  const std::string path = make_absolute(options.output);
  if (path.size() >= format::kPathBytes) throw Error("create", path, "the path is too long", ExitCode::kCannotCreate);
  const std::string folder = path.substr(0, std::max<std::size_t>(path.rfind('/'), 1));
  if (access(folder.c_str(), F_OK) != 0) throw Error::from_errno("create", path, errno, ExitCode::kCannotCreate);
}

void write_all(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw Error::from_errno("write", "standard output", errno, ExitCode::kInputOutput);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void copy_to_stdout(const std::string& path) {
  const Fd fd = open_image_file(path);
  std::vector<std::byte> buffer(1U << 20);
  for (;;) {
    const ssize_t got = read(fd.get(), buffer.data(), buffer.size());
    if (got < 0) throw Error::from_errno("read", path, errno, ExitCode::kInputOutput);
    if (got == 0) return;
    write_all(std::span(buffer).first(static_cast<std::size_t>(got)));
  }
}

// The program goes on (or is dead already, with --kill: then the image is all there is, and stays when the reader fails).
void stream_image(const std::string& path, bool is_only_copy) {
  std::signal(SIGPIPE, SIG_IGN);
  try {
    copy_to_stdout(path);
  } catch (const Error& error) {
    if (is_only_copy) throw Error::plain(std::string(error.what()) + "; the image is " + quote(path), error.code());
    unlink(path.c_str());
    throw;
  }
  unlink(path.c_str());
}

std::string format_ms(std::uint64_t ns) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f ms", static_cast<double>(ns) / 1e6);
  return text;
}

void report(pid_t pid, const format::Result& result, const Options& options) {
  if (!options.is_verbose) return;
  say("process " + std::to_string(pid) + ": " + std::to_string(result.thread_count) + " threads, " +
      format_size(result.image_bytes) + ", stood " + format_ms(result.stall_ns) + ", saved in " + format_ms(result.total_ns));
}

// Of a process that is about to become a program, or has not loaded the runtime yet (`ckpt-launch PROG & ckpt-trigger $!`): young,
// or ckpt-launch still.
bool is_being_launched(pid_t pid) {
  constexpr double kYoung = 2;  // seconds
  const auto start = read_start_time(pid);
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  const double begun = start ? static_cast<double>(*start) / static_cast<double>(sysconf(_SC_CLK_TCK)) : 0;
  return (start && static_cast<double>(now.tv_sec) - begun < kYoung) ||
         read_executable(pid) == folder_of_command() + "/ckpt-launch";
}

// Throws Error.
std::string await_control_file(pid_t pid, std::chrono::milliseconds timeout) {
  constexpr useconds_t kPause = 10'000;
  const auto end = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    try {
      return find_control_file(pid);
    } catch (const Error& error) {
      const bool is_late = std::chrono::steady_clock::now() >= end;
      if (error.code() != ExitCode::kUnavailable || is_late || !is_being_launched(pid)) throw;
    }
    usleep(kPause);
  }
}

void trigger(pid_t pid, const std::string& control_file, const Options& options) {
  Control control = open_control(pid, control_file);
  CheckpointRequest request;
  request.pid = pid;
  request.timeout = options.timeout;
  if (options.is_kill) request.flags |= format::kHoldUntilCommitted;
  if (options.is_stream()) {
    request.flags |= format::kSelfContained;
    // Beside the control file, wherever the page says that the store is: the program may have fewer rights than we have.
    const std::string run = control.path().substr(0, control.path().rfind('/'));
    request.file = run + "/stream-" + std::to_string(getpid()) + kImageSuffix;
  } else if (!options.output.empty()) {
    request.flags |= format::kSelfContained;
    request.file = make_absolute(options.output);
  }
  ProgressLine line("saving " + std::to_string(pid) + ":", options.is_quiet);
  request.progress = [&](std::uint64_t done, std::uint64_t total) { line.update(done, total); };
  if (options.is_verbose) request.waiting = [](const std::string& reason) { say("waiting: " + mask(reason)); };
  const format::Result result = request_checkpoint(control, request);
  line.clear();
  if (result.code != 0) {
    const std::string reason = *result.message != '\0' ? mask(result.message) : std::string("no reason given");
    const std::string who = "process " + std::to_string(pid);
    const std::string line = reason.starts_with(who) ? "not saved: " + reason : who + " was not saved: " + reason;
    throw Error::plain(line, static_cast<ExitCode>(result.code));
  }
  report(pid, result, options);
  if (options.is_stream()) return stream_image(request.file, options.is_kill);  // our own name, not what the page says
  std::puts(result.image);
  std::fflush(stdout);
}

int run(int argc, char** argv) {
  Options options;
  const auto table = make_table(options);
  const auto pids = parse_pids(parse_options(kCommand, table, argc, argv));
  check_output(options, pids.size());
  // One that fails does not keep the others from being saved; the first failure is the exit code.
  ExitCode code = ExitCode::kDone;
  const auto attempt = [&code](const auto& step) {
    try {
      step();
    } catch (const Error& error) {
      say(error.what());
      if (code == ExitCode::kDone) code = error.code();
    }
  };
  // Those of one job are one checkpoint, asked of the first of them; and are looked for before --kill ends any.
  std::vector<std::pair<std::string, pid_t>> jobs;  // by control file, in the order given
  for (const pid_t pid : pids) {
    attempt([&] {
      const std::string file = await_control_file(pid, options.timeout);
      const auto job = std::ranges::find(jobs, file, &std::pair<std::string, pid_t>::first);
      if (job != jobs.end()) {
        job->second = std::min(job->second, pid);
      } else {
        jobs.emplace_back(file, pid);
      }
    });
  }
  for (const auto& [control_file, pid] : jobs) {
    attempt([&] { trigger(pid, control_file, options); });
  }
  return static_cast<int>(code);
}

}  // namespace

int main(int argc, char** argv) { return run_main(kCommand.name, argc, argv, run); }
