// Images as JSON, for scripts. Keys only ever come; one that changes its meaning raises the schema version.
#pragma once

#include <string>
#include <vector>

#include "lib/common/image-text.h"

namespace ckpt {

inline constexpr int kJsonSchema = 1;

// An array of objects, one an image, with a newline at the end. `maps`: empty, or what is inside each image (nullptr: not
// readable).
std::string format_json(const std::vector<ListedImage>& images, const std::vector<const JobImage*>& maps);

}  // namespace ckpt
