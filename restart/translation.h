// Whether a program whose numbers are somebody else's can go on under new ones (restart/engine/translation.cc).
#pragma once

#include "restart/plan.h"

namespace ckpt {

// Throws Error that names process and reason where it can't.
void check_translation(const RestartPlan& plan);

}  // namespace ckpt
