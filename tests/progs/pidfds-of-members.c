// pidfds of other processes of the job: of a child, of its parent (inherited and opened), of a child that has ended and not been
// waited for; one of them in an epoll set. And a pipe that raises signals in another process (F_SETOWN).
#include "victim.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>

static int of_child, of_ended, own, set, ask[2], answer[2], noise[2];
static pid_t child, ended;
static volatile sig_atomic_t heard;

static int open_pidfd(pid_t pid) {
  int fd = (int)syscall(SYS_pidfd_open, pid, 0);
  CHECK(fd >= 0);
  return fd;
}

static pid_t whose(int pidfd) {
  char path[64], text[512];
  snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
  CHECK(read_file(path, text, sizeof text) > 0);
  return atoi(strstr(text, "Pid:") + 4);
}

static void on_noise(int number) {
  (void)number;
  ++heard;
}

// In the child: looks at its pidfds whenever it is asked, and says how often it was signalled for the pipe.
static void serve(void) {
  const int of_parent = open_pidfd(getppid());
  char order;
  while (read(ask[0], &order, 1) == 1) {
    if (order == 'q') _exit(7);
    const int is_right = whose(of_parent) == getppid() && whose(own) == getppid();
    const char result = is_right ? (char)heard : -1;
    if (write(answer[1], &result, 1) != 1) _exit(9);
  }
  _exit(8);
}

static int ask_child(void) {
  char result;
  CHECK(write(ask[1], "?", 1) == 1 && read(answer[0], &result, 1) == 1);
  return result;
}

static void check(void) {
  char byte;
  struct epoll_event event;
  CHECK(whose(of_child) == child && whose(of_ended) == ended && whose(own) == getpid());
  CHECK(syscall(SYS_pidfd_send_signal, of_child, 0, NULL, 0) == 0);
  struct pollfd entries[2] = {{of_child, POLLIN, 0}, {of_ended, POLLIN, 0}};
  CHECK(poll(entries, 2, 0) == 1 && entries[1].revents == POLLIN);
  CHECK(epoll_wait(set, &event, 1, 0) == 0);
  const int before = ask_child();
  CHECK(before >= 0);
  CHECK(write(noise[1], "!", 1) == 1);
  while (ask_child() == before) victim_sleep_ms(1);
  CHECK(read(noise[0], &byte, 1) == 1 && ask_child() == before + 1);
}

int main(void) {
  CHECK(pipe(ask) == 0 && pipe(answer) == 0 && pipe(noise) == 0);
  own = open_pidfd(getpid());
  CHECK(signal(SIGIO, on_noise) != SIG_ERR);
  child = fork();
  if (child == 0) serve();
  ended = fork();
  if (ended == 0) _exit(5);
  of_child = open_pidfd(child);
  of_ended = open_pidfd(ended);
  siginfo_t info;
  CHECK(waitid(P_PID, (id_t)ended, &info, WEXITED | WNOWAIT) == 0);
  CHECK((set = epoll_create1(0)) >= 0);
  struct epoll_event event = {EPOLLIN, {.fd = of_child}};
  CHECK(epoll_ctl(set, EPOLL_CTL_ADD, of_child, &event) == 0);
  CHECK(fcntl(noise[0], F_SETOWN, child) == 0 && fcntl(noise[0], F_SETFL, O_ASYNC) == 0);
  victim_wait(check);
  if (victim_broken()) CHECK(dup2(own, of_child) == of_child);
  check();
  CHECK(write(ask[1], "q", 1) == 1);
  CHECK(epoll_wait(set, &event, 1, -1) == 1 && event.data.fd == of_child);
  CHECK(waitid(P_PIDFD, (id_t)of_child, &info, WEXITED) == 0 && info.si_pid == child && info.si_status == 7);
  CHECK(waitid(P_PIDFD, (id_t)of_ended, &info, WEXITED) == 0 && info.si_pid == ended && info.si_status == 5);
  victim_pass();
}
