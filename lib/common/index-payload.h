// Taking a record of the index apart: each step checks that there is so much.
#pragma once

#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "lib/common/index-parser.h"

namespace ckpt {

// The payload of one record, taken apart from its front.
class Payload {
 public:
  explicit Payload(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::size_t size() const { return bytes_.size(); }

  template <typename T>
  T take() {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    std::memcpy(&value, take_bytes(sizeof(T)).data(), sizeof(T));
    return value;
  }

  template <typename T>
  std::vector<T> take_array(std::uint64_t count) {
    if (count > bytes_.size() / sizeof(T)) throw BadIndex("is too short");
    std::vector<T> values(count);
    const auto bytes = take_bytes(count * sizeof(T));
    if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }

  template <typename T>
  std::vector<T> take_rest() {
    if (bytes_.size() % sizeof(T) != 0) throw BadIndex("has an odd length");
    return take_array<T>(bytes_.size() / sizeof(T));
  }

  std::span<const std::byte> take_bytes(std::uint64_t size) {
    if (size > bytes_.size()) throw BadIndex("is too short");
    const auto result = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return result;
  }

  // A string of `size` bytes that end in their only NUL.
  std::string take_string(std::uint64_t size) {
    const auto bytes = take_bytes(size);
    const auto* text = reinterpret_cast<const char*>(bytes.data());
    if (size == 0 || strnlen(text, size) != size - 1) throw BadIndex("has a string without its end");
    return {text, size - 1};
  }

  void expect_end() const {
    if (!bytes_.empty()) throw BadIndex("is too long");
  }

 private:
  std::span<const std::byte> bytes_;
};

inline void require(bool condition, const char* complaint) {
  if (!condition) throw BadIndex(complaint);
}

}  // namespace ckpt
