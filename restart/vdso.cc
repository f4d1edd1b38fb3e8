// The kernel's areas of this very process against those of the image, to the byte: a vdso reads the kernel's data by fixed offsets,
// so one of another build must never see this kernel's.
#include "restart/vdso.h"

#include <cstring>
#include <fstream>

#include "restart/image-memory.h"

namespace ckpt {

namespace {

using format::AreaKind;

struct Part {
  AreaKind kind;
  std::uint64_t start, end;
  friend bool operator==(const Part&, const Part&) = default;
};

// Addresses count from the first part on.
std::vector<Part> relative(std::vector<Part> parts) {
  const std::uint64_t first = parts.empty() ? 0 : parts[0].start;
  for (Part& part : parts) {
    part.start -= first;
    part.end -= first;
  }
  return parts;
}

std::vector<Part> own_parts() {
  std::vector<Part> parts;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const AreaKind kind = line.ends_with("[vdso]")          ? AreaKind::kVdso
                          : line.ends_with("[vvar]")        ? AreaKind::kVvar
                          : line.ends_with("[vvar_vclock]") ? AreaKind::kVvarClock
                                                            : AreaKind::kAnonymous;
    if (kind == AreaKind::kAnonymous) continue;
    char* end = nullptr;
    const std::uint64_t start = std::strtoull(line.c_str(), &end, 16);
    parts.push_back({kind, start, std::strtoull(end + 1, nullptr, 16)});
  }
  return parts;
}

std::vector<Part> parts_of(const ProcessImage& process) {
  std::vector<Part> parts;
  for (const Area& area : process.areas) {
    const auto& record = area.record;
    if (record.kind >= AreaKind::kVdso && record.kind <= AreaKind::kVvarClock)
      parts.push_back({record.kind, record.start, record.end});
  }
  return parts;
}

// The bytes that the image has of [start, end); what it lacks reads as zeros.
std::vector<std::byte> bytes_of(const Image& image, const ProcessImage& process, std::uint64_t start, std::uint64_t end) {
  std::vector<std::byte> bytes(end - start);
  for (const auto& extent : process.extents) {
    if (extent.start < start || extent.start >= end || extent.kind != format::PageKind::kHere) continue;
    const auto frame = image.read_frame(extent.frame);
    std::memcpy(bytes.data() + (extent.start - start), frame.data() + extent.frame_offset, extent.pages * format::kPageSize);
  }
  return bytes;
}

}  // namespace

std::vector<std::int32_t> threads_in_vdso(const Image& image, const ProcessImage& process) {
  constexpr std::uint64_t kInstructionPointer = 40 + 16 * 8;  // in the kernel's struct ucontext
  std::vector<std::int32_t> threads;
  for (const Part& part : parts_of(process)) {
    if (part.kind != AreaKind::kVdso) continue;
    for (const auto& thread : process.threads) {
      const std::uint64_t at = word_at(image, process, thread.context + kInstructionPointer);
      if (at >= part.start && at < part.end) threads.push_back(thread.tid);
    }
  }
  return threads;
}

bool has_other_vdso(const Image& image, const ProcessImage& process) {
  const std::vector<Part> wanted = parts_of(process);
  const std::vector<Part> own = own_parts();
  const auto is_code = [](const Part& part) { return part.kind == AreaKind::kVdso; };
  const auto old_code = std::ranges::find_if(wanted, is_code);
  if (old_code == wanted.end()) return false;
  const auto code = std::ranges::find_if(own, is_code);
  if (code == own.end()) throw Error::plain("this kernel gives its programs no vdso, and the image has one", ExitCode::kRunner);
  if (relative(own) != relative(wanted)) return true;
  const auto bytes = bytes_of(image, process, old_code->start, old_code->end);
  return std::memcmp(bytes.data(), reinterpret_cast<const void*>(code->start), bytes.size()) != 0;
}

}  // namespace ckpt
