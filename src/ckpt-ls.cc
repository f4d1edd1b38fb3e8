// ckpt-ls: list images, look inside them, and read them through.
//
// Order: find the images, newest first; open those whose inside is asked for; print all at once.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>

#include "lib/common/error.h"
#include "lib/common/image-json.h"
#include "lib/common/image-text.h"
#include "lib/common/options.h"
#include "lib/common/progress.h"
#include "lib/common/store.h"

namespace {

using namespace ckpt;

constexpr CommandInfo kCommand{
    .name = "ckpt-ls",
    .synopsis = "[-l] [--json] [--map] [--verify] [--color auto|always|never] [DIR|IMAGE...]",
    .summary = "List checkpoint images, newest first.",
    .notes = "Exit status: 0 done, 1 an image is damaged (--verify, --map), 2 usage, 66 no such image or folder.\n",
};

// https://no-color.org
bool has_coloured_terminal() {
  const char* no = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return isatty(STDOUT_FILENO) != 0 && (no == nullptr || *no == '\0') && term != nullptr && std::strcmp(term, "dumb") != 0;
}

struct Options {
  bool is_long = false;
  bool is_json = false;
  bool is_map = false;
  bool is_verify = false;
  bool is_coloured = has_coloured_terminal();
};

// What a run finds, and the code it will end with.
struct Findings {
  std::vector<ListedImage> images;
  std::vector<std::unique_ptr<Image>> opened;  // as `images`, where the inside was asked for; nullptr: damaged
  ExitCode code = ExitCode::kDone;
};

bool parse_colour(const std::string& text) {
  if (text == "auto") return has_coloured_terminal();
  if (text == "always" || text == "never") return text == "always";
  throw UsageError("not a time for colours: " + quote(text) + " (write auto, always or never)");
}

std::vector<Option> make_table(Options& options) {
  return {
      {"long", 'l', nullptr, "show more columns", [&](const char*) { options.is_long = true; }},
      {"json", 0, nullptr, "print JSON", [&](const char*) { options.is_json = true; }},
      {"map", 0, nullptr, "show areas, threads, descriptors and signals", [&](const char*) { options.is_map = true; }},
      {"verify", 0, nullptr, "read and check every byte", [&](const char*) { options.is_verify = true; }},
      {"color", 0, "WHEN", "colours: auto, always or never", [&](const char* v) { options.is_coloured = parse_colour(v); }},
  };
}

ImageState state_of(const StoredImage& image) {
  if (image.is_partial) return ImageState::kPartial;
  return image.header ? ImageState::kOk : ImageState::kDamaged;
}

void add(Findings& findings, StoredImage image) {
  const ImageState state = state_of(image);
  findings.images.push_back({std::move(image), state});
}

void list_operand(Findings& findings, const std::string& operand) {
  struct stat status {};
  if (stat(operand.c_str(), &status) != 0) throw Error::from_errno("open", operand, errno);
  if (S_ISDIR(status.st_mode)) {
    for (auto& image : list_images(operand, true)) add(findings, std::move(image));
    return;
  }
  if (!S_ISREG(status.st_mode)) throw Error("open", operand, "not a regular file", ExitCode::kNoInput);
  add(findings, describe_image(operand));
}

// The store may be missing: nothing was saved yet.
void list_store(Findings& findings) {
  const std::string store = find_store("");
  if (access(store.c_str(), F_OK) != 0 && errno == ENOENT) return;
  list_operand(findings, store);
}

void list_operands(Findings& findings, const std::vector<char*>& operands) {
  for (const char* operand : operands) {
    try {
      list_operand(findings, operand);
    } catch (const Error& error) {
      say(error.what());
      if (findings.code == ExitCode::kDone) findings.code = error.code();
    }
  }
  std::ranges::stable_sort(findings.images, std::ranges::greater(), [](const ListedImage& image) { return image.stored.time_ns; });
}

// Opens an image, which checks its header and index, and reads the rest if asked to.
std::unique_ptr<Image> open_image(ListedImage& listed, bool is_verify) {
  try {
    auto image = std::make_unique<Image>(Image::open(listed.stored.path));
    ProgressLine line("reading " + mask(listed.stored.path) + ":", false);
    if (is_verify) image->verify_frames(0, [&](std::uint64_t done, std::uint64_t total) { line.update(done, total); });
    return image;
  } catch (const Error& error) {
    if (listed.state == ImageState::kOk) listed.state = ImageState::kDamaged;
    listed.stored.problem = error.what();
    say(error.what());
    return nullptr;
  }
}

void look_inside(Findings& findings, const Options& options) {
  for (auto& listed : findings.images) {
    auto image = open_image(listed, options.is_verify);
    // What a killed writer left is no image yet, so it is not a damaged one.
    const bool is_bad = image == nullptr && listed.state != ImageState::kPartial;
    if (is_bad && findings.code == ExitCode::kDone) findings.code = ExitCode::kFailed;
    if (!options.is_map) image.reset();
    findings.opened.push_back(std::move(image));
  }
}

std::string format(const Findings& findings, const Options& options) {
  if (options.is_json) {
    std::vector<const JobImage*> maps;
    if (options.is_map) {
      for (const auto& image : findings.opened) maps.push_back(image ? &image->job() : nullptr);
    }
    return format_json(findings.images, maps);
  }
  if (options.is_map) {
    std::string text;
    for (const auto& image : findings.opened) {
      if (image) text += format_map(*image);
    }
    return text;
  }
  if (findings.images.empty() && isatty(STDOUT_FILENO) == 0) return {};
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return format_table(findings.images, options.is_long, std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec,
                      options.is_coloured);
}

int list(int argc, char** argv) {
  Options options;
  const auto table = make_table(options);
  const auto operands = parse_options(kCommand, table, argc, argv);
  Findings findings;
  if (operands.empty()) {
    list_store(findings);
  } else {
    list_operands(findings, operands);
  }
  if (options.is_map || options.is_verify) look_inside(findings, options);
  const std::string text = format(findings, options);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return static_cast<int>(findings.code);
}

}  // namespace

int main(int argc, char** argv) { return run_main(kCommand.name, argc, argv, list); }
