// Wrapper of prctl(2), for one of its options: the kernel keeps to itself whether a thread has its system calls sent to itself
// (dispatchers.h). Everything else goes to the kernel as it comes.
//
// Once it has been used, libc's own prctl is called for all options: the program may have named libc's memory, not ours, as the one
// from which system calls are let through.
#include "lib/runtime/dispatchers.h"
#include "lib/runtime/state.h"
#include "lib/runtime/wrappers/libc.h"

namespace {

using namespace ckpt;

constexpr int kSetDispatch = 59;  // PR_SET_SYSCALL_USER_DISPATCH, Linux 5.11
using Prctl = int(int, ...);
using Word = unsigned long;

int raw_prctl(int option, Word a, Word b, Word c, Word d) {
  const auto result = sys::call(__NR_prctl, option, a, b, c, d);
  return result.failed() ? fail_with(result.error()) : static_cast<int>(result.value());
}

Prctl* libc_prctl = nullptr;

int set_dispatch(Word mode, Word offset, Word size, Word selector) {
  if (libc_prctl == nullptr) libc_prctl = reinterpret_cast<Prctl*>(find_in_libc("prctl"));
  const bool is_switched_on = mode != 0;
  if (is_switched_on) note_dispatcher();  // afterwards our own calls might not come through
  const int result = libc_prctl != nullptr ? libc_prctl(kSetDispatch, mode, offset, size, selector)
                                           : raw_prctl(kSetDispatch, mode, offset, size, selector);
  if (is_switched_on == (result != 0)) forget_dispatcher();
  return result;
}

}  // namespace

extern "C" [[gnu::visibility("default")]] int prctl(int option, Word a, Word b, Word c, Word d) {
  if (option == kSetDispatch) return set_dispatch(a, b, c, d);
  return libc_prctl != nullptr ? libc_prctl(option, a, b, c, d) : raw_prctl(option, a, b, c, d);
}
