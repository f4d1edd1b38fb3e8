// Each of these would fail in the midst of the rebuild otherwise, when files have gone back already.
#include "restart/kernel-check.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "lib/common/error.h"
#include "lib/common/fd.h"
#include "lib/common/namespace-probe.h"
#include "lib/resources/sockets/record.h"

namespace ckpt {

namespace {

[[noreturn]] void refuse(const std::string& what, const std::string& detail, const std::string& remedy) {
  throw Error::plain("cannot restart here: " + what + ": " + detail + "; " + remedy, ExitCode::kRunner);
}

KernelFindings check_needed_namespaces() {
  KernelFindings findings;
  for (const Finding& finding : check_namespaces()) {
    std::string what = finding.check;
    std::ranges::replace(what, '-', ' ');
    if (finding.state == State::kMissing && findings.refused_namespace.empty())
      findings.refused_namespace = what + ": " + finding.detail + "; " + finding.remedy;
    if (finding.state == State::kDegraded) findings.notes.push_back(what + ": " + finding.detail);
  }
  return findings;
}

void check_memory_files() {
  const Fd fd(memfd_create("ckpt-probe", MFD_CLOEXEC));
  if (!fd.is_open()) refuse("memory files (memfd_create)", describe_errno(errno), "in a container, allow the call");
}

// What a program's heap, stack and arguments are: PR_SET_MM_MAP.
void check_memory_layout() {
  unsigned size = 0;
  if (prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &size, 0, 0) == 0) return;
  refuse("the memory layout can't be set (PR_SET_MM)", describe_errno(errno), "a kernel with CONFIG_CHECKPOINT_RESTORE");
}

bool uses_rseq(const JobImage& job) {
  return std::ranges::any_of(job.processes, [](const ProcessImage& process) {
    return std::ranges::any_of(process.threads, [](const auto& thread) { return thread.rseq_size != 0; });
  });
}

// A call that no kernel accepts: what it complains about tells whether it knows it.
void check_rseq(const JobImage& job) {
  if (!uses_rseq(job) || syscall(SYS_rseq, nullptr, 0, 0, 0) == 0 || errno == EINVAL) return;
  refuse("restartable sequences (rseq), which the program has registered", describe_errno(errno),
         "in a container, allow the call, or launch it with GLIBC_TUNABLES=glibc.pthread.rseq=0");
}

bool has_tcp_connection(const JobImage& job) {
  return std::ranges::any_of(job.processes, [](const ProcessImage& process) {
    return std::ranges::any_of(process.descriptions, [](const Description& description) {
      if (description.record.kind != format::DescriptionKind::kInetSocket) return false;
      const auto state = state_of<format::SocketState>(description);
      return state.stage == format::SocketStage::kConnected || state.stage == format::SocketStage::kWaiting;
    });
  });
}

// As the socket factory enters it, after the namespaces that were found to be allowed.
void check_network(const JobImage& job, KernelFindings& findings) {
  if (!has_tcp_connection(job)) return;
  const pid_t child = fork();
  if (child == 0) {
    const bool is_made = unshare(CLONE_NEWNET) == 0 || (unshare(CLONE_NEWUSER) == 0 && unshare(CLONE_NEWNET) == 0);
    _exit(is_made ? 0 : errno);
  }
  int status = 0;
  while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (child < 0 || WEXITSTATUS(status) == 0) return;
  findings.notes.push_back(
      "network namespace: " + describe_errno(WEXITSTATUS(status)) +
      ": TCP connections within the job are made again in the network of this machine, where others may have " +
      "taken their ports; raise user.max_net_namespaces, or allow it in a container");
}

// On the way back more descriptors are open than the program had, all of them above its own.
void check_descriptors(const JobImage& job) {
  constexpr rlim_t kSpare = 128;
  rlim_t needed = 0;
  for (const ProcessImage& process : job.processes) {
    int highest = 2;
    for (const auto& entry : process.descriptors) highest = std::max(highest, entry.fd);
    needed = std::max<rlim_t>(needed, static_cast<rlim_t>(highest) + process.objects.size() + kSpare);
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max >= needed) return;
  const rlimit raised{limit.rlim_cur, needed};
  if (setrlimit(RLIMIT_NOFILE, &raised) == 0) return;
  refuse("the program has more descriptors open", "the limit is " + std::to_string(limit.rlim_max),
         "raise it to " + std::to_string(needed) + " (ulimit -Hn)");
}

}  // namespace

KernelFindings check_kernel(const JobImage& job) {
  KernelFindings findings = check_needed_namespaces();
  check_memory_files();
  check_memory_layout();
  check_rseq(job);
  check_network(job, findings);
  check_descriptors(job);
  return findings;
}

}  // namespace ckpt
