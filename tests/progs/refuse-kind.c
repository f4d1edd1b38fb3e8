// Has one thing open, mapped or armed that cannot be saved (the argument names its kind), prints "fd N" for it into
// $VICTIM_DIR/kind ("absent: " and why, where this machine has no such thing), and goes on with it unharmed after the refusal.
#include "kernel-objects.h"

#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <sched.h>
#include <semaphore.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

static int fds[2] = {-1, -1};

static int make_pipe(void) { return pipe(fds) == 0 ? fds[0] : -1; }
static void use_pipe(void) {
  char byte = 0;
  CHECK(write(fds[1], "x", 1) == 1 && read(fds[0], &byte, 1) == 1 && byte == 'x');
}
static int make_unread_events(void) {
  fds[0] = inotify_init();
  CHECK(inotify_add_watch(fds[0], victim_path("."), IN_DELETE) >= 0 && mkdir(victim_path("made"), 0700) == 0);
  return rmdir(victim_path("made")) == 0 ? fds[0] : -1;
}
static void use_unread_events(void) {
  char events[4096] __attribute__((aligned(8)));
  CHECK(read(fds[0], events, sizeof events) > 0 && ((struct inotify_event*)events)->mask == (IN_DELETE | IN_ISDIR));
}
static int make_foreign_pidfd(void) { return fds[0] = (int)syscall(SYS_pidfd_open, getppid(), 0); }
static void use_foreign_pidfd(void) { CHECK(syscall(SYS_pidfd_send_signal, fds[0], 0, NULL, 0) == 0); }
// A thread apart: with descriptors of its own. `have_more` makes what can't be saved there.
static sem_t apart, end_apart;
static void (*have_more)(void);
static void* be_apart(void* unused) {
  CHECK(unshare(CLONE_FILES) == 0);
  have_more();
  sem_post(&apart);
  while (sem_wait(&end_apart) != 0) victim_fail("sem_wait: %s", strerror(errno));
  return unused;
}
static pthread_t thread;
static int start_apart(void (*more)(void)) {
  sem_init(&apart, 0, 0);
  sem_init(&end_apart, 0, 0);
  have_more = more;
  thread = start_thread(be_apart, NULL);
  sem_wait(&apart);
  return kNoDescriptor;
}
static void* wait_for_end(void* unused) {
  while (sem_wait(&end_apart) != 0) victim_fail("sem_wait: %s", strerror(errno));
  sem_post(&end_apart);
  return unused;
}
static void share_table(void) { pthread_detach(start_thread(wait_for_end, NULL)); }
static int make_shared_table(void) { return start_apart(share_table); }
static void have_epoll(void) { CHECK(epoll_create1(0) >= 0); }
static int make_own_epoll(void) { return start_apart(have_epoll); }
static void lock_file(void) {
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  int fd = open(victim_path("locked"), O_RDWR | O_CREAT, 0600);
  CHECK(fd >= 0 && fcntl(fd, F_SETLK, &lock) == 0);
}
static int make_own_lock(void) { return start_apart(lock_file); }
static void open_locked(void) { CHECK(open(victim_path("locked"), O_RDWR) >= 0); }
static int make_locked_file(void) {
  lock_file();
  return start_apart(open_locked);
}
static void use_apart(void) {
  sem_post(&end_apart);
  join_thread(thread);
}

// A filter of the program's own. It kills for a call that the program does not need, but others might make in it.
static int make_seccomp(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_gettid, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof code / sizeof code[0], code};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
  return kNoDescriptor;
}
static void use_seccomp(void) {
  char text[8192];
  CHECK(read_file("/proc/self/status", text, sizeof text) > 0 && strstr(text, "Seccomp:\t2") != NULL);
}
static pid_t odd_child;

// A process, not a thread, made by clone(2) as fork(2) would not.
static int make_odd_child(unsigned long flags, int exit_signal) {
  struct clone_args arguments = {.flags = flags, .exit_signal = (unsigned)exit_signal};
  odd_child = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
  if (odd_child == 0) {
    for (;;) pause();
  }
  CHECK(odd_child > 0);
  return kNoDescriptor;
}
static int make_shared_descriptors(void) { return make_odd_child(CLONE_FILES, SIGCHLD); }
static int make_shared_folder(void) { return make_odd_child(CLONE_FS, SIGCHLD); }
static int make_other_end_signal(void) { return make_odd_child(0, SIGURG); }
static int make_shared_maps(void) {
  fds[0] = open("/proc/self/maps", O_RDONLY);
  return make_odd_child(0, SIGCHLD) == kNoDescriptor ? fds[0] : -1;
}
static int make_childs_maps(void) {
  char path[64];
  make_odd_child(0, SIGCHLD);
  snprintf(path, sizeof path, "/proc/%d/maps", (int)odd_child);
  return fds[0] = open(path, O_RDONLY);
}
static void use_odd_child(void) { CHECK(kill(odd_child, SIGKILL) == 0 && waitpid(odd_child, NULL, __WALL) == odd_child); }

