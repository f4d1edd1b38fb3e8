// Whether the code that the kernel maps into each process is still that of the image.
#pragma once

#include "restart/plan.h"

namespace ckpt {

// True where this kernel's vdso, or how its data lies beside it, is another one. Throws Error.
bool has_other_vdso(const Image& image, const ProcessImage& process);

// Threads that stood inside the vdso at the checkpoint.
std::vector<std::int32_t> threads_in_vdso(const Image& image, const ProcessImage& process);

}  // namespace ckpt
