#!/usr/bin/env bats
# Somebody is killed while a job of several processes is rebuilt: one of its processes, one of those that stand around it, or
# ckpt-restart itself. Either all run or nobody does, and then nothing stays behind, and the image comes back the next time.
# In namespaces, and without: where an ordinary user has to go round the numbers, a restart takes long, and only some of it is tried.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }
has_tree=1

# An image of tests/progs/together.c, whose processes show from now on that they run.
save_family() {
  lease=
  launch_victim together
  checkpoint
  kill_program
  : >"$VICTIM_DIR/mark"
  sha256sum "$image" >"$BATS_TEST_TMPDIR/sum"
  mkdir "$BATS_TEST_TMPDIR/tmp"
  export TMPDIR=$BATS_TEST_TMPDIR/tmp
}

# begin_restart WAY; WAY is namespaces, plain, or one in which numbers are gone round: round (also where there is no clone3), or weak
# (root without the right to choose them).
begin_restart() {
  local command=(env --default-signal=HUP ckpt-restart "$image") # under nohup as well
  if [ "$1" = plain ]; then command=("$VICTIMS/without-calls" EPERM pid-namespace "${command[@]}"); fi
  if [ "$1" = round ]; then command=("$VICTIMS/without-calls" EPERM "pid-namespace,clone3" "${command[@]}"); fi
  if [ "$1" = weak ]; then command=(setpriv --bounding-set="-sys_admin,-cap_40" "$VICTIMS/without-calls" EPERM pid-namespace "${command[@]}"); fi
  rm -f "$VICTIM_DIR"/ran-*
  in_background "$VICTIM_DIR/restart-out" "$VICTIM_DIR/restart-err" "${command[@]}"
}

# Sets init, parent and job: who is below ckpt-restart: look_below WAY.
look_below() {
  local pid
  init='' parent='' job=()
  for pid in $(descendants_of "$main_pid"); do
    case $(cat "/proc/$pid/comm" 2>/dev/null) in
      '' | ckpt-witness) ;;
      *) if [ -z "$init" ]; then init=$pid; elif [ -z "$parent" ] && [ "$1" = namespaces ]; then parent=$pid; else job+=("$pid"); fi ;;
    esac
  done
}

has_run() { compgen -G "$VICTIM_DIR/ran-*" >"$BATS_TEST_TMPDIR/ran"; }
count_run() { has_run && wc -l <"$BATS_TEST_TMPDIR/ran" || echo 0; }

