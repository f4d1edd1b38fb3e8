// A small part of the instruction set is known here: what compilers put between the number of a call and the call. What is not
// known is no site.
#include "lib/sys/arch/x86_64/call-sites.h"

namespace ckpt::sys {

namespace {

using Code = std::span<const std::uint8_t>;

constexpr std::size_t kMove = 5;      // bytes of a jump, and of what it replaces
constexpr std::size_t kBetween = 32;  // bytes, at most

bool is_call(Code code, std::size_t at) { return code.size() >= at + 2 && code[at] == 0x0f && code[at + 1] == 0x05; }

std::uint32_t word_at(Code code, std::size_t at) {
  std::uint32_t word = 0;
  __builtin_memcpy(&word, code.data() + at, sizeof(word));
  return word;
}

// Bytes of a ModRM byte and what belongs to it; 0: relative to the instruction, which can't be moved.
std::size_t operand_size(Code code) {
  const unsigned mode = code[0] >> 6;
  const unsigned base = code[0] & 7;
  if (mode == 3) return 1;
  if (mode == 0 && base == 5) return 0;
  const std::size_t index = base == 4 ? 1 : 0;
  if (mode == 0) return 1 + index + (base == 4 && (code[1] & 7) == 5 ? 4 : 0);
  return 1 + index + (mode == 1 ? 1 : 4);
}

struct Instruction {
  bool is_known;
  bool writes_operand;   // the one that ModRM names as register or memory; else the register
  std::size_t constant;  // bytes behind the operand
};

Instruction kind_of(std::uint8_t opcode) {
  switch (opcode) {
    case 0x89:  // mov, xor, add, sub, and, or, test, cmp: register to operand
    case 0x31:
    case 0x01:
    case 0x29:
    case 0x21:
    case 0x09:
    case 0x85:
    case 0x39:
      return {true, true, 0};
    case 0x8b:  // mov, xor, lea, movslq, cmp: operand to register
    case 0x33:
    case 0x8d:
    case 0x63:
    case 0x3b:
      return {true, false, 0};
    case 0x83:  // arithmetic with a constant
      return {true, true, 1};
    case 0x81:
    case 0xc7:
      return {true, true, 4};
    default:
      return {false, false, 0};
  }
}

std::size_t size_of_nop(Code code) {
  if (code[0] == 0x90) return 1;
  if (code[0] == 0x66 && code[1] == 0x90) return 2;
  return code[0] == 0x0f && code[1] == 0x1f ? 2 + operand_size(code.subspan(2)) : 0;
}

// Of an instruction that runs anywhere as it does here, and leaves eax alone; 0: not known as such. `code` has 16 bytes at least.
std::size_t size_of_instruction(Code code) {
  if (const std::size_t nop = size_of_nop(code); nop != 0) return nop;
  const unsigned rex = code[0] >> 4 == 4 ? code[0] : 0;
  std::size_t at = rex != 0 ? 1 : 0;
  const bool is_conditional_move = code[at] == 0x0f && code[at + 1] >> 4 == 4;  // operand to register
  if (is_conditional_move) ++at;
  const std::uint8_t opcode = code[at];
  if (opcode >= 0xb8 && opcode <= 0xbf) {  // mov $constant, register
    const bool is_eax = opcode == 0xb8 && (rex & 1) == 0;
    return is_eax || (rex & 8) != 0 ? 0 : at + 5;
  }
  const Instruction kind = is_conditional_move ? Instruction{true, false, 0} : kind_of(opcode);
  if (!kind.is_known) return 0;
  const std::uint8_t modrm = code[++at];
  const std::size_t operand = operand_size(code.subspan(at));
  if (operand == 0) return 0;
  const bool operand_is_eax = modrm >> 6 == 3 && (modrm & 7) == 0 && (rex & 1) == 0;
  const bool register_is_eax = (modrm >> 3 & 7) == 0 && (rex & 4) == 0;
  if (kind.writes_operand ? operand_is_eax : register_is_eax) return 0;
  return at + operand + kind.constant;
}

// Where the call is that the number at `at` is for; 0: none is near. Another register than eax has to be moved there in between.
std::size_t find_call(Code code, std::size_t at) {
  constexpr std::size_t kLongest = 16;
  const unsigned source = code[at] & 7U;
  bool has_number = source == 0;
  for (std::size_t next = at + kMove; next <= at + kMove + kBetween && next + kLongest <= code.size();) {
    if (is_call(code, next)) return has_number ? next : 0;
    if (!has_number && code[next] == 0x89 && code[next + 1] == (0xc0 | source << 3)) {  // mov register, %eax
      has_number = true;
      next += 2;
      continue;
    }
    const std::size_t size = size_of_instruction(code.subspan(next));
    if (size == 0) return 0;
    next += size;
  }
  return 0;
}

// In musl a detached thread unmaps its stack and ends: between those two calls nothing of ours can run.
bool is_without_stack(Code code, std::size_t at) {
  constexpr std::uint32_t kExit = 60;
  constexpr std::size_t kNear = 8;
  if (word_at(code, at + 1) != kExit) return false;
  for (std::size_t back = 2; back <= kNear && back <= at; ++back) {
    if (is_call(code, at - back)) return true;
  }
  return false;
}

// mov r8…r15, n(%rsp) or back, and the call.
bool is_move_and_call(Code code, std::size_t at) {
  return code.size() >= at + kMove + 2 && code[at] == 0x4c && (code[at + 1] == 0x8b || code[at + 1] == 0x89) &&
         (code[at + 2] & 0xc7) == 0x44 && code[at + 3] == 0x24 && is_call(code, at + kMove);
}

std::size_t put(std::uint8_t* to, std::size_t at, std::span<const std::uint8_t> bytes) {
  for (const std::uint8_t byte : bytes) to[at++] = byte;
  return at;
}

std::size_t put_distance(std::uint8_t* to, std::size_t at, std::uint64_t from, std::uint64_t target) {
  const auto distance = static_cast<std::int32_t>(static_cast<std::int64_t>(target - from));
  __builtin_memcpy(to + at, &distance, sizeof(distance));
  return at + sizeof(distance);
}

}  // namespace

bool find_call_site(Code code, std::size_t from, bool (*is_wanted)(std::uint32_t), CallSite* site) {
  for (std::size_t at = from; at + kMove + 2 <= code.size(); ++at) {
    const bool is_number = code[at] >= 0xb8 && code[at] <= 0xbf && code[at] != 0xbc;
    if (is_number && (at == 0 || code[at - 1] != 0x41) && is_wanted(word_at(code, at + 1))) {
      const std::size_t call = find_call(code, at);
      *site = {at, call, code[at] == 0xb8};
      if (call != 0 && !is_without_stack(code, at)) return true;
    } else if (code[at] == 0x4c && is_move_and_call(code, at)) {
      *site = {at, at + kMove, false};
      return true;
    }
  }
  return false;
}

std::size_t write_stub(Code code, const CallSite& site, std::uint64_t address, std::uint8_t* to, std::uint64_t stub,
                       std::uint64_t slot) {
  constexpr std::uint8_t kBelowRedZone[] = {0x48, 0x8d, 0x64, 0x24, 0x80};            // lea -128(%rsp), %rsp
  constexpr std::uint8_t kBack[] = {0x48, 0x8d, 0xa4, 0x24, 0x80, 0x00, 0x00, 0x00};  // lea 128(%rsp), %rsp
  constexpr std::uint8_t kCall[] = {0xff, 0x15};                                      // call *slot
  constexpr std::uint8_t kJump[] = {0xe9};
  const Code move = code.subspan(site.begin, kMove);
  const Code between = code.subspan(site.begin + kMove, site.call - site.begin - kMove);
  std::size_t at = put(to, 0, site.is_moved_last ? between : move);
  at = put(to, at, site.is_moved_last ? move : between);
  at = put(to, at, kBelowRedZone);
  at = put(to, at, kCall);
  at = put_distance(to, at, stub + at + 4, slot);
  at = put(to, at, kBack);
  at = put(to, at, kJump);
  return put_distance(to, at, stub + at + 4, address + site.call + 2);
}

void lead_to_stub(std::span<std::uint8_t> code, const CallSite& site, std::uint64_t address, std::uint64_t stub) {
  code[site.begin] = 0xe9;
  put_distance(code.data(), site.begin + 1, address + site.begin + kMove, stub);
}

std::uint64_t place_in_stub(const CallSite& site, std::uint64_t address, std::uint64_t stub, std::uint64_t pc) {
  const std::uint64_t begin = address + site.begin + kMove;
  if (pc < begin || pc > address + site.call) return pc;
  return stub + (pc - begin) + (site.is_moved_last ? 0 : kMove);
}

}  // namespace ckpt::sys
