// ckpt-launch: run a program so that it can be checkpointed.
//
// Order: read the options, check the program, make the control page, set the environment, exec. Same pid, parent, terminal and exit
// status: nothing of us stays. Any failure leaves nothing behind and ends with 125, 126 or 127.
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>

#include "lib/common/control.h"
#include "lib/common/error.h"
#include "lib/common/hash.h"
#include "lib/common/options.h"
#include "lib/common/proc.h"
#include "lib/common/program.h"
#include "lib/common/signal-names.h"
#include "lib/common/store.h"
#include "lib/common/units.h"

namespace {

using namespace ckpt;

constexpr CommandInfo kCommand{
    .name = "ckpt-launch",
    .synopsis =
        "[-d DIR] [-o FILE] [-k KEEP] [-s SIG] [-z CODEC] [--save PATH]... [--every DURATION] [--portable] [-v|-q] [--] PROG "
        "[ARG...]",
    .summary = "Run PROG so that it can be checkpointed.",
    .runs_program = true,
    .notes = "Exit status: that of PROG; 125 ckpt-launch failed, 126 PROG can't be run, 127 PROG was not found.\n",
};

struct Options {
  std::string directory;
  std::string file;
  std::uint32_t keep = 2;
  int signal = SIGUSR2;
  format::Codec codec = format::Codec::kNone;
  std::uint8_t level = 0;
  std::vector<std::string> saved;  // absolute paths
  std::string every;               // duration between checkpoints; empty: none
  bool is_portable = false;
  bool is_verbose = false;
  bool is_quiet = false;
};

int parse_public_signal(const char* text) {
  const int signal = parse_signal(text);
  if (signal == SIGKILL || signal == SIGSTOP) throw UsageError(quote(text) + " can't be caught");
  if (signal == format::kReservedSignal || signal == format::kReservedSignal2)
    throw UsageError(quote(text) + " belongs to the C library");
  return signal;
}

void parse_codec(const char* text, Options& options) {
  const std::string_view value(text);
  const std::string_view name = value.substr(0, value.find(':'));
  const bool has_level = name.size() < value.size();
  options.level = 0;
  if (name == "none" && !has_level) {
    options.codec = format::Codec::kNone;
  } else if (name == "lz4" && !has_level) {
    options.codec = format::Codec::kLz4;
  } else if (name == "zstd") {
    options.codec = format::Codec::kZstd;
    if (has_level) options.level = static_cast<std::uint8_t>(parse_number(value.substr(5), "a level of zstd", 1, 19));
  } else {
    throw UsageError("not a compression: " + quote(value) + " (write none, lz4, zstd or zstd:LEVEL)");
  }
}

// Absolute and without a slash at the end: files are found below it by their names.
std::string parse_saved_path(const char* text) {
  std::string path = make_absolute(text);
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const std::filesystem::path given(path);
  path = std::filesystem::weakly_canonical(given.parent_path()) / given.filename();
  if (*text == '\0' || path == "/") throw UsageError("--save can't carry " + quote(text));
  return path;
}

std::vector<Option> make_table(Options& options) {
  return {
      {"dir", 'd', "DIR", "keep images below DIR instead of ~/.ckpt", [&](const char* v) { options.directory = v; }, "CKPT_DIR"},
      {"output", 'o', "FILE", "always replace this one file", [&](const char* v) { options.file = v; }, "CKPT_FILE"},
      {"keep", 'k', "KEEP", "keep the last KEEP images (2)",
       [&](const char* v) { options.keep = static_cast<std::uint32_t>(parse_number(v, "a number of images", 1, 1'000'000)); },
       "CKPT_KEEP"},
      {"signal", 's', "SIG", "signal that asks for a checkpoint (USR2)",
       [&](const char* v) { options.signal = parse_public_signal(v); }, "CKPT_SIGNAL"},
      {"compress", 'z', "CODEC", "none, lz4 or zstd[:LEVEL] (none)", [&](const char* v) { parse_codec(v, options); },
       "CKPT_COMPRESS"},
      {"save", 0, "PATH", "carry this file or folder in each image",
       [&](const char* v) { options.saved.push_back(parse_saved_path(v)); }},
      {"every", 0, "DURATION", "checkpoint every 30, 90s, 10m or 2h",
       [&](const char* v) {
         if (parse_duration(v) < std::chrono::seconds(1)) throw UsageError("--every needs at least one second");
         options.every = v;
       }},
      {"portable", 0, nullptr, "use only what every x86-64 CPU has", [&](const char*) { options.is_portable = true; }},
      {"verbose", 'v', nullptr, "say where the images will be", [&](const char*) { options.is_verbose = true; }},
      {"quiet", 'q', nullptr, "say nothing but errors", [&](const char*) { options.is_quiet = true; }},
  };
}

std::string make_job_name(const std::string& program) {
  std::string name = program.substr(program.rfind('/') + 1).substr(0, 100);
  for (char& c : name) {
    const bool is_plain =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || std::strchr("._+-", c) != nullptr;
    if (!is_plain) c = '_';
  }
  if (name[0] == '.' || name[0] == '-') name[0] = '_';
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char stamp[32];
  std::strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &parts);
  return name + "-" + std::to_string(getpid()) + "-" + stamp;
}

