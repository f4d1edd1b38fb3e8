// Old and new numbers of processes and threads, after a restart that could not give the old ones back.
#pragma once

#include <cstdint>

#include "lib/format/numbers.h"
#include "lib/sys/signals.h"

extern "C" {
// Set by the restorer; nullptr: there is nothing to translate.
[[gnu::visibility("hidden")]] extern const ckpt::format::NumberTable* ckpt_numbers;
}

namespace ckpt {

// What the kernel knows the thread or process as that the program knows as `shown`.
std::int32_t real_number(std::int32_t shown);
// The other way.
std::int32_t shown_number(std::int32_t real);
// In what a signal says of who has sent it.
void show_sender_of(siginfo_t* info);

}  // namespace ckpt
