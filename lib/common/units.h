// Durations and sizes, as people write and read them. All locale-independent.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace ckpt {

// "30", "2.5", "90s", "10m", "2h", "1d"; throws UsageError. Rounded to whole milliseconds.
std::chrono::milliseconds parse_duration(std::string_view text);
// "4096", "200K", "200M", "4G", "1T" (powers of 1024); throws UsageError.
std::uint64_t parse_size(std::string_view text);
// A whole number in [minimum, maximum]; throws UsageError that names `what`.
std::uint64_t parse_number(std::string_view text, std::string_view what, std::uint64_t minimum, std::uint64_t maximum);

// "812", "4.0K", "1.5G".
std::string format_size(std::uint64_t bytes);
// "12s", "5m", "3h", "2d".
std::string format_age(std::chrono::seconds age);
// RFC 3339 in UTC with whole seconds, "2026-01-31T12:00:00Z".
std::string format_time(std::int64_t realtime_ns);

}  // namespace ckpt
