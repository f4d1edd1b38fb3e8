// Starts a command as if on an older kernel, or inside a container that forbids things: without-calls ERROR CALL[,CALL…] COMMAND
// [ARG…]. A seccomp filter answers the named calls with ERROR (a number, or ENOSYS, EPERM or EINVAL). Without arguments: lists the
// calls.
#include <errno.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ANY -1

// Only where the argument, masked, has the value; ANY: always.
static const struct Call {
  const char* name;
  int number;
  int argument;
  unsigned mask, value;
} calls[] = {
    {"pagemap-scan", SYS_ioctl, 1, ~0U, 0xc0606610},
    {"userfaultfd", SYS_userfaultfd, ANY, 0, 0},
    {"clone3", SYS_clone3, ANY, 0, 0},
    {"user-namespace", SYS_unshare, 0, CLONE_NEWUSER, CLONE_NEWUSER},
    {"pid-namespace", SYS_unshare, 0, CLONE_NEWPID, CLONE_NEWPID},
    {"mount-namespace", SYS_unshare, 0, CLONE_NEWNS, CLONE_NEWNS},
    {"time-namespace", SYS_unshare, 0, CLONE_NEWTIME, CLONE_NEWTIME},
    {"network-namespace", SYS_unshare, 0, CLONE_NEWNET, CLONE_NEWNET},
    {"mount", SYS_mount, ANY, 0, 0},
    {"rseq", SYS_rseq, ANY, 0, 0},
    {"pidfd", SYS_pidfd_open, ANY, 0, 0},
    {"process-vm-readv", SYS_process_vm_readv, ANY, 0, 0},
    {"memfd-create", SYS_memfd_create, ANY, 0, 0},
    {"kcmp", SYS_kcmp, ANY, 0, 0},
    {"dup-query", SYS_fcntl, 1, ~0U, 1024 + 3},
    {"ofd-locks", SYS_fcntl, 1, ~1U, 36},
    {"openat2", SYS_openat2, ANY, 0, 0},
    {"statx", SYS_statx, ANY, 0, 0},
    {"close-range", SYS_close_range, ANY, 0, 0},
    {"copy-file-range", SYS_copy_file_range, ANY, 0, 0},
    {"preadv2", SYS_preadv2, ANY, 0, 0},
    {"pwritev2", SYS_pwritev2, ANY, 0, 0},
    {"membarrier", SYS_membarrier, ANY, 0, 0},
    {"mseal", 462, ANY, 0, 0},
    {"execveat", SYS_execveat, ANY, 0, 0},
    {"faccessat2", 439, ANY, 0, 0},
    {"prctl-mm", SYS_prctl, 0, ~0U, PR_SET_MM},
    {"netlink", SYS_socket, 0, ~0U, 16},
};
enum { kCalls = sizeof calls / sizeof calls[0] };

static struct sock_filter code[kCalls * 6 + 1];
static unsigned short length;

static void add(struct sock_filter step) { code[length++] = step; }
static void load(size_t offset) { add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offset)); }

static void mask(const struct Call* call, int error) {
  const unsigned char skipped = call->argument == ANY ? 1 : 4;
  load(offsetof(struct seccomp_data, nr));
  add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call->number, 0, skipped));
  if (call->argument != ANY) {
    load(offsetof(struct seccomp_data, args) + (size_t)call->argument * 8);
    add((struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, call->mask));
    add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call->value, 0, 1));
  }
  add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error));
}

static int mask_by_name(const char* name, int error) {
  for (int i = 0; i < kCalls; ++i) {
    if (strcmp(calls[i].name, name) != 0) continue;
    mask(&calls[i], error);
    return 1;
  }
  fprintf(stderr, "without-calls: no call '%s'\n", name);
  return 0;
}

static int parse_error(const char* text) {
  if (strcmp(text, "ENOSYS") == 0) return ENOSYS;
  if (strcmp(text, "EPERM") == 0) return EPERM;
  if (strcmp(text, "EINVAL") == 0) return EINVAL;
  return atoi(text);
}

int main(int argc, char** argv) {
  for (int i = 0; i < kCalls && argc < 4; ++i) puts(calls[i].name);
  if (argc < 4) return 2;
  for (char* name = strtok(argv[2], ","); name != NULL; name = strtok(NULL, ",")) {
    if (!mask_by_name(name, parse_error(argv[1]))) return 2;
  }
  add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  struct sock_fprog program = {length, code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    perror("without-calls");
    return 2;
  }
  execvp(argv[3], argv + 3);
  perror(argv[3]);
  return 127;
}
