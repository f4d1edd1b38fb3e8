// What this CPU is and how it lays out its registers.
#pragma once

#include "lib/format/image.h"

namespace ckpt::sys {

void read_cpu(format::CpuRecord* cpu);

}  // namespace ckpt::sys
