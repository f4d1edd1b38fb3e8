// memory: shared memory, which a fork does not freeze: copied while everything stands, object by object, but only what is there.
//
// The bytes are read through a descriptor where there is one. Else through the mapping: an alias of the whole object is made beside
// it for the time of the copy, so that parts which are unmapped just now, but could be mapped again, are not lost.
#include "lib/resources/memory/collect.h"

#include "lib/resources/files/collect.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using format::kPageSize;
using format::ObjectKind;

constexpr int kGetSeals = 1034;  // F_GET_SEALS
constexpr long kTmpfs = 0x01021994, kRamfs = 0x858458f6;
constexpr std::uint64_t kMaxRun = 64U << 20;

// The object as it is seen for the time of the copy.
struct View {
  std::uint64_t begin;   // address
  std::uint64_t offset;  // in the object
  std::uint64_t size;
  int memory_fd;  // /proc/self/mem: reading it can't end in SIGBUS
};

bool refuse_object(Collector* collector, const CollectedObject& object, const char* reason) {
  Message& message = collector->refuse();
  if (object.address != 0) message.add("memory at 0x").add_hex(object.address);
  if (object.address == 0) message.add("descriptor ").add_signed(object.fd);
  message.add(" (").add(object.path).add("): ").add(reason);
  return false;
}

bool read_page(const View& view, std::uint64_t offset) {
  std::uint8_t byte = 0;
  return sys::pread(view.memory_fd, &byte, 1, view.begin + (offset - view.offset)).value() == 1;
}

// Maps the object a second time, from as far down as may be, and `size` bytes of it in all.
bool open_view(const CollectedObject& object, std::uint64_t end, View* view) {
  const auto alias = sys::call(__NR_mremap, object.address, 0, end - object.offset, 1 /* MAYMOVE */);
  if (alias.failed()) return false;
  *view = {static_cast<std::uint64_t>(alias.value()), object.offset, end - object.offset, view->memory_fd};
  if (object.offset == 0) return true;
  sys::unmap(view->begin, view->size).ignore();
  const auto whole = sys::call(__NR_mremap, object.address, 0, end, 1 /* MAYMOVE */);
  if (whole.failed()) return false;
  *view = {static_cast<std::uint64_t>(whole.value()), 0, end, view->memory_fd};
  // One that was opened for reading can't be moved down: then nobody here can ever see what lies below.
  if (sys::call(__NR_remap_file_pages, view->begin, end, 0, 0, 0).failed()) view->offset = object.offset;
  return true;
}

void close_view(const View& view) { sys::unmap(view.begin, view.size).ignore(); }

// Where the object ends, on a page border: the first page at or behind `low`, which is there, that can't be read.
bool find_end(const CollectedObject& object, std::uint64_t low, int memory_fd, std::uint64_t* end) {
  std::uint64_t high = low;
  for (std::uint64_t step = kPageSize;; step *= 2) {
    View view{0, 0, 0, memory_fd};
    if (!open_view(object, high + step, &view)) return false;
    const bool is_there = read_page(view, high + step - kPageSize);
    close_view(view);
    if (!is_there) {
      high += step;
      break;
    }
    low = high += step;
  }
  View view{0, 0, 0, memory_fd};
  if (!open_view(object, high, &view)) return false;
  while (high - low > kPageSize) {
    const std::uint64_t middle = low + (high - low) / 2 / kPageSize * kPageSize;
    (read_page(view, middle - kPageSize) ? low : high) = middle;
  }
  close_view(view);
  *end = low;
  return true;
}

// Some memory is swapped out: the page cache alone does not tell what an object holds.
bool is_swap_in_use() {
  struct {
    long uptime;
    unsigned long loads[3], total_ram, free_ram, shared_ram, buffer_ram, total_swap, free_swap;
    char rest[64];
  } facts{};
  return sys::call(__NR_sysinfo, &facts).failed() || facts.total_swap != facts.free_swap;
}

bool keep_run(Collector* collector, const View& view, std::uint64_t begin, std::uint64_t end) {
  while (begin < end) {
    const std::uint64_t size = end - begin < kMaxRun ? end - begin : kMaxRun;
    std::uint8_t* data = add_piece(collector, begin, size);
    if (data == nullptr) return false;
    const auto count = sys::pread_all(view.memory_fd, data, size, view.begin + (begin - view.offset));
    if (count.failed() || static_cast<std::uint64_t>(count.value()) != size) return false;
    begin += size;
  }
  return true;
}

