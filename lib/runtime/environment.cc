// Reads /proc/self/environ in pieces: 64 KiB of environment exist, and an entry may lie across two pieces.
#include "lib/runtime/environment.h"

#include "lib/sys/calls.h"
#include "lib/sys/memory.h"

namespace ckpt {

void read_environment(Environment* environment) {
  struct Wanted {
    const char* name;
    char* to;
    std::size_t size;
  };
  const Wanted wanted[] = {
      {"CKPT_CONTROL=", environment->control, sizeof(environment->control)},
      {"CKPT_DIR=", environment->directory, sizeof(environment->directory)},
      {"CKPT_FILE=", environment->file, sizeof(environment->file)},
      {"HOME=", environment->home, sizeof(environment->home)},
      {"CKPT_KEEP=", environment->keep, sizeof(environment->keep)},
      {"CKPT_COMPRESS=", environment->compress, sizeof(environment->compress)},
      {"CKPT_SIGNAL=", environment->signal, sizeof(environment->signal)},
      {"LD_PRELOAD=", environment->preload, sizeof(environment->preload)},
  };
  const sys::Fd fd(sys::open("/proc/thread-self/environ", O_RDONLY));
  char piece[1024];
  char name[16];             // the entry's beginning, as far as it is read
  std::size_t position = 0;  // in the entry
  const Wanted* current = nullptr;
  std::size_t value_begin = 0;
  for (;;) {
    const auto count = sys::read(fd.get(), piece, sizeof(piece));
    if (count.failed() || count.value() == 0) return;
    for (long i = 0; i < count.value(); ++i) {
      const char c = piece[i];
      if (current != nullptr && position - value_begin + 1 < current->size) {
        current->to[position - value_begin] = c;
        current->to[position - value_begin + 1] = '\0';
      }
      if (c == '\0') {
        position = 0;
        current = nullptr;
        continue;
      }
      if (position + 1 < sizeof(name)) name[position] = c, name[position + 1] = '\0';
      ++position;
      if (c != '=' || current != nullptr || position >= sizeof(name)) continue;
      for (const Wanted& entry : wanted) {
        if (!sys::equal(name, entry.name)) continue;
        current = &entry;
        value_begin = position;
      }
    }
  }
}

}  // namespace ckpt
