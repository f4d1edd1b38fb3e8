// What a restart beside the original, or beside another restart of the same image, has in common with it: names outside of the job.
#pragma once

#include <string>

#include "restart/plan.h"

namespace ckpt {

// One line each, for `ckpt-restart -n --again`: files that both write, and names and ports that only one of them can have.
std::string describe_shared_names(const RestartPlan& plan);

}  // namespace ckpt
