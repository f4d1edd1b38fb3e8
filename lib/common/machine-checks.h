// What this machine has of what a save and a restart use.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/common/finding.h"

namespace ckpt {

// What is asked for, beyond the machine itself.
struct CheckSubject {
  std::string store;         // absolute; need not exist
  std::uint64_t memory = 0;  // bytes that an image would hold at most; 0: not known
  pid_t process = 0;         // whose limits count; 0: ours
};

inline constexpr char kStoreCheck[] = "store";

// Store and kernel; namespaces are in namespace-probe.h. Changes nothing.
std::vector<Finding> check_machine(const CheckSubject& subject);

}  // namespace ckpt
