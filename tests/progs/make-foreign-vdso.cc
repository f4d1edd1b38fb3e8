// Test helper (hosted, links the common library): makes an image look as if another kernel had taken it. Its vdso gets another
// build number, and with a second argument "poisoned" traps in place of all its functions, so that none of them can be used as it
// is.
//
//   make-foreign-vdso PATH [poisoned]     the image must not be compressed
#include <elf.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "lib/common/error.h"
#include "lib/common/hash.h"
#include "lib/common/image-reader.h"

namespace {

using namespace ckpt;
using Bytes = std::vector<std::byte>;

void write_at(int fd, const void* data, std::size_t size, std::uint64_t offset) {
  if (pwrite(fd, data, size, static_cast<off_t>(offset)) != static_cast<ssize_t>(size))
    throw Error::plain("cannot write", ExitCode::kFailed);
}

template <typename T>
T* at(Bytes& bytes, std::uint64_t offset) {
  if (offset + sizeof(T) > bytes.size()) throw Error::plain("the vdso is cut", ExitCode::kFailed);
  return reinterpret_cast<T*>(bytes.data() + offset);
}

void poison(Bytes& vdso, const Elf64_Shdr& section) {
  for (std::uint64_t i = 0; i < section.sh_size / sizeof(Elf64_Sym); ++i) {
    const auto* symbol = at<Elf64_Sym>(vdso, section.sh_offset + i * sizeof(Elf64_Sym));
    if (ELF64_ST_TYPE(symbol->st_info) == STT_FUNC) std::memset(at<std::byte>(vdso, symbol->st_value), 0xcc, symbol->st_size);
  }
}

void change(Bytes& vdso, bool is_poisoned) {
  const auto header = *at<Elf64_Ehdr>(vdso, 0);
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    const auto section = *at<Elf64_Shdr>(vdso, header.e_shoff + i * sizeof(Elf64_Shdr));
    if (section.sh_type == SHT_NOTE) *at<std::byte>(vdso, section.sh_offset + section.sh_size - 1) ^= std::byte{0xff};
    if (section.sh_type == SHT_DYNSYM && is_poisoned) poison(vdso, section);
  }
}

// The vdso's pages lie one behind the other in one frame, or the image is no use to us.
void change_image(const std::string& path, bool is_poisoned) {
  const Image image = Image::open(path);
  const auto& process = image.job().processes.at(0);
  std::uint64_t start = 0;
  std::uint64_t size = 0;
  for (const Area& area : process.areas) {
    if (area.record.kind == format::AreaKind::kVdso) start = area.record.start, size = area.record.end - start;
  }
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  Bytes vdso(size);
  std::vector<format::Frame> frames = image.job().frames;
  for (const auto& extent : process.extents) {
    if (extent.start < start || extent.start >= start + size || extent.kind != format::PageKind::kHere) continue;
    const auto frame = image.read_frame(extent.frame);
    std::memcpy(vdso.data() + (extent.start - start), frame.data() + extent.frame_offset, extent.pages * format::kPageSize);
  }
  change(vdso, is_poisoned);
  for (const auto& extent : process.extents) {
    if (extent.start < start || extent.start >= start + size || extent.kind != format::PageKind::kHere) continue;
    auto& frame = frames.at(extent.frame);
    if (frame.codec != format::Codec::kNone) throw Error::plain("the image is compressed", ExitCode::kFailed);
    write_at(fd, vdso.data() + (extent.start - start), extent.pages * format::kPageSize, frame.offset + extent.frame_offset);
    Bytes stored(frame.stored_size);
    read_exactly(fd, frame.offset, stored, path);
    frame.hash = hash_bytes(stored);
  }
  auto header = image.job().header;
  Bytes index(header.index.stored_size);
  read_exactly(fd, header.index.offset, index, path);
  for (std::size_t position = 0; position < index.size();) {
    const auto record = *at<format::RecordHeader>(index, position);
    position += sizeof(record);
    if (record.type == static_cast<std::uint16_t>(format::RecordType::kFrames))
      std::memcpy(index.data() + position, frames.data(), frames.size() * sizeof(format::Frame));
    position += format::align_up(record.length, 8);
  }
  header.index.hash = hash_bytes(index);
  header.header_hash = {};
  header.header_hash = hash_bytes(std::as_bytes(std::span(&header, 1)));
  write_at(fd, index.data(), index.size(), header.index.offset);
  write_at(fd, &header, sizeof(header), 0);
  close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc < 2) return 2;
    change_image(argv[1], argc > 2 && std::string(argv[2]) == "poisoned");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
