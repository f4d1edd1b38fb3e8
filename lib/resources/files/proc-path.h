// Paths in the folder of a process in /proc, taken apart: for collectors and for the restart.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace ckpt {

struct ProcFile {
  std::int32_t pid = 0;    // 0: the path is not in such a folder
  const char* name = "";   // what follows /proc/PID/
  const char* above = "";  // what follows /proc/PID
};

constexpr const char* skip_prefix(const char* text, const char* prefix) {
  while (*prefix != '\0' && *text == *prefix) ++text, ++prefix;
  return *prefix == '\0' ? text : nullptr;
}

constexpr ProcFile parse_proc_path(const char* path) {
  ProcFile file;
  const char* at = skip_prefix(path, "/proc/");
  if (at == nullptr || *at < '1' || *at > '9') return file;
  for (; *at >= '0' && *at <= '9'; ++at) file.pid = file.pid * 10 + (*at - '0');
  if (*at != '/' && *at != '\0') return {};
  file.above = at;
  file.name = *at == '/' ? at + 1 : at;
  return file;
}

// Shows what is there last of all at a restart: memory, threads, descriptors.
constexpr bool is_shown_last(const ProcFile& file) {
  for (const char* folder : {"task/", "ns/", "fd/", "fdinfo/", "map_files/"}) {
    if (skip_prefix(file.name, folder) != nullptr) return true;
  }
  for (const char* of_memory :
       {"mem", "maps", "smaps", "smaps_rollup", "numa_maps", "pagemap", "environ", "auxv", "clear_refs", "map_files"}) {
    const char* rest = skip_prefix(file.name, of_memory);
    if (rest != nullptr && *rest == '\0') return true;
  }
  return false;
}

}  // namespace ckpt
