// Raw system calls on x86-64, without errno: the result is the kernel's own.
#pragma once

#include <type_traits>

namespace ckpt::sys {

// What the kernel returned: −4095…−1 is a failure, anything else the value.
class [[nodiscard]] SysResult {
 public:
  constexpr explicit SysResult(long value) : value_(value) {}
  constexpr bool failed() const { return static_cast<unsigned long>(value_) >= static_cast<unsigned long>(-4095L); }
  constexpr int error() const { return failed() ? static_cast<int>(-value_) : 0; }
  constexpr long value() const { return value_; }
  // For calls whose failure changes nothing.
  constexpr void ignore() const {}

 private:
  long value_;
};

template <typename T>
inline long to_word(T value) {
  if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<long>(value);
  } else {
    return static_cast<long>(value);
  }
}
inline long to_word(decltype(nullptr)) { return 0; }

inline SysResult raw_call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  long result;
  asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return SysResult(result);
}

template <typename... Args>
inline SysResult call(long number, Args... args) {
  return raw_call(number, to_word(args)...);
}

}  // namespace ckpt::sys
