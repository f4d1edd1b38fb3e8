// For refuse-kind.c: what only the kernel can make, and what libc has no functions for. Each kind has a maker, which returns its
// descriptor, -1 on failure, or kAbsent where this kernel or this user has no such thing (errno says why); and a user, which checks
// that the thing still works after the refusal.
#pragma once

#include "victim.h"

#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { kNoDescriptor = -2, kAbsent = -3 };

static int object = -1;

// Containers answer EPERM, kernels without it ENOSYS; neither has anything to refuse.
static int made(long fd) {
  object = (int)fd;
  if (fd >= 0) return object;
  return errno == ENOSYS || errno == EPERM || errno == EACCES || errno == EOPNOTSUPP ? kAbsent : -1;
}

// --- io_uring, with its rings mapped or not ---

static struct io_uring_params ring;
static unsigned char *submitted, *completed;
static struct io_uring_sqe* entries;

static int make_io_uring(void) { return made(syscall(SYS_io_uring_setup, 4, &ring)); }

static void map_rings(void) {
  size_t size = ring.sq_off.array + ring.sq_entries * sizeof(unsigned);
  const int shared = MAP_SHARED | MAP_POPULATE;
  submitted = mmap(NULL, size, PROT_READ | PROT_WRITE, shared, object, IORING_OFF_SQ_RING);
  size = ring.cq_off.cqes + ring.cq_entries * sizeof(struct io_uring_cqe);
  completed = mmap(NULL, size, PROT_READ | PROT_WRITE, shared, object, IORING_OFF_CQ_RING);
  size = ring.sq_entries * sizeof *entries;
  entries = mmap(NULL, size, PROT_READ | PROT_WRITE, shared, object, IORING_OFF_SQES);
  CHECK(submitted != MAP_FAILED && completed != MAP_FAILED && entries != MAP_FAILED);
}

static int make_mapped_io_uring(void) {
  if (make_io_uring() >= 0) map_rings();
  return object >= 0 ? object : made(-1);
}

static void submit(struct io_uring_sqe request, unsigned wanted) {
  const unsigned tail = *(unsigned*)(submitted + ring.sq_off.tail);
  const unsigned slot = tail & *(unsigned*)(submitted + ring.sq_off.ring_mask);
  entries[slot] = request;
  ((unsigned*)(submitted + ring.sq_off.array))[slot] = slot;
  __atomic_store_n((unsigned*)(submitted + ring.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
  CHECK(syscall(SYS_io_uring_enter, object, 1, wanted, IORING_ENTER_GETEVENTS, NULL, 0) == 1);
}

// One that a thread of the kernel's waits for, which belongs to the process.
static int make_working_io_uring(void) {
  static int ends[2];
  static char byte;
  if (make_mapped_io_uring() < 0) return object;
  CHECK(pipe(ends) == 0);
  submit((struct io_uring_sqe){.opcode = IORING_OP_READ, .flags = IOSQE_ASYNC, .fd = ends[0], .addr = (uintptr_t)&byte, .len = 1},
         0);
  struct stat status;
  do victim_sleep_ms(1);
  while (stat("/proc/self/task", &status) == 0 && status.st_nlink < 4);
  return object;
}

// One request that does nothing goes through the rings.
static void use_io_uring(void) {
  if (entries == NULL) map_rings();
  submit((struct io_uring_sqe){.opcode = IORING_OP_NOP, .user_data = 4711}, 1);
  const unsigned head = *(unsigned*)(completed + ring.cq_off.head);
  const struct io_uring_cqe* done = (struct io_uring_cqe*)(completed + ring.cq_off.cqes);
  CHECK(done[head & *(unsigned*)(completed + ring.cq_off.ring_mask)].user_data == 4711);
}

// --- userfaultfd, idle or with memory that it serves ---

static unsigned char* served;

static int make_userfaultfd(void) {
  if (made(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY)) < 0) return made(-1);
  struct uffdio_api api = {.api = UFFD_API};
  CHECK(ioctl(object, UFFDIO_API, &api) == 0);
  return object;
}

static void serve(void) {
  served = map_anonymous(PAGE, PROT_READ | PROT_WRITE);
  struct uffdio_register area = {.range = {(uint64_t)served, PAGE}, .mode = UFFDIO_REGISTER_MODE_MISSING};
  CHECK(ioctl(object, UFFDIO_REGISTER, &area) == 0);
}

static int make_served_memory(void) {
  if (make_userfaultfd() >= 0) serve();
  return object >= 0 ? object : made(-1);
}

static void* read_served(void* unused) {
  (void)unused;
  return (void*)(uintptr_t)served[7];
}

static void use_userfaultfd(void) {
  unsigned char page[PAGE];
  struct uffd_msg message;
  struct pollfd polled = {object, POLLIN, 0};
  if (served == NULL) serve();
  memset(page, 0x5a, sizeof page);
  pthread_t reader = start_thread(read_served, NULL);
  CHECK(poll(&polled, 1, 10000) == 1 && read(object, &message, sizeof message) == sizeof message);
  CHECK(message.event == UFFD_EVENT_PAGEFAULT && (message.arg.pagefault.address & ~(PAGE - 1)) == (uint64_t)served);
  struct uffdio_copy copy = {.dst = (uint64_t)served, .src = (uint64_t)page, .len = PAGE};
  CHECK(ioctl(object, UFFDIO_COPY, &copy) == 0);
  CHECK(join_thread(reader) == (void*)0x5a);
}

// --- a performance counter ---

static uint64_t counted;

static int make_perf_event(void) {
  struct perf_event_attr attributes = {
      .type = PERF_TYPE_SOFTWARE, .size = sizeof attributes, .config = PERF_COUNT_SW_TASK_CLOCK, .exclude_kernel = 1};
  if (made(syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC)) < 0) return made(-1);
  CHECK(read(object, &counted, sizeof counted) == sizeof counted);
  return object;
}

