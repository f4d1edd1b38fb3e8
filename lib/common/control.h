// The control page of a job, seen from a command: made at launch, found through the target, locked for a request.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <optional>
#include <string>

#include "lib/common/fd.h"
#include "lib/format/control.h"

namespace ckpt {

// Creates the control file of a job and fills in the first fields; throws Error, and leaves nothing behind then.
void create_control_file(const std::string& path, const format::Settings& settings);

// The namespaces of this process are those that the job has begun in.
void note_namespaces(format::ControlPage& page);

// Removes control files that no process maps any more from `run_folder`. Never throws; younger than a minute stays.
void sweep_control_files(const std::string& run_folder);

// The path of the control file that process `pid` maps; throws Error: 66 no such process or a zombie, 77 not ours, 69 none mapped.
std::string find_control_file(pid_t pid);

class Control {
 public:
  // Opens and maps; throws Error (69 if it is gone, of another version, or no control file at all).
  explicit Control(const std::string& path);

  format::ControlPage& page() { return *static_cast<format::ControlPage*>(mapping_.get()); }
  const std::string& path() const { return path_; }
  ino_t inode() const { return inode_; }

  // Takes the lock of a trigger until this object ends; false if somebody holds it.
  bool try_lock();

  format::Stage stage();
  void set_stage(format::Stage stage);
  // Moves from `from` to `to` in one step; false if the page was in another stage.
  bool move_stage(format::Stage from, format::Stage to);
  // Returns when the stage is no longer `stage`, or after `milliseconds`.
  void wait_while(format::Stage stage, int milliseconds);

  // Whether the process that writes the image lives: it holds a write lock on byte 0. Nothing where the file system knows no such
  // locks.
  std::optional<bool> has_writer();

 private:
  std::atomic_ref<std::uint32_t> word() { return std::atomic_ref(page().stage); }

  std::string path_;
  Fd fd_;
  Mapping mapping_;
  ino_t inode_ = 0;
};

// The control file that was found for a process, which may end meanwhile: then throws Error 66.
Control open_control(pid_t pid, const std::string& path);

}  // namespace ckpt