// Every run of pages that are there; all of them, if nobody can tell.
bool keep_view(Collector* collector, const View& view, bool is_cache_complete) {
  constexpr std::uint64_t kChunk = 4096;  // pages
  std::uint8_t is_there[kChunk];
  const std::uint64_t view_end = view.offset + view.size;
  std::uint64_t run = view_end;  // its begin; at the end: none
  for (std::uint64_t at = view.offset; at < view_end;) {
    const std::uint64_t pages = (view_end - at) / kPageSize < kChunk ? (view_end - at) / kPageSize : kChunk;
    const std::uint64_t address = view.begin + (at - view.offset);
    const bool is_told = is_cache_complete && !sys::call(__NR_mincore, address, pages * kPageSize, is_there).failed();
    for (std::uint64_t i = 0; i < pages; ++i, at += kPageSize) {
      const bool is_wanted = !is_told || (is_there[i] & 1U) != 0;
      if (is_wanted && run == view_end) run = at;
      if (is_wanted || run == view_end) continue;
      if (!keep_run(collector, view, run, at)) return false;
      run = view_end;
    }
  }
  return run == view_end || keep_run(collector, view, run, view_end);
}

bool keep_mapped(Collector* collector, const CollectedObject& object, std::uint64_t* size, std::uint32_t* content) {
  const sys::Fd memory(sys::open("/proc/self/mem", O_RDONLY));
  if (!memory.is_open()) return false;
  const unsigned first = collector->piece_count;
  View view{0, 0, 0, memory.get()};
  if (!find_end(object, object.offset, memory.get(), size)) return false;
  if (*size > object.offset) {
    if (!open_view(object, *size, &view)) return false;
    const bool is_shmem = object.kind != ObjectKind::kDeleted || is_in_memory_file_system(object.path);
    const bool is_kept = keep_view(collector, view, is_shmem && !is_swap_in_use());
    close_view(view);
    if (!is_kept) return false;
  }
  FileFacts facts{};
  facts.device = object.device;
  facts.inode = object.inode;
  *content = add_content(collector, facts, *size, first);
  return *content != 0;
}

// The program's descriptor that leads to the object, for a file that has lost its name.
int find_descriptor(const CollectedObject& object) {
  char buffer[1024];
  sys::NumberDirectory descriptors("/proc/self/fd", buffer);
  for (int fd = descriptors.next(); fd >= 0; fd = descriptors.next()) {
    FileFacts facts{};
    if (!read_facts(fd, "", &facts).failed() && facts.inode == object.inode && facts.device == object.device) return fd;
  }
  return -1;
}

// A descriptor of our own to read from; not open: there is none.
sys::Fd open_object(const CollectedObject& object) {
  if (object.kind == ObjectKind::kNamed) return sys::Fd(sys::open(object.path, O_RDONLY));
  if (object.kind == ObjectKind::kAnonymous) return sys::Fd();
  const int fd = object.fd >= 0 ? object.fd : find_descriptor(object);
  if (fd < 0) return sys::Fd();
  sys::Text<64> path;
  path.add("/proc/self/fd/").add_signed(fd);
  return sys::Fd(sys::open(path.c_str(), O_RDONLY));
}

// Size of the pages of a file in the reserved pool; 0: it is elsewhere.
std::uint64_t page_size_of_pool(int fd) {
  constexpr long kHugeTlb = 0x958458f6;
  long status[16]{};  // struct statfs; f_type comes first, then f_bsize
  const bool is_of_pool = !sys::call(__NR_fstatfs, fd, status).failed() && status[0] == kHugeTlb;
  return is_of_pool ? static_cast<std::uint64_t>(status[1]) : 0;
}

// Through its descriptor. One member of the job keeps what is in it.
bool keep_open(Collector* collector, std::uint32_t number, int fd, const FileFacts& status, format::MemoryObjectRecord* facts) {
  facts->size = status.size;
  facts->mode = status.mode & 07777U;
  const auto seals = sys::call(__NR_fcntl, fd, kGetSeals);
  facts->seals = seals.failed() || facts->kind != ObjectKind::kMemoryFile ? 0 : static_cast<std::uint32_t>(seals.value());
  if (!claim_file(collector, facts->device, facts->inode)) return true;
  const bool is_huge = facts->page_shift != 0;
  facts->content = is_huge ? keep_huge_object(collector, number, fd, status) : keep_file(collector, fd, status);
  return facts->content != 0;
}

// Of the reserved pool, and without a descriptor, as MAP_SHARED | MAP_HUGETLB is: more than what is mapped can't be told.
bool keep_mapped_huge(Collector* collector, std::uint32_t number, format::MemoryObjectRecord* facts) {
  FileFacts all{};
  all.device = facts->device;
  all.inode = facts->inode;
  all.size = facts->size = collector->objects[number].end;
  facts->content = keep_huge_object(collector, number, -1, all);
  return facts->content != 0;
}