static void send_fd(int over, int fd) {
  _Alignas(8) char control[CMSG_SPACE(sizeof fd)] = {0};
  struct iovec vector = {"x", 1};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  *CMSG_FIRSTHDR(&message) = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
  memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &fd, sizeof fd);
  CHECK(sendmsg(over, &message, 0) == 1);
}
static int receive_fd(int from) {
  _Alignas(8) char control[CMSG_SPACE(sizeof(int))];
  char byte;
  int fd = -1;
  struct iovec vector = {&byte, 1};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  CHECK(recvmsg(from, &message, MSG_DONTWAIT) == 1 && byte == 'x' && message.msg_controllen > 0);
  memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  return fd;
}
// A counter that is open nowhere: it is in the queue of a socket.
static int make_in_flight(void) {
  CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds) == 0);
  if (make_perf_event() < 0) return kAbsent;
  send_fd(fds[0], object);
  close(object);
  return fds[1];
}
static void use_in_flight(void) {
  object = receive_fd(fds[1]);
  use_perf_event();
}
// An open file that is on its way to nobody: sent over a connection that nobody has accepted.
static int listening;
static int make_unaccepted(void) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "refuse-kind-%d", (int)getpid());
  listening = socket(AF_UNIX, SOCK_STREAM, 0);
  fds[0] = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK(bind(listening, (struct sockaddr*)&name, sizeof name) == 0 && listen(listening, 1) == 0);
  CHECK(connect(fds[0], (struct sockaddr*)&name, sizeof name) == 0);
  const int sent = open("/dev/null", O_RDONLY | O_CLOEXEC);
  send_fd(fds[0], sent);
  close(sent);
  return fds[0];
}
static void use_unaccepted(void) {
  const int fd = receive_fd(accept(listening, NULL, NULL));
  char byte;
  CHECK(read(fd, &byte, 1) == 0);
}
// A request that nobody has taken yet, and whose sender is gone: of a unix socket, or of TCP.
static struct sockaddr_storage service;
static socklen_t service_size;
static int listen_for_requests(int family) {
  service.ss_family = (sa_family_t)family;
  service_size = family == AF_UNIX ? sizeof(sa_family_t) : sizeof(struct sockaddr_in);
  listening = socket(family, SOCK_STREAM, 0);
  CHECK(bind(listening, (struct sockaddr*)&service, service_size) == 0 && listen(listening, 1) == 0);
  service_size = sizeof service;
  CHECK(getsockname(listening, (struct sockaddr*)&service, &service_size) == 0);
  int client = socket(family, SOCK_STREAM, 0);
  CHECK(connect(client, (struct sockaddr*)&service, service_size) == 0 && write(client, "request", 7) == 7);
  close(client);
  return listening;
}
// Data behind the mark of urgent data that has been read already: no look in turn shows it.
static int client, server;
static int make_behind_mark(void) {
  char byte;
  service.ss_family = AF_INET;
  service_size = sizeof service;
  listening = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(listen(listening, 1) == 0 && getsockname(listening, (struct sockaddr*)&service, &service_size) == 0);
  client = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(client, (struct sockaddr*)&service, service_size) == 0);
  server = accept(listening, NULL, NULL);
  CHECK(send(client, "before", 6, 0) == 6 && send(client, "U", 1, MSG_OOB) == 1 && send(client, "behind", 6, 0) == 6);
  while (recv(server, &byte, 1, MSG_OOB) != 1) victim_sleep_ms(1);
  return server;
}
static void use_behind_mark(void) {
  char text[16];
  CHECK(read(server, text, sizeof text) == 6 && read(server, text, sizeof text) == 6 && memcmp(text, "behind", 6) == 0);
}
static int make_ended_unix(void) { return listen_for_requests(AF_UNIX); }
static int make_ended_tcp(void) { return listen_for_requests(AF_INET); }
static void use_ended(void) {
  char request[8];
  CHECK(read(accept(listening, NULL, NULL), request, sizeof request) == 7);
}
static volatile sig_atomic_t told;
static void on_message(int number) {
  (void)number;
  told = 1;
}
// Told once, and only if the registration is still there.
static int make_told(void) {
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 4};
  signal(SIGRTMIN + 4, on_message);
  fds[0] = mq_open("/ckpt-told", O_RDWR | O_CREAT | O_EXCL, 0600, NULL);
  CHECK(fds[0] >= 0 && mq_unlink("/ckpt-told") == 0 && mq_send(fds[0], "first", 5, 0) == 0 && mq_notify(fds[0], &event) == 0);
  return fds[0];
}
static void use_told(void) {
  char text[8192];
  CHECK(!told && mq_receive(fds[0], text, sizeof text, NULL) == 5 && mq_send(fds[0], "x", 1, 0) == 0 && told);
}

