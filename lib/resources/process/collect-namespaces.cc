// process: namespaces (namespaces(7)). Those of the launch are the environment's: a program comes back into whatever stands there
// then. One that has moved since (unshare(2), setns(2)) would come back elsewhere.
#include "lib/format/control.h"
#include "lib/resources/collector.h"
#include "lib/resources/process/collect.h"
#include "lib/resources/process/record.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

constexpr std::uint64_t kMayMove = 1ULL << 21;  // CAP_SYS_ADMIN

constexpr const char* kKinds[format::kNamespaces] = {"cgroup", "IPC", "mount", "network", "pid", "time", "user", "UTS"};

// `whose`: a thread to be named; 0: the process. No pid namespace is shown that has had no process yet.
bool check_namespace(Collector* collector, unsigned which, const char* folder, int whose) {
  const std::uint64_t before = collector->launch_namespaces[which];
  if (before == 0) return true;
  const std::uint64_t now = sys::read_namespace(folder, format::kNamespaceFiles[which]);
  const bool is_empty = now == 0 && which == format::kPidNamespace && whose == 0;
  if (now == before || (now == 0 && !is_empty)) return true;
  Message& message = collector->refuse();
  if (whose != 0) message.add("thread ").add_signed(whose).add(": ");
  message.add("it has moved to another ").add(kKinds[which]).add(" namespace since the launch (unshare(2)); launch it in there");
  return false;
}

bool check_all(Collector* collector, const char* folder, int whose) {
  for (unsigned which = 0; which < format::kNamespaces; ++which) {
    if (!check_namespace(collector, which, folder, whose)) return false;
  }
  return true;
}

}  // namespace

bool check_pid_namespace(Collector* collector) {
  return check_namespace(collector, format::kPidNamespace, "/proc/thread-self/ns", 0);
}

bool check_namespaces(Collector* collector) {
  if (!check_all(collector, "/proc/thread-self/ns", 0)) return false;
  if ((collector->process->cap_permitted & kMayMove) == 0) return true;  // no thread can have moved alone
  for (unsigned i = 0; i < collector->thread_count; ++i) {
    const int tid = collector->threads[i];
    if (!check_all(collector, sys::task_path(collector->pid, tid, "ns").c_str(), tid)) return false;
  }
  return true;
}

}  // namespace ckpt