bool collect_object(Collector* collector, std::uint32_t number) {
  const CollectedObject& object = collector->objects[number];
  if (object.kind == ObjectKind::kSegment) return collect_segment(collector, object);
  format::MemoryObjectRecord facts{object.device, object.inode, 0, object.kind, 0, 0600, 0, 0, 0};
  const sys::Fd fd = open_object(object);
  const std::uint64_t page_size = fd.is_open() ? page_size_of_pool(fd.get()) : object.page_size;
  if (page_size != 0 && object.kind != ObjectKind::kMemoryFile)
    return refuse_object(collector, object, "a file of the reserved pool of huge pages can't be saved");
  if (page_size != 0) facts.page_shift = static_cast<std::uint32_t>(__builtin_ctzll(page_size));
  FileFacts status{};
  if (fd.is_open() && !read_facts(fd.get(), "", &status).failed() && status.inode == object.inode) {
    if (!keep_open(collector, number, fd.get(), status, &facts))
      return refuse_object(collector, object, "it can't be read, or there is no memory to copy it");
  } else if (object.address == 0 || !(page_size != 0 ? keep_mapped_huge(collector, number, &facts)
                                                     : keep_mapped(collector, object, &facts.size, &facts.content))) {
    return refuse_object(collector, object, "this shared memory can't be read, or there is no memory to copy it");
  }
  const char* path = object.path;
  facts.path_size = static_cast<std::uint32_t>(strlen(path) + 1);
  auto* record = collector->add_record<format::MemoryObjectRecord>(format::RecordType::kMemoryObject, facts.path_size, path);
  if (record != nullptr) *record = facts;
  return true;
}

// A file that is written through memory goes back with it, unless it is too large: then it must not have changed. Nobody sees a
// write to a page that is dirty already, so none may be.
void keep_written_file(Collector* collector, CollectedFile* file) {
  if (!file->is_written || is_saved(*collector, file->path)) return;
  const sys::Fd fd(sys::open(file->path, O_RDONLY));
  FileFacts facts{};
  if (!fd.is_open() || read_facts(fd.get(), "", &facts).failed() || facts.inode != file->record->inode) return;
  if (facts.size <= kMaxKeptFile) file->record->content_record = keep_file(collector, fd.get(), facts);
  if (file->record->content_record != 0) return;
  sys::call(__NR_fsync, fd.get()).ignore();
  await_other_time(facts.modified_ns);
}

bool collect_objects(Collector* collector, void*) {
  for (unsigned i = 0; i < collector->file_count; ++i) keep_written_file(collector, &collector->files[i]);
  for (unsigned i = 0; i < collector->object_count; ++i) {
    if (!collect_object(collector, i)) return false;
  }
  return true;
}

}  // namespace

std::uint32_t memory_object(Collector* collector, std::uint64_t device, std::uint64_t inode, ObjectKind kind, const char* path) {
  for (std::uint32_t i = 0; i < collector->object_count; ++i) {
    if (collector->objects[i].inode == inode && collector->objects[i].device == device) return i;
  }
  if (collector->object_count == kMaxMemoryObjects) return kNoObject;
  const std::size_t size = strlen(path) + 1;
  auto* copy = collector->arena->take_array<char>(size);
  if (copy == nullptr) return kNoObject;
  memcpy(copy, path, size);
  collector->objects[collector->object_count] = {device, inode, kind, copy, -1, 0, 0, 0, 0};
  return collector->object_count++;
}

bool keep_shared_memory(Collector* collector, std::uint64_t address, std::uint64_t offset, std::uint64_t size) {
  const sys::Fd memory(sys::open("/proc/self/mem", O_RDONLY));
  return memory.is_open() && keep_view(collector, {address, offset, size, memory.get()}, !is_swap_in_use());
}

void note_mapping(CollectedObject* object, std::uint64_t address, std::uint64_t offset, std::uint64_t size) {
  if (object->address == 0 || offset < object->offset) {
    object->address = address;
    object->offset = offset;
  }
  if (offset + size > object->end) object->end = offset + size;
}

bool is_in_memory_file_system(const char* path) {
  char folder[format::kPathBytes];
  sys::copy_text(folder, sizeof(folder), path);
  char* end = folder;
  for (char* at = folder; *at != '\0'; ++at) {
    if (*at == '/') end = at;
  }
  *end = '\0';
  long status[16]{};  // struct statfs; f_type comes first
  if (sys::call(__NR_statfs, folder[0] == '\0' ? "/" : folder, status).failed()) return false;
  return status[0] == kTmpfs || status[0] == kRamfs;
}

bool collect_memfd(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord*, Buffer* state) {
  format::MemFdState value{};
  value.object =
      memory_object(collector, descriptor.facts.device, descriptor.facts.inode, ObjectKind::kMemoryFile, descriptor.path);
  if (value.object == kNoObject) {
    refuse_descriptor(collector, descriptor).add("there are too many memory files");
    return false;
  }
  collector->objects[value.object].fd = descriptor.fd;
  state->add(&value, sizeof(value));
  return true;
}

// Apart: where a file is opened and closed that the program has locked, its locks would go (fcntl_locking(2)).
bool collect_memory_objects(Collector* collector) {
  bool is_needed = collector->object_count > 0;
  for (unsigned i = 0; i < collector->file_count; ++i) is_needed |= collector->files[i].is_written;
  if (!is_needed || collector->apart(collector, collect_objects, nullptr)) return true;
  if (collector->code == 0) collector->refuse(kCodeFailed).add("no process could be made that reads its shared memory");
  return false;
}

}  // namespace ckpt
