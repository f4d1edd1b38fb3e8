// Memory and string routines that libc would give us: hidden, so that the program never meets them.
#pragma once

#include <cstddef>

extern "C" {
void* memcpy(void* to, const void* from, std::size_t size);
void* memmove(void* to, const void* from, std::size_t size);
void* memset(void* at, int value, std::size_t size);
int memcmp(const void* a, const void* b, std::size_t size);
std::size_t strlen(const char* text);
}

namespace ckpt::sys {

bool equal(const char* a, const char* b);
bool starts_with(const char* text, const char* prefix);
bool ends_with(const char* text, const char* suffix);
// Copies at most `size` − 1 bytes and ends them with NUL. False: it did not fit.
bool copy_text(char* to, std::size_t size, const char* from);

// A file or ASCII number; `*at` moves past it.
unsigned long parse_decimal(const char** at);
unsigned long parse_octal(const char** at);
unsigned long parse_hex(const char** at);
void skip_spaces(const char** at);

}  // namespace ckpt::sys
