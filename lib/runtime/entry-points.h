// Declarations of entry-points.S and of what it calls.
#pragma once

#include <cstdint>

#include "lib/sys/signals.h"

namespace ckpt {

// What ckpt_resumed_call finds at rsp.
struct ResumedCall {
  std::uint64_t return_address;
  std::uint64_t rdi, rsi, rdx, r10, r8;
  long number;
  std::uint64_t done;   // bytes transferred before
  std::uint64_t stack;  // rsp as the program had it
};

}  // namespace ckpt

extern "C" {
void ckpt_restore_rt();
void ckpt_trampoline();
void ckpt_door();
void ckpt_call_on(void* stack_top, void (*function)(void*), void* argument);
long ckpt_clone_on(unsigned long flags, void* stack_top, int (*function)(void*), void* argument);
void ckpt_resume();
extern const char ckpt_resumed_call[];
extern const char ckpt_resumed_call_end[];
extern const char ckpt_translated_call_end[];

// Called by the assembly.
void ckpt_note_handler(int signal, siginfo_t* info, ::ucontext* context);
std::uint64_t ckpt_on_signal(int signal, siginfo_t* info, ::ucontext* context);
}
