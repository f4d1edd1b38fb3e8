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

// A note that stands so far before the runtime's entry.
bool has_note(const ProcessImage& process, const std::vector<MappedFilePlan>& files, std::size_t distance, std::uint64_t wanted) {
  const std::uint64_t note = process.runtime.resume_entry - distance;
  for (const Area& area : process.areas) {
    const AreaRecord& record = area.record;
    if (!is_code(record) || note < record.start || note >= record.end) continue;
    const auto bytes = read_range(files.at(record.file).path, record.offset + (note - record.start), sizeof(std::uint64_t));
    std::uint64_t magic = 0;
    if (bytes.size() == sizeof(magic)) __builtin_memcpy(&magic, bytes.data(), sizeof(magic));
    return magic == wanted;
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
  const std::string shown = std::to_string(process.process.pid);
  const std::string what =
      plan.renamed.empty() ? "the clock of this machine, which was started later, is behind the program's, and that of process " +
                                 shown + " can't be put forward: "
                           : "the number " + std::to_string(*plan.renamed.begin()) + " is somebody else's, and process " + shown +
                                 " can't be given a new one: ";
  throw Error::plain("without namespaces it can't be restarted: " + what + why, ExitCode::kRunner);
}

bool has_translator(const RestartPlan& plan) {
  const ProcessImage& process = *plan.process;
  const auto& files = plan.files;
  constexpr std::size_t kDistance = sizeof(format::TranslatorNote);
  return has_note(process, files, kDistance, format::kTranslatorMagic) &&
         (!plan.has_shifted_clocks() || has_note(process, files, kDistance + sizeof(format::ShiftNote), format::kShiftMagic));
}

}  // namespace

void check_translation(const RestartPlan& plan) {
  if (plan.renamed.empty() && plan.translations.empty()) return;
  for (const ProcessImage& process : plan.image->job().processes) {
    const RestartPlan view = plan.seen_by(process);
    if (plan.renamed.empty() && !view.has_shifted_clocks()) continue;
    if (!has_translator(view)) refuse(plan, process, "it was launched by an older version of ckpt");
    if (!has_libc(process, view.files)) refuse(plan, process, "none of its libraries is a libc that is known");
    if (const std::string path = path_of_own_number(plan, process); !path.empty())
      refuse(plan, process, "it has " + quote(path) + " open");
  }
}

}  // namespace ckpt
