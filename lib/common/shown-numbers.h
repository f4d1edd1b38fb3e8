// The numbers that a job goes by, where its image was made while it ran under new ones (lib/format/numbers.h).
#pragma once

#include "lib/common/job-image.h"

namespace ckpt {

// The records say what the kernel said: puts the old numbers into them.
void show_old_numbers(JobImage& image);

}  // namespace ckpt
