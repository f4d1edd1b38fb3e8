// Reading every byte of an image once, in parallel, before anything of it is used.
#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "lib/common/hash.h"
#include "lib/common/image-reader.h"

namespace ckpt {
namespace {

constexpr std::size_t kChunk = 1U << 20;
constexpr std::size_t kReadAtOnce = 128U << 10;  // still in the CPU's cache when it is hashed

// A piece of the file with what must be there: a frame, or zeros between frames.
struct Piece {
  std::uint64_t offset;
  std::uint64_t size;
  const format::Frame* frame;  // nullptr: zeros
};

void add_gap(std::vector<Piece>& pieces, std::uint64_t begin, std::uint64_t end) {
  for (; begin < end; begin += kChunk) pieces.push_back({begin, std::min<std::uint64_t>(kChunk, end - begin), nullptr});
}

// All of the file but header and index, ascending. Opening has checked that nothing overlaps.
std::vector<Piece> plan_pieces(const JobImage& job) {
  std::vector<const format::Frame*> frames;
  frames.reserve(job.frames.size() + 1);
  for (const auto& frame : job.frames) frames.push_back(&frame);
  frames.push_back(&job.header.index);
  std::ranges::sort(frames, {}, &format::Frame::offset);
  std::vector<Piece> pieces;
  std::uint64_t at = format::kPageSize;
  for (const auto* frame : frames) {
    add_gap(pieces, at, frame->offset);
    if (frame != &job.header.index) pieces.push_back({frame->offset, frame->stored_size, frame});
    at = frame->offset + frame->stored_size;
  }
  add_gap(pieces, at, job.header.file_size);
  return pieces;
}

bool is_zero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

class Verifier {
 public:
  Verifier(int fd, const std::string& name, std::vector<Piece> pieces) : fd_(fd), name_(name), pieces_(std::move(pieces)) {
    for (const auto& piece : pieces_) total_ += piece.size;
  }

  void run(unsigned threads, const Image::Progress& progress) {
    {
      std::vector<std::jthread> helpers;
      try {
        for (unsigned i = 1; i < threads; ++i) helpers.emplace_back([this] { work({}); });
      } catch (const std::system_error&) {
        // A limit, or a container that forbids threads: those that there are do it.
      }
      work(progress);
    }
    if (failure_) std::rethrow_exception(failure_);
    if (damaged_) throw DamagedImage(name_, "damaged at offset " + std::to_string(*damaged_));
  }

 private:
  void work(const Image::Progress& progress) {
    try {
      std::vector<std::byte> buffer(kReadAtOnce);
      // After a finding, pieces before it are still looked at: they were handed out earlier, so the first place is reported.
      for (std::size_t i = next_++; i < pieces_.size() && !is_done_; i = next_++) {
        check(pieces_[i], buffer);
        done_ += pieces_[i].size;
        if (progress) progress(done_, total_);
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
      is_done_ = true;
    }
  }

  void check(const Piece& piece, std::span<std::byte> buffer) {
    Hasher hasher;
    bool is_good = true;
    for (std::uint64_t done = 0; done < piece.size && is_good;) {
      const auto bytes = buffer.first(std::min<std::uint64_t>(buffer.size(), piece.size - done));
      read_exactly(fd_, piece.offset + done, bytes, name_);
      if (piece.frame != nullptr) hasher.update(bytes);
      if (piece.frame == nullptr) is_good = is_zero(bytes);
      done += bytes.size();
    }
    if (is_good && (piece.frame == nullptr || hasher.digest() == piece.frame->hash)) return;
    const std::lock_guard lock(mutex_);
    damaged_ = std::min(damaged_.value_or(piece.offset), piece.offset);
    is_done_ = true;
  }

  int fd_;
  const std::string& name_;
  std::vector<Piece> pieces_;
  std::uint64_t total_ = 0;
  std::atomic<std::size_t> next_ = 0;
  std::atomic<std::uint64_t> done_ = 0;
  std::atomic<bool> is_done_ = false;
  std::mutex mutex_;
  std::optional<std::uint64_t> damaged_;
  std::exception_ptr failure_;
};

}  // namespace

void Image::verify_frames(unsigned threads, const Progress& progress) const {
  if (threads == 0) threads = std::clamp(std::thread::hardware_concurrency(), 1U, 16U);
  std::vector<Piece> pieces = plan_pieces(job_);
  threads = static_cast<unsigned>(std::min<std::size_t>(threads, pieces.size() / 4 + 1));
  Verifier(fd_.get(), name_, std::move(pieces)).run(threads, progress);
}

}  // namespace ckpt
