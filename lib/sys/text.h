// A bounded line of text: paths, messages. No allocation; what does not fit is cut and remembered.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lib/sys/memory.h"

namespace ckpt::sys {

template <std::size_t kSize>
class Text {
 public:
  Text() { data_[0] = '\0'; }

  Text& add(const char* text) {
    while (*text != '\0') add_char(*text++);
    return *this;
  }
  Text& add_char(char c) {
    if (length_ + 1 < kSize) {
      data_[length_++] = c;
      data_[length_] = '\0';
    } else {
      is_cut_ = true;
    }
    return *this;
  }
  Text& add_number(std::uint64_t value, unsigned width = 1) {
    char digits[20];
    unsigned count = 0;
    do {
      digits[count++] = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value != 0);
    for (unsigned i = count; i < width; ++i) add_char('0');
    while (count > 0) add_char(digits[--count]);
    return *this;
  }
  Text& add_signed(std::int64_t value) {
    if (value < 0) add_char('-');
    return add_number(value < 0 ? static_cast<std::uint64_t>(-value) : static_cast<std::uint64_t>(value));
  }
  Text& add_hex(std::uint64_t value, unsigned width = 1) {
    for (int shift = 60; shift >= 0; shift -= 4) {
      const auto digit = static_cast<unsigned>(value >> shift & 15U);
      if ((value >> shift) != 0 || shift < static_cast<int>(width * 4)) add_char("0123456789abcdef"[digit]);
    }
    return *this;
  }
  // Data that came from elsewhere: control bytes are masked.
  Text& add_quoted(const char* text) {
    add_char('\'');
    for (; *text != '\0'; ++text) add_char(static_cast<unsigned char>(*text) < ' ' || *text == 127 ? '?' : *text);
    return add_char('\'');
  }

  const char* c_str() const { return data_; }
  std::size_t size() const { return length_; }
  bool is_cut() const { return is_cut_; }
  void clear() { length_ = 0, data_[0] = '\0', is_cut_ = false; }
  void shorten(std::size_t length) {
    if (length < length_) length_ = length, data_[length] = '\0';
  }

 private:
  char data_[kSize];
  std::size_t length_ = 0;
  bool is_cut_ = false;
};

}  // namespace ckpt::sys
