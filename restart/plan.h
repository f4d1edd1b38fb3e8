// The plan of a restart: every step decided from the image and the world as it is, before anything is touched.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "lib/common/image-reader.h"
#include "lib/format/numbers.h"

namespace ckpt {

enum class StdioPolicy { kAuto, kInherit, kOriginal };
enum class FilesPolicy { kPolicy, kKeep };

struct RestartOptions {
  bool is_dry_run = false;
  bool is_again = false;
  bool is_trusted = false;
  bool is_verbose = false;
  bool is_quiet = false;
  StdioPolicy stdio = StdioPolicy::kAuto;
  FilesPolicy files = FilesPolicy::kPolicy;
};

// Where an open file description of the image comes from.
struct DescriptionPlan {
  enum class Source {
    kOpen,      // the path is opened
    kStream,    // a standard stream of ckpt-restart
    kContent,   // a file without a name, filled from the image
    kTerminal,  // /dev/tty, for a terminal that is no standard stream; where there is none, one that was hung up
    kMade,      // of a kind that is made again from its state (lib/resources/<kind>/rebuild.cc)
    kOwnPipe,   // an end of a pipe that is made again, with what was in it
    kCutPipe,   // an end of a pipe whose other end was outside, and is gone
    kLate,      // opened by the restorer: shows the memory or a thread of the program
  };
  const Description* description = nullptr;
  Source source = Source::kOpen;
  std::string note;             // what a user should know about it, or nothing
  bool goes_on_at_end = false;  // of a file that others write, wherever that is by now
};

// A file that goes back to its length at the checkpoint; what it grew by since is moved into the store.
struct CutPlan {
  std::string path;
  std::uint64_t size;      // it goes back to
  std::uint64_t grown_to;  // now
  std::int64_t modified_ns;
  std::string kept_as;  // file that gets the bytes from `size` on
};

// A file that goes back to what the image has of it (ckpt-launch --save, or one that is written in place).
struct FileChange {
  enum class Action { kContent, kClone, kFolder, kLink, kFifo, kMoveAside };
  Action action;
  std::string path;
  const FileContent* content;  // kContent
  std::string target;          // kLink; kClone: the file beside the image
  unsigned mode;
  std::int64_t modified_ns;
  std::string aside;  // what is there now goes there; empty: nothing is there
};

// Which file an area is mapped from.
struct MappedFilePlan {
  std::string path;
  std::uint64_t inode = 0;
  std::string note;
};

struct RestartPlan {
  const Image* image = nullptr;
  const ProcessImage* process = nullptr;
  RestartOptions options;
  format::Settings settings{};  // of the restarted job
  std::string control_path;
  std::vector<DescriptionPlan> descriptions;  // as in the image
  std::vector<CutPlan> cuts;
  std::vector<std::string> shared_logs;  // that others write as well; later checkpoints may not see them
  std::vector<FileChange> changes;       // in the order to be made
  std::vector<MappedFilePlan> files;     // as in the image
  std::vector<std::string> notes;
  bool is_plain = false;                          // namespaces are refused: the program runs where ckpt-restart runs
  std::vector<format::Translation> translations;  // of the clocks of each process, where they are behind and can't be set
  bool has_other_vdso = false;                    // the image's is of another kernel: its functions are led to this one's

  // Of the clocks of `process`.
  format::Translation translation() const;
  bool has_shifted_clocks() const { return translation().monotonic_ns != 0 || translation().boottime_ns != 0; }
  bool replaces_vdso() const { return has_other_vdso || has_shifted_clocks(); }

  std::set<std::int32_t> renamed;               // numbers of processes and threads that are somebody else's now
  std::vector<format::NumberPair> new_numbers;  // what processes have instead; known when they are there

  std::vector<std::vector<MappedFilePlan>> files_of;  // of each process of the image; `files` is the one of `process`

  // The same plan from the point of view of another process of the job.
  RestartPlan seen_by(const ProcessImage& other) const;
  // The process that describes this open file: others may share it.
  const ProcessImage& owner_of(const Description& description) const;
  bool is_own(const Description& description) const { return &owner_of(description) == process; }
  // Bytes that belong to it.
  const FileContent& content_of(const Description& description) const;

  // What the process of this number is now.
  std::int32_t new_number(std::int32_t old) const;

  // The image holds System V objects or POSIX message queues.
  bool needs_ipc_namespace() const;

  const DescriptionPlan& description_of(const format::DescriptorRecord& descriptor) const;
};

// Decides everything; throws Error with the reason where the image can't be restarted here and now.
RestartPlan make_plan(const Image& image, const RestartOptions& options);

// What `ckpt-restart -n` prints.
std::string describe_plan(const RestartPlan& plan);

}  // namespace ckpt
