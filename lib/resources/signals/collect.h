// What other kinds need of signals.
#pragma once

#include "lib/resources/collector.h"

namespace ckpt {

// Takes out what is pending for the process now, and adds records; more may come at any time.
bool take_process_signals(Collector* collector);

}  // namespace ckpt
