// Every register a program can hold a value in, kept there by a loop that never leaves them while the checkpoint comes: general
// registers, the flags for direction and for checked alignment, x87 stack and control word, MXCSR, and SSE, AVX or AVX-512 (argument: sse, avx, avx512; default: the
// best). A CPU without them: exit status 77.
#include "victim.h"

#include <stddef.h>

struct Registers {
  uint64_t general[15];  // all but rsp
  uint64_t flags;
  uint64_t vector[32][8];
  uint64_t mask[8];
  double x87[6];
  uint16_t x87_control;
  uint16_t padding;
  uint32_t mxcsr;
};

// For the assembler below: one thread at a time.
struct Registers registers_in, registers_out;
volatile int registers_stop, registers_inside;

void spin_sse(void);
void spin_avx(void);
void spin_avx512(void);

#define LOW16(X, op, reg)                                                                                                          \
  X(op, reg, 0)                                                                                                                    \
  X(op, reg, 1)                                                                                                                    \
  X(op, reg, 2)                                                                                                                    \
  X(op, reg, 3)                                                                                                                    \
  X(op, reg, 4) X(op, reg, 5) X(op, reg, 6) X(op, reg, 7) X(op, reg, 8) X(op, reg, 9) X(op, reg, 10) X(op, reg, 11) X(op, reg, 12) \
      X(op, reg, 13) X(op, reg, 14) X(op, reg, 15)
#define HIGH16(X, op, reg)                                                                                                \
  X(op, reg, 16)                                                                                                          \
  X(op, reg, 17)                                                                                                          \
  X(op, reg, 18)                                                                                                          \
  X(op, reg, 19)                                                                                                          \
  X(op, reg, 20) X(op, reg, 21) X(op, reg, 22) X(op, reg, 23) X(op, reg, 24) X(op, reg, 25) X(op, reg, 26) X(op, reg, 27) \
      X(op, reg, 28) X(op, reg, 29) X(op, reg, 30) X(op, reg, 31)
#define LOAD(op, reg, i) op " registers_in+128+" #i "*64(%rip), %" reg #i "\n"
#define STORE(op, reg, i) op " %" reg #i ", registers_out+128+" #i "*64(%rip)\n"
#define MASKS(X, op, reg) \
  X(op, reg, 0) X(op, reg, 1) X(op, reg, 2) X(op, reg, 3) X(op, reg, 4) X(op, reg, 5) X(op, reg, 6) X(op, reg, 7)
#define LOAD_MASK(op, reg, i) op " registers_in+2176+" #i "*8(%rip), %" reg #i "\n"
#define STORE_MASK(op, reg, i) op " %" reg #i ", registers_out+2176+" #i "*8(%rip)\n"
#define LOAD_X87(i) "fldl registers_in+2240+" #i "*8(%rip)\n"
#define STORE_X87(i) "fstpl registers_out+2240+" #i "*8(%rip)\n"
#define GENERAL(X) \
  X(rax, 0)        \
  X(rbx, 1)        \
  X(rcx, 2)        \
  X(rdx, 3) X(rsi, 4) X(rdi, 5) X(rbp, 6) X(r8, 7) X(r9, 8) X(r10, 9) X(r11, 10) X(r12, 11) X(r13, 12) X(r14, 13) X(r15, 14)
#define LOAD_GENERAL(reg, i) "movq registers_in+" #i "*8(%rip), %" #reg "\n"
#define STORE_GENERAL(reg, i) "movq %" #reg ", registers_out+" #i "*8(%rip)\n"

#define SPIN(name, load_vectors, store_vectors) \
  __asm__(".text\n.type " name ", @function\n" name ":\n"                                          \
          "pushq %rbx\npushq %rbp\npushq %r12\npushq %r13\npushq %r14\npushq %r15\nsubq $8, %rsp\n" \
          "fninit\nfldcw registers_in+2288(%rip)\n"                                                 \
          "ldmxcsr registers_in+2292(%rip)\n" LOAD_X87(0) LOAD_X87(1) LOAD_X87(2) LOAD_X87(3) LOAD_X87(4) LOAD_X87(5)                 \
          load_vectors GENERAL(LOAD_GENERAL)                                                        \
          "pushfq\norq $0x40000, (%rsp)\npopfq\nstd\n"                                              \
          "movl $1, registers_inside(%rip)\n"                                                       \
          "1: cmpl $0, registers_stop(%rip)\n"                                                      \
          "je 1b\n" GENERAL(STORE_GENERAL)                                                          \
          "pushfq\npushfq\npopq registers_out+120(%rip)\nandq $~0x40400, (%rsp)\npopfq\n" store_vectors \
          STORE_X87(5) STORE_X87(4) STORE_X87(3) STORE_X87(2) STORE_X87(1) STORE_X87(0)             \
          "fnstcw registers_out+2288(%rip)\n"                                                       \
          "stmxcsr registers_out+2292(%rip)\nfninit\n"                                              \
          "addq $8, %rsp\npopq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbp\npopq %rbx\nret\n.size " name ", .-" name "\n")

