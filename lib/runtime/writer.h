// The writer: a child with the program's memory as it stood, alone with itself. Its parts, in the order of the work.
#pragma once

#include "lib/resources/process/record.h"
#include "lib/runtime/checkpoint.h"
#include "lib/sys/arena.h"

namespace ckpt {

// Where data goes. Shared by the writer's threads: offsets and frame numbers are handed out by atomic addition.
struct Output {
  int fd = -1;
  const char* path = nullptr;            // of the image to be, for messages
  std::uint64_t* next_offset = nullptr;  // these are shared with the writers of the job's other processes
  std::uint32_t* frame_count = nullptr;
  std::uint64_t* memory_bytes = nullptr;  // raw bytes in frames
  std::uint32_t frame_capacity = 0;
  format::Frame* frames = nullptr;
  format::Codec codec = format::Codec::kNone;
  int level = 0;
  int error = 0;  // the first failure of any thread
  struct {
    std::uint64_t next_offset = format::kPageSize;
    std::uint32_t frame_count = 0;
    std::uint64_t memory_bytes = 0;
  } own;  // where the process is alone
};

// Compresses (or not) and writes one frame; false: output->error is set. `scratch` and `memory` are of the calling thread.
struct FrameTools {
  std::uint8_t* packed;  // kMaxFrameSize bytes
  void* memory;
  std::size_t memory_size;
};
bool make_tools(const Output& output, FrameTools* tools);
struct Piece {
  const std::uint8_t* data;
  std::uint32_t size;
};
bool write_frame(Output* output, const FrameTools& tools, const Piece* pieces, unsigned piece_count, std::uint32_t raw_size,
                 std::uint32_t* frame);

// Flags from smaps, and memory that a fork leaves out: false with collector->message.
bool complete_areas(Snapshot* snapshot);
// The same request once more, with all threads standing while smaps is read (must_stand_for_flags): a fork has lost something that
// only smaps tells. In the writer that holds the lock.
[[noreturn]] void ask_again(int lock_fd);

// Pages, contents of files, libraries: everything but the index. The output is prepared and open.
// `is_contained`: with the bytes of executables and libraries.
bool write_data(Collector* collector, Output* output, bool is_contained);

// All pages of all areas: frames to the file, the kExtents record to the index.
bool write_pages(Collector* collector, Output* output);

// Executables and libraries into the store or the image, and contents of deleted files.
bool write_mapped_files(Collector* collector, Output* output, const char* store);
bool write_contents(Collector* collector, Output* output);
void hash_tails(Collector* collector);

// Names: where the image goes.
struct Place {
  sys::Text<format::kPathBytes> folder;
  sys::Text<format::kPathBytes> final_path;
  sys::Text<format::kPathBytes> temporary;
  std::uint32_t generation = 0;
  bool is_single_file = false;  // -o FILE: no generations, no `latest`
};
bool choose_place(Collector* collector, Place* place);
int open_temporary(Collector* collector, const Place& place);
// fsync, rename, fsync of the folder, `latest`, old generations.
bool commit(Collector* collector, const Place& place, int fd);
// There will be no image.
void discard(const Place& place);

bool is_contained(const Place& place);

// Where frames are noted and offsets counted: alone, or in the session.
bool prepare_output(Collector* collector, Output* output);
// The first record of the index, at its start.
format::JobRecord* job_record(const Collector& collector);
// The index is in the file: writes the header, and the image is whole but for the commit.
bool finish_image(Snapshot* snapshot, Output* output, const Place& place, std::uint64_t offset, std::uint64_t size,
                  const format::Hash128& hash);
// What the trigger is told.
void note_result(const Snapshot& snapshot, const Place& place);

// The writer's life where the job has several processes: their writers make one image together (writer-session.cc).
[[noreturn]] void write_with_others(Snapshot* snapshot);

// A failure of the file system, as the request's outcome.
bool refuse_io(Collector* collector, const char* action, const char* path, int error);

}  // namespace ckpt
