#!/usr/bin/env bats
# The restarted program is who it was: ids, names, place, environment; and debuggers find their way in it.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }

@test "pid, tids, parent, group, ids, limits, cwd, umask, environment, arguments and names survive; no capability is gained" {
  three_ways identity
}

@test "each thread keeps its scheduling, CPUs, priorities, slack and limits of privilege, and the process its own" {
  three_ways attributes
}

# bats test_tags=root
@test "a priority that may not be set is told in one line, and the program does without" {
  executable=$VICTIMS/heap-brk
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" nice -n -5 "$BUILD/bin/ckpt-launch" -- "$executable"
  program_pid=$main_pid
  await_ready
  checkpoint
  kill_program
  in_background "$VICTIM_DIR/restart-out-1" "$VICTIM_DIR/restart-err-1" \
    setpriv --bounding-set -sys_nice --inh-caps -sys_nice "$BUILD/bin/ckpt-restart" "$image"
  check_round
  finish
  [ "$(wc -l <"$VICTIM_DIR/restart-err-1")" -eq 1 ]
  grep -q 'priority' "$VICTIM_DIR/restart-err-1"
}

# bats test_tags=root
@test "a privileged program keeps ids that differ" {
  three_ways mixed-ids
}

@test "a program that may not be dumped is saved all the same" {
  if is_root; then
    three_ways attributes undumpable
    return
  fi
  # Nobody else may look at it, not even where its control page is: it must be asked by hand.
  launch_victim attributes undumpable
  run ckpt-trigger "$program_pid"
  [ "$status" -eq 77 ]
  [[ $output == *"$program_pid"*"not dumpable"*"kill -USR2 $program_pid"* ]]
  local turn
  for turn in 1 2; do
    rm -f "$CKPT_DIR/latest"
    kill -USR2 "$program_pid"
    await_file "$CKPT_DIR/latest" "$main_pid"
    image=$(readlink -f "$CKPT_DIR/latest")
    kill -KILL "$main_pid"
    await_end
    in_background "$VICTIM_DIR/restart-out-$turn" "$VICTIM_DIR/restart-err-$turn" ckpt-restart "$image"
    check_round
    program_pid=$(descendants_of "$main_pid" | tail -n 1)
  done
  finish
}

@test "no signal is advised for a program that may not be looked at and was never launched: it would die of it" {
  local powerless=()
  if is_root; then powerless=(setpriv --bounding-set=-all --inh-caps=-all); fi
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" python3 -c '
import ctypes, sys, time
ctypes.CDLL(None).prctl(4, 0)  # PR_SET_DUMPABLE
open(sys.argv[1], "w")
time.sleep(1000)' "$VICTIM_DIR/ready"
  await_file "$VICTIM_DIR/ready" "$main_pid"
  run "${powerless[@]}" ckpt-trigger "$main_pid"
  [ "$status" -eq 77 ]
  [[ $output == *"process $main_pid "*"not dumpable"*"use ckpt-launch"* ]]
  [[ $output != *kill* ]]
}

# bats test_tags=root
@test "what only root may set is kept for root" {
  three_ways attributes privileged
}

state_of() { sed -n 's/^State:.\(.\).*/\1/p' "/proc/$1/status"; }
is_stopped() { [ "$(state_of "$1")" = T ]; }

@test "a stopped program is saved, and stands afterwards as before" {
  launch_victim threads-many 3
  kill -STOP "$program_pid"
  await_that "$main_pid" is_stopped "$program_pid"
  checkpoint
  await_that "$main_pid" is_stopped "$program_pid"
  kill -CONT "$program_pid"
  check_round
  kill -STOP "$program_pid"
  await_that "$main_pid" is_stopped "$program_pid"
  checkpoint
  checkpoint
  await_that "$main_pid" is_stopped "$program_pid"
  kill_program
  restart
  await_that "$main_pid" is_stopped "$program_pid"
  await_that "$main_pid" is_stopped "$main_pid"
  kill -CONT "$main_pid"
  check_round
  checkpoint
  finish
}

@test "the program keeps its pid while another process has it" {
  # The original itself, stopped, is that process.
  launch_victim identity
  checkpoint
  local original=$main_pid
  kill -STOP "$original"
  restart_options=(--again)
  restart
  check_round
  finish
  kill -KILL "$original"
}

@test "the first process of a container is the first process again" {
  local options=(--pid --fork --mount-proc)
  is_root || options+=(--user --map-current-user)
  unshare "${options[@]}" true || skip "no namespaces here"
  executable=$VICTIMS/identity
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" unshare --kill-child "${options[@]}" "$BUILD/bin/ckpt-launch" -- "$executable"
  await_ready
  find_program_now
  checkpoint
  kill -KILL "$program_pid"
  await_end
  restart
  check_round
  [ "$(sed -n 's/^NStgid:.*\t//p' "/proc/$program_pid/status")" -eq 1 ]
  checkpoint
  kill -KILL "$program_pid"
  await_end
  [ "$exit_status" -eq 137 ]
  restart
  finish
}

@test "a seccomp filter that was there at the launch is the environment's: it is no obstacle, and missed at the restart in one line" {
  executable=$VICTIMS/identity
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" "$VICTIMS/under-filter" "$BUILD/bin/ckpt-launch" -- "$executable"
  program_pid=$main_pid
  await_ready
  checkpoint
  kill_program
  # no_new_privs came with the filter, and stays.
  restart
  check_round
  grep -q 'seccomp filters' "$VICTIM_DIR/restart-err-1"
  checkpoint
  finish
}

@test "a program that has its memory accesses checked for alignment is saved, under a filter as well" {
  executable=$VICTIMS/registers
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" "$VICTIMS/under-filter" "$BUILD/bin/ckpt-launch" -- "$executable" sse
  program_pid=$main_pid
  await_ready
  checkpoint
  kill_program
  restart
  finish
}

@test "a working directory that was deleted is one that was deleted" {
  three_ways deleted-folder
}

@test "ps shows the name and the arguments" {
  local before after
  launch_victim identity
  before=$(ps -o comm=,args= -p "$program_pid")
  [[ $before == "an identity"* ]]
  come_back
  after=$(ps -o comm=,args= -p "$program_pid")
  [ "$before" = "$after" ]
  finish
}

@test "the names in /proc/self/maps stay" {
  three_ways maps-names
}

@test "gdb attaches to the restarted program and prints a backtrace with symbols" {
  launch_victim maps-names
  come_back
  # The mount namespace is the program's own; gdb of an ordinary user may not enter it, and finds the files by their names as well.
  local sysroot=()
  if [ "$(id -u)" -ne 0 ]; then sysroot=(-iex 'set sysroot /'); fi
  timeout "$STEP_SECONDS" gdb -nx -batch "${sysroot[@]}" -ex backtrace -p "$program_pid" </dev/null >"$VICTIM_DIR/gdb" 2>&1 3>&-
  cat "$VICTIM_DIR/gdb"
  grep -q 'wait_in_inner_function (depth=.*0)' "$VICTIM_DIR/gdb"
  grep -q 'wait_in_outer_function ()' "$VICTIM_DIR/gdb"
  grep -q ' main ()' "$VICTIM_DIR/gdb"
  finish
}
