// terminals: what a descriptor of a terminal leads to, and pseudo-terminal pairs whose master is open in the job (pty(7)).
#pragma once

#include <cstdint>

namespace ckpt::format {

// As the kernel's struct termios2 (ioctl_tty(2)).
struct TerminalSettings {
  std::uint32_t input, output, control, local;  // c_iflag …
  std::uint8_t line;
  std::uint8_t characters[19];  // c_cc
  std::uint32_t input_speed, output_speed;
};
static_assert(sizeof(TerminalSettings) == 44);

struct WindowSize {
  std::uint16_t rows, columns, width, height;
};

// State of kTerminal and kOwnTerminal. TerminalSettings follow where they could be read.
inline constexpr std::uint32_t kNoPair = 0xffffffffU;
inline constexpr std::uint32_t kSlaveMajor = 136;

// The number of the pair whose slave a device is; `device` as TIOCGDEV and /proc/PID/stat give it.
constexpr std::uint32_t pair_of_device(std::uint32_t device) {
  const std::uint32_t major = device >> 8 & 0xfff;
  return major == kSlaveMajor ? (device & 0xff) | (device >> 12 & 0xfff00) : kNoPair;
}

struct TerminalState {
  std::uint32_t number;  // N of /dev/pts/N; kNoPair: it is no pseudo-terminal
  std::uint32_t reserved;
};

enum class SlaveUse : std::uint32_t {
  kNone = 0,    // nobody of the job has it open, and the master waits for the first one
  kOpen = 1,    // somebody has
  kClosed = 2,  // the last one has closed it: the master reads EIO
};

// Something typed that the slave has not read yet. In canonical mode each line is one.
enum class TypedEnd : std::uint32_t {
  kNone = 0,       // more is to come
  kDelimiter = 1,  // its last byte ends the line
  kEndOfFile = 2,  // VEOF was typed behind it
};
struct TypedPiece {
  std::uint32_t size;  // bytes, which follow
  TypedEnd end;
};

// Why the slave's output does not go on.
enum class OutputStop : std::uint16_t {
  kNone = 0,
  kByCall = 1,       // tcflow(3), TCOOFF
  kByCharacter = 2,  // VSTOP was typed
};

// State of kTerminalMaster. Then output_size bytes that the master has not read yet; then typed_size bytes of pieces.
struct TerminalMasterState {
  std::uint32_t number;
  std::uint32_t is_locked;  // TIOCGPTLCK
  std::uint16_t is_packet;  // TIOCGPKT
  OutputStop output_stop;
  std::uint32_t is_exclusive;              // TIOCGEXCL
  std::int32_t session, foreground_group;  // of the slave; 0: none
  SlaveUse slave;
  WindowSize size;
  TerminalSettings settings;
  std::uint32_t output_size, typed_size;
};

}  // namespace ckpt::format
