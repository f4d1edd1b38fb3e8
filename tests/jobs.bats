#!/usr/bin/env bats
# What processes of a job share and wait for from each other, and what may happen to one of them: the job comes back whole.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }
has_tree=1

@test "counters, timers, signals, watches and epoll sets that two processes share stay shared" {
  three_ways shared-events
}

@test "locks that processes share by memory are held and waited for as before" {
  three_ways shared-locks
}

@test "a semaphore that keeps its name is the same for a process that opened it before" {
  export VICTIM_SEMAPHORE=ckpt-test-$BATS_TEST_NUMBER-$$
  three_ways shared-locks named
  rm "/dev/shm/sem.$VICTIM_SEMAPHORE"
}

@test "locks on files are held by one process and waited for by others as before" {
  three_ways waiting-locks
}

@test "processes that sleep on each other's pipes go on, and the end of a pipe comes when it is due" {
  three_ways blocked-pipes
}

@test "daemons, subreapers with orphans, and sessions whose leader is a zombie stay, and new ones come" {
  three_ways daemons
}

@test "files that one process has passed to another are shared by both" {
  three_ways passed-files
}

@test "two hundred processes come back, each with its own memory" {
  three_ways many-processes 200
}

@test "a job is saved whole whichever of its processes is named" {
  local trait turn found
  for trait in family daemons passed-files shared-locks; do
    new_work "$trait"
    rm -rf "$CKPT_DIR"
    launch_victim "$trait"
    for turn in 1 2 3; do
      mapfile -t found < <(members)
      program_pid=${found[RANDOM % ${#found[@]}]}
      echo "$trait, turn $turn: $program_pid of ${found[*]}"
      checkpoint
      program_pid=$(find_program "$main_pid" "$executable")
      kill_program
      restart
      check_round
    done
    finish
  done
}
