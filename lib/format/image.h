// What an image file (*.ckpt) holds: header, frames, index.
//
// Shared by both worlds: the runtime writes it inside the program, the commands read it. Plain structs, fixed width, little endian,
// no pointers. docs/architecture.md shows the file byte by byte; ckpt-image(5) tells users.
//
//   0               ImageHeader, one page; written last, so that a file without it is no image
//   4096 …          frames: data, each with a codec and a hash; uncompressed frames start on a page border
//   index_offset …  index: a run of records (RecordHeader + payload), itself one frame
//
// Whatever a reader does not know, it must refuse: `oldest_reader` in the header and the version in each record say what it needs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace ckpt::format {

inline constexpr char kImageMagic[8] = {'C', 'K', 'P', 'T', 'I', 'M', 'G', '\n'};
inline constexpr std::uint32_t kImageVersion = 1;
inline constexpr std::uint32_t kOldestReader = 1;
inline constexpr std::uint32_t kArchX86_64 = 62;  // EM_X86_64
inline constexpr std::uint64_t kPageSize = 4096;
inline constexpr std::uint32_t kMaxXstateComponents = 32;

// XXH3, 128 bits, as stored.
struct Hash128 {
  std::uint64_t low;
  std::uint64_t high;
  friend constexpr bool operator==(const Hash128&, const Hash128&) = default;
};

struct Id128 {
  std::uint8_t bytes[16];
  friend constexpr bool operator==(const Id128&, const Id128&) = default;
};

enum class Codec : std::uint8_t { kNone = 0, kLz4 = 1, kZstd = 2 };

// One independent piece of data. `hash` covers the stored bytes.
struct Frame {
  std::uint64_t offset;       // in the file
  std::uint32_t stored_size;  // bytes in the file
  std::uint32_t raw_size;     // bytes after decoding
  Codec codec;
  std::uint8_t transform;  // 0: none; later encryption
  std::uint16_t reserved;
  std::uint32_t key_id;  // 0; of the transform
  Hash128 hash;
};
static_assert(sizeof(Frame) == 40);
inline constexpr std::uint32_t kMaxFrameSize = 1U << 20;  // raw bytes; a frame larger than this is damage

// Layout of one component of the xsave area (CPUID leaf 0xD, sub-leaf i).
struct XstateComponent {
  std::uint32_t size;
  std::uint32_t offset;
  std::uint32_t flags;
};

// The CPU an image was taken on: what the program may have found out about it, and how its register frames are laid out.
struct CpuRecord {
  std::uint32_t vendor[3];
  std::uint32_t signature;     // CPUID 1 eax: family, model, stepping
  std::uint32_t features[12];  // CPUID 1 ecx edx, 7.0 ebx ecx edx, 7.1 eax, 0xD.1 eax, 0x80000001 ecx edx, 0x80000008 ebx, 0, 0
  std::uint64_t xcr0;          // components the kernel has enabled
  std::uint32_t xsave_size;    // bytes of the standard layout for xcr0
  std::uint32_t reserved;
  XstateComponent components[kMaxXstateComponents];
};
static_assert(sizeof(CpuRecord) == 464);

struct ImageHeader {
  char magic[8];
  std::uint32_t format_version;
  std::uint32_t oldest_reader;
  std::uint32_t arch;
  std::uint32_t page_size;
  Id128 image_id;
  Id128 parent_id;  // zero: a full image
  Id128 job_id;
  Id128 set_id;  // zero; later: jobs over several hosts are member `set_index` of `set_count`
  std::uint32_t set_index;
  std::uint32_t set_count;
  std::uint64_t file_size;  // a shorter file is truncated
  Frame index;              // where the index is, and its hash
  std::int64_t created_ns;  // CLOCK_REALTIME at the freeze
  std::uint32_t pid;        // of the job's root, as it saw itself
  std::uint32_t process_count;
  std::uint32_t thread_count;
  std::uint32_t generation;
  std::uint64_t memory_bytes;  // bytes of pages that are here, before compression
  Codec codec;                 // the one asked for
  std::uint8_t reserved[7];
  char host[64];
  char kernel[64];
  char program[256];   // as `ps` shows it (comm)
  char command[1024];  // argv joined by spaces, cut to fit, for listings only
  CpuRecord cpu;
  std::uint8_t padding[2024];
  Hash128 header_hash;  // over the page, this field zero
};
static_assert(sizeof(ImageHeader) == kPageSize);
static_assert(std::is_trivially_copyable_v<ImageHeader>);

// A record of the index. Payload follows, padded with zeros to 8 bytes; `length` counts the payload without padding.
struct RecordHeader {
  std::uint16_t type;  // RecordType
  std::uint16_t version;
  std::uint32_t length;
};
static_assert(sizeof(RecordHeader) == 8);

// One value a kind of record. kProcess opens a process: all records up to the next kProcess belong to it.
// Values are for ever; the structs stand in lib/resources/<kind>/record.h.
enum class RecordType : std::uint16_t {
  kJob = 1,                 // process: JobRecord, first in the index
  kFrames = 2,              // Frame[]: every frame of the file but the index
  kProcess = 3,             // process: ProcessRecord + strings
  kMemoryLayout = 4,        // memory: MemoryLayoutRecord + auxiliary vector
  kArea = 5,                // memory: AreaRecord + name
  kMappedFile = 6,          // memory: MappedFileRecord + path
  kExtents = 7,             // memory: Extent[], ascending, covering every page of every area
  kThread = 8,              // threads: ThreadRecord
  kRuntime = 9,             // threads: RuntimeRecord, the runtime's own addresses
  kSignalAction = 10,       // signals: SignalActionRecord
  kPendingSignal = 11,      // signals: PendingSignalRecord
  kDescription = 12,        // files: DescriptionRecord + path
  kDescriptor = 13,         // files: DescriptorRecord
  kProcessLock = 20,        // files: ProcessLockRecord
  kFileContent = 14,        // files: FileContentRecord + ContentExtent[]
  kFileClone = 21,          // files: FileCloneRecord
  kIntervalTimer = 15,      // timers: IntervalTimerRecord
  kClocks = 16,             // timers: ClocksRecord
  kLimit = 17,              // process: LimitRecord
  kZombie = 19,             // process: ZombieRecord
  kSavedFile = 18,          // saved: SavedFileRecord + path + link target
  kPosixTimer = 40,         // timers: PosixTimerRecord
  kThreadState = 41,        // threads: ThreadStateRecord
  kThreadFolder = 43,       // threads: ThreadFolderRecord + path
  kThreadDescriptor = 45,   // files: ThreadDescriptorRecord
  kNumber = 44,             // process: NumberPair, of a process or thread that runs under a new number
  kProcessState = 42,       // process: ProcessStateRecord + supplementary groups
  kMemoryLocks = 31,        // memory: MemoryLocksRecord
  kMemoryObject = 30,       // memory: MemoryObjectRecord + path
  kSegment = 60,            // sysv: SegmentRecord
  kSemaphoreSet = 61,       // sysv: SemaphoreSetRecord + values
  kSemaphoreUndo = 62,      // sysv: SemaphoreUndoRecord
  kMessageQueue = 63,       // sysv: MessageQueueRecord
  kAioRing = 65,            // memory: AioRingRecord + events
  kQueueNotification = 64,  // mqueue: QueueNotificationRecord
};

constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

}  // namespace ckpt::format