// The network namespace of a child.
static int make_namespace(void) {
  int ready[2];
  char byte = 0, path[64];
  CHECK(pipe(ready) == 0);
  pid_t child = fork();
  if (child == 0) {
    byte = unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;
    CHECK(write(ready[1], &byte, 1) == 1);
    for (;;) pause();
  }
  CHECK(read(ready[0], &byte, 1) == 1 && close(ready[0]) == 0 && close(ready[1]) == 0);
  snprintf(path, sizeof path, "/proc/%d/ns/net", child);
  fds[0] = byte ? open(path, O_RDONLY) : kAbsent;
  CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
  return fds[0];
}
static void use_namespace(void) {
  struct stat own, held;
  CHECK(stat("/proc/self/ns/net", &own) == 0 && fstat(fds[0], &held) == 0 && own.st_ino != held.st_ino);
}

// A namespace that the program has moved to since it was launched; an ordinary user needs one of users as well.
static const char* namespace_of;
static ino_t own_namespace;
static ino_t read_namespace(void) {
  struct stat status;
  char path[64];
  snprintf(path, sizeof path, "/proc/thread-self/ns/%s", namespace_of);
  return stat(path, &status) == 0 ? status.st_ino : 0;  // no pid namespace is shown before it has a process
}
static int make_unshared(const char* name, int flag) {
  namespace_of = name;
  const int is_made = unshare(flag) == 0 || unshare(CLONE_NEWUSER | flag) == 0;
  own_namespace = read_namespace();
  return is_made ? kNoDescriptor : kAbsent;
}
static int make_own_users(void) { return make_unshared("user", CLONE_NEWUSER); }
static int make_own_hostname(void) { return make_unshared("uts", CLONE_NEWUTS); }
static int make_own_network(void) { return make_unshared("net", CLONE_NEWNET); }
static int make_own_mounts(void) { return make_unshared("mnt", CLONE_NEWNS); }
static int make_own_ipc(void) { return make_unshared("ipc", CLONE_NEWIPC); }
static int make_own_cgroups(void) { return make_unshared("cgroup", CLONE_NEWCGROUP); }
static int make_own_clock(void) { return make_unshared("time_for_children", CLONE_NEWTIME); }
static int make_own_numbers(void) { return make_unshared("pid_for_children", CLONE_NEWPID); }
static void use_unshared(void) { CHECK(read_namespace() == own_namespace); }
// The first child is the namespace's first process: with the end of that one, there would be no others.
static void use_own_numbers(void) {
  for (int i = 0; i < 2; ++i) {
    pid_t child = fork();
    if (child == 0 && i == 0) pause();
    if (child == 0) _exit(0);
    CHECK(child > 0 && (i == 0 ? (odd_child = child) > 0 : waitpid(child, NULL, 0) == child));
  }
  use_odd_child();
}
static int make_hostname_of_child(void) {
  int ends[2];
  char has_it = 0;
  CHECK(pipe(ends) == 0 && (odd_child = fork()) >= 0);
  if (odd_child == 0) {
    has_it = make_own_hostname() != kAbsent;
    CHECK(write(ends[1], &has_it, 1) == 1);
    for (;;) pause();
  }
  CHECK(read(ends[0], &has_it, 1) == 1 && close(ends[0]) == 0 && close(ends[1]) == 0);
  return has_it ? kNoDescriptor : kAbsent;
}
static void* have_own_hostname(void* has_it) {
  *(int*)has_it = unshare(CLONE_NEWUTS) == 0;
  sem_post(&apart);
  while (sem_wait(&end_apart) != 0) victim_fail("sem_wait: %s", strerror(errno));
  return NULL;
}
static int make_hostname_of_thread(void) {
  static int has_it;
  sem_init(&apart, 0, 0);
  sem_init(&end_apart, 0, 0);
  thread = start_thread(have_own_hostname, &has_it);
  sem_wait(&apart);
  return has_it ? kNoDescriptor : kAbsent;
}

// An end that is only in flight, to another process of the job; the other end is ours. The child has neither.
static int flight[2];
static int send_to_child(const int ends[2]) {
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, flight) == 0 && (odd_child = fork()) >= 0);
  if (odd_child == 0) {
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0 && close(flight[0]) == 0);
    for (;;) pause();
  }
  send_fd(flight[0], ends[0]);
  CHECK(close(ends[0]) == 0 && close(flight[1]) == 0);
  return kNoDescriptor;
}
static int make_pipe_in_flight(void) { return pipe(fds) == 0 ? send_to_child(fds) : -1; }
static int make_socket_in_flight(void) { return socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0 ? send_to_child(fds) : -1; }
static void use_flight(void) {
  CHECK(write(fds[1], "x", 1) == 1);  // nobody has closed the other end
  use_odd_child();
}

