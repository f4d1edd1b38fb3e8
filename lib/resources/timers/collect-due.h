// Pending signals of periodic POSIX timers. Such a timer stands still from when it has gone off until somebody takes its signal;
// then it reckons what it has missed (timer_getoverrun(2)) and goes on. Who takes the signal only to see it has set the timer
// going, and the signal queued once more would be one too many. So the timer is set back to when it had gone off: it does so again
// at once, with all that it has missed since.
#pragma once

#include <cstdint>
#include <span>

#include "lib/resources/signals/record.h"
#include "lib/sys/signals.h"

namespace ckpt {

// To be called with each signal that was taken out: notes in it when the timer had gone off, if that is what it tells of.
void note_due(siginfo_t* info, std::span<char> buffer);

// Whether `infos` has a signal of the same timer already: it has gone off again since that was taken.
bool is_due_again(const siginfo_t& info, std::span<const siginfo_t> infos);

// Sets the timer back. False: the signal tells of none, and is to be queued again.
bool make_due(const siginfo_t& info);

// The same in an image: how long ago it had gone off.
void write_pending(format::PendingSignalRecord* record, std::int32_t tid, const siginfo_t& info);

}  // namespace ckpt
