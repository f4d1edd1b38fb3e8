// ckpt-restart: carry on from an image. Stays as the program's parent and ends as it ends.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "lib/common/error.h"
#include "lib/common/image-reader.h"
#include "lib/common/options.h"
#include "lib/common/progress.h"
#include "lib/common/store.h"
#include "restart/job.h"
#include "restart/numbers.h"
#include "restart/plan.h"

namespace {

using namespace ckpt;

constexpr CommandInfo kCommand{
    .name = "ckpt-restart",
    .synopsis = "[-n] [--again] [--trust] [--stdio auto|inherit|original] [--files policy|keep] [-v|-q] [IMAGE|DIR|-]",
    .summary = "Carry on from an image, a folder's newest good image, standard input (-), or the latest one.",
    .notes = "Exit status: that of the program; 125 if it could not be restarted.\n",
};

StdioPolicy parse_stdio(const std::string& text) {
  if (text == "auto") return StdioPolicy::kAuto;
  if (text == "inherit") return StdioPolicy::kInherit;
  if (text == "original") return StdioPolicy::kOriginal;
  throw UsageError("not a policy for standard streams: " + quote(text));
}

FilesPolicy parse_files(const std::string& text) {
  if (text == "policy") return FilesPolicy::kPolicy;
  if (text == "keep") return FilesPolicy::kKeep;
  throw UsageError("not a policy for files: " + quote(text));
}

std::vector<Option> make_table(RestartOptions& options) {
  return {
      {"dry-run", 'n', nullptr, "print what would be done, and do nothing", [&](const char*) { options.is_dry_run = true; }},
      {"again", 0, nullptr, "run it although the original still lives", [&](const char*) { options.is_again = true; }},
      {"trust", 0, nullptr, "take an image that another user owns or could have written",
       [&](const char*) { options.is_trusted = true; }},
      {"stdio", 0, "POLICY", "standard streams: auto, inherit or original", [&](const char* v) { options.stdio = parse_stdio(v); }},
      {"files", 0, "POLICY", "open files: policy, or keep them as they are now",
       [&](const char* v) { options.files = parse_files(v); }},
      {"verbose", 'v', nullptr, "say what is done", [&](const char*) { options.is_verbose = true; }},
      {"quiet", 'q', nullptr, "say nothing but errors", [&](const char*) { options.is_quiet = true; }},
  };
}

// Standard input, whole, in a file without a name: an image is read from several places.
Image spool_stdin() {
  const char* folder = getenv("TMPDIR");
  Fd file(open(folder != nullptr && *folder != '\0' ? folder : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!file.is_open()) file = Fd(memfd_create("ckpt-image", MFD_CLOEXEC));
  if (!file.is_open()) throw Error::from_errno("create", "a temporary file", errno, ExitCode::kRunner);
  std::vector<char> buffer(1U << 20);
  for (ssize_t count = 0; (count = read(STDIN_FILENO, buffer.data(), buffer.size())) != 0;) {
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw Error::from_errno("read", "standard input", errno, ExitCode::kRunner);
    for (ssize_t done = 0; done < count;) {
      const ssize_t written = write(file.get(), buffer.data() + done, static_cast<std::size_t>(count - done));
      if (written < 0) throw Error::from_errno("spool", "standard input", errno, ExitCode::kRunner);
      done += written;
    }
  }
  // What was stdin is used up; the program's own comes from elsewhere.
  const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null >= 0) dup2(null, STDIN_FILENO);
  return Image::from_fd(std::move(file), "standard input");
}

bool is_stdin(const char* operand) { return operand != nullptr && std::strcmp(operand, "-") == 0; }

// Without an operand (null) the newest image of the store. An empty one is the name of no image: $(ckpt-trigger …) that failed.
Image open_image(const char* operand, const RestartOptions& options) {
  ProgressLine line("verifying", options.is_quiet);
  const Image::Progress progress = [&](std::uint64_t done, std::uint64_t total) { line.update(done, total); };
  if (operand == nullptr) return open_latest(find_store(""), progress);
  if (is_stdin(operand)) {
    Image image = spool_stdin();
    image.verify_frames(0, progress);
    return image;
  }
  if (std::filesystem::is_directory(operand)) return open_newest_good(operand, progress);
  Image image = Image::open(operand);
  if (!options.is_trusted) check_trust(image.fd(), operand);
  image.verify_frames(0, progress);
  return image;
}

// Ends as the program ended: its code, or its signal without another core.
int end_like(int status) {
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  const int signal = WTERMSIG(status);
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  ::signal(signal, SIG_DFL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  raise(signal);
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  return 128 + signal;
}

// Ignored, as a caller may leave it, it would take the status of our children away. The program has its own from the image.
void expect_children() { std::signal(SIGCHLD, SIG_DFL); }

// Where somebody takes a number of the job meanwhile, once more: without it, or with it if it is free again.
int run(const Image& image, const RestartOptions& options) {
  constexpr int kAttempts = 3;
  for (int attempt = 1;; ++attempt) {
    const RestartPlan plan = make_plan(image, options);
    if (!options.is_quiet) {
      for (const std::string& note : plan.notes) say(note);
    }
    try {
      return run_job(plan);
    } catch (const NumbersLost& error) {
      if (attempt == kAttempts) throw;
      if (!options.is_quiet) say(std::string(error.what()) + "; once more");
    }
  }
}

int restart(int argc, char** argv) {
  RestartOptions options;
  const auto operands = parse_options(kCommand, make_table(options), argc, argv);
  if (operands.size() > 1) throw UsageError("more than one image");
  const char* operand = operands.empty() ? nullptr : operands[0];
  const Image image = open_image(operand, options);
  if (!options.is_trusted && !is_stdin(operand)) check_trust(image.fd(), image.name());
  expect_children();
  if (options.is_dry_run) {
    std::fputs(describe_plan(make_plan(image, options)).c_str(), stdout);
    return 0;
  }
  if (options.is_verbose) say("restarting " + image.name());
  return end_like(run(image, options));
}

}  // namespace

int main(int argc, char** argv) { return run_main(kCommand.name, argc, argv, restart, CommandKind::kRunner); }
