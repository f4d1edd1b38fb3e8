// May this user make the namespaces that a restart runs in?
#pragma once

#include <vector>

#include "lib/common/finding.h"

namespace ckpt {

// Goes through all the steps of a restart (restart/namespaces.cc, restart/program.cc) in a child that ends at once: what is allowed
// depends on kernel, container and security modules, and one step may fail for what another has left.
std::vector<Finding> check_namespaces();

}  // namespace ckpt
