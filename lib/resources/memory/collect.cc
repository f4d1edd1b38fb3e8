// memory: collects the areas of the address space from /proc/self/maps. Page contents are the writer's business.
#include "lib/resources/memory/collect.h"
#include "lib/resources/collector.h"
#include "lib/resources/process/collect.h"
#include "lib/resources/sysv/record.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using format::AreaKind;
using format::AreaRecord;

constexpr std::uint64_t kMaxAuxv = 1024;
constexpr std::uint64_t kKernelDevice = 1;  // 0:1, what the kernel makes for itself: memfd, shared memory, objects of drivers
constexpr std::uint32_t kTypeMask = 0170000, kRegular = 0100000, kCharacterDevice = 0020000;

// One line of maps.
struct Line {
  std::uint64_t start, end, offset, device, inode;
  char permissions[5];
  const char* name;
};

Line parse_line(const char* at) {
  Line line{};
  line.start = sys::parse_hex(&at);
  ++at;
  line.end = sys::parse_hex(&at);
  ++at;
  for (unsigned i = 0; i < 4; ++i) line.permissions[i] = *at++;
  ++at;
  line.offset = sys::parse_hex(&at);
  ++at;
  const std::uint64_t major = sys::parse_hex(&at);
  ++at;
  line.device = major << 32 | sys::parse_hex(&at);
  ++at;
  line.inode = sys::parse_decimal(&at);
  sys::skip_spaces(&at);
  line.name = at;
  return line;
}

// maps writes a newline in a path as \012.
void unescape(const char* from, char* to, std::size_t size) {
  std::size_t length = 0;
  while (*from != '\0' && length + 1 < size) {
    if (sys::starts_with(from, "\\012")) {
      to[length++] = '\n';
      from += 4;
    } else {
      to[length++] = *from++;
    }
  }
  to[length] = '\0';
}

// Index of the file in the collector's list, added when new; kNoFile: it is not there any more as it was mapped.
std::uint32_t file_index(Collector* collector, const Line& line, const char* path, bool is_executable_code) {
  for (unsigned i = collector->file_count; i-- > 0;) {
    CollectedFile* known = &collector->files[i];
    if (known->record->inode != line.inode || known->record->device != line.device || !sys::equal(known->path, path)) continue;
    known->is_library |= is_executable_code;
    return i;
  }
  FileFacts facts{};
  if (read_facts(AT_FDCWD, path, &facts).failed() || facts.inode != line.inode || facts.device != line.device ||
      (facts.mode & kTypeMask) != kRegular || collector->file_count == kMaxMappedFiles) {
    return format::kNoFile;
  }
  const std::size_t size = strlen(path) + 1;
  auto* record = collector->add_record<format::MappedFileRecord>(format::RecordType::kMappedFile, size, path);
  if (record == nullptr) return format::kNoFile;
  record->device = facts.device;
  record->inode = facts.inode;
  record->size = facts.size;
  record->modified_ns = facts.modified_ns;
  record->mode = facts.mode;
  record->path_size = static_cast<std::uint32_t>(size);
  collector->files[collector->file_count] = {record, reinterpret_cast<const char*>(record + 1), is_executable_code, false};
  return collector->file_count++;
}

AreaRecord* add_area(Collector* collector, const AreaRecord& area, const char* name) {
  if (area.start >= area.end) return nullptr;
  const std::size_t size = strlen(name) + 1;
  auto* record = collector->add_record<AreaRecord>(format::RecordType::kArea, size, name);
  if (record == nullptr || collector->area_count == collector->area_capacity) return nullptr;
  *record = area;
  record->name_size = static_cast<std::uint32_t>(size);
  collector->areas[collector->area_count++] = record;
  return record;
}

// Adds what lies outside our scratch memory, which the kernel may have joined to a neighbour of the program's.
void add_outside_scratch(Collector* collector, const AreaRecord& area, const char* name) {
  const Range scratch = collector->scratch;
  if (area.end <= scratch.begin || area.start >= scratch.end) {
    add_area(collector, area, name);
    return;
  }
  AreaRecord below = area;
  below.end = scratch.begin;
  if (below.start < below.end) add_area(collector, below, name);
  AreaRecord above = area;
  above.start = scratch.end;
  if (above.start < above.end) add_area(collector, above, name);
}

