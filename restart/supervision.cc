// See supervision.h.
#include "restart/supervision.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/common/error.h"
#include "restart/channels.h"

namespace ckpt {

int Supervision::run() {
  const Fd signals(signalfd(-1, &handled_, SFD_CLOEXEC));
  return events_ < 0 ? run_by_waiting(signals.get()) : run_by_events(signals.get());
}

// Who shares our group, a script or ckpt-run, would have been stopped by ^Z as well, had it been the program's. The witness has
// seen it, and forgets it.
void Supervision::stop_group() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTSTP);
  const timespec now{0, 0};
  kill(0, SIGTSTP);
  sigtimedwait(&set, nullptr, &now);
  witness_.has_seen(SIGTSTP);
}

// A checkpoint of what is stopped lets it go on for a moment, and stop again: that was while we stood.
void Supervision::forget_stops() const {
  Event event{};
  pid_t sender = 0;
  while (events_ >= 0 && recv(events_, &event, sizeof(event), MSG_PEEK | MSG_DONTWAIT) == sizeof(event) &&
         (event.kind == Event::kStopped || event.kind == Event::kContinued) && receive_event(events_, &event, &sender)) {
  }
}

void Supervision::stop_with_program(int signal) {
  const pid_t group = getpgid(program_);
  const bool wants_terminal = signal == SIGTTIN || signal == SIGTTOU;
  if (watch_.is_group_orphaned()) {
    // From the terminal, it would not have stopped a program in our place. Who has sent SIGSTOP sends SIGCONT.
    if (signal == SIGSTOP || (wants_terminal && !terminal_.is_given() && !terminal_.is_here())) return;
  } else if (!wants_terminal || terminal_.is_given() || !terminal_.is_here()) {
    // A shell has moved us to the foreground while the program ran: it need not stop to have the terminal.
    const bool had_terminal = terminal_.is_given();
    terminal_.take_back();
    if (signal == SIGTSTP && had_terminal && group != getpgrp()) stop_group();
    raise(SIGSTOP);
    forget_stops();
  }
  if (terminal_.is_here()) terminal_.give_to(group);  // `fg`, and not `bg`
  kill(group > 0 && group != getpgrp() ? -group : program_, SIGCONT);
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
      if (WIFSTOPPED(status)) stop_with_program(WSTOPSIG(status));
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
    if (event.kind == Event::kStopped) stop_with_program(WSTOPSIG(event.status));
    if (event.kind == Event::kEnded) return event.status;
  }
}

}  // namespace ckpt
