// pidfd: whose it is, from fdinfo (proc_pid_fdinfo(5)). Of a member of the job, of a child of one that has ended, or of a process
// that is gone.
#include "lib/resources/pidfd/record.h"

#include "lib/resources/files/collect.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

bool is_ended_child(const Collector& collector, int pid) {
  const sys::StatFile stat(sys::proc_path(pid, "stat").c_str());
  return *stat.field(3) == 'Z' && is_member(collector, static_cast<int>(stat.number(4)));
}

bool collect_pidfd(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord*, Buffer* state) {
  char text[1024];
  std::uint64_t pid = 0;
  if (!read_fdinfo(descriptor.fd, text) || !find_field(text, "Pid:", 10, &pid)) {
    refuse_descriptor(collector, descriptor).add("its process can't be told");
    return false;
  }
  std::uint64_t ignored = 0;
  const bool is_gone = pid == 0 && !find_field(text, "Pid:\t0", 10, &ignored);  // "-1"
  const int whose = static_cast<int>(pid);
  if (!is_gone && !is_member(*collector, whose) && !is_ended_child(*collector, whose)) {
    refuse_descriptor(collector, descriptor)
        .add("the pidfd of ")
        .add(pid == 0 ? "a process that can't be seen from here" : "process ")
        .add_number(pid)
        .add(", which is not saved, can't be saved; close it and try again");
    return false;
  }
  const format::PidFdState value{is_gone ? -1 : whose, (descriptor.status_flags & O_EXCL) != 0 ? 1U : 0U};
  state->add(&value, sizeof(value));
  return true;
}

}  // namespace ckpt
