// Compares CPUs: a program may have chosen its code by any feature it saw, and its register frames have that CPU's layout.
#include "restart/compatibility.h"

#include <string>
#include <vector>

#include "lib/common/error.h"
#include "lib/sys/arch/x86_64/cpu.h"
#include "restart/image-memory.h"

namespace ckpt {

namespace {

struct Feature {
  unsigned word;
  unsigned bit;
  const char* name;
};

// For messages only: the usual reasons. Every bit is compared.
constexpr Feature kNames[] = {{0, 12, "fma"},         {0, 19, "sse4_1"},   {0, 20, "sse4_2"},    {0, 25, "aes"},
                              {0, 28, "avx"},         {2, 5, "avx2"},      {2, 8, "bmi2"},       {2, 16, "avx512f"},
                              {2, 17, "avx512dq"},    {2, 30, "avx512bw"}, {2, 31, "avx512vl"},  {3, 1, "avx512vbmi"},
                              {3, 11, "avx512_vnni"}, {4, 24, "amx_tile"}, {5, 5, "avx512_bf16"}};

std::string name_feature(unsigned word, unsigned bit) {
  for (const Feature& feature : kNames) {
    if (feature.word == word && feature.bit == bit) return feature.name;
  }
  return "feature word " + std::to_string(word) + " bit " + std::to_string(bit);
}

std::vector<std::string> missing_features(const format::CpuRecord& saved, const format::CpuRecord& here) {
  std::vector<std::string> names;
  for (unsigned word = 0; word < std::size(saved.features); ++word) {
    const std::uint32_t missing = saved.features[word] & ~here.features[word];
    for (unsigned bit = 0; bit < 32; ++bit) {
      if ((missing >> bit & 1) != 0) names.push_back(name_feature(word, bit));
    }
  }
  return names;
}

// Register sets of XCR0 that this CPU and kernel have at the same place. The first two stand before all others.
std::uint64_t common_sets(const format::CpuRecord& saved, const format::CpuRecord& here) {
  std::uint64_t sets = 3;
  for (unsigned i = 2; i < format::kMaxXstateComponents; ++i) {
    const auto& a = saved.components[i];
    const auto& b = here.components[i];
    if (((saved.xcr0 & here.xcr0) >> i & 1) != 0 && a.size == b.size && a.offset == b.offset) sets |= 1ULL << i;
  }
  return sets;
}

[[noreturn]] void refuse_set(std::uint64_t sets, const format::CpuRecord& here, const std::string& whose) {
  const auto set = static_cast<unsigned>(__builtin_ctzll(sets));
  if ((here.xcr0 >> set & 1) == 0)
    throw Error::plain("this CPU or kernel does not have register set " + std::to_string(set) + ", which " + whose);
  throw Error::plain("this CPU lays out register set " + std::to_string(set) +
                     " differently from the one the program was saved on, and " + whose + " it");
}

// What a thread has in its registers beyond `sets` would be lost. Of a frame that is larger than any of this machine the kernel
// reads the first two sets only: then the protection keys, which no program that is saved uses, may go.
void check_thread(const Image& image, const ProcessImage& process, const format::ThreadRecord& thread, std::uint64_t sets,
                  const format::CpuRecord& here) {
  constexpr std::uint64_t kRegisters = 224;               // in the kernel's struct ucontext: where the frame is
  constexpr std::uint64_t kUsed = 512, kFrameSize = 480;  // in the frame (struct _xstate)
  constexpr std::uint64_t kProtectionKeys = 1U << 9;
  const std::uint64_t frame = word_at(image, process, thread.context + kRegisters);
  const std::uint64_t used = word_at(image, process, frame + kUsed);
  const bool is_cut = (word_at(image, process, frame + kFrameSize) & 0xffffffff) > here.xsave_size;
  const std::uint64_t kept = is_cut ? 3 | kProtectionKeys : sets;
  if ((used & ~kept) != 0) refuse_set(used & ~kept, here, "thread " + std::to_string(thread.tid) + " uses");
}

}  // namespace

std::vector<std::string> check_cpu(const Image& image) {
  const format::CpuRecord& saved = image.job().header.cpu;
  const bool is_portable = image.job().job.settings.portable != 0;
  format::CpuRecord here{};
  sys::read_cpu(&here);
  const std::vector<std::string> missing = missing_features(saved, here);
  if (!is_portable && !missing.empty()) {
    throw Error::plain(
        "this CPU lacks " + missing[0] +
        ", which the program may use: restart it on the kind of machine it was saved on, or launch it with --portable");
  }
  const std::uint64_t sets = common_sets(saved, here);
  const std::uint64_t strange = saved.xcr0 & ~sets;
  if (!is_portable && strange != 0) refuse_set(strange, here, "the program may use");
  if (strange != 0) {
    for (const ProcessImage& process : image.job().processes) {
      for (const auto& thread : process.threads) check_thread(image, process, thread, sets, here);
    }
  }
  if (missing.empty()) return {};
  const std::string others = missing.size() > 1 ? " and " + std::to_string(missing.size() - 1) + " other features" : "";
  return {"this CPU lacks " + missing[0] + others + ": launched with --portable, the program's C library has not used them"};
}

}  // namespace ckpt
