// A pseudo-terminal pair, through its two descriptors: reads and changes its settings, puts back what was in it. For both worlds,
// so no header of a libc, and none of the kernel that would be in its way.
#pragma once

#include <cstddef>

#include "lib/resources/terminals/record.h"

namespace ckpt {

// Requests of ioctl_tty(2) that are used here; names and values are the kernel's (asm-generic/ioctls.h).
enum class TerminalRequest : unsigned long {
  kSetController = 0x540e,     // TIOCSCTTY
  kGetGroup = 0x540f,          // TIOCGPGRP
  kSetGroup = 0x5410,          // TIOCSPGRP
  kControlFlow = 0x540a,       // TCXONC
  kGetSize = 0x5413,           // TIOCGWINSZ
  kSetSize = 0x5414,           // TIOCSWINSZ
  kCountUnread = 0x541b,       // FIONREAD
  kSetPacket = 0x5420,         // TIOCPKT
  kGetDiscipline = 0x5424,     // TIOCGETD
  kGetSession = 0x5429,        // TIOCGSID
  kOpenPeer = 0x5441,          // TIOCGPTPEER
  kGetSettings = 0x802c542a,   // TCGETS2
  kSetSettings = 0x402c542b,   // TCSETS2
  kGetNumber = 0x80045430,     // TIOCGPTN
  kSetLock = 0x40045431,       // TIOCSPTLCK
  kGetDevice = 0x80045432,     // TIOCGDEV
  kGetPacket = 0x80045438,     // TIOCGPKT
  kGetLock = 0x80045439,       // TIOCGPTLCK
  kGetExclusive = 0x80045440,  // TIOCGEXCL
};

// The result, or −errno.
long terminal_call(int fd, TerminalRequest request, const void* argument);
long terminal_call(int fd, TerminalRequest request, unsigned long argument);

struct TerminalPair {
  int master;
  int slave;  // −1: not open
  format::TerminalSettings settings;

  bool is_canonical() const;
};

// On the master, these are the slave's.
bool read_settings(int terminal, format::TerminalSettings* settings);
bool write_settings(int terminal, const format::TerminalSettings& settings);

// Settings with which nothing is changed on its way in either direction; output that is stopped stays so.
format::TerminalSettings transparent(format::TerminalSettings settings);

// Data is there to be read; what is still on its way comes through first. `at_end`: and more will never come.
bool has_data(int fd, bool* at_end = nullptr);

// How what was read from the slave, in canonical mode as a whole line, had ended.
format::TypedEnd end_of_line(const TerminalPair& pair, const std::uint8_t* bytes, std::size_t size);

// What went through a pair was treated by the line discipline, by a worker of the kernel, a little later. So it is put in with
// settings that let it through as it is, and those stay until it is there; whoever calls sets the right ones afterwards.
// Output, written to the slave, becomes the master's to read.
bool put_output(const TerminalPair& pair, const std::uint8_t* bytes, std::size_t size);
// Lets stopped output go on, for put_output(); nothing may be left for the master to read. And stops it again.
format::OutputStop release_output(const TerminalPair& pair);
void stop_output(const TerminalPair& pair, format::OutputStop stop);
// Types pieces again. `room` is for `size` bytes and one more a piece.
bool put_typed(const TerminalPair& pair, const std::uint8_t* pieces, std::size_t size, std::uint8_t* room);

}  // namespace ckpt
