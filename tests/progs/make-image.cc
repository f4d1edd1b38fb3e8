// Test helper (hosted, links the common library): composes a small valid image without a runtime, and damages it systematically.
//
//   make-image new PATH PROGRAM PID SECONDS   an image of PROGRAM with that pid, taken SECONDS after 1970
//   make-image flip PATH      flips each byte of the file in turn; each flip must be found
//   make-image cut PATH       cuts the file at each length; each cut must be found
//   make-image hostile PATH   changes each byte of header and index in turn and makes all hashes right again: opening may succeed
//   or
//                             throw Error, nothing else
//   make-image with PATH FIELD NUMBER   sets a field of the header and makes the hashes right again: version, reader, arch,
//                             page-size, cpu: all features of that word, register-sets: that one as well, or other-layout: of that
//                             register set
//   make-image borders PATH   prints where frames, records and the index begin, and what is there
//
// Prints "ok" or the first place that was not found, and exits 0 or 1.
#include <fcntl.h>
#include <lz4.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "lib/common/error.h"
#include "lib/common/hash.h"
#include "lib/common/image-reader.h"

namespace {

using namespace ckpt;
using Bytes = std::vector<std::byte>;

constexpr std::uint64_t kPage = format::kPageSize;
constexpr std::uint64_t kCode = 0x555500000000;
constexpr std::uint64_t kHeap = 0x555500010000;
constexpr std::uint64_t kStack = 0x7ffd00000000;

void append(Bytes& to, const void* from, std::size_t size) {
  const auto* bytes = static_cast<const std::byte*>(from);
  to.insert(to.end(), bytes, bytes + size);
}

void append_text(Bytes& to, const std::string& text) { append(to, text.c_str(), text.size() + 1); }

template <std::size_t N>
void set_text(char (&to)[N], const std::string& text) {
  std::snprintf(to, N, "%s", text.c_str());
}

// The index under construction.
class Index {
 public:
  template <typename T>
  void add(format::RecordType type, const T& record, const Bytes& rest = {}) {
    Bytes payload;
    append(payload, &record, sizeof record);
    append(payload, rest.data(), rest.size());
    add_bytes(type, payload);
  }

  void add_bytes(format::RecordType type, const Bytes& payload) {
    const format::RecordHeader header{static_cast<std::uint16_t>(type), 1, static_cast<std::uint32_t>(payload.size())};
    append(bytes_, &header, sizeof header);
    append(bytes_, payload.data(), payload.size());
    bytes_.resize(format::align_up(bytes_.size(), 8));
  }

  const Bytes& bytes() const { return bytes_; }

 private:
  Bytes bytes_;
};

Bytes text_bytes(const std::string& text) {
  Bytes bytes;
  append_text(bytes, text);
  return bytes;
}

// The image under construction: a header page, then frames.
class Composer {
 public:
  Composer() : file_(kPage) {}

  void add_frame(const Bytes& raw, format::Codec codec) {
    const Bytes stored = encode(raw, codec);
    if (codec == format::Codec::kNone) file_.resize(format::align_up(file_.size(), kPage));
    frames_.push_back({file_.size(), static_cast<std::uint32_t>(stored.size()), static_cast<std::uint32_t>(raw.size()), codec, 0, 0,
                       0, hash_bytes(stored)});
    append(file_, stored.data(), stored.size());
  }

  const std::vector<format::Frame>& frames() const { return frames_; }

  Bytes finish(format::ImageHeader header, const Bytes& index) {
    header.index = {file_.size(),
                    static_cast<std::uint32_t>(index.size()),
                    static_cast<std::uint32_t>(index.size()),
                    format::Codec::kNone,
                    0,
                    0,
                    0,
                    hash_bytes(index)};
    append(file_, index.data(), index.size());
    header.file_size = file_.size();
    header.header_hash = {};
    header.header_hash = hash_bytes(std::as_bytes(std::span(&header, 1)));
    std::memcpy(file_.data(), &header, sizeof header);
    return file_;
  }

