// terminals: the collect side.
#pragma once

#include "lib/resources/files/collect.h"
#include "lib/resources/terminals/record.h"

namespace ckpt {

// The master of a pseudo-terminal pair: settings, who its terminal belongs to, and what is in it both ways. To see that, it is
// taken out and put back, while everybody stands.
bool collect_terminal_master(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record, Buffer* state);

// Any other terminal. settle_terminals() tells later whether its master is open in the job: else it leads outside.
bool collect_terminal(const Descriptor& descriptor, format::DescriptionRecord* record, Buffer* state);

// Number of the pair whose master this is; kNoPair: it is none.
std::uint32_t pair_of_master(int fd, std::uint64_t raw_device);

}  // namespace ckpt