bool classify_anonymous(const Line& line, AreaRecord* area) {
  area->kind = AreaKind::kAnonymous;
  if (sys::equal(line.name, "[vdso]")) {
    area->kind = AreaKind::kVdso;
  } else if (sys::equal(line.name, "[vvar]")) {
    area->kind = AreaKind::kVvar;
  } else if (sys::equal(line.name, "[vvar_vclock]")) {
    area->kind = AreaKind::kVvarClock;
  } else if (sys::equal(line.name, "[stack]")) {
    area->flags = format::kStack | format::kGrowsDown;
  } else if (sys::equal(line.name, "[heap]")) {
    area->flags = format::kHeap;
  } else if (line.name[0] != '\0' && !sys::starts_with(line.name, "[anon:")) {
    return false;
  }
  return line.permissions[3] == 'p';
}

Message& refuse_area(Collector* collector, const Line& line, const char* name) {
  return collector->refuse().add("memory at 0x").add_hex(line.start).add(" (").add(name).add("): ");
}

// An area of a memory object.
bool classify_object(Collector* collector, const Line& line, const char* path, format::ObjectKind kind, AreaRecord* area) {
  area->kind = AreaKind::kSharedObject;
  // Ids of segments and inodes are numbers of their own.
  const std::uint64_t device = kind == format::ObjectKind::kSegment ? format::kSegmentDevice : line.device;
  area->file = memory_object(collector, device, line.inode, kind, path);
  if (area->file == kNoObject) {
    refuse_area(collector, line, path).add("there is too much shared memory");
    return false;
  }
  note_mapping(&collector->objects[area->file], line.start, line.offset, line.end - line.start);
  return true;
}

// The descriptor that shows the same path, if it is still open.
int descriptor_of(const char* path) {
  char buffer[1024];
  char link[256];
  sys::NumberDirectory descriptors("/proc/thread-self/fd", buffer);
  for (int fd = descriptors.is_open() ? descriptors.next() : -1; fd >= 0; fd = descriptors.next()) {
    const sys::ProcPath name = sys::descriptor_path(fd);
    if (sys::read_link(name.c_str(), link, sizeof(link)) && sys::equal(link, path)) return fd;
  }
  return -1;
}

bool refuse_device(Collector* collector, const Line& line, const char* path) {
  const int fd = descriptor_of(path);
  Message& message = refuse_area(collector, line, path).add("a mapping of ").add(name_of_kernel_object(path, "a device"));
  message.add(" can't be saved; unmap it");
  if (fd >= 0) message.add(", close descriptor ").add_signed(fd);
  message.add(" and try again");
  return false;
}

// Each size of huge pages has a file system of its own.
bool is_of_pool(const Line& line, const char* path) {
  return sys::starts_with(path, "/anon_hugepage") || (sys::starts_with(path, "/memfd:") && line.device != kKernelDevice);
}

// A shared mapping of what has no name, or none that leads to it.
bool classify_nameless(Collector* collector, const Line& line, const char* path, AreaRecord* area) {
  // One that PR_SET_VMA_ANON_NAME has named is shown by that name.
  if (sys::equal(path, "/dev/zero (deleted)") || sys::starts_with(path, "[anon_shmem:"))
    return classify_object(collector, line, path, format::ObjectKind::kAnonymous, area);
  if (is_of_pool(line, path)) {
    area->marks = format::kReservedPool;
    return classify_object(collector, line, path, format::ObjectKind::kMemoryFile, area);
  }
  const bool is_device =
      path[0] != '/' || line.device == kKernelDevice || (sys::starts_with(path, "/dev/") && !sys::starts_with(path, "/dev/shm/"));
  if (sys::starts_with(path, "/SYSV") && line.device == kKernelDevice)
    return classify_object(collector, line, path, format::ObjectKind::kSegment, area);
  if (sys::starts_with(path, "/[aio]")) {
    area->kind = AreaKind::kAioRing;
    return collect_aio_ring(collector, line.start, line.end);
  }
  const char* reason = nullptr;
  if (sys::starts_with(path, "/SYSV")) {
    reason = "System V shared memory of huge pages can't be saved";
  } else if (sys::starts_with(path, "/memfd:")) {
    return classify_object(collector, line, path, format::ObjectKind::kMemoryFile, area);
  } else if (is_device || sys::starts_with(path, "/secretmem")) {
    return refuse_device(collector, line, path);
  } else if (!sys::ends_with(path, " (deleted)")) {
    reason = "a shared mapping of a file that can't be found by its name can't be saved";
  } else {
    return classify_object(collector, line, path, format::ObjectKind::kDeleted, area);
  }
  refuse_area(collector, line, path).add(reason);
  return false;
}