# Whatever has to do with this test and is none of its shells.
left_over() {
  local folder
  for folder in /proc/[0-9]*; do
    case $(readlink "$folder/exe" 2>/dev/null) in
      "$BUILD"/*) ;;
      *) continue ;;
    esac
    if {
      cat "$folder/environ" "$folder/maps"
      readlink "$folder"/fd/*
    } 2>/dev/null | grep -qaF "$BATS_TEST_TMPDIR"; then
      echo "${folder#/proc/} $(cat "$folder/comm" 2>/dev/null)"
    fi
  done
}

end_all() {
  local pid name
  while read -r pid name; do kill -KILL "$pid" 2>/dev/null || true; done < <(left_over)
  wait "$main_pid" 2>/dev/null || true
}

# Restarts, until all wait: hold WAY STAGE. Stages: opened, init waits for a file before there is a job; met, the others wait for a
# process of the job that is stopped; mapped, they have met, and wait for one that waits for a file.
hold() {
  echo "$1, $2"
  if [ "$2" = met ]; then
    local attempt
    for attempt in {1..100}; do
      if stop_somebody "$1"; then return; fi
      end_all
    done
    fail "$attempt times too late"
  fi
  rm -f "$VICTIM_DIR"/{leased,awaited}
  in_background /dev/null "$VICTIM_DIR/lease-err" "$VICTIMS/keep-lease" "$VICTIM_DIR/$2"
  lease=$main_pid
  await_file "$VICTIM_DIR/leased" "$lease"
  begin_restart "$1"
  await_file "$VICTIM_DIR/awaited" "$main_pid"
  sleep 0.2
  look_below "$1"
}

# False: it was too late.
stop_somebody() { # WAY
  begin_restart "$1"
  stopped=$("$VICTIMS/stop-below" "$main_pid")
  sleep 0.2
  look_below "$1"
  [ -n "$stopped" ] && is_alive "$main_pid" && ! has_run && [ "$(readlink "/proc/${job[0]}/exe")" = "$BUILD/bin/ckpt-restart" ]
}

let_go() {
  [ -n "$lease" ] || return 0
  kill -KILL "$lease"
  wait "$lease" 2>/dev/null || true
  lease=
}

# Sets pid: that of a process by its number in tests/progs/together.c.
find_number() {
  local old
  read -r old <"$VICTIM_DIR/there-$1"
  for pid in "${job[@]}"; do
    if grep -q "^NSpid:.*\b$old$" "/proc/$pid/status"; then return; fi
  done
  fail "no process $1"
}

# has_failed PATTERN: ckpt-restart ends, with one line like that and 125, and nothing has run or stays behind.
has_failed() {
  local line
  await_end
  [ "$exit_status" -eq 125 ] || fail "ended with $exit_status"
  line=$(grep -vE 'restarted without namespaces|; once more$' "$VICTIM_DIR/restart-err")
  let_go
  if [[ $line == *$'\n'* || ! $line =~ ^ckpt-restart:\ $1 ]]; then fail "not one line like '$1': $line"; fi
  is_clean
}

is_clean() {
  local left
  left=$(left_over)
  [ -z "$left" ] || fail "left over: $left"
  ! has_run || fail "has run: $(cat "$BATS_TEST_TMPDIR/ran")"
  [ -z "$(find "$CKPT_DIR/run" "$TMPDIR" -name '*ckpt*')" ] || fail "files: $(ls "$CKPT_DIR/run" "$TMPDIR")"
  sha256sum --quiet -c "$BATS_TEST_TMPDIR/sum"
}

# After all that, the image comes back: comes_back WAY.
comes_back() {
  begin_restart "$1"
  await_that "$main_pid" all_run
  round=0
  check_round
  finish
}
all_run() { [ "$(count_run)" -eq 10 ]; }

# As a process of the job is called while it is rebuilt.
killed='\(together\) of the job was killed by SIGKILL before all were ready to run$'

fails_when_killed() { # WAY
  local stage number
  save_family
  for stage in opened met mapped; do
    hold "$1" "$stage"
    kill -KILL "$init"
    has_failed 'the process above the job \(ckpt-init\) was killed by SIGKILL before all were ready to run$'
    [ "$stage" != opened ] || continue
    hold "$1" "$stage"
    kill -KILL "${job[@]}" 2>/dev/null || true # the others end soon
    has_failed 'process [0-9]+ \(together\) of the job (was killed by SIGKILL|ended) before all were ready to run$'
    for number in 1 2; do
      hold "$1" "$stage"
      find_number "$number"
      kill -KILL "$pid"
      has_failed "process $(cat "$VICTIM_DIR/there-$number") $killed"
    done
    [ "$1" = namespaces ] || continue
    hold "$1" "$stage"
    kill -KILL "$parent"
    has_failed "the one that stands for the job's parent \(ckpt-parent\) (was killed by SIGKILL|ended) before all were ready to run$"
  done
  hold "$1" met
  kill -KILL "$stopped"
  has_failed "process [0-9]+ $killed"
  for number in 11 12 22 31; do
    hold "$1" mapped
    find_number "$number"
    kill -KILL "$pid"
    has_failed "process $(cat "$VICTIM_DIR/there-$number") $killed"
  done
  comes_back "$1"
}

@test "a restart fails as soon as one of the processes is killed, and leaves nothing behind" {
  fails_when_killed namespaces
}
# bats test_tags=root
@test "without namespaces a restart fails as soon as one of the processes is killed, and leaves nothing behind" {
  fails_when_killed plain
}

fails_when_interrupted() { # WAY
  local stage signal end
  save_family
  for stage in opened met mapped; do
    for signal in TERM HUP; do # a shell lets those in the background ignore the others
      hold "$1" "$stage"
      if [ "$stage" = met ]; then kill -STOP "${job[0]}" && sleep 0.2; fi # ckpt-restart does not stop with the program yet
      kill -s "$signal" "$main_pid"
      has_failed "interrupted by SIG$signal$"
    done
    hold "$1" "$stage"
    kill -KILL "$main_pid"
    let_go
    await_end
    [ "$exit_status" -eq 137 ]
    end=$((SECONDS + STEP_SECONDS))
    until [ -z "$(left_over)" ] || [ "$SECONDS" -ge "$end" ]; do sleep 0.05; done
    is_clean
  done
  comes_back "$1"
}

@test "a restart that is interrupted or killed leaves nothing behind" {
  fails_when_interrupted namespaces
}
# bats test_tags=root
@test "without namespaces a restart that is interrupted or killed leaves nothing behind" {
  fails_when_interrupted plain
}

@test "where numbers are gone round, a restart that is interrupted or loses a process leaves nothing behind" {
  save_family
  hold round mapped
  find_number 1
  kill -KILL "$pid"
  has_failed "process $(cat "$VICTIM_DIR/there-1") $killed"
  hold round mapped
  kill -KILL "$init"
  has_failed '.*\(ckpt-init\) was killed by SIGKILL before all were ready to run$'
  hold round opened
  kill -TERM "$main_pid"
  has_failed 'interrupted by SIGTERM$'
  comes_back round
}

# The kernel skips those that are taken, and the one behind them comes at once.
# bats test_tags=root
@test "where numbers are gone round, one behind many that are taken is not missed" {
  local takers=() i
  launch_victim heap-brk
  checkpoint
  kill_program
  for i in {1..12}; do
    in_background "$VICTIM_DIR/taken-$i" "$VICTIM_DIR/taken-err" "$VICTIMS/take-number" "$((program_pid - i))"
    takers+=("$main_pid")
    await_that "$main_pid" test -s "$VICTIM_DIR/taken-$i"
  done
  begin_restart round
  round=0
  check_round
  finish
  if grep 'did not come' "$VICTIM_DIR/restart-err"; then fail "it was missed"; fi
  kill -KILL "${takers[@]}"
}

# The kernel begins each round at 300, so no number comes shortly before it.
# bats test_tags=root
@test "where numbers are gone round, the first of a round is not missed" {
  local first=300
  while [ -e "/proc/$first" ]; do first=$((first + 1)); done
  executable=$VICTIMS/heap-brk
  for _ in {1..20}; do # somebody else may be quicker
    echo "$((first - 1))" >/proc/sys/kernel/ns_last_pid
    launch "$executable"
    if [ "$program_pid" -eq "$first" ]; then break; fi
    kill_program
    rm -f "$VICTIM_DIR/ready"
  done
  [ "$program_pid" -eq "$first" ]
  await_ready
  checkpoint
  kill_program
  begin_restart round
  round=0
  check_round
  finish
  if grep 'did not come' "$VICTIM_DIR/restart-err"; then fail "it was missed"; fi
}

# takes_meanwhile WAY NUMBER: somebody takes it while a restart goes round, which began when it was free.
takes_meanwhile() {
  local restarter
  begin_restart "$1"
  restarter=$main_pid
  await_that "$restarter" grep -q 'restarted without namespaces' "$VICTIM_DIR/restart-err"
  in_background "$VICTIM_DIR/taken" "$VICTIM_DIR/taken-err" "$VICTIMS/take-number" "$2"
  taker=$main_pid
  await_that "$taker" test -s "$VICTIM_DIR/taken"
  main_pid=$restarter
}
does_without() { # NUMBER
  round=0
  check_round
  grep -q '; once more$' "$VICTIM_DIR/restart-err"
  grep -q "its number $1 (take-number), is somebody else's" "$VICTIM_DIR/restart-err"
  finish
  kill -KILL "$taker"
  wait "$taker" 2>/dev/null || true
}
# bats test_tags=root
@test "the number of a process that somebody takes while a restart goes round is done without" {
  local number
  save_family
  number=$(cat "$VICTIM_DIR/there-12")
  takes_meanwhile round "$number"
  does_without "$number"
}
# bats test_tags=root
@test "the number of a thread that somebody takes while a restart goes round is done without" {
  local number
  has_tree=
  launch_victim old-numbers threads
  number=$(find "/proc/$program_pid/task" -mindepth 1 -maxdepth 1 ! -name "$program_pid" -printf '%f\n')
  checkpoint
  kill_program
  takes_meanwhile weak "$number"
  does_without "$number"
}

# Somebody of the job, or of those around it, is killed at any moment.
all_or_none() { # WAY
  local victims
  save_family
  for _ in {1..15}; do
    begin_restart "$1"
    init=
    until [ -n "$init" ] || ! is_alive "$main_pid"; do look_below "$1"; done
    sleep "0.0$((RANDOM % 3))$((RANDOM % 10))"
    look_below "$1"
    victims=("${job[@]}" ${parent:+"$parent"} "$init")
    kill -KILL "${victims[RANDOM % ${#victims[@]}]}" || true
    is_all_or_none
  done
  comes_back "$1"
}

is_all_or_none() {
  local end=$((SECONDS + STEP_SECONDS))
  until ! is_alive "$main_pid" || [ "$SECONDS" -ge "$end" ] || [ "$(count_run)" -ge 9 ]; do sleep 0.02; done
  if is_alive "$main_pid" || has_run; then
    [ "$(count_run)" -ge 9 ] || fail "half of it has run: $(cat "$BATS_TEST_TMPDIR/ran")"
    end_all
  else
    has_failed '.*before all were ready to run$'
  fi
}

@test "whenever one of the processes is killed, all run or nobody does" {
  all_or_none namespaces
}
# bats test_tags=root
@test "without namespaces, whenever one of the processes is killed, all run or nobody does" {
  all_or_none plain
}

@test "the end of a program is told although the one that stands for its parent was killed" {
  has_tree=
  launch_victim heap-brk
  checkpoint
  kill_program
  restart
  check_round
  look_below namespaces
  kill -KILL "$parent"
  check_round
  finish
}
