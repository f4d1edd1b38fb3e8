// The writer's files: executables and libraries by content, deleted files, ends of logs, and what smaps knows of areas.
#include <linux/fs.h>

#include "lib/runtime/writer.h"
#include "lib/sys/hash.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using format::AreaRecord;
using Path = sys::Text<format::kPathBytes>;

constexpr std::size_t kCopyBytes = format::kMaxFrameSize;

// Hashes a file, and stores its bytes on the way, if `to` ≥ 0. Returns the error of reading or writing; 0: none.
int read_through(int from, int to, std::uint8_t* buffer, format::Hash128* hash) {
  sys::Hasher hasher;
  for (std::uint64_t offset = 0;;) {
    const auto count = sys::pread_all(from, buffer, kCopyBytes, offset);
    if (count.failed()) return count.error();
    const auto size = static_cast<std::size_t>(count.value());
    if (size == 0) break;
    hasher.add(buffer, size);
    if (to >= 0) {
      const auto written = sys::pwrite_all(to, buffer, size, offset);
      if (written.failed()) return written.error();
    }
    offset += size;
  }
  *hash = hasher.finish();
  return 0;
}

// Copies the file to files/<hash> unless it is there. Data that is already in the store is not written again.
bool keep_in_store(Collector* collector, int from, const char* store, const format::Hash128& hash, std::uint8_t* buffer) {
  Path path;
  path.add(store).add("/files");
  sys::call(__NR_mkdir, path.c_str(), 0700).ignore();
  path.add_char('/').add_hex(hash.high, 16).add_hex(hash.low, 16);
  FileFacts facts{};
  if (!read_facts(AT_FDCWD, path.c_str(), &facts).failed()) return true;
  Path temporary;
  temporary.add(path.c_str()).add(".tmp-").add_signed(sys::getpid()).add_char('-').add(g_state.control->settings.job_name);
  sys::call(__NR_unlinkat, AT_FDCWD, temporary.c_str(), 0).ignore();  // of a writer of ours that was killed
  const auto opened = sys::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (opened.failed()) return refuse_io(collector, "create", temporary.c_str(), opened.error());
  const sys::Fd to(opened);
  format::Hash128 written{};
  int error = read_through(from, to.get(), buffer, &written);
  if (error == 0 && !(written == hash)) error = sys::kEio;  // changed while it was read
  if (error == 0) error = sys::call(__NR_fsync, to.get()).error();
  if (error == 0) error = sys::call(__NR_renameat, AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str()).error();
  if (error == 0) return true;
  sys::call(__NR_unlinkat, AT_FDCWD, temporary.c_str(), 0).ignore();
  return refuse_io(collector, "store a copy as", path.c_str(), error);
}

struct ContentWriter {
  Collector* collector;
  Output* output;
  FrameTools tools;
  format::FileContentRecord record;
  format::ContentExtent* extents;
};

// Room for `frames` frames of a file of `size` bytes.
bool begin_content(ContentWriter* writer, std::uint64_t size, std::size_t frames) {
  writer->record = {size, 0};
  const auto room = sys::map(0, (frames + 1) * sizeof(format::ContentExtent), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  writer->extents = room.failed() ? nullptr : reinterpret_cast<format::ContentExtent*>(room.value());
  return writer->extents != nullptr;
}

bool add_content(ContentWriter* writer, const std::uint8_t* data, std::uint32_t size, std::uint64_t offset) {
  const Piece piece{data, size};
  std::uint32_t frame = 0;
  if (!write_frame(writer->output, writer->tools, &piece, 1, size, &frame)) return false;
  writer->extents[writer->record.extent_count++] = {offset, size, frame, 0, 0};
  return true;
}

void end_content(ContentWriter* writer) {
  auto* record = writer->collector->add_record<format::FileContentRecord>(
      format::RecordType::kFileContent, writer->record.extent_count * sizeof(format::ContentExtent), writer->extents);
  if (record != nullptr) *record = writer->record;
}

bool keep_in_image(ContentWriter* writer, int from, std::uint64_t size, std::uint8_t* buffer) {
  if (!begin_content(writer, size, size / kCopyBytes + 1)) return false;
  for (std::uint64_t offset = 0; offset < size;) {
    const auto count = sys::pread_all(from, buffer, kCopyBytes, offset);
    if (count.failed() || count.value() == 0) return false;
    if (!add_content(writer, buffer, static_cast<std::uint32_t>(count.value()), offset)) return false;
    offset += static_cast<std::uint64_t>(count.value());
  }
  end_content(writer);
  return true;
}

}  // namespace

