// What of a program's standing this user, or this machine, does not grant.
#pragma once

#include <string>
#include <vector>

#include "lib/common/job-image.h"

namespace ckpt {

// One line for each thing that the restarted program will have to do without. Tries in a child, changes nothing.
std::vector<std::string> list_degradations(const ProcessImage& process);

}  // namespace ckpt
