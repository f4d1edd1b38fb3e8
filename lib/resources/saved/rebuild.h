// saved: files go back to what the image has of them. Hosted; in the process that becomes the program.
#pragma once

#include "restart/plan.h"

namespace ckpt {

// Moves aside what was not there, makes what is missing, puts all contents back; what was there before goes into the store. Before
// descriptors are opened. A restart that fails later leaves files as at the checkpoint. Throws Error.
void put_files_back(const RestartPlan& plan);

}  // namespace ckpt
