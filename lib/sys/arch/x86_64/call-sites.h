// Where machine code makes system calls, and how such a place is led through code of ours. Only five bytes are replaced, by a jump:
// a whole instruction, so that no address within the call's is ever in the middle of one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ckpt::sys {

// `mov $number, %eax` (or another register, that is moved on), what may stand between, `syscall`. Or, where the number is not a
// constant, `mov`, of five bytes, from or to the stack, and `syscall`: syscall(2), and all that may be cancelled in musl and in
// newer glibc.
struct CallSite {
  std::size_t begin;   // of the five bytes
  std::size_t call;    // of the instruction `syscall`
  bool is_moved_last;  // what stands between does without the five bytes: a thread may have done those
};

inline constexpr std::size_t kStubSize = 64;

// The next one in `code` from `from` on, of a number that is_wanted, or of any number. False: there is none.
bool find_call_site(std::span<const std::uint8_t> code, std::size_t from, bool (*is_wanted)(std::uint32_t), CallSite* site);

// Writes a stub (at most kStubSize bytes) that does what the site does, but that the call is made by the function whose address is
// in memory at `slot`: with everything as the kernel would find it, on a stack below the red zone. `code` is at `address`, the stub
// will run at `stub`. Returns its size.
std::size_t write_stub(std::span<const std::uint8_t> code, const CallSite& site, std::uint64_t address, std::uint8_t* to,
                       std::uint64_t stub, std::uint64_t slot);

// The jump to the stub.
void lead_to_stub(std::span<std::uint8_t> code, const CallSite& site, std::uint64_t address, std::uint64_t stub);

// Where a thread goes on in the stub that was caught between the five bytes and the call, or just before the call: else `pc`
// itself.
std::uint64_t place_in_stub(const CallSite& site, std::uint64_t address, std::uint64_t stub, std::uint64_t pc);

}  // namespace ckpt::sys
