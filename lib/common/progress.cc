// Drawing of the progress line.
#include "lib/common/progress.h"

#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "lib/common/units.h"

namespace ckpt {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

bool is_capable_terminal() {
  const char* term = std::getenv("TERM");
  return isatty(STDERR_FILENO) != 0 && term != nullptr && std::string_view(term) != "dumb" && *term != '\0';
}

void write_text(const std::string& text) { [[maybe_unused]] const auto written = write(STDERR_FILENO, text.data(), text.size()); }

}  // namespace

ProgressLine::ProgressLine(std::string what, bool is_quiet)
    : what_(std::move(what)), is_enabled_(!is_quiet && is_capable_terminal()), next_(steady_clock::now() + milliseconds(500)) {}

void ProgressLine::update(std::uint64_t done, std::uint64_t total) {
  if (!is_enabled_ || steady_clock::now() < next_) return;
  next_ = steady_clock::now() + milliseconds(100);
  std::string line = "\r" + what_ + " " + format_size(done);
  if (total != 0)
    line += " of " + format_size(total) + " (" +
            std::to_string(static_cast<int>(100.0 * static_cast<double>(done) / static_cast<double>(total))) + "%)";
  write_text(line + "\033[K");
  is_drawn_ = true;
}

void ProgressLine::clear() {
  if (is_drawn_) write_text("\r\033[K");
  is_drawn_ = false;
}

}  // namespace ckpt
