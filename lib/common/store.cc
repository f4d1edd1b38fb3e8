// Boost.Filesystem over the store. Nothing here trusts names found on disk beyond their shape.
#include "lib/common/store.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/filesystem.hpp>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace ckpt {
namespace {

namespace fs = boost::filesystem;

// The sixth field of our line in /etc/passwd: getpwuid would load NSS modules, which a static binary can't.
std::string home_from_passwd() {
  std::ifstream passwd("/etc/passwd");
  const std::string uid = std::to_string(getuid());
  for (std::string line; std::getline(passwd, line);) {
    std::vector<std::string> fields(1);
    for (const char c : line) {
      if (c == ':') {
        fields.emplace_back();
      } else {
        fields.back() += c;
      }
    }
    if (fields.size() == 7 && fields[2] == uid) return fields[5];
  }
  return {};
}

bool is_image_name(const std::string& name) {
  return name.size() > sizeof kImageSuffix - 1 && name.ends_with(kImageSuffix) && name[0] != '.';
}

// ".NAME.ckpt.tmp-PID", as the runtime names what it is writing.
bool is_partial_name(const std::string& name) {
  const auto at = name.rfind(std::string(kImageSuffix) + ".tmp-");
  return name[0] == '.' && at != std::string::npos;
}

std::vector<std::string> read_folder(const std::string& folder) {
  boost::system::error_code error;
  fs::directory_iterator iterator(folder, error);
  if (error) throw Error::from_errno("read folder", folder, error.value());
  std::vector<std::string> names;
  for (; iterator != fs::directory_iterator(); iterator.increment(error)) {
    if (error) throw Error::from_errno("read folder", folder, error.value());
    names.push_back(iterator->path().filename().string());
  }
  return names;
}

void append_images(const std::string& folder, bool with_partial, std::vector<StoredImage>& images) {
  for (const auto& name : read_folder(folder)) {
    const bool is_partial = is_partial_name(name);
    if (!is_image_name(name) && !(with_partial && is_partial)) continue;
    const std::string path = (fs::path(folder) / name).string();
    struct stat status {};
    // A link in a listing would show an image twice; what vanishes meanwhile is not worth a word.
    if (lstat(path.c_str(), &status) != 0 || S_ISLNK(status.st_mode)) continue;
    images.push_back(describe_image(path));
  }
}

bool is_folder(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

std::optional<Image> try_image(const std::string& path, const Image::Progress& progress) {
  try {
    Image image = Image::open(path);
    image.verify_frames(0, progress);
    return image;
  } catch (const Error& error) {
    say(std::string(error.what()) + "; trying the one before it");
    return std::nullopt;
  }
}

// The path that `latest` of the store leads to, or nothing if it leads nowhere or out of the store.
std::optional<std::string> resolve_latest(const std::string& store) {
  boost::system::error_code error;
  const fs::path target = fs::read_symlink(fs::path(store) / kLatestLink, error);
  if (error || target.is_absolute()) return std::nullopt;
  for (const auto& part : target) {
    if (part == "..") return std::nullopt;
  }
  const fs::path real = fs::canonical(fs::path(store) / target, error);
  if (error) return std::nullopt;
  const fs::path root = fs::canonical(store, error);
  if (error) return std::nullopt;
  const fs::path relative = real.lexically_relative(root);
  if (relative.empty() || *relative.begin() == "..") return std::nullopt;
  return real.string();
}

}  // namespace

std::string make_absolute(const std::string& path) {
  if (path.empty() || path[0] == '/') return path;
  boost::system::error_code error;
  const fs::path here = fs::current_path(error);
  if (error) throw Error::from_errno("find the working folder for", path, error.value());
  return (here / path).lexically_normal().string();
}

std::string find_store(const std::string& option) {
  if (!option.empty()) return make_absolute(option);
  if (const char* value = std::getenv("CKPT_DIR"); value != nullptr && *value != '\0') return make_absolute(value);
  const char* home = std::getenv("HOME");
  const std::string folder = home != nullptr && *home == '/' ? home : home_from_passwd();
  if (folder.empty()) throw Error::plain("no home folder known: set CKPT_DIR or HOME, or give --dir");
  return (fs::path(folder) / ".ckpt").string();
}

// Whatever the umask is.
static bool make_or_find_folder(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0) return chmod(path.c_str(), 0700) == 0;
  return errno == EEXIST && is_folder(path);
}

void create_folder(const std::string& path) {
  if (make_or_find_folder(path)) return;
  if (errno == ENOENT) {
    const std::string parent = fs::path(path).parent_path().string();
    if (!parent.empty() && parent != path) {
      create_folder(parent);
      if (make_or_find_folder(path)) return;
    }
  }
  const int error = errno == EEXIST ? ENOTDIR : errno;
  throw Error::from_errno("create folder", path, error, ExitCode::kCannotCreate);
}

void create_private_folder(const std::string& path) {
  create_folder(path);
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0) throw Error::from_errno("use folder", path, errno);
  if (!S_ISDIR(status.st_mode)) throw Error("use folder", path, "it is a link", ExitCode::kNotPermitted);
  if (status.st_uid != geteuid()) throw Error("use folder", path, "it belongs to another user", ExitCode::kNotPermitted);
  if ((status.st_mode & 077) != 0)
    throw Error("use folder", path, "other users may enter it (chmod 700 it)", ExitCode::kNotPermitted);
}

StoredImage describe_image(const std::string& path) {
  StoredImage image{path, 0, 0, is_partial_name(fs::path(path).filename().string()), std::nullopt, {}};
  try {
    const Fd fd = open_image_file(path);
    struct stat status {};
    if (fstat(fd.get(), &status) != 0) throw Error::from_errno("read", path, errno);
    image.size = static_cast<std::uint64_t>(status.st_size);
    image.time_ns = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
    image.header = read_image_header(fd.get(), path);
    image.time_ns = image.header->created_ns;
  } catch (const Error& error) {
    image.problem = error.what();
  }
  return image;
}

std::vector<StoredImage> list_images(const std::string& folder, bool with_partial) {
  std::vector<StoredImage> images;
  append_images(folder, with_partial, images);
  for (const auto& name : read_folder(folder)) {
    const std::string path = (fs::path(folder) / name).string();
    if (name == kRunFolder || name == kFilesFolder || !is_folder(path)) continue;
    try {
      append_images(path, with_partial, images);
    } catch (const Error& error) {
      say(error.what());
    }
  }
  // By path where times are the same: generations count up.
  std::ranges::sort(images, [](const StoredImage& a, const StoredImage& b) {
    return a.time_ns != b.time_ns ? a.time_ns > b.time_ns : a.path > b.path;
  });
  return images;
}

Image open_newest_good(const std::string& folder, const Image::Progress& progress) {
  const auto images = list_images(folder, false);
  if (images.empty()) throw Error::plain("no image in " + quote(folder), ExitCode::kNoInput);
  for (const auto& candidate : images) {
    if (auto image = try_image(candidate.path, progress)) return std::move(*image);
  }
  throw Error::plain("no good image in " + quote(folder));
}

Image open_latest(const std::string& store, const Image::Progress& progress) {
  if (const auto path = resolve_latest(store)) {
    if (auto image = try_image(*path, progress)) return std::move(*image);
  }
  return open_newest_good(store, progress);
}

std::string path_of_content(const std::string& store, const format::Hash128& hash) {
  char name[40];
  std::snprintf(name, sizeof name, "%016" PRIx64 "%016" PRIx64, hash.high, hash.low);
  return (fs::path(store) / kFilesFolder / name).string();
}

}  // namespace ckpt