 private:
  static Bytes encode(const Bytes& raw, format::Codec codec) {
    Bytes stored(raw.size() + 1024);
    auto* to = reinterpret_cast<char*>(stored.data());
    const auto* from = reinterpret_cast<const char*>(raw.data());
    const auto size = static_cast<int>(raw.size());
    switch (codec) {
      case format::Codec::kNone:
        return raw;
      case format::Codec::kLz4:
        stored.resize(static_cast<std::size_t>(LZ4_compress_default(from, to, size, static_cast<int>(stored.size()))));
        return stored;
      case format::Codec::kZstd:
        stored.resize(ZSTD_compress(to, stored.size(), from, raw.size(), 3));
        return stored;
    }
    return raw;
  }

  Bytes file_;
  std::vector<format::Frame> frames_;
};

Bytes make_page(int seed) {
  Bytes page(kPage);
  for (std::size_t i = 0; i < page.size(); ++i) page[i] = static_cast<std::byte>((i / 64 + static_cast<std::size_t>(seed)) % 251);
  return page;
}

void add_memory(Index& index) {
  format::MemoryLayoutRecord layout{};
  layout.start_code = kCode;
  layout.end_code = kCode + kPage;
  layout.start_stack = kStack + 100;
  layout.auxv_size = 16;
  index.add(format::RecordType::kMemoryLayout, layout, Bytes(16));
  format::MappedFileRecord file{};
  file.path_size = 9;
  file.is_executable = 1;
  index.add(format::RecordType::kMappedFile, file, text_bytes("/bin/lab"));
  const auto add_area = [&](std::uint64_t start, std::uint64_t pages, std::uint32_t file_index, format::AreaKind kind,
                            std::uint8_t protection, const std::string& name) {
    format::AreaRecord area{};
    area.start = start;
    area.end = start + pages * kPage;
    area.file = file_index;
    area.kind = kind;
    area.protection = protection;
    area.name_size = static_cast<std::uint32_t>(name.size() + 1);
    index.add(format::RecordType::kArea, area, text_bytes(name));
  };
  add_area(kCode, 2, 0, format::AreaKind::kPrivateFile, PROT_READ | PROT_EXEC, "");
  add_area(kHeap, 3, format::kNoFile, format::AreaKind::kAnonymous, PROT_READ | PROT_WRITE, "[heap]");
  add_area(kStack, 1, format::kNoFile, format::AreaKind::kAnonymous, PROT_READ | PROT_WRITE, "[stack]");
  const std::vector<format::Extent> extents{{kCode, 2, format::PageKind::kFile, 0, 0},
                                            {kHeap, 1, format::PageKind::kHere, 0, 0},
                                            {kHeap + kPage, 1, format::PageKind::kZero, 0, 0},
                                            {kHeap + 2 * kPage, 1, format::PageKind::kHere, 1, 0},
                                            {kStack, 1, format::PageKind::kHere, 2, 0}};
  Bytes bytes;
  append(bytes, extents.data(), extents.size() * sizeof extents[0]);
  index.add_bytes(format::RecordType::kExtents, bytes);
}

void add_files(Index& index) {
  format::DescriptionRecord description{};
  description.id = 1;
  description.kind = format::DescriptionKind::kDeleted;
  description.status_flags = O_RDWR;
  description.content = 1;
  description.stream = -1;
  description.path_size = 9;
  Bytes path = text_bytes("/tmp/lab");
  path.resize(16);  // the state of a kind would begin at a multiple of 8
  index.add(format::RecordType::kDescription, description, path);
  index.add(format::RecordType::kDescriptor, format::DescriptorRecord{3, 1, 1, 0});
  const format::ContentExtent extent{0, 100, 2, 0, 8};
  Bytes bytes;
  append(bytes, &extent, sizeof extent);
  index.add(format::RecordType::kFileContent, format::FileContentRecord{200, 1}, bytes);
}

void add_threads(Index& index, int pid, const std::string& program) {
  format::ThreadRecord thread{};
  thread.tid = pid;
  thread.is_main = 1;
  thread.context = kStack + 512;
  set_text(thread.name, program);
  index.add(format::RecordType::kThread, thread);
  thread.tid = pid + 1;
  thread.is_main = 0;
  index.add(format::RecordType::kThread, thread);
  format::RuntimeRecord runtime{};
  runtime.resume_entry = kCode + 16;
  index.add(format::RecordType::kRuntime, runtime);
  index.add(format::RecordType::kSignalAction, format::SignalActionRecord{10, 0, kCode + 32, 0, 0, 0});
  format::PendingSignalRecord pending{};
  pending.info[0] = 10;
  index.add(format::RecordType::kPendingSignal, pending);
}

Bytes make_index(const Composer& composer, const std::string& program, int pid) {
  Index index;
  format::JobRecord job{};
  set_text(job.settings.directory, "/nowhere");
  set_text(job.settings.job_name, program);
  job.settings.keep = 2;
  job.settings.public_signal = 12;
  job.process_count = 1;
  index.add(format::RecordType::kJob, job);
  Bytes frames;
  append(frames, composer.frames().data(), composer.frames().size() * sizeof(format::Frame));
  index.add_bytes(format::RecordType::kFrames, frames);
  format::ProcessRecord process{};
  process.pid = pid;
  set_text(process.name, program);
  Bytes strings;
  for (const char* text : {"/tmp", "/", "/bin/lab", "lab"}) append_text(strings, text);
  const std::uint32_t sizes[4] = {5, 2, 9, 4};
  std::memcpy(process.string_sizes, sizes, sizeof sizes);
  index.add(format::RecordType::kProcess, process, strings);
  add_memory(index);
  add_threads(index, pid, program);
  add_files(index);
  index.add(format::RecordType::kIntervalTimer, format::IntervalTimerRecord{0, 0, 5, 5});
  index.add(format::RecordType::kClocks, format::ClocksRecord{1, 2, 3});
  index.add(format::RecordType::kLimit, format::LimitRecord{7, 0, 1024, 4096});
  return index.bytes();
}

Bytes make_image(const std::string& program, int pid, long seconds) {
  Composer composer;
  composer.add_frame(make_page(1), format::Codec::kNone);
  composer.add_frame(make_page(2), format::Codec::kLz4);
  composer.add_frame(make_page(3), format::Codec::kZstd);
  composer.add_frame(make_page(4), format::Codec::kNone);  // after compressed ones: leaves padding before it
  format::ImageHeader header{};
  std::memcpy(header.magic, format::kImageMagic, sizeof header.magic);
  header.format_version = format::kImageVersion;
  header.oldest_reader = format::kOldestReader;
  header.arch = format::kArchX86_64;
  header.page_size = kPage;
  header.image_id.bytes[0] = 0xab;
  header.job_id.bytes[0] = 0xcd;
  header.created_ns = seconds * 1'000'000'000L;
  header.pid = static_cast<std::uint32_t>(pid);
  header.process_count = 1;
  header.thread_count = 2;
  header.generation = 1;
  header.memory_bytes = 3 * kPage;
  set_text(header.host, "lab");
  set_text(header.kernel, "6.1");
  set_text(header.program, program);
  set_text(header.command, program + " --all");
  return composer.finish(header, make_index(composer, program, pid));
}

void write_file(const std::string& path, const Bytes& bytes) {
  const Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd.is_open() || write(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
    throw Error::from_errno("write", path, errno);
  }
}

Bytes read_file(const std::string& path) {
  const Fd fd = open_image_file(path);
  Bytes bytes(static_cast<std::size_t>(lseek(fd.get(), 0, SEEK_END)));
  read_exactly(fd.get(), 0, bytes, path);
  return bytes;
}

// Whether opening, checking and decoding throws an Error. Any other exception, or a crash, ends the test.
bool is_refused(const Bytes& bytes) {
  const int fd = memfd_create("image", MFD_CLOEXEC);
  if (fd < 0 || write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
    throw Error::from_errno("write", "memfd", errno);
  try {
    const Image image = Image::from_fd(Fd(fd), "memfd");
    image.verify_frames(1);
    for (std::size_t i = 0; i < image.job().frames.size(); ++i) image.read_frame(i);
    return false;
  } catch (const Error&) {
    return true;
  }
}

int report(const char* what, std::size_t place) {
  std::printf("%s %zu not found\n", what, place);
  return 1;
}

int flip_all(const Bytes& good) {
  if (is_refused(good)) return report("the undamaged image: flip", 0);
  Bytes bytes = good;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] ^= std::byte{1};
    if (!is_refused(bytes)) return report("flip", i);
    bytes[i] ^= std::byte{1};
  }
  return std::puts("ok") < 0;
}

