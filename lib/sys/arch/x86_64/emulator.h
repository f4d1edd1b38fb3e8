// Valgrind, which runs a program's instructions itself and makes up its signal frames: what our handler changes in one is lost.
#pragma once

namespace ckpt::sys {

// By the question that Valgrind has for this (Valgrind Core: client requests); to a CPU, its instructions change nothing.
inline bool is_emulated() {
  constexpr unsigned long kRunningOnValgrind = 0x1001;
  const unsigned long request[6] = {kRunningOnValgrind, 0, 0, 0, 0, 0};
  unsigned long answer = 0;
  asm volatile("rolq $3, %%rdi\n\trolq $13, %%rdi\n\trolq $61, %%rdi\n\trolq $51, %%rdi\n\txchgq %%rbx, %%rbx"
               : "+d"(answer)
               : "a"(request)
               : "cc", "memory");
  return answer != 0;
}

}  // namespace ckpt::sys
