// Commands do their work also where the caller's limit of stacks is small (ulimit -s 64).
#pragma once

#include <functional>

namespace ckpt {

// Calls `body`, on a stack of our own if the limit of the one we have is small, and has new threads get one of that size.
int call_with_stack(const std::function<int()>& body);

}  // namespace ckpt
