// See supervision.h.
#include "restart/supervision.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/common/error.h"
#include "restart/channels.h"

namespace ckpt {

int Supervision::run() {
  const Fd signals(signalfd(-1, &handled_, SFD_CLOEXEC));
  return events_ < 0 ? run_by_waiting(signals.get()) : run_by_events(signals.get());
}

void Supervision::stop_with_program() const {
  const pid_t group = getpgid(program_);
  terminal_.give_to(getpgrp());
  raise(SIGSTOP);
  terminal_.give_to(group);
  if (group > 0 && group != getpgrp()) {
    kill(-group, SIGCONT);
  } else {
    kill(program_, SIGCONT);
  }
}

// What came to our group goes to the program's: batch systems, timeout(1) and `kill %1` mean all of the job, and took those in it
// along before the checkpoint. What came to us alone is for the program alone, as it was when that had our pid.
void Supervision::forward(int signals) {
  signalfd_siginfo info;
  if (read(signals, &info, sizeof(info)) != sizeof(info)) return;
  const int signal = static_cast<int>(info.ssi_signo);
  if (signal == SIGCHLD || signal == SIGTTOU || program_ <= 0) return;
  const pid_t group = getpgid(program_);
  if (!witness_.has_seen(signal)) {
    kill(program_, signal);
  } else if (group > 0 && group != getpgrp()) {
    kill(-group, signal);
  }
}

int Supervision::run_by_waiting(int signals) {
  for (;;) {
    int status = 0;
    while (waitpid(program_, &status, WNOHANG | WUNTRACED | WCONTINUED) > 0) {
      if (WIFSTOPPED(status)) stop_with_program();
      if (WIFEXITED(status) || WIFSIGNALED(status)) return status;
    }
    pollfd polled{signals, POLLIN, 0};
    if (poll(&polled, 1, -1) > 0) forward(signals);
  }
}

int Supervision::run_by_events(int signals) {
  for (;;) {
    pollfd polled[2] = {{events_, POLLIN, 0}, {signals, POLLIN, 0}};
    if (poll(polled, 2, -1) < 0) continue;
    if ((polled[1].revents & POLLIN) != 0) forward(signals);
    if (polled[0].revents == 0) continue;
    Event event{};
    pid_t sender = 0;
    if (!receive_event(events_, &event, &sender))
      throw Error::plain("the program ended without a status: the namespace was killed", ExitCode::kRunner);
    if (event.kind == Event::kStopped) stop_with_program();
    if (event.kind == Event::kEnded) return event.status;
  }
}

}  // namespace ckpt
