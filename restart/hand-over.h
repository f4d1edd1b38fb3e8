// Builds what the restorer is given.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/common/fd.h"
#include "restart/plan.h"

namespace ckpt {

// Descriptors that the restorer finds open, above all of the program's.
struct RestorerFds {
  int image;
  int control;
  int report;
  int first_object;  // memory objects that have a descriptor, one after the other
  int gate;
};

// `drops_capabilities`: the restart runs in a user namespace of its own, whose capabilities are none of the program's.
std::vector<std::byte> build_hand_over(const RestartPlan& plan, const RestorerFds& fds, bool drops_capabilities);

}  // namespace ckpt
