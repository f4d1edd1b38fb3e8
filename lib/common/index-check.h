// The checks of an index that need more than one record: page map, references, counts.
#pragma once

#include "lib/common/job-image.h"

namespace ckpt {

// Frames lie inside the file, behind the header, and don't overlap each other or the index. Throws BadIndex.
void check_frames(const JobImage& image);
// Everything else that records say about each other. Throws BadIndex.
void check_references(const JobImage& image);

}  // namespace ckpt