template <std::size_t N>
void copy_text(char (&to)[N], const std::string& from, const char* what) {
  if (from.size() >= N) throw Error("use", from, std::string("the path of ") + what + " is too long");
  std::memcpy(to, from.c_str(), from.size() + 1);
}

format::Settings make_settings(const Options& options, const std::string& store, const std::string& job_name) {
  format::Settings settings{};
  if (getrandom(&settings.job_id, sizeof settings.job_id, 0) < 0)
    throw Error::plain("cannot get random bytes: " + describe_errno(errno));
  copy_text(settings.directory, store, "the store");
  copy_text(settings.job_name, job_name, "the job");
  copy_text(settings.file, make_absolute(options.file), "the image");
  settings.keep = options.keep;
  settings.codec = options.codec;
  settings.level = options.level;
  settings.public_signal = static_cast<std::uint32_t>(options.signal);
  settings.portable = options.is_portable ? 1 : 0;
  std::size_t used = 0;
  for (const std::string& path : options.saved) {
    if (used + path.size() + 2 > sizeof settings.saved_paths)
      throw Error("save", path, "the paths of --save are too long together");
    std::memcpy(settings.saved_paths + used, path.c_str(), path.size() + 1);
    used += path.size() + 1;
  }
  return settings;
}

void check_output_file(const std::string& file) {
  if (file.empty()) return;
  const std::string path = make_absolute(file);
  const std::string folder = path.substr(0, std::max<std::size_t>(path.rfind('/'), 1));
  if (faccessat(AT_FDCWD, folder.c_str(), W_OK | X_OK, AT_EACCESS) != 0) throw Error::from_errno("write to folder", folder, errno);
  struct stat status {};
  if (lstat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) throw Error("replace", path, "not a regular file");
}

bool splits_preload(const std::string& path) { return path.find_first_of(" :") != path.npos; }

// LD_PRELOAD has no way to quote: a runtime whose path has a space or a colon is preloaded through a link in the store.
std::string clean_runtime_path(const std::string& runtime, const std::string& run_folder) {
  if (!splits_preload(runtime)) return runtime;
  if (splits_preload(run_folder)) {
    throw Error("preload", runtime, "neither it nor the store " + quote(run_folder) + " has a path without spaces and colons");
  }
  const auto hash = hash_bytes(std::as_bytes(std::span(runtime)));
  char name[64];
  std::snprintf(name, sizeof name, "/libckpt-%016llx.so", static_cast<unsigned long long>(hash.low));
  std::string link = run_folder + name;
  if (symlink(runtime.c_str(), link.c_str()) != 0 && errno != EEXIST) throw Error::from_errno("create", link, errno);
  return link;
}

std::string find_runtime(const std::string& run_folder) {
  const std::string commands = folder_of_command();
  std::string runtime = commands.substr(0, commands.rfind('/')) + "/lib/ckpt/libckpt.so";
  if (access(runtime.c_str(), R_OK) != 0) throw Error::from_errno("find the runtime", runtime, errno);
  return clean_runtime_path(runtime, run_folder);
}

// The old value without our own entry, which is there when a checkpointed shell launches us.
void set_preload(const std::string& runtime) {
  std::string value = runtime;
  if (const char* old = std::getenv("LD_PRELOAD"); old != nullptr) {
    std::string_view rest(old);
    while (!rest.empty()) {
      const std::string_view entry = rest.substr(0, rest.find_first_of(" :"));
      if (!entry.empty() && !entry.ends_with("/libckpt.so") && entry != runtime) value += ":" + std::string(entry);
      rest.remove_prefix(std::min(entry.size() + 1, rest.size()));
    }
  }
  setenv("LD_PRELOAD", value.c_str(), 1);
}

