#!/usr/bin/env bats
# No blocked system call notices a checkpoint: none fails with EINTR, none returns early, every timeout ends when it should, and no
# wake-up by the program's own signals is lost.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }

@test "threads in all blocking calls at once see no EINTR" {
  three_ways no-eintr all
}

@test "no EINTR in nanosleep" { three_ways no-eintr nanosleep; }
@test "no EINTR in clock_nanosleep, relative and absolute" { three_ways no-eintr clock_nanosleep clock_nanosleep-abs; }
@test "no EINTR in poll and ppoll" { three_ways no-eintr poll ppoll; }
@test "no EINTR in select and pselect" { three_ways no-eintr select pselect; }
@test "no EINTR in sem_timedwait" { three_ways no-eintr sem_timedwait sem_timedwait-short; }
@test "no EINTR in pthread_cond_timedwait" { three_ways no-eintr cond_timedwait; }
@test "no EINTR in futex with and without timeout" { three_ways no-eintr futex futex-timed futex-short; }
@test "pause and sigsuspend do not return by themselves" { three_ways no-eintr pause sigsuspend; }
@test "nanosleep and ppoll still end by the program's own signals" { three_ways no-eintr nanosleep-signal ppoll-signal; }
@test "no EINTR in sigwait, sigwaitinfo and sigtimedwait" {
  three_ways no-eintr sigwait sigwaitinfo sigtimedwait sigtimedwait-short
}
@test "no EINTR in msgrcv" { three_ways no-eintr msgrcv; }

@test "no EINTR in read on a pipe" {
  with_fifo=1
  three_ways no-eintr read
}

@test "no EINTR in poll and select on a pipe" {
  with_fifo=1
  three_ways no-eintr poll-stdin
  three_ways no-eintr select-stdin
}

@test "a long blocking write is carried on" {
  local call
  for call in write writev pwritev2 sendmsg sendfile recvmsg; do three_ways long-transfers "$call"; done
}

@test "no EINTR in epoll_wait" {
  with_fifo=1
  # While descriptors of epoll are refused, a blocked epoll_wait must not notice the attempt.
  local said=0
  use_fifo
  launch_victim epoll-wait
  ckpt-trigger "$program_pid" >/dev/null 2>"$VICTIM_DIR/said" || said=$?
  check_round
  finish
  if [ "$said" -ne 0 ]; then
    grep -qE 'epoll|eventpoll' "$VICTIM_DIR/said"
  else
    three_ways epoll-wait
  fi
}

@test "timeouts end when they should" {
  three_ways timeouts 4
}

@test "calls that begin just before the freeze notice nothing" {
  launch_victim short-waits
  timeout $((STEP_SECONDS * 10)) "$VICTIMS/freeze-loop" "$program_pid" 300
  check_round
  finish
  three_ways short-waits
}

@test "a storm of the program's own signals loses no wake-up over many freezes" {
  # FREEZES=100000 for the long run.
  launch_victim signal-storm 2
  timeout $((STEP_SECONDS * 10)) "$VICTIMS/freeze-loop" "$program_pid" "${FREEZES:-200}"
  check_round
  finish
}

@test "a storm of the program's own signals goes on after a restart" {
  three_ways signal-storm 1
}
