// Whether this machine can run what another one (or this one, earlier) has saved.
#pragma once

#include <string>
#include <vector>

#include "lib/common/image-reader.h"

namespace ckpt {

// Throws Error that names the first CPU feature, or piece of register layout, that is missing or different here. For a program that
// was launched with --portable only what its threads have in their registers counts; returns a line about what is missing.
std::vector<std::string> check_cpu(const Image& image);

}  // namespace ckpt
