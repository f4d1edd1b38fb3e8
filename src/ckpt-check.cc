// ckpt-check: what would be saved, what refused, and what does this machine lack?
//
// A process is asked itself: it stops and looks at all it holds, as for an image, and goes on. A program is looked at as
// ckpt-launch does. The machine is asked by trying.
#include <algorithm>
#include <cstdio>
#include <fstream>

#include "lib/common/checkpoint.h"
#include "lib/common/error.h"
#include "lib/common/finding.h"
#include "lib/common/machine-checks.h"
#include "lib/common/namespace-probe.h"
#include "lib/common/options.h"
#include "lib/common/proc.h"
#include "lib/common/program.h"
#include "lib/common/store.h"
#include "lib/common/units.h"

namespace {

using namespace ckpt;

constexpr CommandInfo kCommand{
    .name = "ckpt-check",
    .synopsis = "[--json] [PID|PROG]",
    .summary = "Say what would be saved, what refused, and what this machine lacks.",
    .notes =
        "Exit status: 0 all well, 1 something is refused or missing, 2 usage, 66 no such process or program, 69 not launched\n"
        "for checkpointing, 75 busy, 77 not permitted.\n",
};

struct Options {
  bool is_json = false;
};

std::vector<Option> make_table(Options& options) {
  return {{"json", 0, nullptr, "print JSON", [&](const char*) { options.is_json = true; }}};
}

// What there is to do about a refusal: after the last semicolon of the runtime's line, if it says so itself; else `remedy`.
Finding refuse(const char* check, std::string line, const char* remedy) {
  Finding finding{check, State::kRefused, std::move(line), remedy};
  if (const auto at = finding.detail.rfind("; "); at != std::string::npos) {
    finding.remedy = finding.detail.substr(at + 2);
    finding.detail.resize(at);
  }
  return finding;
}

constexpr char kProcessRemedy[] = "let the program give it up and try again: ckpt-limits(7) lists what can't be saved";
constexpr char kProgramRemedy[] = "use one that is dynamically linked, 64-bit and not set-user-ID: see ckpt-limits(7)";

// Any thread will do: a main one that has ended shows no memory.
bool is_mapping(pid_t pid, const std::string& path) {
  for (const pid_t tid : list_threads(pid)) {
    try {
      const auto maps = read_maps(tid);
      if (!maps.empty()) return std::ranges::any_of(maps, [&](const MapLine& line) { return line.path == path; });
    } catch (const Error&) {
      // Somebody else's, or gone.
    }
  }
  return false;
}

// The processes of a job: those that map its control page, but for commands of ours.
std::vector<pid_t> list_members(const std::string& control) {
  const std::string commands = folder_of_command() + "/ckpt-";
  std::vector<pid_t> members;
  for (const pid_t pid : list_processes()) {
    if (is_mapping(pid, control) && !read_executable(pid).starts_with(commands)) members.push_back(pid);
  }
  return members;
}

std::size_t count_threads(pid_t pid) {
  const auto threads = list_threads(pid);
  return static_cast<std::size_t>(std::ranges::count_if(threads, [&](pid_t tid) {
    const auto status = read_thread_status(pid, tid);
    return status && status->state != 'Z' && status->state != 'X';
  }));
}

// Memory in use that no file holds.
std::uint64_t read_memory(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  std::uint64_t bytes = 0;
  for (std::string key; file >> key; file.ignore(4096, '\n')) {
    std::uint64_t kilobytes = 0;
    if ((key == "RssAnon:" || key == "RssShmem:" || key == "VmSwap:") && file >> kilobytes) bytes += kilobytes * 1024;
  }
  return bytes;
}

// Throws Error where there is nothing to ask: no process, not launched, not ours, busy.
Finding check_process(pid_t pid, CheckSubject& subject) {
  Control control = open_control(pid, find_control_file(pid));
  subject.process = pid;
  subject.store = control.page().settings.directory;
  const auto members = list_members(control.path());
  std::size_t threads = 0;
  for (const pid_t member : members) {
    threads += count_threads(member);
    subject.memory += read_memory(member);
  }
  CheckpointRequest request;
  request.pid = pid;
  request.flags = format::kCheckOnly;
  try {
    const format::Result result = request_checkpoint(control, request);
    if (result.code != 0) return refuse("process", *result.message != '\0' ? result.message : "no reason given", kProcessRemedy);
  } catch (const Error& error) {
    if (error.code() != ExitCode::kFailed) throw;
    return refuse("process", error.what(), kProcessRemedy);
  }
  return {"process", State::kOk,
          "process " + std::to_string(pid) + " would be saved: " + std::to_string(threads) + " threads, " +
              std::to_string(members.size()) + " processes",
          ""};
}

Finding check_launch(const std::string& name) {
  try {
    const std::string path = find_program(name);
    check_program(path);
    return {"program", State::kOk, quote(path) + " can be launched", ""};
  } catch (const Error& error) {
    if (error.code() == ExitCode::kNotFound) throw Error::plain(error.what(), ExitCode::kNoInput);
    return refuse("program", error.what(), kProgramRemedy);
  }
}

bool is_number(const std::string& text) { return !text.empty() && text.find_first_not_of("0123456789") == text.npos; }

// Asked about a process or a program, what counts is whether that can be saved, and where; else all.
ExitCode judge(const std::vector<Finding>& findings, bool has_operand) {
  const bool is_bad = std::ranges::any_of(findings, [&](const Finding& finding) {
    return finding.state == State::kRefused || (finding.state == State::kMissing && (!has_operand || finding.check == kStoreCheck));
  });
  return is_bad ? ExitCode::kFailed : ExitCode::kDone;
}

int run(int argc, char** argv) {
  Options options;
  const auto table = make_table(options);
  const auto operands = parse_options(kCommand, table, argc, argv);
  if (operands.size() > 1) throw UsageError("one process or program at a time");
  std::vector<Finding> findings;
  CheckSubject subject;
  if (!operands.empty() && is_number(operands[0])) {
    findings.push_back(check_process(static_cast<pid_t>(parse_number(operands[0], "a process", 1, INT32_MAX)), subject));
  } else if (!operands.empty()) {
    findings.push_back(check_launch(operands[0]));
  }
  if (subject.store.empty()) subject.store = find_store("");
  for (const auto& part : {check_machine(subject), check_namespaces()}) findings.insert(findings.end(), part.begin(), part.end());
  const std::string text = options.is_json ? format_findings_json(findings) : format_findings(findings);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return static_cast<int>(judge(findings, !operands.empty()));
}

}  // namespace

int main(int argc, char** argv) { return run_main(kCommand.name, argc, argv, run); }
