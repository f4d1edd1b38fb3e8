#!/usr/bin/env bats
# Descriptors that are neither files nor pipes: each survives as it was.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }

@test "eventfd counters survive" {
  three_ways eventfds
}

@test "timers that are read keep their time, and lose no tick" {
  three_ways timerfds
}

@test "signals that are read survive, and ours are never among them" {
  three_ways signalfds
}

@test "epoll sets survive: edges, one-shots, closed and reused numbers" {
  three_ways epolls
}

@test "a thread that waits in epoll for standard input survives" {
  with_fifo=1 three_ways epoll-wait
}

@test "pidfds of the program itself, and of what is gone, survive" {
  three_ways pidfds
}

@test "folders survive in the midst of their entries, and descriptors of paths" {
  three_ways folders
}

@test "named pipes within the program survive, and files without a name" {
  three_ways fifos
}

@test "open files of /proc show the program again" {
  three_ways proc-files
}

@test "locks on files are held again" {
  three_ways file-locks
}

@test "descriptors that raise signals do so again" {
  three_ways signal-driven
}

@test "ten thousand descriptors survive" {
  three_ways many-descriptors
}

@test "inotify watches survive with their numbers" {
  three_ways watches
}

@test "who reads every signal meets none of ours, in read or epoll" {
  three_ways signalfd-all
}

@test "a restart that cannot have a lock again is refused, and names the file" {
  launch_victim file-locks
  checkpoint
  kill_program
  local taken="$VICTIM_DIR/whole"
  exec {other_fd}<"$taken"
  flock -n "$other_fd"
  run timeout "$STEP_SECONDS" ckpt-restart "$image"
  exec {other_fd}<&-
  echo "$output"
  [ "$status" -eq 125 ]
  [[ $output == *"another process holds the lock"*"$taken"* ]]
  restart
  check_round
  finish
}
