#!/usr/bin/env bats
# Clocks go on where they stood, and the program ends as it would have ended.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }

@test "CLOCK_MONOTONIC and CLOCK_BOOTTIME do not jump" {
  three_ways monotonic-clock
}

@test "a downtime of four seconds does not show on CLOCK_MONOTONIC" {
  VICTIM_DOWNTIME=4
  run_way restart monotonic-clock 2
}

@test "POSIX timers keep ids, beat, and what is left, by every clock and notification" {
  three_ways posix-timers
}

@test "a timer that expires during a checkpoint is told once, over twelve restarts" {
  local turn
  launch_victim oneshot-storm
  for turn in {1..12}; do
    checkpoint
    check_round
    come_back
  done
  finish
}

# Ends the program in the given manner after a restart: ends_with STATUS MANNER WORD…, the words being what the end leaves in its trace.
ends_with() {
  local status=$1 manner=$2
  shift 2
  launch_victim normal-end "$manner"
  come_back
  finish "$status"
  [ "$(tr '\n' ' ' <"$VICTIM_DIR/trace" 2>/dev/null || true)" = "${*:+$* }" ]
}

@test "exit runs destructors and atexit handlers, flushes, and its status is that of ckpt-restart" {
  ends_with 7 exit thread-local atexit-2 atexit-1 static
  [ "$(cat "$VICTIM_DIR/out" "$VICTIM_DIR/restart-out-1")" = "buffered before, written after" ]
}

@test "main may end by pthread_exit" {
  ends_with 7 thread atexit-2 atexit-1 static
}

@test "death by SIGTERM is death by SIGTERM of ckpt-restart" {
  ends_with 143 term
}

@test "death by abort is death by abort of ckpt-restart" {
  ends_with 134 abort
}

@test "a segmentation fault of the program itself is one of ckpt-restart" {
  ends_with 139 segv
}

@test "a program that merely goes on after a checkpoint ends normally" {
  launch_victim normal-end exit
  go_on
  finish 7
  [ "$(tr '\n' ' ' <"$VICTIM_DIR/trace")" = "thread-local atexit-2 atexit-1 static " ]
}
