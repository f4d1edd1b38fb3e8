// Parsing and printing of durations, sizes and times.
#include "lib/common/units.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "lib/common/error.h"

namespace ckpt {
namespace {

// Parses a decimal with an optional fraction; `rest` is what follows. Negative for no number: from_chars would take "inf" and
// "1e9".
double parse_decimal(std::string_view text, std::string_view& rest) {
  const std::size_t length = std::min(text.find_first_not_of("0123456789."), text.size());
  double value = 0;
  const auto result = std::from_chars(text.data(), text.data() + length, value, std::chars_format::fixed);
  if (result.ec != std::errc{} || result.ptr != text.data() + length) return -1;
  rest = text.substr(length);
  return value;
}

}  // namespace

std::chrono::milliseconds parse_duration(std::string_view text) {
  std::string_view rest;
  const double value = parse_decimal(text, rest);
  double unit = 0;
  if (rest.empty() || rest == "s") unit = 1;
  if (rest == "m") unit = 60;
  if (rest == "h") unit = 3600;
  if (rest == "d") unit = 86400;
  const double milliseconds = value * unit * 1000;
  if (value < 0 || unit == 0 || milliseconds > 3.2e12) {
    throw UsageError("not a duration: " + quote(text) + " (write 30, 90s, 10m or 2h)");
  }
  return std::chrono::milliseconds(std::llround(milliseconds));
}

std::uint64_t parse_size(std::string_view text) {
  std::string_view rest;
  const double value = parse_decimal(text, rest);
  constexpr std::string_view kUnits = "KMGT";
  double unit = rest.empty() ? 1 : 0;
  if (rest.size() == 1 && kUnits.find(rest[0]) != kUnits.npos)
    unit = std::exp2(10.0 * (1.0 + static_cast<double>(kUnits.find(rest[0]))));
  if (value < 0 || unit == 0 || value * unit > 9e18) throw UsageError("not a size: " + quote(text) + " (write 4096, 200M or 4G)");
  return static_cast<std::uint64_t>(value * unit);
}

std::uint64_t parse_number(std::string_view text, std::string_view what, std::uint64_t minimum, std::uint64_t maximum) {
  std::uint64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc{} || result.ptr != text.data() + text.size() || value < minimum || value > maximum) {
    throw UsageError("not " + std::string(what) + ": " + quote(text) + " (a number from " + std::to_string(minimum) + " to " +
                     std::to_string(maximum) + ")");
  }
  return value;
}

std::string format_size(std::uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes);
  double value = static_cast<double>(bytes);
  const char* unit = "KMGTPE";
  for (value /= 1024; value >= 1023.5; value /= 1024) ++unit;
  char text[32];
  std::snprintf(text, sizeof text, value < 9.95 ? "%.1f%c" : "%.0f%c", value, *unit);
  return text;
}

std::string format_age(std::chrono::seconds age) {
  const long long seconds = std::max<long long>(age.count(), 0);
  if (seconds < 120) return std::to_string(seconds) + "s";
  if (seconds < 120 * 60) return std::to_string(seconds / 60) + "m";
  if (seconds < 48 * 3600) return std::to_string(seconds / 3600) + "h";
  return std::to_string(seconds / 86400) + "d";
}

std::string format_time(std::int64_t realtime_ns) {
  const std::time_t seconds = static_cast<std::time_t>(realtime_ns / 1'000'000'000);
  std::tm parts{};
  if (gmtime_r(&seconds, &parts) == nullptr) return "?";
  char text[64];
  std::snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02dZ", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                parts.tm_hour, parts.tm_min, parts.tm_sec);
  return text;
}

}  // namespace ckpt
