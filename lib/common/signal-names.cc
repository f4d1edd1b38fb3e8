// Names as the C library knows them; real-time signals count from SIGRTMIN.
#include "lib/common/signal-names.h"

#include <csignal>
#include <cstring>

#include "lib/common/error.h"
#include "lib/common/units.h"

namespace ckpt {

int parse_signal(std::string_view text) {
  if (!text.empty() && text.find_first_not_of("0123456789") == text.npos) {
    return static_cast<int>(parse_number(text, "a signal", 1, static_cast<std::uint64_t>(SIGRTMAX)));
  }
  for (int signal = 1; signal <= SIGRTMAX; ++signal) {
    const std::string name = signal_name(signal);
    if (text == name || "SIG" + std::string(text) == name) return signal;
  }
  throw UsageError("not a signal: " + quote(text));
}

std::string signal_name(int signal) {
  if (const char* name = sigabbrev_np(signal); name != nullptr) return std::string("SIG") + name;
  if (signal == SIGRTMIN) return "SIGRTMIN";
  if (signal > SIGRTMIN && signal <= SIGRTMAX) return "SIGRTMIN+" + std::to_string(signal - SIGRTMIN);
  return std::to_string(signal);
}

}  // namespace ckpt
