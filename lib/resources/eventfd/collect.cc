// eventfd: the counter, from fdinfo (proc_pid_fdinfo(5)). Whether it counts down by one is shown since Linux 6.5; before, it is
// tried.
#include "lib/resources/eventfd/record.h"

#include "lib/resources/files/collect.h"

namespace ckpt {

namespace {

// A semaphore gives 1, a counter everything: with nothing but ours in it, one more read tells. Everybody stands, so nobody sees it.
bool is_semaphore_by_trial(const Descriptor& descriptor, std::uint64_t count) {
  const std::uint64_t two = 2;
  if (count > 0 || (descriptor.status_flags & O_NONBLOCK) == 0) return false;
  std::uint64_t value = 0;
  sys::call(__NR_write, descriptor.fd, &two, sizeof(two)).ignore();
  sys::call(__NR_read, descriptor.fd, &value, sizeof(value)).ignore();
  if (value != 1) return false;
  sys::call(__NR_read, descriptor.fd, &value, sizeof(value)).ignore();
  return true;
}

}  // namespace

bool collect_eventfd(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord*, Buffer* state) {
  const char* text = descriptor.fdinfo;
  format::EventFdState value{};
  if (!find_field(text, "eventfd-count:", 16, &value.count)) {
    refuse_descriptor(collector, descriptor).add("its counter can't be read");
    return false;
  }
  std::uint64_t is_semaphore = 0;
  const bool is_told = find_field(text, "eventfd-semaphore:", 10, &is_semaphore);
  value.is_semaphore = is_told ? is_semaphore != 0 : is_semaphore_by_trial(descriptor, value.count);
  state->add(&value, sizeof(value));
  return true;
}

}  // namespace ckpt
