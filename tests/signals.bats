#!/usr/bin/env bats
# Signal state survives, and no program ever sees one of our signals, whatever it does with its own.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }

@test "the disposition of every signal survives with flags and mask" {
  three_ways dispositions
}

@test "a program that sets no handler finds every signal at its default" {
  three_ways dispositions virgin
}

@test "pending signals survive with their siginfo and in their order" {
  three_ways pending-signals
}

@test "a program that uses SIGUSR2 itself can be checkpointed and sees its own signals only" {
  three_ways own-sigusr2
}

@test "a program that uses SIGURG itself can be checkpointed and sees its own signals only" {
  three_ways own-sigusr2 23
}

@test "a program that blocks every signal in every thread can be checkpointed" {
  three_ways blocks-everything
}

@test "a program that waits for every signal can be checkpointed and sees its own signals only" {
  three_ways sigwait-everything
}

@test "a thread that blocks everything past the libc is named, and the program goes on" {
  launch_victim blocks-everything raw
  run timeout "$STEP_SECONDS" ckpt-trigger -t 1 "$program_pid"
  echo "$output"
  [ "$status" -ne 0 ]
  [[ $output == *"$program_pid"* ]]
  [ -z "$(find "$CKPT_DIR" -name '*.ckpt*' ! -name '*.ckpt-control')" ]
  check_round
  finish
}

@test "another public signal can be chosen at launch" {
  launch_options=(-s USR1)
  launch_victim own-sigusr2
  kill -USR1 "$program_pid"
  await_file "$CKPT_DIR/latest" "$main_pid"
  check_round
  finish
}

@test "interval timers go on ticking" {
  three_ways itimers ticking
}

@test "what is left of a one-shot timer counts on" {
  three_ways itimers oneshot
}
