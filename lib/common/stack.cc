// The limit itself stays as it is: a program that is launched inherits it, and a hard one could not be raised.
#include "lib/common/stack.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <ucontext.h>

#include <cstddef>

#include "lib/common/fd.h"

namespace ckpt {
namespace {

constexpr std::size_t kStackBytes = 4U << 20;

// makecontext(3) passes no pointers.
const std::function<int()>* running_body;
int result;

void run() { result = (*running_body)(); }

void enlarge_stacks_of_threads() {
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return;
  if (pthread_attr_setstacksize(&attributes, kStackBytes) == 0) pthread_setattr_default_np(&attributes);
  pthread_attr_destroy(&attributes);
}

}  // namespace

int call_with_stack(const std::function<int()>& body) {
  rlimit limit{};
  if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= kStackBytes) return body();
  enlarge_stacks_of_threads();
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK;
  void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, kFlags, -1, 0);
  if (memory == MAP_FAILED) return body();
  const Mapping stack(memory, kStackBytes);
  ucontext_t here;
  ucontext_t there;
  if (getcontext(&there) != 0) return body();
  there.uc_stack.ss_sp = stack.get();
  there.uc_stack.ss_size = kStackBytes;
  there.uc_link = &here;
  running_body = &body;
  makecontext(&there, run, 0);
  return swapcontext(&here, &there) == 0 ? result : body();
}

}  // namespace ckpt
