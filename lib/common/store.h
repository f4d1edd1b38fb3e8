// The store, $CKPT_DIR: a folder per job with its generations, files/ with executables and libraries by content, run/ with control
// pages. `latest` links point to the newest image, of a job and of all.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/common/error.h"
#include "lib/common/image-reader.h"

namespace ckpt {

inline constexpr char kImageSuffix[] = ".ckpt";
inline constexpr char kRunFolder[] = "run";
inline constexpr char kFilesFolder[] = "files";
inline constexpr char kLatestLink[] = "latest";

// Where the store is: `option` unless empty, else $CKPT_DIR, else ~/.ckpt (the home folder from $HOME, else from /etc/passwd).
// Absolute; need not exist. Throws Error.
std::string find_store(const std::string& option);

// `path` made absolute with the working folder; symbolic links stay.
std::string make_absolute(const std::string& path);

// Creates `path` and what is missing above it, all new folders with mode 0700. Throws Error.
void create_folder(const std::string& path);
// The same, and refuses a folder that is a link, belongs to somebody else, or that others may enter.
void create_private_folder(const std::string& path);

struct StoredImage {
  std::string path;
  std::int64_t time_ns;  // when it was taken (header), else when the file was written
  std::uint64_t size;
  bool is_partial;  // a temporary that its writer left
  std::optional<format::ImageHeader> header;
  std::string problem;  // why there is no header
};

// The images of a folder: *.ckpt in it and in the folders below it (not in run/ and files/), newest first. Reads headers, not data.
// Throws Error with exit code 66 if `folder` is none.
std::vector<StoredImage> list_images(const std::string& folder, bool with_partial);
// One file, given by name.
StoredImage describe_image(const std::string& path);

// The newest image of `folder` that verifies completely; says on stderr which newer ones it passed over. Throws Error (66: no
// images; 1: none is good).
Image open_newest_good(const std::string& folder, const Image::Progress& progress = {});
// What `latest` of the store means now: the link's image if it is good, else the newest good one.
Image open_latest(const std::string& store, const Image::Progress& progress = {});

// <store>/files/<hash>
std::string path_of_content(const std::string& store, const format::Hash128& hash);

}  // namespace ckpt
