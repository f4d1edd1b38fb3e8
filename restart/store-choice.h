// Where a restarted job is saved from now on.
#pragma once

#include <string>

#include "lib/common/image-reader.h"

namespace ckpt {

// The store that the image lies in, which may have been moved or copied since (<store>/<job>/<generation>.ckpt); of an image
// elsewhere $CKPT_DIR, else the store that the job had, else ~/.ckpt. Throws Error: there is none of them.
std::string choose_store(const Image& image);

}  // namespace ckpt