SPIN("spin_sse", LOW16(LOAD, "movups", "xmm"), LOW16(STORE, "movups", "xmm"));
SPIN("spin_avx", LOW16(LOAD, "vmovups", "ymm"), LOW16(STORE, "vmovups", "ymm") "vzeroupper\n");
SPIN("spin_avx512", LOW16(LOAD, "vmovups", "zmm") HIGH16(LOAD, "vmovups", "zmm") MASKS(LOAD_MASK, "kmovq", "k"),
     LOW16(STORE, "vmovups", "zmm") HIGH16(STORE, "vmovups", "zmm") MASKS(STORE_MASK, "kmovq", "k") "vzeroupper\n");

_Static_assert(offsetof(struct Registers, flags) == 120, "the assembler counts on it");
_Static_assert(offsetof(struct Registers, vector) == 128, "the assembler counts on it");
_Static_assert(offsetof(struct Registers, mask) == 2176, "the assembler counts on it");
_Static_assert(offsetof(struct Registers, x87) == 2240, "the assembler counts on it");
_Static_assert(offsetof(struct Registers, x87_control) == 2288, "the assembler counts on it");
_Static_assert(offsetof(struct Registers, mxcsr) == 2292, "the assembler counts on it");

static const struct Set {
  const char* name;
  void (*spin)(void);
  size_t vectors, words;
  int has_masks;
} sets[] = {{"sse", spin_sse, 16, 2, 0}, {"avx", spin_avx, 16, 4, 0}, {"avx512", spin_avx512, 32, 8, 1}};
static const struct Set* set;

static void* body(void* argument) {
  uint32_t mxcsr;
  __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
  set->spin();
  __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
  return argument;
}

static void verify(void) {
  for (int i = 0; i < 15; ++i) {
    if (registers_in.general[i] != registers_out.general[i]) {
      victim_fail("general register %d: %#lx", i, (unsigned long)registers_out.general[i]);
    }
  }
  CHECK((registers_out.flags & 0x40400) == 0x40400);
  for (size_t i = 0; i < set->vectors; ++i) {
    if (memcmp(registers_in.vector[i], registers_out.vector[i], set->words * 8) != 0) victim_fail("%s register %zu", set->name, i);
  }
  if (set->has_masks) CHECK(memcmp(registers_in.mask, registers_out.mask, sizeof registers_in.mask) == 0);
  CHECK(memcmp(registers_in.x87, registers_out.x87, sizeof registers_in.x87) == 0);
  CHECK(registers_in.x87_control == registers_out.x87_control);
  CHECK((registers_in.mxcsr & 0xffc0) == (registers_out.mxcsr & 0xffc0));
}

static int has(const char* name) {
  __builtin_cpu_init();
  if (strcmp(name, "avx512") == 0) return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
  return strcmp(name, "avx") != 0 || __builtin_cpu_supports("avx");
}

int main(int argc, char** argv) {
  for (int i = 0; i < 3; ++i) {
    if (argc > 1 ? strcmp(argv[1], sets[i].name) == 0 : has(sets[i].name)) set = &sets[i];
  }
  if (set == NULL || !has(set->name)) return 77;
  pattern_fill(registers_in.general, sizeof registers_in.general, 1);
  pattern_fill(registers_in.vector, sizeof registers_in.vector, 2);
  pattern_fill(registers_in.mask, sizeof registers_in.mask, 3);
  for (int i = 0; i < 6; ++i) registers_in.x87[i] = 1.0 / (i + 3);
  registers_in.x87_control = 0x0f7f;  // round towards zero
  registers_in.mxcsr = 0x7fc0;        // round towards zero, flush to zero, denormals are zero
  pthread_t thread = start_thread(body, NULL);
  while (!registers_inside) victim_sleep_ms(1);
  victim_wait(NULL);
  if (victim_broken()) registers_in.vector[15][1] ^= 1;
  registers_stop = 1;
  join_thread(thread);
  verify();
  victim_pass();
}
