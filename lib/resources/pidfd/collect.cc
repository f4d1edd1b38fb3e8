// pidfd: whose it is, from fdinfo (proc_pid_fdinfo(5)). Of a member of the job, of a child of one that has ended, or of a process
// that is gone.
#include "lib/resources/pidfd/record.h"

#include "lib/resources/files/collect.h"

#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

// Ended and not waited for: made again with its parent (collect-children.cc). proc_pid_stat(5)
bool is_ended_child(const Collector& collector, int pid) {
  char text[512];
  sys::Text<64> path;
  path.add("/proc/").add_signed(pid).add("/stat");
  if (sys::read_file(path.c_str(), text, sizeof(text)).failed()) return false;
  const char* state = text;
  for (const char* at = text; *at != '\0'; ++at) {
    if (*at == ')') state = at + 2;
  }
  if (*state != 'Z') return false;
  const char* parent = state + 2;
  return is_member(collector, static_cast<int>(sys::parse_decimal(&parent)));
}

}  // namespace

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
