// The program's memory as the image has it.
#pragma once

#include "lib/common/image-reader.h"

namespace ckpt {

// Eight bytes; zero if they are not in the image.
std::uint64_t word_at(const Image& image, const ProcessImage& process, std::uint64_t address);

}  // namespace ckpt
