// Numbers of processes and threads that a restart without namespaces could not give back: the program goes on with the old ones,
// and the runtime puts the new ones in their place at each system call (lib/runtime/translator.cc).
#pragma once

#include <cstdint>

namespace ckpt::format {

struct NumberPair {
  std::int32_t shown;  // what the program knows
  std::int32_t real;   // what the kernel knows; 0 in a hand-over: a thread that is still to be made
};

// In the program's memory, put there by the restorer: `count` pairs ascending in `shown`, then the same ascending in `real`.
struct NumberTable {
  std::uint64_t size;  // bytes that are mapped
  std::uint32_t count;
  std::uint32_t reserved;
};

// What stands right before the runtime's resume_entry, for the restorer. A runtime without it can't translate.
inline constexpr std::uint64_t kTranslatorMagic = 0x3130534e52545043;  // "CPTRNS01"
struct TranslatorNote {
  std::uint64_t magic;
  std::int32_t entry;    // of ckpt_translated_call, counted from this field
  std::int32_t numbers;  // of the pointer to the NumberTable, counted from this field
  std::int32_t call;     // of its `syscall`, counted from this field
  std::int32_t again;    // where it goes on with the frame of a call to be made again, counted from this field
};
static_assert(sizeof(TranslatorNote) == 24);

// In the runtime's data, set by the restorer. Clocks that are behind what the program has seen of them, because the machine was
// started anew, and that can't be set, because there is no time namespace: what they show is put forward, and the times that the
// program gives are set back (lib/runtime/shifted-times.cc).
struct Translation {
  std::int64_t monotonic_ns;
  std::int64_t boottime_ns;
  std::uint32_t keeps_locks;  // numbers have been translated: what the kernel would do by them the translator goes on to do
  std::uint32_t generation;   // counts restarts: a clock that was read before one is read again
};

// What stands right before the TranslatorNote. A runtime without it can't put clocks forward.
inline constexpr std::uint64_t kShiftMagic = 0x3130464853545043;  // "CPTSHF01"
struct ShiftNote {
  std::uint64_t magic;
  std::int32_t translation;  // of the Translation, counted from this field
  std::int32_t reserved;
};
static_assert(sizeof(ShiftNote) == 16);

}  // namespace ckpt::format