// glibc picks its string functions and the size of its lazy-binding save area once, by CPU. Names it does not know it skips.
void pin_baseline() {
  constexpr char kKey[] = "glibc.cpu.hwcaps=";
  constexpr char kMask[] =
      "-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-AVX512CD,-AVX512DQ,-AVX512ER,-AVX512PF,-AVX_Fast_Unaligned_Load,-BMI1,-BMI2,-ERMS,-"
      "FMA,"
      "-FMA4,-FSRM,-LZCNT,-MOVBE,-POPCNT,-RTM,-SSE3,-SSSE3,-SSE4_1,-SSE4_2,-XSAVE,-XSAVEC,-Prefer_No_VZEROUPPER";
  const char* old = std::getenv("GLIBC_TUNABLES");
  std::string value = old != nullptr ? old : "";
  if (const auto at = value.find(kKey); at != value.npos) {
    value.insert(std::min(value.find(':', at), value.size()), std::string(",") + kMask);
  } else {
    value += std::string(value.empty() ? "" : ":") + kKey + kMask;
  }
  setenv("GLIBC_TUNABLES", value.c_str(), 1);
}

// In the grandchild: become ckpt-every, away from the program's streams, session and signals.
[[noreturn]] void become_timer(const std::string& command, const std::string& duration, const std::string& pid) {
  setsid();
  std::signal(SIGCHLD, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const int null = open("/dev/null", O_RDWR);
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(null, fd);
  if (null > STDERR_FILENO) close(null);
  execl(command.c_str(), command.c_str(), duration.c_str(), pid.c_str(), static_cast<char*>(nullptr));
  _exit(127);
}

// Starts ckpt-every as nobody's child: the program must not see one it did not make.
void start_timer(const std::string& duration) {
  const std::string command = folder_of_command() + "/ckpt-every";
  if (access(command.c_str(), X_OK) != 0) throw Error::from_errno("run", command, errno);
  const std::string pid = std::to_string(getpid());
  const pid_t child = fork();
  if (child < 0) throw Error::from_errno("start", command, errno);
  if (child == 0) {
    if (fork() == 0) become_timer(command, duration, pid);
    _exit(0);
  }
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
}

[[noreturn]] void execute(const std::string& path, char** argv, const std::string& control) {
  execv(path.c_str(), argv);
  if (errno == ENOEXEC) {
    std::vector<char*> arguments{const_cast<char*>("/bin/sh"), const_cast<char*>(path.c_str())};
    for (char** argument = argv + 1; *argument != nullptr; ++argument) arguments.push_back(*argument);
    arguments.push_back(nullptr);
    execv(arguments[0], arguments.data());
  }
  const int error = errno;
  unlink(control.c_str());
  throw Error::from_errno("run", path, error, error == ENOENT ? ExitCode::kNotFound : ExitCode::kNotRunnable);
}

int launch(int argc, char** argv) {
  Options options;
  const auto table = make_table(options);
  const auto operands = parse_options(kCommand, table, argc, argv);
  if (operands.empty()) throw UsageError("no program given");
  const std::string program = find_program(operands[0]);
  check_program(program);

  const std::string store = find_store(options.directory);
  const std::string run_folder = store + "/" + kRunFolder;
  create_folder(store);
  create_private_folder(run_folder);
  check_output_file(options.file);
  const std::string runtime = find_runtime(run_folder);
  sweep_control_files(run_folder);

  const std::string job_name = make_job_name(program);
  const std::string control = run_folder + "/" + job_name + format::kControlSuffix;
  create_control_file(control, make_settings(options, store, job_name));
  try {
    if (!options.every.empty()) start_timer(options.every);
  } catch (const Error&) {
    unlink(control.c_str());
    throw;
  }
  // From here on what is started belongs to the job.
  set_preload(runtime);
  setenv("CKPT_CONTROL", control.c_str(), 1);
  if (options.is_portable) pin_baseline();
  if (options.is_verbose) say("images go to " + quote(options.file.empty() ? store + "/" + job_name : make_absolute(options.file)));
  execute(program, argv + argc - operands.size(), control);
}

}  // namespace

int main(int argc, char** argv) { return run_main(kCommand.name, argc, argv, launch, CommandKind::kRunner); }
