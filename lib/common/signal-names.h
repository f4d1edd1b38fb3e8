// Signals by name or number.
#pragma once

#include <string>
#include <string_view>

namespace ckpt {

// "USR2", "SIGUSR2", "12", "RTMIN+3"; throws UsageError.
int parse_signal(std::string_view text);
// "SIGUSR2", "SIGRTMIN+3"; a number where there is no name.
std::string signal_name(int signal);

}  // namespace ckpt
