// Columns and lines. All data from images and names on disk is masked.
#include "lib/common/image-text.h"

#include <fcntl.h>

#include <algorithm>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>

#include "lib/common/signal-names.h"
#include "lib/common/units.h"

namespace ckpt {
namespace {

using Row = std::vector<std::string>;

[[gnu::format(printf, 1, 2)]] std::string print(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return text;
}

bool is_null(const format::Id128& id) { return id == format::Id128{}; }

// One word: no column but the last may hold blanks.
std::string word(std::string_view text) {
  std::string result;
  for (const char c : mask(text)) result += c == ' ' ? std::string("\\x20") : std::string(1, c);
  return result.empty() ? "-" : result;
}

Row header_row(bool is_long) {
  Row row{"WHEN", "AGE", "PROGRAM", "PID", "THREADS", "PROCESSES", "SIZE", "PARENT", "STATE"};
  if (is_long) row.insert(row.end(), {"ID", "GENERATION", "MEMORY", "CODEC", "HOST", "KERNEL"});
  row.emplace_back("PATH");
  return row;
}

Row image_row(const ListedImage& image, bool is_long, std::int64_t now_ns) {
  const auto& stored = image.stored;
  const auto age = std::chrono::seconds((now_ns - stored.time_ns) / 1'000'000'000);
  Row row{format_time(stored.time_ns), format_age(age), "-", "-", "-", "-", format_size(stored.size), "-", name_of(image.state)};
  if (is_long) row.insert(row.end(), 6, "-");
  if (stored.header) {
    const auto& header = *stored.header;
    row[2] = word(header.program);
    row[3] = std::to_string(header.pid);
    row[4] = std::to_string(header.thread_count);
    row[5] = std::to_string(header.process_count);
    if (!is_null(header.parent_id)) row[7] = hex_of(header.parent_id).substr(0, 8);
    const Row more{hex_of(header.image_id).substr(0, 8),
                   std::to_string(header.generation),
                   format_size(header.memory_bytes),
                   name_of(header.codec),
                   word(header.host),
                   word(header.kernel)};
    if (is_long) std::copy(more.begin(), more.end(), row.begin() + 9);
  }
  row.push_back(mask(stored.path));
  return row;
}

// `colours`: of each row, as ECMA-48 counts them; nullptr: none.
std::string align(const std::vector<Row>& rows, const std::vector<const char*>& colours) {
  std::vector<std::size_t> widths(rows[0].size(), 0);
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (std::size_t line = 0; line < rows.size(); ++line) {
    const Row& row = rows[line];
    if (colours[line] != nullptr) text += "\033[" + std::string(colours[line]) + "m";
    for (std::size_t i = 0; i + 1 < row.size(); ++i) text += row[i] + std::string(widths[i] - row[i].size() + 2, ' ');
    text += row.back() + (colours[line] != nullptr ? "\033[0m\n" : "\n");
  }
  return text;
}

std::string format_areas(const ProcessImage& process) {
  const auto counts = count_pages(process);
  std::string text = "  areas\n";
  text += "    START-END                      PROT KIND             HERE       ZERO       FILE  NAME\n";
  for (std::size_t i = 0; i < process.areas.size(); ++i) {
    const auto& record = process.areas[i].record;
    const std::string range = print("%" PRIx64 "-%" PRIx64, record.start, record.end);
    text += print("    %-30s %-4s %-10s %10" PRIu64 " %10" PRIu64 " %10" PRIu64 "  ", range.c_str(), protection_of(record).c_str(),
                  name_of(record.kind), counts[i].here, counts[i].zero, counts[i].file);
    text += mask(path_of(process, process.areas[i])) + "\n";
  }
  return text;
}

std::string format_threads(const ProcessImage& process) {
  std::string text = "  threads\n         TID  BLOCKED           NAME\n";
  for (const auto& thread : process.threads) {
    text += print("    %8d  %016" PRIx64 "  ", thread.tid, thread.blocked_signals) + mask(thread.name) + "\n";
  }
  return text;
}

const Description* find_description(const JobImage& job, std::uint32_t id) {
  for (const auto& process : job.processes) {
    for (const auto& description : process.descriptions) {
      if (description.record.id == id) return &description;
    }
  }
  return nullptr;
}

const char* access_of(std::uint32_t status_flags) {
  const bool is_append = (status_flags & O_APPEND) != 0;
  switch (status_flags & O_ACCMODE) {
    case O_RDONLY:
      return "r";
    case O_WRONLY:
      return is_append ? "wa" : "w";
    default:
      return is_append ? "rwa" : "rw";
  }
}

std::string format_descriptors(const JobImage& job, const ProcessImage& process) {
  std::string text = "  descriptors\n      FD  OPEN KIND      MODE         OFFSET  PATH\n";
  for (const auto& descriptor : process.descriptors) {
    const Description* description = find_description(job, descriptor.description);
    if (description == nullptr) continue;
    const auto& record = description->record;
    text += print("    %4d  %4u %-9s %-4s %14" PRIu64 "  ", descriptor.fd, record.id, name_of(record.kind),
                  access_of(record.status_flags), record.offset);
    text += mask(description->path) + ((descriptor.flags & FD_CLOEXEC) != 0 ? " (close-on-exec)" : "") + "\n";
  }
  return text;
}

std::string format_signals(const ProcessImage& process) {
  std::string text = "  signals\n";
  for (const auto& action : process.actions) {
    if (action.handler == 0) continue;
    const std::string name = signal_name(static_cast<int>(action.signal));
    text += "    " + name +
            (action.handler == 1 ? " ignored" : print(" handled at %" PRIx64 ", flags %" PRIx64, action.handler, action.flags)) +
            "\n";
  }
  for (const auto& signal : process.pending) {
    std::int32_t number = 0;
    static_assert(sizeof number == 4);
    std::copy_n(signal.info, sizeof number, reinterpret_cast<std::uint8_t*>(&number));
    text += "    " + signal_name(number) + " pending for " +
            (signal.tid == 0 ? "the process" : "thread " + std::to_string(signal.tid)) + "\n";
  }
  return text;
}

std::string format_timers(const ProcessImage& process) {
  if (process.timers.empty() && process.posix_timers.empty()) return "";
  static constexpr const char* kKinds[] = {"real", "virtual", "profiling"};
  std::string text = "  timers\n";
  for (const auto& timer : process.timers) {
    text += print("    %s, %.3f s left, interval %.3f s\n", kKinds[timer.which], static_cast<double>(timer.left_us) / 1e6,
                  static_cast<double>(timer.interval_us) / 1e6);
  }
  for (const auto& timer : process.posix_timers) {
    text += print("    %d, clock %d, %.3f s left, interval %.3f s\n", timer.id, timer.clock,
                  static_cast<double>(timer.left_ns) / 1e9, static_cast<double>(timer.interval_ns) / 1e9);
  }
  return text;
}

std::string describe_object(const char* what, const format::SystemVObject& object) {
  return print("    %-14s %10d  key 0x%08x  user %u  mode %04o  ", what, object.id, static_cast<unsigned>(object.key), object.uid,
               object.mode & 0777U);
}

std::string format_system_v(const ProcessImage& process) {
  std::string text;
  for (const auto& segment : process.segments) {
    text += describe_object("shared memory", segment.object) + print("%" PRIu64 " bytes", segment.size) +
            ((segment.object.mode & format::kRemoved) != 0 ? " (removed)\n" : "\n");
  }
  for (const auto& set : process.semaphore_sets)
    text += describe_object("semaphores", set.record.object) + print("%zu values\n", set.values.size());
  for (const auto& queue : process.message_queues)
    text += describe_object("message queue", queue.object) + print("%u messages\n", queue.count);
  for (const auto& undo : process.semaphore_undos)
    text += print("    semaphore %u of %d gets %+d at the end\n", undo.semaphore, undo.set, undo.adjustment);
  return text.empty() ? "" : "  System V objects\n" + text;
}

std::string format_process(const JobImage& job, const ProcessImage& process) {
  const auto& record = process.process;
  std::string text = "process " + std::to_string(record.pid) + " (" + mask(record.name) + ")\n";
  text += print("  parent %d, group %d, session %d, user %u, umask %04o\n", record.parent_pid, record.group_id, record.session_id,
                record.uid[1], record.umask);
  text += "  executable " + mask(process.executable) + "\n  folder " + mask(process.cwd) + "\n  command";
  for (const auto& argument : process.arguments) text += " " + quote(argument);
  text += "\n";
  return text + format_areas(process) + format_threads(process) + format_descriptors(job, process) + format_signals(process) +
         format_timers(process) + format_system_v(process);
}

}  // namespace

const char* name_of(ImageState state) {
  switch (state) {
    case ImageState::kOk:
      return "ok";
    case ImageState::kDamaged:
      return "damaged";
    case ImageState::kPartial:
      return "partial";
  }
  return "?";
}

const char* name_of(format::Codec codec) {
  switch (codec) {
    case format::Codec::kNone:
      return "none";
    case format::Codec::kLz4:
      return "lz4";
    case format::Codec::kZstd:
      return "zstd";
  }
  return "?";
}

const char* name_of(format::AreaKind kind) {
  switch (kind) {
    case format::AreaKind::kAnonymous:
      return "anonymous";
    case format::AreaKind::kPrivateFile:
      return "file";
    case format::AreaKind::kSharedReadOnly:
      return "shared";
    case format::AreaKind::kVdso:
      return "vdso";
    case format::AreaKind::kVvar:
      return "vvar";
    case format::AreaKind::kVvarClock:
      return "vvar-clock";
    case format::AreaKind::kControl:
      return "control";
    case format::AreaKind::kSharedObject:
      return "object";
    case format::AreaKind::kSharedFile:
      return "shared-rw";
    case format::AreaKind::kPrivateObject:
      return "private";
    case format::AreaKind::kAioRing:
      return "aio";
  }
  return "?";
}

const char* name_of(format::DescriptionKind kind) {
  switch (kind) {
    case format::DescriptionKind::kRegular:
      return "file";
    case format::DescriptionKind::kDeleted:
      return "deleted";
    case format::DescriptionKind::kDevice:
      return "device";
    case format::DescriptionKind::kTerminal:
      return "terminal";
    case format::DescriptionKind::kPipe:
      return "pipe";
    case format::DescriptionKind::kSocket:
      return "socket";
    case format::DescriptionKind::kOwnPipe:
      return "own-pipe";
    case format::DescriptionKind::kEventFd:
      return "eventfd";
    case format::DescriptionKind::kTimerFd:
      return "timerfd";
    case format::DescriptionKind::kSignalFd:
      return "signalfd";
    case format::DescriptionKind::kEpoll:
      return "epoll";
    case format::DescriptionKind::kPidFd:
      return "pidfd";
    case format::DescriptionKind::kUnixSocket:
      return "unix-socket";
    case format::DescriptionKind::kInetSocket:
      return "inet-socket";
    case format::DescriptionKind::kNetlinkSocket:
      return "netlink-socket";
    case format::DescriptionKind::kPlainSocket:
      return "plain-socket";
    case format::DescriptionKind::kMemFd:
      return "memfd";
    case format::DescriptionKind::kTerminalMaster:
      return "terminal-master";
    case format::DescriptionKind::kOwnTerminal:
      return "own-terminal";
    case format::DescriptionKind::kMessageQueue:
      return "mqueue";
    case format::DescriptionKind::kInotify:
      return "inotify";
    case format::DescriptionKind::kDirectory:
    case format::DescriptionKind::kGoneFolder:
      return "folder";
    case format::DescriptionKind::kPathOnly:
      return "path";
    case format::DescriptionKind::kFifo:
      return "fifo";
    case format::DescriptionKind::kProcFile:
      return "proc";
  }
  return "?";
}

std::string hex_of(const format::Id128& id) {
  std::string text;
  for (const std::uint8_t byte : id.bytes) text += print("%02x", byte);
  return text;
}

std::string protection_of(const format::AreaRecord& area) {
  std::string text = "---";
  for (int bit = 0; bit < 3; ++bit) {
    if ((area.protection >> bit & 1) != 0) text[static_cast<std::size_t>(bit)] = "rwx"[bit];
  }
  return text;
}

std::string path_of(const ProcessImage& process, const Area& area) {
  if (format::is_of_object(area.record.kind)) return process.objects[area.record.file].path;
  return area.record.file != format::kNoFile ? process.files[area.record.file].path : area.name;
}

std::vector<PageCounts> count_pages(const ProcessImage& process) {
  std::vector<PageCounts> counts(process.areas.size());
  std::size_t area = 0;
  for (const auto& extent : process.extents) {
    while (area < counts.size() && process.areas[area].record.end <= extent.start) ++area;
    if (area == counts.size()) break;
    PageCounts& count = counts[area];
    std::uint64_t& which = extent.kind == format::PageKind::kZero    ? count.zero
                           : extent.kind == format::PageKind::kFile  ? count.file
                           : extent.kind == format::PageKind::kGuard ? count.guard
                                                                     : count.here;
    which += extent.pages;
  }
  return counts;
}

std::string format_table(const std::vector<ListedImage>& images, bool is_long, std::int64_t now_ns, bool is_coloured) {
  std::vector<Row> rows{header_row(is_long)};
  std::vector<const char*> colours{"1"};
  for (const auto& image : images) {
    rows.push_back(image_row(image, is_long, now_ns));
    colours.push_back(image.state == ImageState::kDamaged ? "31" : image.state == ImageState::kPartial ? "33" : nullptr);
  }
  if (!is_coloured) colours.assign(rows.size(), nullptr);
  return align(rows, colours);
}

std::string format_map(const Image& image) {
  const auto& job = image.job();
  std::string text = "image " + mask(image.name()) + "\n";
  text += "  id " + hex_of(job.header.image_id) + ", taken " + format_time(job.header.created_ns) + " on " + mask(job.header.host) +
          " (" + mask(job.header.kernel) + ")\n";
  for (const auto& process : job.processes) text += format_process(job, process);
  return text;
}

}  // namespace ckpt
