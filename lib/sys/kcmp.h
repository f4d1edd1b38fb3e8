// kcmp(2): what two processes or threads have in common. `what` is one of KCMP_FILES, KCMP_FS, KCMP_IO, KCMP_SIGHAND, KCMP_SYSVSEM
// and KCMP_VM.
#pragma once

#include <linux/kcmp.h>

#include "lib/sys/calls.h"

namespace ckpt::sys {

// Both are false where it can't be told: a filter against the call, an old kernel, somebody who has ended.
inline bool is_shared(int one, int other, int what) { return call(__NR_kcmp, one, other, what, 0, 0).value() == 0; }
inline bool is_apart(int one, int other, int what) { return call(__NR_kcmp, one, other, what, 0, 0).value() > 0; }

}  // namespace ckpt::sys