int cut_all(const Bytes& good) {
  for (std::size_t size = 0; size < good.size(); ++size) {
    if (!is_refused(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)))) return report("cut", size);
  }
  return std::puts("ok") < 0;
}

void repair_hashes(Bytes& bytes) {
  format::ImageHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.index.offset <= bytes.size() && header.index.stored_size <= bytes.size() - header.index.offset) {
    header.index.hash = hash_bytes(std::span(bytes).subspan(header.index.offset, header.index.stored_size));
  }
  header.header_hash = {};
  header.header_hash = hash_bytes(std::as_bytes(std::span(&header, 1)));
  std::memcpy(bytes.data(), &header, sizeof header);
}

int try_hostile(const Bytes& good) {
  format::ImageHeader header;
  std::memcpy(&header, good.data(), sizeof header);
  std::size_t refused = 0;
  for (std::size_t i = 0; i < good.size(); ++i) {
    if (i == sizeof header) i = header.index.offset;
    for (const int value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      Bytes bytes = good;
      bytes[i] = static_cast<std::byte>(value);
      repair_hashes(bytes);
      refused += is_refused(bytes) ? 1 : 0;
    }
  }
  return refused > 1000 && std::puts("ok") >= 0 ? 0 : report("hostile", refused);
}

void set_field(const std::string& path, const std::string& field, std::uint32_t value) {
  Bytes bytes = read_file(path);
  format::ImageHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (field == "version") header.format_version = value;
  if (field == "reader") header.format_version = header.oldest_reader = value;
  if (field == "arch") header.arch = value;
  if (field == "page-size") header.page_size = value;
  if (field == "register-sets") header.cpu.xcr0 |= 1ULL << value;
  if (field == "other-layout") header.cpu.components[value % std::size(header.cpu.components)].offset += 64;
  if (field == "cpu") header.cpu.features[value % std::size(header.cpu.features)] = ~0U;
  std::memcpy(bytes.data(), &header, sizeof header);
  repair_hashes(bytes);
  write_file(path, bytes);
}

