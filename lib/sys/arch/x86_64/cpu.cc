// CPUID and XCR0 of x86-64. Both worlds; no privileges.
#include "lib/sys/arch/x86_64/cpu.h"

#include <cpuid.h>

namespace ckpt::sys {

namespace {

struct Leaf {
  std::uint32_t a = 0, b = 0, c = 0, d = 0;
};

Leaf read_leaf(std::uint32_t number, std::uint32_t sub = 0) {
  Leaf leaf;
  __cpuid_count(number, sub, leaf.a, leaf.b, leaf.c, leaf.d);
  return leaf;
}

std::uint64_t read_xcr0() {
  std::uint32_t low;
  std::uint32_t high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<std::uint64_t>(high) << 32 | low;
}

}  // namespace

void read_cpu(format::CpuRecord* cpu) {
  const Leaf basic = read_leaf(0);
  cpu->vendor[0] = basic.b;
  cpu->vendor[1] = basic.d;
  cpu->vendor[2] = basic.c;
  const Leaf one = read_leaf(1);
  cpu->signature = one.a;
  const Leaf seven = basic.a >= 7 ? read_leaf(7, 0) : Leaf();
  const Leaf seven_one = basic.a >= 7 && seven.a >= 1 ? read_leaf(7, 1) : Leaf();
  const Leaf extended = read_leaf(0x80000001);
  const Leaf address = read_leaf(0x80000008);
  constexpr std::uint32_t kXsave = 1U << 27;  // OSXSAVE
  const bool has_xsave = (one.c & kXsave) != 0 && basic.a >= 0xd;
  const Leaf xsave = has_xsave ? read_leaf(0xd, 1) : Leaf();
  const std::uint32_t features[] = {one.c,   one.d,      seven.b,    seven.c,   seven.d, seven_one.a,
                                    xsave.a, extended.c, extended.d, address.b, 0,       0};
  for (unsigned i = 0; i < 12; ++i) cpu->features[i] = features[i];
  if (!has_xsave) return;
  cpu->xcr0 = read_xcr0();
  cpu->xsave_size = read_leaf(0xd, 0).b;
  for (std::uint32_t i = 2; i < format::kMaxXstateComponents; ++i) {
    if ((cpu->xcr0 >> i & 1) == 0) continue;
    const Leaf component = read_leaf(0xd, i);
    cpu->components[i] = {component.a, component.b, component.c};
  }
}

}  // namespace ckpt::sys
