// signalfd: the mask, from fdinfo (proc_pid_fdinfo(5)). What can be read from it are the pending signals, which are saved as such.
#include "lib/resources/signalfd/record.h"

#include "lib/resources/files/collect.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

std::uint64_t signals_read_by_descriptors() {
  std::uint64_t all = 0;
  char buffer[256];
  char text[512];
  sys::NumberDirectory descriptors("/proc/thread-self/fd", buffer);
  for (int fd = descriptors.next(); fd >= 0; fd = descriptors.next()) {
    FileFacts facts{};
    std::uint64_t mask = 0;
    if (read_facts(fd, "", &facts).failed() || (facts.mode & 0170000) != 0) continue;  // the kernel's own have no type
    if (!sys::read_link(sys::descriptor_path(fd).c_str(), text, sizeof(text)) || !sys::starts_with(text, "anon_inode:[signalfd]"))
      continue;
    if (read_fdinfo(fd, text) && find_field(text, "sigmask:", 16, &mask)) all |= mask;
  }
  return all;
}

bool collect_signalfd(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord*, Buffer* state) {
  char text[1024];
  format::SignalFdState value{};
  if (!read_fdinfo(descriptor.fd, text) || !find_field(text, "sigmask:", 16, &value.mask)) {
    refuse_descriptor(collector, descriptor).add("its signals can't be read");
    return false;
  }
  state->add(&value, sizeof(value));
  return true;
}

}  // namespace ckpt
