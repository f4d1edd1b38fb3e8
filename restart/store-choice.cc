// See store-choice.h.
#include "restart/store-choice.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "lib/common/store.h"

namespace ckpt {

namespace {

namespace fs = std::filesystem;

// Of the open file, without symbolic links; that of a file without a name leads nowhere.
fs::path path_of(const Image& image) {
  std::error_code error;
  return fs::read_symlink("/proc/self/fd/" + std::to_string(image.fd()), error);
}

bool can_be_used(const fs::path& store) { return access(store.c_str(), W_OK | X_OK) == 0; }

bool can_be_made(const fs::path& store) {
  fs::path there = store;
  std::error_code error;
  while (there.has_relative_path() && !fs::exists(there, error)) there = there.parent_path();
  return can_be_used(there);
}

}  // namespace

std::string choose_store(const Image& image) {
  const format::Settings& settings = image.job().job.settings;
  const fs::path former = settings.directory;
  const fs::path folder = path_of(image).parent_path();
  std::error_code error;
  if (folder.filename() == settings.job_name && can_be_used(folder.parent_path())) {
    const bool is_former = fs::equivalent(folder.parent_path(), former, error);
    return (is_former ? former : folder.parent_path()).string();
  }
  const char* wanted = std::getenv("CKPT_DIR");
  if ((wanted != nullptr && *wanted != '\0') || !can_be_made(former)) return find_store("");
  return former.string();
}

}  // namespace ckpt
