// A system call on its way through the translator.
#pragma once

#include <cstdint>

#include "lib/format/numbers.h"

extern "C" {
[[gnu::visibility("hidden")]] extern ckpt::format::Translation ckpt_translation;
}

namespace ckpt {

// The frame of translated-call.S.
struct TranslatedCall {
  std::uint64_t number;
  std::uint64_t given[6];
  std::uint64_t passed[6];
  long result;
  std::uint64_t stack;
  std::uint64_t is_done;
  std::uint64_t generation;  // Translation::generation when it was made
  std::uint64_t scratch[15];
};
static_assert(sizeof(TranslatedCall) == 256);

// What the program sees of a clock: goes on across a restart.
std::int64_t program_time_ns(int clock);
// Sets back the time that is given, and puts forward the one that is told.
void pass_time(TranslatedCall* call);
void show_time(TranslatedCall* call);

}  // namespace ckpt
