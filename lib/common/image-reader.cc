// Order of the checks: file type, size, magic, header hash, versions, sizes; index hash, decoding, records, references.
#include "lib/common/image-reader.h"

#include <fcntl.h>
#include <lz4.h>
#include <zstd.h>

#include <cerrno>
#include <cstring>

#include "lib/common/hash.h"
#include "lib/common/index-parser.h"

namespace ckpt {
namespace {

// An index may be larger than a frame, but no header makes us allocate without limit.
constexpr std::uint32_t kMaxIndexSize = 1U << 30;
constexpr std::uint64_t kMaxIndexRatio = 4096;

std::span<std::byte> bytes_of(format::ImageHeader& header) { return std::as_writable_bytes(std::span(&header, 1)); }

format::Hash128 hash_of_header(format::ImageHeader header) {
  header.header_hash = {};
  return hash_bytes(bytes_of(header));
}

template <std::size_t N>
bool is_terminated(const char (&text)[N]) {
  return strnlen(text, N) < N;
}

void decode(const format::Frame& frame, std::span<const std::byte> stored, std::span<std::byte> out, const std::string& name) {
  const auto* from = reinterpret_cast<const char*>(stored.data());
  auto* to = reinterpret_cast<char*>(out.data());
  std::size_t size = 0;
  switch (frame.codec) {
    case format::Codec::kNone:
      size = stored.size();
      if (size == out.size()) std::memcpy(to, from, size);
      break;
    case format::Codec::kLz4: {
      const int result = LZ4_decompress_safe(from, to, static_cast<int>(stored.size()), static_cast<int>(out.size()));
      size = result < 0 ? SIZE_MAX : static_cast<std::size_t>(result);
      break;
    }
    case format::Codec::kZstd:
      size = ZSTD_decompress(to, out.size(), from, stored.size());
      break;
  }
  if (size != out.size()) throw DamagedImage(name, "the data at offset " + std::to_string(frame.offset) + " can't be decompressed");
}

void check_versions(const format::ImageHeader& header, const std::string& name) {
  if (header.oldest_reader > format::kImageVersion) {
    throw DamagedImage(name, "it needs a newer ckpt (format " + std::to_string(header.oldest_reader) + ", this one reads " +
                                 std::to_string(format::kImageVersion) + ")");
  }
  if (header.format_version < header.oldest_reader || header.oldest_reader == 0)
    throw DamagedImage(name, "its format version is impossible");
  if (header.arch != format::kArchX86_64)
    throw DamagedImage(name, "it was taken on another architecture (" + std::to_string(header.arch) + ")");
  if (header.page_size != format::kPageSize)
    throw DamagedImage(name, "it has pages of " + std::to_string(header.page_size) + " bytes");
}

void check_index_frame(const format::ImageHeader& header, const std::string& name) {
  const format::Frame& index = header.index;
  const bool is_inside = index.offset >= format::kPageSize && index.offset <= header.file_size && index.stored_size != 0 &&
                         index.stored_size <= header.file_size - index.offset;
  const bool is_plausible = index.raw_size != 0 && index.raw_size <= kMaxIndexSize &&
                            index.raw_size <= std::uint64_t{index.stored_size} * kMaxIndexRatio &&
                            index.codec <= format::Codec::kZstd &&
                            (index.codec != format::Codec::kNone || index.raw_size == index.stored_size);
  if (!is_inside || !is_plausible || index.transform != 0) throw DamagedImage(name, "its header points to no index");
}

void check_header(const format::ImageHeader& header, std::uint64_t file_size, const std::string& name) {
  const bool is_zero = std::string_view(header.magic, sizeof header.magic).find_first_not_of('\0') == std::string_view::npos;
  if (is_zero) throw DamagedImage(name, "it has no header, its checkpoint was not finished");
  if (std::memcmp(header.magic, format::kImageMagic, sizeof header.magic) != 0) throw DamagedImage(name, "not a checkpoint image");
  if (hash_of_header(header) != header.header_hash) throw DamagedImage(name, "its header is damaged");
  check_versions(header, name);
  if (file_size != header.file_size) {
    throw DamagedImage(name, std::string(file_size < header.file_size ? "truncated" : "something was added to it") + ": it has " +
                                 std::to_string(file_size) + " bytes of " + std::to_string(header.file_size));
  }
  if (!is_terminated(header.host) || !is_terminated(header.kernel) || !is_terminated(header.program) ||
      !is_terminated(header.command)) {
    throw DamagedImage(name, "its header has a string without its end");
  }
  if (header.codec > format::Codec::kZstd) throw DamagedImage(name, "its header names an unknown codec");
  check_index_frame(header, name);
}

struct stat status_of(int fd, const std::string& name) {
  struct stat status {};
  if (fstat(fd, &status) != 0) throw Error::from_errno("read", name, errno);
  if (S_ISDIR(status.st_mode)) throw Error("use image", name, "it is a folder", ExitCode::kNoInput);
  if (!S_ISREG(status.st_mode)) throw Error("use image", name, "not a regular file", ExitCode::kNoInput);
  return status;
}

format::ImageHeader load_header(int fd, std::uint64_t file_size, const std::string& name) {
  if (file_size == 0) throw DamagedImage(name, "it is empty");
  format::ImageHeader header{};
  char magic[sizeof header.magic] = {};
  const auto read = pread(fd, magic, sizeof magic, 0);
  if (read < 0) throw Error::from_errno("read", name, errno, ExitCode::kInputOutput);
  if (file_size < sizeof header) {
    const bool is_ours = std::memcmp(magic, format::kImageMagic, static_cast<std::size_t>(read)) == 0;
    throw DamagedImage(name, is_ours ? "truncated: not even the header is whole" : "not a checkpoint image");
  }
  read_exactly(fd, 0, bytes_of(header), name);
  check_header(header, file_size, name);
  return header;
}

}  // namespace

void read_exactly(int fd, std::uint64_t offset, std::span<std::byte> out, const std::string& name) {
  while (!out.empty()) {
    const ssize_t got = pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error::from_errno("read", name, errno, ExitCode::kInputOutput);
    if (got == 0) throw DamagedImage(name, "truncated while it was read");
    out = out.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
}

Fd open_image_file(const std::string& path) {
  // O_NONBLOCK: a FIFO must not hang us; it is refused below.
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!fd.is_open()) throw Error::from_errno("open", path, errno);
  status_of(fd.get(), path);
  return fd;
}

format::ImageHeader read_image_header(int fd, const std::string& name) {
  return load_header(fd, static_cast<std::uint64_t>(status_of(fd, name).st_size), name);
}

Image::Image(Fd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {
  job_.header = read_image_header(fd_.get(), name_);
  read_index();
}

Image Image::open(const std::string& path) { return Image(open_image_file(path), path); }

Image Image::from_fd(Fd fd, std::string name) { return Image(std::move(fd), std::move(name)); }

void Image::read_index() {
  const format::Frame& frame = job_.header.index;
  const auto stored = read_stored(frame, "its index");
  std::vector<std::byte> index(frame.raw_size);
  decode(frame, stored, index, name_);
  try {
    parse_index(index, job_);
  } catch (const BadIndex& error) {
    throw DamagedImage(name_, std::string("its index is damaged: ") + error.what());
  }
}

std::vector<std::byte> Image::read_stored(const format::Frame& frame, const std::string& what) const {
  std::vector<std::byte> stored(frame.stored_size);
  read_exactly(fd_.get(), frame.offset, stored, name_);
  if (hash_bytes(stored) != frame.hash)
    throw DamagedImage(name_, what + " is damaged (offset " + std::to_string(frame.offset) + ")");
  return stored;
}

void Image::read_frame(std::size_t number, std::span<std::byte> out) const {
  const format::Frame& frame = job_.frames.at(number);
  if (out.size() != frame.raw_size) throw std::logic_error("frame " + std::to_string(number) + " needs a buffer of its size");
  decode(frame, read_stored(frame, "frame " + std::to_string(number)), out, name_);
}

std::vector<std::byte> Image::read_frame(std::size_t number) const {
  std::vector<std::byte> out(job_.frames.at(number).raw_size);
  read_frame(number, out);
  return out;
}

}  // namespace ckpt
