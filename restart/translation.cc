// See translation.h. Reads the files that the program's code is mapped from.
#include "restart/translation.h"

#include <asm/unistd.h>
#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "lib/common/error.h"
#include "lib/common/fd.h"
#include "lib/format/numbers.h"
#include "lib/sys/arch/x86_64/call-sites.h"

namespace ckpt {

namespace {

using format::AreaKind;
using format::AreaRecord;

constexpr std::uint8_t kExecute = 4;  // PROT_EXEC

std::vector<std::uint8_t> read_range(const std::string& path, std::uint64_t offset, std::uint64_t size) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<std::uint8_t> bytes(size);
  std::size_t filled = 0;
  while (filled < size) {
    const ssize_t count = pread(fd.get(), bytes.data() + filled, size - filled, static_cast<off_t>(offset + filled));
    if (count <= 0) break;
    filled += static_cast<std::size_t>(count);
  }
  bytes.resize(filled);
  return bytes;
}

bool is_code(const AreaRecord& area) { return area.kind == AreaKind::kPrivateFile && (area.protection & kExecute) != 0; }

bool has_translator(const ProcessImage& process, const std::vector<MappedFilePlan>& files) {
  const std::uint64_t note = process.runtime.resume_entry - sizeof(format::TranslatorNote);
  for (const Area& area : process.areas) {
    const AreaRecord& record = area.record;
    if (!is_code(record) || note < record.start || note >= record.end) continue;
    const auto bytes = read_range(files.at(record.file).path, record.offset + (note - record.start), sizeof(std::uint64_t));
    std::uint64_t magic = 0;
    if (bytes.size() == sizeof(magic)) __builtin_memcpy(&magic, bytes.data(), sizeof(magic));
    return magic == format::kTranslatorMagic;
  }
  return false;
}

bool is_getpid(std::uint32_t number) { return number == __NR_getpid; }

// A libc is what asks for the process's number.
bool has_libc(const ProcessImage& process, const std::vector<MappedFilePlan>& files) {
  const std::uint64_t own = process.runtime.resume_entry;
  for (const Area& area : process.areas) {
    const AreaRecord& record = area.record;
    if (!is_code(record) || (record.start <= own && own < record.end)) continue;
    const auto bytes = read_range(files.at(record.file).path, record.offset, record.end - record.start);
    sys::CallSite site{};
    for (std::size_t at = 0; sys::find_call_site(bytes, at, is_getpid, &site); at = site.call) {
      if (site.is_moved_last) return true;
    }
  }
  return false;
}

// A descriptor of /proc/PID would show somebody else.
std::string path_of_own_number(const RestartPlan& plan, const ProcessImage& process) {
  for (const pid_t number : plan.renamed) {
    const std::string folder = "/proc/" + std::to_string(number);
    for (const Description& description : process.descriptions) {
      if (description.path == folder || description.path.starts_with(folder + "/")) return description.path;
    }
  }
  return "";
}

[[noreturn]] void refuse(const RestartPlan& plan, const ProcessImage& process, const std::string& why) {
  throw Error::plain("without namespaces it can't be restarted: the number " + std::to_string(*plan.renamed.begin()) +
                         " is somebody else's, and process " + std::to_string(process.process.pid) +
                         " can't be given a new one: " + why,
                     ExitCode::kRunner);
}

}  // namespace

void check_translation(const RestartPlan& plan) {
  if (plan.renamed.empty()) return;
  const auto& processes = plan.image->job().processes;
  for (std::size_t i = 0; i < processes.size(); ++i) {
    const ProcessImage& process = processes[i];
    if (!has_translator(process, plan.files_of.at(i))) refuse(plan, process, "it was launched by an older version of ckpt");
    if (!has_libc(process, plan.files_of.at(i))) refuse(plan, process, "none of its libraries is a libc that is known");
    if (const std::string path = path_of_own_number(plan, process); !path.empty())
      refuse(plan, process, "it has " + quote(path) + " open");
  }
}

}  // namespace ckpt
