#!/usr/bin/env bats
# What the commands may be started with, or without: closed standard streams, signals that are ignored or blocked, a small stack.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

bats_require_minimum_version 1.5.0
load helpers

setup() {
  bats_load_library bats-support
  bats_load_library bats-assert
  set_up
}

teardown() { tear_down; }

# Starts a victim that is to be saved.
start_victim() {
  executable=$VICTIMS/heap-brk
  launch "$executable"
  await_ready
}

# The head of the control page, up to the progress, which each checkpoint changes.
page_head() {
  head -c 20 "$CKPT_DIR"/run/*.ckpt-control | base64
}

# What of descriptors 0 to 2 a command finds open: `streams_of COMMAND… <&- >&-`; into the file `streams`.
streams_of() {
  "$@" sh -c 'exec 9>"$1"; for fd in 0 1 2; do [ ! -e "/proc/$$/fd/$fd" ] || printf "%s " "$fd" >&9; done' - "$VICTIM_DIR/streams"
}

@test "what is printed to a closed stream does not end up in the job's files" {
  local head
  start_victim
  head=$(page_head)
  run bash -c 'exec >&-; exec ckpt-trigger "$1"' - "$program_pid"
  assert_failure 1
  assert_output --partial "cannot write 'standard output'"
  assert_equal "$(page_head)" "$head"
  run bash -c 'exec 0>&- 1>&- 2>&-; exec ckpt-trigger -v "$1"' - "$program_pid"
  assert_failure 1
  run bash -c 'exec 2>&-; exec ckpt-trigger -v "$1"' - "$program_pid"
  assert_success
  assert_equal "$(page_head)" "$head"
  checkpoint
  check_round
  finish
}

@test "a program is launched with those streams closed that ckpt-launch found closed" {
  streams_of ckpt-launch <&-
  assert_equal "$(cat "$VICTIM_DIR/streams")" '1 2 '
  streams_of ckpt-launch >&- 2>&-
  assert_equal "$(cat "$VICTIM_DIR/streams")" '0 '
  streams_of ckpt-launch -v <&- >&- 2>&-
  assert_equal "$(cat "$VICTIM_DIR/streams")" ''
}

@test "ckpt-run does its work without standard streams, and its program finds them closed" {
  streams_of ckpt-run -n it <&-
  assert_equal "$(cat "$VICTIM_DIR/streams")" '1 2 '
  streams_of ckpt-run -n it >&- 2>&-
  assert_equal "$(cat "$VICTIM_DIR/streams")" '0 '
  streams_of ckpt-run -n it --every 10m <&- >&- 2>&-
  assert_equal "$(cat "$VICTIM_DIR/streams")" ''
}

@test "ckpt-every saves without standard streams" {
  start_victim
  in_background /dev/null /dev/null bash -c 'exec 0>&- 1>&- 2>&-; exec ckpt-every 0.2 "$1"' - "$program_pid"
  await_file "$CKPT_DIR/latest" "$main_pid"
  main_pid=$program_pid
  check_round
  finish
}

@test "what cannot be printed is a failure of each command" {
  local command
  for command in ckpt-ls ckpt-check ckpt-trigger ckpt-launch ckpt-restart ckpt-run ckpt-every ckpt; do
    run bash -c 'exec >&-; exec "$1" --help' - "$command"
    assert_failure
    run bash -c 'exec "$1" --version >/dev/full' - "$command"
    assert_failure
  done
}

@test "a program restarted without standard streams does not get the image in their place" {
  start_victim
  checkpoint
  kill_program
  restarts=1
  in_background /dev/null /dev/null bash -c 'exec 0>&- 1>&- 2>&-; exec ckpt-restart --stdio inherit "$1"' - "$image"
  await_that "$main_pid" find_program_now
  check_round
  run find "/proc/$program_pid/fd" -lname '*.ckpt'
  assert_output ''
  finish
}

# "${with_signals[@]}" ignored|blocked COMMAND…: SIGCHLD ignored, or everything blocked.
with_signals=(python3 -c '
import os, signal, sys
if sys.argv[1] == "ignored": signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if sys.argv[1] == "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
os.execvp(sys.argv[2], sys.argv[2:])')

@test "with SIGCHLD ignored or all signals blocked, ckpt-restart still ends as the program ends" {
  local how
  for how in ignored blocked; do
    new_work "$how"
    start_victim
    checkpoint
    kill_program
    restarts=1
    in_background "$VICTIM_DIR/restart-out-1" "$VICTIM_DIR/restart-err-1" "${with_signals[@]}" "$how" ckpt-restart "$image"
    await_that "$main_pid" find_program_now
    check_round
    finish
  done
}

# What COMMAND… leaves blocked and ignored, but for 32 and 33: they are libc's, and ignored below make (posix_spawn(3) of glibc).
signals_below() {
  local name mask
  "$@" grep -E '^Sig(Blk|Ign)' /proc/self/status | while read -r name mask; do
    printf '%s %016x\n' "$name" $((0x$mask & ~0x180000000))
  done
}

@test "a program is launched with the signals that ckpt-launch was started with" {
  local how
  for how in ignored blocked; do
    assert_equal "$(signals_below "${with_signals[@]}" "$how" ckpt-launch --every 10m)" "$(signals_below "${with_signals[@]}" "$how")"
  done
}

@test "with SIGCHLD ignored or all signals blocked, the other commands do their work" {
  local how
  start_victim
  for how in ignored blocked; do
    run "${with_signals[@]}" "$how" ckpt-trigger "$program_pid"
    assert_success
    run "${with_signals[@]}" "$how" ckpt-check "$program_pid"
    refute_output --partial 'cannot be tried'
    run "${with_signals[@]}" "$how" timeout "$STEP_SECONDS" ckpt-run -n "$how" sh -c 'exit 3'
    assert_failure 3
    sleep 1 3>&- &
    started+=("$!")
    run "${with_signals[@]}" "$how" timeout "$STEP_SECONDS" ckpt-every -q 10m "$!"
    assert_success
  done
  check_round
  finish
}

@test "a small limit of stacks is enough for all commands, and the program keeps it" {
  local limit
  for limit in 64 256; do
    new_work "$limit"
    executable=$VICTIMS/heap-brk
    launch bash -c 'ulimit -s "$1"; exec "$2"' - "$limit" "$executable"
    await_ready
    checkpoint
    kill_program
    run bash -c 'ulimit -s "$1"; ckpt-ls --verify "$2" && ckpt-restart -n "$2" && ckpt-launch true' - "$limit" "$image"
    assert_success
    restarts=1
    in_background "$VICTIM_DIR/restart-out-1" "$VICTIM_DIR/restart-err-1" bash -c 'ulimit -s "$1"; exec ckpt-restart "$2"' - "$limit" "$image"
    await_that "$main_pid" find_program_now
    check_round
    assert_regex "$(cat "/proc/$program_pid/limits")" "stack size +$((limit * 1024)) "
    finish
  done
}

# refuses_empty STATUS COMMAND…: says what is empty, and does nothing.
refuses_empty() {
  local expected=$1
  shift
  run "-$expected" "$@"
  assert_line --index 0 --regexp "''|empty value"
}

@test "an empty operand or value, as of a variable that is not set, is never taken for none" {
  start_victim
  checkpoint
  kill_program
  refuses_empty 125 ckpt-restart ''
  refuses_empty 125 ckpt-restart -n ''
  refuses_empty 66 ckpt-ls ''
  refuses_empty 66 ckpt-check ''
  refuses_empty 2 ckpt-trigger ''
  refuses_empty 2 ckpt-trigger -o '' 1
  refuses_empty 127 ckpt-launch ''
  refuses_empty 125 ckpt-launch -o '' touch "$VICTIM_DIR/ran"
  refuses_empty 125 ckpt-launch --dir= touch "$VICTIM_DIR/ran"
  refuses_empty 125 ckpt-run -n '' touch "$VICTIM_DIR/ran"
  refuses_empty 125 ckpt-run --name= touch "$VICTIM_DIR/ran"
  refuses_empty 2 ckpt-every '' 1
  refuses_empty 2 ckpt-every 1 ''
  refuses_empty 2 ckpt ''
  [ ! -e "$VICTIM_DIR/ran" ]
}
