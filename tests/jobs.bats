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

@test "sockets between processes survive, with what is in flight both ways, half-closed, and beside a stopped process" {
  three_ways member-sockets
}

# Nobody below the store but images, the control page and what the store itself is made of; no writer is left.
expect_nothing_left() {
  local left
  left=$(find "$CKPT_DIR" -type f ! -name '*.ckpt' ! -name '*.ckpt-control' ! -path '*/files/*')
  [ -z "$left" ] || fail "left over: $left"
}

has_members() { [ "$(members | wc -l)" -eq "$1" ]; }

@test "a process that is killed, exits or calls exec in the midst of a checkpoint harms no other one" {
  launch_victim mortal-members
  local turn status trigger saved=0
  for turn in {1..50}; do
    timeout "$STEP_SECONDS" ckpt-trigger "$program_pid" >"$VICTIM_DIR/trigger-out" 2>"$VICTIM_DIR/trigger-err" 3>&- &
    trigger=$!
    started+=("$trigger")
    sleep_ms $((RANDOM % 40))
    : >"$VICTIM_DIR/end-now"
    status=0
    wait "$trigger" || status=$?
    if [ "$status" -eq 0 ]; then
      saved=$((saved + 1))
      image=$(cat "$VICTIM_DIR/trigger-out")
      ckpt-ls --verify "$image"
    else
      grep -q '^ckpt-trigger: not saved: ' "$VICTIM_DIR/trigger-err" || fail "status $status: $(cat "$VICTIM_DIR/trigger-err")"
    fi
    check_round
    expect_nothing_left
    await_that "$main_pid" has_members 7
  done
  echo "$saved of 50 were saved"
  come_back
  finish
}

@test "a process that sleeps where nothing can stop it is named, and all go on" {
  launch_victim slow-vfork
  run timeout "$STEP_SECONDS" ckpt-trigger -t 1 "$program_pid"
  echo "$output"
  [ "$status" -eq 1 ]
  [[ $output == *"$program_pid"* ]]
  expect_nothing_left
  check_round
  : >"$VICTIM_DIR/exec-now"
  come_back
  finish
}
