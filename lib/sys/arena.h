// Scratch memory of one checkpoint: mapped when the threads stand, unmapped when they go on; never part of an image.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lib/format/image.h"
#include "lib/sys/calls.h"
#include "lib/sys/memory.h"

namespace ckpt {

// Reserved address space that is handed out from the bottom; pages come into being when touched.
class Arena {
 public:
  // Takes `size` bytes of address space, or less (down to `least`) where RLIMIT_AS is tight.
  bool reserve(std::size_t size, std::size_t least) {
    for (; size >= least; size /= 2) {
      // In a program that locks all its memory (mlockall(2)), the kernel would fill it here and now.
      const auto mapped = sys::map(0, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
      if (mapped.failed()) continue;
      sys::call(__NR_munlock, mapped.value(), size).ignore();
      if (sys::protect(static_cast<std::uint64_t>(mapped.value()), size, PROT_READ | PROT_WRITE).failed()) return false;
      begin_ = next_ = static_cast<std::uint64_t>(mapped.value());
      end_ = begin_ + size;
      return true;
    }
    return false;
  }
  void release() {
    if (begin_ != 0) sys::unmap(begin_, end_ - begin_).ignore();
    begin_ = next_ = end_ = 0;
  }
  // Zeroed; nullptr when full.
  void* take(std::size_t size, std::size_t alignment = 64) {
    const std::uint64_t at = format::align_up(next_, alignment);
    if (at > end_ || size > end_ - at) return nullptr;
    next_ = at + size;
    return reinterpret_cast<void*>(at);
  }
  template <typename T>
  T* take_array(std::size_t count) {
    return static_cast<T*>(take(count * sizeof(T)));
  }
  std::size_t left() const { return end_ - next_; }
  std::uint64_t begin() const { return begin_; }
  std::uint64_t end() const { return end_; }

 private:
  std::uint64_t begin_ = 0;
  std::uint64_t next_ = 0;
  std::uint64_t end_ = 0;
};

// Bytes that are added at the end of a fixed room: the records of an index.
class Buffer {
 public:
  Buffer() = default;
  Buffer(void* data, std::size_t capacity) : data_(static_cast<std::uint8_t*>(data)), capacity_(data == nullptr ? 0 : capacity) {}
  // Room for `size` bytes; nullptr when full, and then for ever: see is_full().
  std::uint8_t* extend(std::size_t size) {
    if (is_full_ || size > capacity_ - size_) {
      is_full_ = true;
      return nullptr;
    }
    std::uint8_t* at = data_ + size_;
    size_ += size;
    return at;
  }
  void add(const void* from, std::size_t size) {
    std::uint8_t* at = extend(size);
    if (at != nullptr) memcpy(at, from, size);
  }
  void align(std::size_t alignment) {
    while (size_ % alignment != 0 && !is_full_) {
      std::uint8_t* at = extend(1);
      if (at != nullptr) *at = 0;
    }
  }
  std::uint8_t* data() const { return data_; }
  std::size_t size() const { return size_; }
  bool is_full() const { return is_full_; }

 private:
  std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
  bool is_full_ = false;
};

}  // namespace ckpt
