// What opens files while other threads of the program run.
//
// A fork by one of them would take our descriptors along, into a child that never closes them. So it is done by a thread that has a
// table of descriptors of its own, for that moment; the caller waits.
//
// Not where the program is to be told of a message in a POSIX queue (mq_notify(3)): the kernel takes that back when any thread of
// the process closes a descriptor of the queue, and the end of that thread closes copies of all.
#pragma once

#include "lib/sys/arena.h"

namespace ckpt {

// Whether the calling thread is the only one of its process.
bool is_alone();

inline constexpr std::size_t kAsideStack = 128U << 10;

// On a stack that ends at `stack_top`, on a multiple of 16.
void run_aside(char* stack_top, void (*function)(void*), void* argument);
// On a stack in the arena.
void run_aside(Arena* arena, void (*function)(void*), void* argument);

// `function`, which may be a lambda with a capture, in the same way.
template <typename Function>
void run_aside(Arena* arena, Function function) {
  run_aside(
      arena, [](void* argument) { (*static_cast<Function*>(argument))(); }, &function);
}

}  // namespace ckpt
