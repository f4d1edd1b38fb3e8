// A restart where namespaces are refused: the program runs where ckpt-restart runs, and gets its old numbers by going round.
#pragma once

#include <string>
#include <vector>

#include "lib/common/image-reader.h"

namespace ckpt {

// Whether the job can do without. `reason` says why there are no namespaces; it is part of what is thrown. Returns a line for each
// thing that will be different.
std::vector<std::string> check_without_namespaces(const Image& image, const std::string& reason);

}  // namespace ckpt