bool is_name_of(const Line& line, const char* path) {
  FileFacts facts{};
  return !read_facts(AT_FDCWD, path, &facts).failed() && facts.inode == line.inode && facts.device == line.device &&
         (facts.mode & kTypeMask) == kRegular;
}

// sem_open(3) makes a file under another name, links it to its own and removes the first, by which the kernel goes on to call it.
// Looks in the same folder, in a file system in memory alone, and changes `path`.
bool find_other_name(const Line& line, char* path) {
  if (!sys::ends_with(path, " (deleted)") || !is_in_memory_file_system(path)) return false;
  std::size_t length = strlen(path);
  while (length > 1 && path[length - 1] != '/') --length;
  sys::Text<format::kPathBytes> folder;
  folder.add(path);
  folder.shorten(length);
  char buffer[2048];
  sys::Directory entries(folder.c_str(), buffer);
  for (const sys::DirectoryEntry* entry = nullptr; entries.is_open() && (entry = entries.next()) != nullptr;) {
    if (entry->inode != line.inode) continue;
    folder.shorten(length);
    folder.add(entry->name);
    if (folder.is_cut() || !is_name_of(line, folder.c_str())) continue;
    sys::copy_text(path, format::kPathBytes, folder.c_str());
    return true;
  }
  return false;
}

bool classify_shared(Collector* collector, const Line& line, char* path, AreaRecord* area) {
  if (sys::equal(path, collector->control_path)) {
    area->kind = AreaKind::kControl;
    return true;
  }
  if (!is_name_of(line, path) && !find_other_name(line, path)) return classify_nameless(collector, line, path, area);
  if (is_in_memory_file_system(path)) return classify_object(collector, line, path, format::ObjectKind::kNamed, area);
  area->kind = line.permissions[1] == 'w' ? AreaKind::kSharedFile : AreaKind::kSharedReadOnly;
  area->file = file_index(collector, line, path, line.permissions[2] == 'x');
  if (area->file != format::kNoFile) {
    collector->files[area->file].is_written |= area->kind == AreaKind::kSharedFile;
    return true;
  }
  refuse_area(collector, line, path).add("there are too many mapped files");
  return false;
}

bool classify_private(Collector* collector, const Line& line, const char* path, AreaRecord* area) {
  area->file = file_index(collector, line, path, line.permissions[2] == 'x');
  if (area->file != format::kNoFile) {
    area->kind = AreaKind::kPrivateFile;
    return true;
  }
  if (sys::starts_with(path, "/anon_hugepage")) {
    area->kind = AreaKind::kAnonymous;
    area->marks = format::kReservedPool;
    return true;
  }
  FileFacts facts{};
  const bool is_there = !read_facts(AT_FDCWD, path, &facts).failed();
  if (path[0] != '/' || (is_there && (facts.mode & kTypeMask) == kCharacterDevice && !sys::equal(path, "/dev/zero"))) {
    return refuse_device(collector, line, path);
  }
  area->kind = AreaKind::kAnonymous;
  if (is_of_pool(line, path)) area->marks = format::kReservedPool;
  if (!sys::equal(path, "/dev/zero")) area->flags = format::kFileGone;
  return true;
}

bool classify_file(Collector* collector, const Line& line, char* path, AreaRecord* area) {
  return line.permissions[3] == 's' ? classify_shared(collector, line, path, area) : classify_private(collector, line, path, area);
}