namespace {

bool write_piece(ContentWriter* writer, const KeptPiece& piece) {
  for (std::uint64_t done = 0; done < piece.size; done += format::kMaxFrameSize) {
    const std::uint64_t left = piece.size - done;
    const auto size = static_cast<std::uint32_t>(left < format::kMaxFrameSize ? left : format::kMaxFrameSize);
    if (!add_content(writer, piece.data + done, size, piece.offset + done)) return false;
  }
  return true;
}

}  // namespace

bool write_contents(Collector* collector, Output* output) {
  ContentWriter writer{collector, output, {}, {}, nullptr};
  if (collector->content_count > 0 && !make_tools(*output, &writer.tools))
    return refuse_io(collector, "write files into", output->path, sys::kEnomem);
  for (unsigned i = 0; i < collector->content_count; ++i) {
    const KeptContent& content = collector->contents[i];
    std::size_t frames = 0;
    for (unsigned p = 0; p < content.piece_count; ++p)
      frames += collector->pieces[content.first_piece + p].size / format::kMaxFrameSize + 1;
    if (!begin_content(&writer, content.size, frames)) return refuse_io(collector, "write files into", output->path, sys::kEnomem);
    for (unsigned p = 0; p < content.piece_count; ++p) {
      if (!write_piece(&writer, collector->pieces[content.first_piece + p]))
        return refuse_io(collector, "write files into", output->path, output->error);
    }
    end_content(&writer);
  }
  return true;
}

bool write_mapped_files(Collector* collector, Output* output, const char* store) {
  ContentWriter writer{collector, output, {}, {}, nullptr};
  const auto room = sys::map(0, kCopyBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  if (room.failed() || !make_tools(*output, &writer.tools))
    return refuse_io(collector, "write files into", output->path, sys::kEnomem);
  auto* buffer = reinterpret_cast<std::uint8_t*>(room.value());
  for (unsigned i = 0; i < collector->file_count; ++i) {
    const CollectedFile& file = collector->files[i];
    if (!file.is_library) continue;
    const sys::Fd from(sys::open(file.path, O_RDONLY));
    FileFacts facts{};
    // Replaced or unreadable just now: it is known by its identity alone.
    if (!from.is_open() || read_facts(from.get(), "", &facts).failed() || facts.inode != file.record->inode) continue;
    format::Hash128 hash{};
    if (read_through(from.get(), -1, buffer, &hash) != 0) continue;
    if (store != nullptr) {
      if (!keep_in_store(collector, from.get(), store, hash, buffer)) return false;
    } else {
      if (!keep_in_image(&writer, from.get(), facts.size, buffer)) return refuse_io(collector, "save", file.path, output->error);
      file.record->content_record = ++collector->content_count;
    }
    file.record->content = hash;
  }
  return true;
}

namespace {

// Bytes from `at` to the end that the file had at the freeze. False: they can't be read.
bool hash_tail(int fd, std::uint64_t at, std::uint64_t end, std::uint8_t* buffer, format::Hash128* hash) {
  sys::Hasher hasher;
  while (at < end) {
    const std::uint64_t size = end - at < kCopyBytes ? end - at : kCopyBytes;
    const auto count = sys::pread_all(fd, buffer, size, at);
    if (count.failed() || static_cast<std::uint64_t>(count.value()) != size) return false;
    hasher.add(buffer, size);
    at += size;
  }
  *hash = hasher.finish();
  return true;
}

// Overwritten since the freeze: what was hashed is too new.
bool was_overwritten(int fd, const format::DescriptionRecord& record) {
  FileFacts facts{};
  if (read_facts(fd, "", &facts).failed() || facts.inode != record.inode) return true;
  return facts.size < record.size || (facts.size == record.size && facts.modified_ns != record.modified_ns);
}

}  // namespace

void hash_tails(Collector* collector) {
  constexpr std::uint64_t kMib = 1U << 20;
  std::uint64_t left = 1024;  // MiB in all; then the last one of each file must do
  const auto room = sys::map(0, kCopyBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  if (room.failed()) return;
  auto* buffer = reinterpret_cast<std::uint8_t*>(room.value());
  for (unsigned i = 0; i < collector->tail_count; ++i) {
    format::DescriptionRecord* record = collector->tails[i];
    const sys::Fd file(sys::open(collector->tail_paths[i], O_RDONLY));
    const std::uint64_t all = record->size / kMib + 1;
    const std::uint64_t wanted = all < format::kMaxTailMib ? all : format::kMaxTailMib;
    const std::uint32_t mib = wanted <= left ? format::kMaxTailMib : 1;
    const std::uint64_t begin = record->size > mib * kMib ? record->size - mib * kMib : 0;
    if (!file.is_open() || !hash_tail(file.get(), begin, record->size, buffer, &record->tail_hash)) continue;
    if (was_overwritten(file.get(), *record)) continue;
    record->tail_mib = mib;
    if (mib != 1) left -= wanted;
  }
}

}  // namespace ckpt