void print_borders(const std::string& path) {
  const Image image = Image::open(path);
  const format::Frame& index = image.job().header.index;
  for (const auto& frame : image.job().frames) std::printf("%llu frame\n", static_cast<unsigned long long>(frame.offset));
  const Bytes bytes = read_file(path);
  for (std::uint64_t at = index.offset; at < index.offset + index.stored_size;) {
    format::RecordHeader header;
    std::memcpy(&header, bytes.data() + at, sizeof header);
    std::printf("%llu record\n", static_cast<unsigned long long>(at));
    at += sizeof header + format::align_up(header.length, 8);
  }
}

int run(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "new" && argc == 6) {
    write_file(argv[2], make_image(argv[3], std::atoi(argv[4]), std::atol(argv[5])));
    return 0;
  }
  if (mode == "flip" && argc == 3) return flip_all(read_file(argv[2]));
  if (mode == "cut" && argc == 3) return cut_all(read_file(argv[2]));
  if (mode == "hostile" && argc == 3) return try_hostile(read_file(argv[2]));
  if (mode == "with" && argc == 5) {
    set_field(argv[2], argv[3], static_cast<std::uint32_t>(std::strtoul(argv[4], nullptr, 0)));
    return 0;
  }
  if (mode == "borders" && argc == 3) {
    print_borders(argv[2]);
    return 0;
  }
  throw UsageError("see the top of make-image.cc");
}

}  // namespace

int main(int argc, char** argv) { return run_main("make-image", argc, argv, run); }
