// See pair.h.
#include "lib/resources/terminals/pair.h"

#include <asm/termbits.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/poll.h>
#include <linux/time_types.h>

#include "lib/sys/arch/x86_64/syscall.h"

namespace ckpt {

using format::TerminalSettings;
using format::TypedEnd;

namespace {

// Transparent, but lines stay lines.
TerminalSettings for_typing(const TerminalSettings& final) {
  TerminalSettings settings = transparent(final);
  if ((final.local & ICANON) == 0) return settings;
  settings.local |= ICANON;
  for (unsigned i = 0; i < sizeof(settings.characters); ++i) {
    if (i != VEOF && i != VEOL && i != VEOL2) settings.characters[i] = 0;
  }
  return settings;
}

constexpr int kPatience = 5000;              // ms without any progress
constexpr std::uint32_t kMostUnread = 4095;  // that FIONREAD counts: more waits on its way

void pause() {
  const __kernel_timespec time{0, 1'000'000};
  sys::call(__NR_nanosleep, &time, nullptr).ignore();
}

// The kernel gives each direction 8 KiB of buffers, whose size goes by that of the writes: with these they hold most, 22 KB
// (measured on Linux 6.18; at once 14 KB), more than what others leave there. A worker makes room when it has brought 4 KiB to the
// other side.
constexpr std::size_t kPieceOfMost = 1023;

bool write_all(int fd, const std::uint8_t* bytes, std::size_t size) {
  constexpr int kAgain = 11;  // EAGAIN
  const auto flags = sys::call(__NR_fcntl, fd, F_GETFL);
  if (flags.failed() || sys::call(__NR_fcntl, fd, F_SETFL, flags.value() | O_NONBLOCK).failed()) return false;
  int attempts = 0;
  while (size > 0 && attempts < kPatience) {
    const auto count = sys::call(__NR_write, fd, bytes, size < kPieceOfMost ? size : kPieceOfMost);
    if (count.failed() && count.error() != kAgain) break;
    if (count.failed()) {
      ++attempts;
      pause();
      continue;
    }
    attempts = 0;
    bytes += count.value();
    size -= static_cast<std::size_t>(count.value());
  }
  sys::call(__NR_fcntl, fd, F_SETFL, flags.value()).ignore();
  return size == 0;
}

void await_typed(int slave, std::uint32_t expected) {
  if (expected > kMostUnread) expected = kMostUnread;
  for (int attempt = 0; attempt < 1000; ++attempt) {
    int there = 0;
    has_data(slave);
    if (terminal_call(slave, TerminalRequest::kCountUnread, &there) < 0 || static_cast<std::uint32_t>(there) >= expected) return;
    pause();
  }
}

bool takes_output(int slave) {
  pollfd polled{slave, POLLOUT, 0};
  return sys::call(__NR_poll, &polled, 1, 0).value() == 1 && (polled.revents & POLLOUT) != 0;
}

}  // namespace

long terminal_call(int fd, TerminalRequest request, unsigned long argument) {
  const auto result = sys::call(__NR_ioctl, fd, static_cast<unsigned long>(request), argument);
  return result.failed() ? -result.error() : result.value();
}

long terminal_call(int fd, TerminalRequest request, const void* argument) {
  return terminal_call(fd, request, reinterpret_cast<unsigned long>(argument));
}

bool TerminalPair::is_canonical() const { return (settings.local & ICANON) != 0; }

bool read_settings(int terminal, TerminalSettings* settings) {
  return terminal_call(terminal, TerminalRequest::kGetSettings, settings) >= 0;
}

bool write_settings(int terminal, const TerminalSettings& settings) {
  return terminal_call(terminal, TerminalRequest::kSetSettings, &settings) >= 0;
}

TerminalSettings transparent(TerminalSettings settings) {
  settings.input &= IXON;  // without, the kernel would let go on what VSTOP has stopped
  settings.characters[VSTART] = settings.characters[VSTOP] = 0;
  settings.output &= ~static_cast<std::uint32_t>(OPOST);
  settings.local &= ~static_cast<std::uint32_t>(ISIG | ICANON | ECHO | IEXTEN);
  settings.characters[VMIN] = 1;
  settings.characters[VTIME] = 0;
  return settings;
}

bool has_data(int fd, bool* at_end) {
  pollfd polled{fd, POLLIN, 0};
  if (sys::call(__NR_poll, &polled, 1, 0).failed()) return false;
  if (at_end != nullptr) *at_end = (polled.revents & POLLHUP) != 0;
  return (polled.revents & POLLIN) != 0;
}

TypedEnd end_of_line(const TerminalPair& pair, const std::uint8_t* bytes, std::size_t size) {
  if (!pair.is_canonical()) return TypedEnd::kNone;
  if (size == 0) return TypedEnd::kEndOfFile;
  const auto& characters = pair.settings.characters;
  const std::uint8_t last = bytes[size - 1];
  const bool is_delimiter = last == '\n' || (last != 0 && (last == characters[VEOL] || last == characters[VEOL2]));
  return is_delimiter ? TypedEnd::kDelimiter : TypedEnd::kEndOfFile;
}

bool put_output(const TerminalPair& pair, const std::uint8_t* bytes, std::size_t size) {
  return size == 0 || (write_settings(pair.master, transparent(pair.settings)) && write_all(pair.slave, bytes, size));
}

format::OutputStop release_output(const TerminalPair& pair) {
  if (takes_output(pair.slave)) return format::OutputStop::kNone;
  terminal_call(pair.slave, TerminalRequest::kControlFlow, static_cast<unsigned long>(TCOON));
  if (takes_output(pair.slave)) return format::OutputStop::kByCall;
  TerminalSettings settings = pair.settings;
  settings.input &= ~static_cast<std::uint32_t>(IXON);
  write_settings(pair.master, settings);
  return format::OutputStop::kByCharacter;
}

void stop_output(const TerminalPair& pair, format::OutputStop stop) {
  if (stop == format::OutputStop::kByCall)
    terminal_call(pair.slave, TerminalRequest::kControlFlow, static_cast<unsigned long>(TCOOFF));
  if (stop != format::OutputStop::kByCharacter) return;
  constexpr std::uint8_t kStop = 0x13;
  TerminalSettings settings = transparent(pair.settings);
  settings.input |= IXON;
  settings.characters[VSTOP] = kStop;
  if (!write_settings(pair.master, settings) || !write_all(pair.master, &kStop, 1)) return;
  for (int attempt = 0; attempt < kPatience && takes_output(pair.slave); ++attempt) pause();
}

// One after the other, with no change of the settings in between.
bool put_typed(const TerminalPair& pair, const std::uint8_t* pieces, std::size_t size, std::uint8_t* room) {
  if (size == 0) return true;
  std::size_t total = 0;
  std::uint32_t visible = 0;
  for (std::size_t at = 0; at < size;) {
    format::TypedPiece piece;
    __builtin_memcpy(&piece, pieces + at, sizeof(piece));
    __builtin_memcpy(room + total, pieces + at + sizeof(piece), piece.size);
    total += piece.size;
    if (piece.end == TypedEnd::kEndOfFile) room[total++] = pair.settings.characters[VEOF];
    if (piece.end != TypedEnd::kNone || !pair.is_canonical()) visible += piece.size;
    at += sizeof(piece) + piece.size;
  }
  if (!write_settings(pair.master, for_typing(pair.settings)) || !write_all(pair.master, room, total)) return false;
  await_typed(pair.slave, visible);
  return true;
}

}  // namespace ckpt
