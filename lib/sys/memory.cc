// The few libc routines that our code, the compiler and the compression libraries call. Freestanding; any context.
#include "lib/sys/memory.h"

#pragma GCC optimize("no-tree-loop-distribute-patterns")  // or memset would be compiled into a call of itself

extern "C" {

void* memcpy(void* to, const void* from, std::size_t size) {
  void* result = to;
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
  return result;
}

void* memmove(void* to, const void* from, std::size_t size) {
  auto* target = static_cast<unsigned char*>(to);
  const auto* source = static_cast<const unsigned char*>(from);
  if (target <= source || target >= source + size) return memcpy(to, from, size);
  while (size >= 8) {
    size -= 8;
    unsigned long word;
    __builtin_memcpy(&word, source + size, 8);
    __builtin_memcpy(target + size, &word, 8);
  }
  while (size-- > 0) target[size] = source[size];
  return to;
}

void* memset(void* at, int value, std::size_t size) {
  void* result = at;
  asm volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(value) : "memory");
  return result;
}

int memcmp(const void* a, const void* b, std::size_t size) {
  const auto* left = static_cast<const unsigned char*>(a);
  const auto* right = static_cast<const unsigned char*>(b);
  for (std::size_t i = 0; i < size; ++i) {
    if (left[i] != right[i]) return left[i] < right[i] ? -1 : 1;
  }
  return 0;
}

std::size_t strlen(const char* text) {
  std::size_t length = 0;
  while (text[length] != '\0') ++length;
  return length;
}

// The compression libraries are given all their memory by us; a call of these is an error of ours, and shows as a failed
// allocation.
[[gnu::visibility("hidden")]] void* malloc(std::size_t) { return nullptr; }
[[gnu::visibility("hidden")]] void* calloc(std::size_t, std::size_t) { return nullptr; }
[[gnu::visibility("hidden")]] void free(void*) {}
[[gnu::visibility("hidden"), noreturn]] void __stack_chk_fail() { __builtin_trap(); }
}

namespace ckpt::sys {

bool equal(const char* a, const char* b) {
  while (*a != '\0' && *a == *b) ++a, ++b;
  return *a == *b;
}

bool starts_with(const char* text, const char* prefix) {
  while (*prefix != '\0') {
    if (*text++ != *prefix++) return false;
  }
  return true;
}

bool ends_with(const char* text, const char* suffix) {
  const std::size_t length = strlen(text);
  const std::size_t tail = strlen(suffix);
  return length >= tail && equal(text + length - tail, suffix);
}

bool copy_text(char* to, std::size_t size, const char* from) {
  const std::size_t length = strlen(from);
  const bool fits = length < size;
  const std::size_t count = fits ? length : size - 1;
  memcpy(to, from, count);
  to[count] = '\0';
  return fits;
}

unsigned long parse_decimal(const char** at) {
  unsigned long value = 0;
  while (**at >= '0' && **at <= '9') value = value * 10 + static_cast<unsigned long>(*(*at)++ - '0');
  return value;
}

unsigned long parse_octal(const char** at) {
  unsigned long value = 0;
  while (**at >= '0' && **at <= '7') value = value * 8 + static_cast<unsigned long>(*(*at)++ - '0');
  return value;
}

unsigned long parse_hex(const char** at) {
  if ((*at)[0] == '0' && (*at)[1] == 'x') *at += 2;
  unsigned long value = 0;
  for (;; ++*at) {
    const char c = **at;
    if (c >= '0' && c <= '9') {
      value = value << 4 | static_cast<unsigned long>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      value = value << 4 | static_cast<unsigned long>(c - 'a' + 10);
    } else {
      return value;
    }
  }
}

void skip_spaces(const char** at) {
  while (**at == ' ' || **at == '\t') ++*at;
}

}  // namespace ckpt::sys