// Somebody has opened the file since: the kernel waits for us to give it up.
static int make_broken_lease(void) {
  fds[0] = open(victim_path("leased"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  CHECK(signal(SIGIO, SIG_IGN) != SIG_ERR && fcntl(fds[0], F_SETLEASE, F_WRLCK) == 0);
  CHECK(open(victim_path("leased"), O_RDONLY | O_NONBLOCK) == -1 && errno == EWOULDBLOCK);
  return fds[0];
}
static void use_broken_lease(void) { CHECK(fcntl(fds[0], F_SETLEASE, F_UNLCK) == 0); }

static const struct Kind {
  const char* name;
  int (*make)(void);  // the descriptor, or as kernel-objects.h says
  void (*use)(void);
} kinds[] = {
    {"pipe", make_pipe, use_pipe},
    {"unread-events", make_unread_events, use_unread_events},
    {"foreign-pidfd", make_foreign_pidfd, use_foreign_pidfd},
    {"seccomp", make_seccomp, use_seccomp},
    {"queue-notification", make_told, use_told},
    {"shared-table", make_shared_table, use_apart},
    {"own-epoll", make_own_epoll, use_apart},
    {"own-lock", make_own_lock, use_apart},
    {"locked-file", make_locked_file, use_apart},
    {"io-uring", make_io_uring, use_io_uring},
    {"mapped-io-uring", make_mapped_io_uring, use_io_uring},
    {"working-io-uring", make_working_io_uring, use_io_uring},
    {"userfaultfd", make_userfaultfd, use_userfaultfd},
    {"served-memory", make_served_memory, use_userfaultfd},
    {"perf-event", make_perf_event, use_perf_event},
    {"bpf-map", make_bpf_map, use_bpf_map},
    {"fanotify", make_fanotify, use_fanotify},
    {"device", make_device, use_device},
    {"in-flight", make_in_flight, use_in_flight},
    {"dispatch", make_dispatch, use_dispatch},
    {"dispatch-in-child", make_dispatch_in_child, use_dispatch_in_child},
    {"namespace", make_namespace, use_namespace},
    {"unaccepted", make_unaccepted, use_unaccepted},
    {"broken-lease", make_broken_lease, use_broken_lease},
    {"ended-unix", make_ended_unix, use_ended},
    {"behind-mark", make_behind_mark, use_behind_mark},
    {"ended-tcp", make_ended_tcp, use_ended},
    {"shared-descriptors", make_shared_descriptors, use_odd_child},
    {"shared-folder", make_shared_folder, use_odd_child},
    {"shared-maps", make_shared_maps, use_odd_child},
    {"childs-maps", make_childs_maps, use_odd_child},
    {"other-end-signal", make_other_end_signal, use_odd_child},
    {"pipe-in-flight", make_pipe_in_flight, use_flight},
    {"socket-in-flight", make_socket_in_flight, use_flight},
    {"own-users", make_own_users, use_unshared},
    {"own-hostname", make_own_hostname, use_unshared},
    {"own-network", make_own_network, use_unshared},
    {"own-mounts", make_own_mounts, use_unshared},
    {"own-ipc", make_own_ipc, use_unshared},
    {"own-cgroups", make_own_cgroups, use_unshared},
    {"own-clock", make_own_clock, use_unshared},
    {"own-numbers", make_own_numbers, use_own_numbers},
    {"hostname-of-child", make_hostname_of_child, use_odd_child},
    {"hostname-of-thread", make_hostname_of_thread, use_apart},
};

int main(int argc, char** argv) {
  const struct Kind* kind = NULL;
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; ++i) {
    if (argc > 1 && strcmp(argv[1], kinds[i].name) == 0) kind = &kinds[i];
    if (argc < 2) puts(kinds[i].name);
  }
  if (kind == NULL) return 2;
  int fd = kind->make();
  if (fd == -1) victim_fail("cannot make a %s: %s", kind->name, strerror(errno));
  char text[128];
  snprintf(text, sizeof text, fd >= 0 ? "fd %d\n" : "none\n", fd);
  if (fd == kAbsent) snprintf(text, sizeof text, "absent: %s\n", strerror(errno));
  victim_write("kind", text);
  victim_wait(NULL);
  if (victim_broken()) victim_fail("sabotage");
  if (fd != kAbsent) kind->use();
  victim_pass();
}