bool is_of_session(const Collector& collector, std::uint64_t address) {
  const auto begin = reinterpret_cast<std::uint64_t>(collector.session);
  return begin != 0 && address >= begin && address - begin < format::kSessionSize;
}

bool add_line(Collector* collector, const Line& line) {
  AreaRecord area{};
  area.start = line.start;
  area.end = line.end;
  area.file = format::kNoFile;
  const char* permissions = line.permissions;
  area.protection = static_cast<std::uint8_t>((permissions[0] == 'r' ? PROT_READ : 0) | (permissions[1] == 'w' ? PROT_WRITE : 0) |
                                              (permissions[2] == 'x' ? PROT_EXEC : 0));
  if (line.inode == 0 && line.name[0] != '/') {
    if (!classify_anonymous(line, &area)) {
      refuse_area(collector, line, line.name).add("memory of this kind can't be saved");
      return false;
    }
    add_outside_scratch(collector, area, line.name);
    return true;
  }
  area.offset = line.offset;
  char path[format::kPathBytes];
  unescape(line.name, path, sizeof(path));
  if (!classify_file(collector, line, path, &area)) return false;
  if (area.kind == AreaKind::kAnonymous) area.offset = 0;
  AreaRecord* record = add_area(collector, area, path);
  const bool is_gone = (area.flags & format::kFileGone) != 0;
  if (record != nullptr && is_gone) note_gone_mapping(collector, {record, line.device, line.inode, line.offset});
  return true;
}

void add_layout(Collector* collector) {
  char auxv[kMaxAuxv];
  const auto size = sys::read_file("/proc/thread-self/auxv", auxv, sizeof(auxv));
  const std::uint64_t auxv_size = size.failed() ? 0 : static_cast<std::uint64_t>(size.value());
  auto* record = collector->add_record<format::MemoryLayoutRecord>(format::RecordType::kMemoryLayout, auxv_size, auxv);
  if (record == nullptr) return;
  record->auxv_size = auxv_size;
  record->brk = static_cast<std::uint64_t>(sys::call(__NR_brk, 0).value());
  const sys::StatFile& stat = *collector->stat;
  record->start_code = stat.number(26);
  record->end_code = stat.number(27);
  record->start_stack = stat.number(28);
  record->start_data = stat.number(45);
  record->end_data = stat.number(46);
  record->start_brk = stat.number(47);
  record->arg_start = stat.number(48);
  record->arg_end = stat.number(49);
  record->env_start = stat.number(50);
  record->env_end = stat.number(51);
}

void mark_executable(Collector* collector) {
  FileFacts facts{};
  if (read_facts(AT_FDCWD, "/proc/thread-self/exe", &facts).failed()) return;
  for (unsigned i = 0; i < collector->file_count; ++i) {
    format::MappedFileRecord* record = collector->files[i].record;
    if (record->inode == facts.inode && record->device == facts.device) {
      record->is_executable = 1;
      collector->files[i].is_library = true;
    }
  }
}

}  // namespace

bool collect_memory(Collector* collector) {
  constexpr std::size_t kBuffer = 16384;
  auto* buffer = collector->arena->take_array<char>(kBuffer);
  collector->area_capacity = 200'000;
  collector->areas = collector->arena->take_array<AreaRecord*>(collector->area_capacity);
  if (buffer == nullptr || collector->areas == nullptr) {
    collector->refuse(kCodeFailed).add("out of memory");
    return false;
  }
  add_layout(collector);
  sys::LineReader maps("/proc/thread-self/maps", {buffer, kBuffer});
  if (!maps.is_open()) {
    collector->refuse(kCodeFailed).add("its memory map can't be read");
    return false;
  }
  for (const char* text = maps.next(); text != nullptr; text = maps.next()) {
    const Line line = parse_line(text);
    if (is_of_session(*collector, line.start)) continue;
    if (sys::equal(line.name, "[vsyscall]")) continue;
    if (!add_line(collector, line)) return false;
  }
  mark_executable(collector);
  settle_gone_mappings(collector);
  return collect_area_flags(collector);
}

}  // namespace ckpt