static void use_perf_event(void) {
  uint64_t now;
  CHECK(read(object, &now, sizeof now) == sizeof now && now > counted);
}

// --- a bpf map ---

static int make_bpf_map(void) {
  union bpf_attr attributes = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 1};
  uint32_t key = 0;
  uint64_t value = 4711;
  if (made(syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes)) < 0) return made(-1);
  union bpf_attr update = {.map_fd = (uint32_t)object, .key = (uint64_t)&key, .value = (uint64_t)&value};
  CHECK(syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &update, sizeof update) == 0);
  return object;
}

static void use_bpf_map(void) {
  uint32_t key = 0;
  uint64_t value = 0;
  union bpf_attr lookup = {.map_fd = (uint32_t)object, .key = (uint64_t)&key, .value = (uint64_t)&value};
  CHECK(syscall(SYS_bpf, BPF_MAP_LOOKUP_ELEM, &lookup, sizeof lookup) == 0 && value == 4711);
}

// --- a fanotify group that watches our folder ---

static int make_fanotify(void) {
  if (made(fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY)) < 0) return made(-1);
  if (fanotify_mark(object, FAN_MARK_ADD, FAN_CREATE | FAN_ONDIR, AT_FDCWD, victim_path(".")) == 0) return object;
  CHECK(errno == EXDEV || errno == ENODEV || errno == EOPNOTSUPP);  // the file system has no handles: an empty group does
  return object;
}

static void use_fanotify(void) {
  char events[4096] __attribute__((aligned(8)));
  CHECK(fanotify_mark(object, FAN_MARK_FLUSH, 0, AT_FDCWD, victim_path(".")) == 0);
  const ssize_t size = read(object, events, sizeof events);
  CHECK(size > 0 || (size == -1 && errno == EAGAIN));
}

// --- system calls that come from outside libc are sent to the thread itself ---

static volatile int dispatched;

static void note_call(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)context;
  if (info->si_code == 2 /* SYS_USER_DISPATCH */) dispatched = info->si_syscall;
}

static void find_libc(unsigned long* begin, unsigned long* end) {
  char line[512], permissions[8];
  FILE* maps = fopen("/proc/self/maps", "r");
  while (fgets(line, sizeof line, maps) != NULL) {
    if (sscanf(line, "%lx-%lx %7s", begin, end, permissions) == 3 && permissions[2] == 'x' && strstr(line, "libc.so") != NULL)
      break;
  }
  fclose(maps);
}

static int switch_dispatch_on(void) {
  static char selector = SYSCALL_DISPATCH_FILTER_BLOCK;
  unsigned long begin, end;
  struct sigaction action = {.sa_sigaction = note_call, .sa_flags = SA_SIGINFO};
  sigaction(SIGSYS, &action, NULL);
  find_libc(&begin, &end);
  return prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, begin, end - begin, &selector);
}

static int make_dispatch(void) { return switch_dispatch_on() == 0 ? kNoDescriptor : kAbsent; }

static long call_from_here(long number) {
  long result = number;
  __asm__ volatile("syscall" : "+a"(result) : : "rcx", "r11", "memory");
  return result;
}

// No call of anybody else's has come by.
static void use_dispatch(void) {
  CHECK(dispatched == 0);
  call_from_here(SYS_getppid);
  CHECK(dispatched == SYS_getppid);
  CHECK(prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0) == 0);
  CHECK(call_from_here(SYS_getpid) == getpid());
}

static int make_dispatch_in_child(void) {
  const pid_t child = object = fork();
  if (child == 0) {
    const int has_it = make_dispatch() != kAbsent;
    victim_write("child", has_it ? "there" : "absent");
    while (!victim_exists("go")) victim_sleep_ms(5);
    if (has_it) use_dispatch();
    _exit(7);
  }
  while (!victim_exists("child")) victim_sleep_ms(5);
  char text[16];
  read_file(victim_path("child"), text, sizeof text);
  return text[0] == 't' ? kNoDescriptor : kAbsent;
}

static void use_dispatch_in_child(void) {
  int status;
  CHECK(waitpid(object, &status, 0) == object && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

// --- a device: the first one that may be opened ---

static int make_device(void) {
  static const char* const kDevices[] = {"/dev/net/tun", "/dev/fuse", "/dev/kvm", "/dev/autofs"};
  for (size_t i = 0; i < sizeof kDevices / sizeof kDevices[0]; ++i) {
    object = open(kDevices[i], (i == 3 ? O_RDONLY : O_RDWR) | O_NOCTTY | O_CLOEXEC);
    if (object >= 0) return object;
  }
  return kAbsent;  // in a container there may be none but those that can be saved
}

static void use_device(void) {
  struct stat status;
  CHECK(fstat(object, &status) == 0 && S_ISCHR(status.st_mode));
}
