// Opening and reading images. Every byte of the file is hostile: opening checks header and index completely, verify_frames all the
// rest.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "lib/common/error.h"
#include "lib/common/fd.h"
#include "lib/common/job-image.h"

namespace ckpt {

// The most bytes a frame takes in the file: what compression may add to data that does not compress.
inline constexpr std::uint32_t kMaxStoredSize = format::kMaxFrameSize + format::kMaxFrameSize / 128;

// The file is no image, or a damaged one; the message names file and place. Exit code 1.
class DamagedImage : public Error {
 public:
  DamagedImage(const std::string& path, std::string_view reason) : Error("use image", path, reason, ExitCode::kFailed) {}
};

class Image {
 public:
  // Opens `path` (a symbolic link is followed; the file itself must be a regular one) and reads header and index.
  // Throws Error (can't be opened: 66, 77 …) or DamagedImage.
  static Image open(const std::string& path);
  // The same for a descriptor; `name` stands for it in messages.
  static Image from_fd(Fd fd, std::string name);

  const std::string& name() const { return name_; }
  int fd() const { return fd_.get(); }
  const JobImage& job() const { return job_; }

  // Calls `progress` from the calling thread with bytes done and bytes in all.
  using Progress = std::function<void(std::uint64_t done, std::uint64_t total)>;
  // Reads all bytes of the file that opening did not: frames against their hashes, the space between against zeros.
  // Throws DamagedImage with the first place, or Error. `threads` 0: one a CPU.
  void verify_frames(unsigned threads = 0, const Progress& progress = {}) const;

  // The decoded bytes of frame `number`, checked against its hash. Throws DamagedImage. Safe from several threads.
  std::vector<std::byte> read_frame(std::size_t number) const;
  // The same into `out`, which must have exactly raw_size bytes.
  void read_frame(std::size_t number, std::span<std::byte> out) const;

 private:
  Image(Fd fd, std::string name);
  void read_index();
  std::vector<std::byte> read_stored(const format::Frame& frame, const std::string& what) const;

  Fd fd_;
  std::string name_;
  JobImage job_;
};

// Only the header of an image, checked: what listings need. Throws like Image::open.
format::ImageHeader read_image_header(int fd, const std::string& name);

// Opens a regular file for reading; `name` may be a symbolic link. Throws Error.
Fd open_image_file(const std::string& path);

// An image is code: throws Error with exit code 77 when the file belongs to another user, or others could have written it or put it
// where it is. `path` is where it was opened; empty: unknown, the folder is not looked at.
void check_trust(int fd, const std::string& path);

// Reads exactly out.size() bytes at `offset`; throws DamagedImage at the end of the file, Error if reading fails.
void read_exactly(int fd, std::uint64_t offset, std::span<std::byte> out, const std::string& name);

}  // namespace ckpt
