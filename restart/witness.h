// Tells whether a signal that came to us was sent to us alone or to our whole process group (timeout(1), kill %1, batch systems):
// the kernel does not say. A child of ours stays in our group and takes no signal: what is pending there was for the group.
#pragma once

#include <sys/types.h>

#include "lib/common/fd.h"

namespace ckpt {

class Witness {
 public:
  Witness() = default;
  Witness(const Witness&) = delete;
  Witness& operator=(const Witness&) = delete;
  ~Witness();

  // Without it (too many processes), each signal counts as ours alone.
  void start();

  // To be asked once for each signal taken, right after that.
  bool has_seen(int signal);

 private:
  bool is_pending(int signal) const;
  void forget();

  pid_t pid_ = 0;
  Fd status_, line_;
};

}  // namespace ckpt
