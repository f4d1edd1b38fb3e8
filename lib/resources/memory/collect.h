// What the parts of collecting memory share.
#pragma once

#include "lib/resources/collector.h"

namespace ckpt {

inline constexpr std::uint32_t kNoObject = 0xffffffffU;

// Index of the memory object in the collector's list, added when new; kNoObject: there are too many. `path` must last.
std::uint32_t memory_object(Collector* collector, std::uint64_t device, std::uint64_t inode, format::ObjectKind kind,
                            const char* path);

// Notes that an area maps `size` bytes of the object from `offset` on.
void note_mapping(CollectedObject* object, std::uint64_t address, std::uint64_t offset, std::uint64_t size);

// Private mappings of what has no name: noted while areas are listed, settled when all are known.
void note_gone_mapping(Collector* collector, const GoneMapping& mapping);
void settle_gone_mappings(Collector* collector);

enum class FlagsOutcome {
  kDone,
  kRefused,
  kMustStand,  // some area is not here, or not as it was: the program has to stand while its flags are read
};

// Flags of all areas, from smaps. `probe`: a page of ours that tells whether new memory is locked; 0: none. In the writer, too.
FlagsOutcome read_area_flags(Collector* collector, std::uint64_t probe);

// … while everything stands, if a fork would lose some of them; with copies of what it would leave out.
bool collect_area_flags(Collector* collector);

// Copies what is there of `size` bytes of shared memory at the address, `offset` within the object, as pieces of a content.
bool keep_shared_memory(Collector* collector, std::uint64_t address, std::uint64_t offset, std::uint64_t size);

// The bytes of an object of the reserved pool, by its descriptor or (−1) by what is mapped of it. As keep_file().
std::uint32_t keep_huge_object(Collector* collector, std::uint32_t object, int fd, const FileFacts& facts);

// A ring of Linux AIO. False: refused by name, for the moment if requests are in flight.
bool collect_aio_ring(Collector* collector, std::uint64_t begin, std::uint64_t end);

// An object of kind kSegment (lib/resources/sysv).
bool collect_segment(Collector* collector, const CollectedObject& object);

// Whether the path, or the folder of it if it is gone, is in a file system that keeps its files in memory alone.
bool is_in_memory_file_system(const char* path);

}  // namespace ckpt
