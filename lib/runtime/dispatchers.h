// Threads that have their own system calls sent to themselves as signals: syscall user dispatch (prctl(2)), as emulators use it.
//
// The kernel tells nobody but a debugger, so the wrapper of prctl(3) keeps their numbers in the control page. Our handler could end
// such a program with its first system call: it must be known before anybody knocks.
#pragma once

#include <cstdint>

namespace ckpt {

// In the thread itself, before it switches it on, and after it has switched it off, or has come through an exec.
void note_dispatcher();
void forget_dispatcher();

// A thread of the job that has it on and is alive; 0: there is none.
std::int32_t find_dispatcher();

}  // namespace ckpt
