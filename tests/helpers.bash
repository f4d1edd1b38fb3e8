# What the tests share: start a program under test (tests/progs/victim.h tells its protocol), checkpoint it, kill it, restart it, and let
# it judge itself. Loaded by `load helpers`; a test file's setup calls `set_up`, its teardown `tear_down`.
# Only processes started here are ever killed, by their number. Nothing is timed; STEP_SECONDS only ends a wait that hangs.
# shellcheck shell=bash
# checkpoint and restart take arguments in some tests only.
# shellcheck disable=SC2119,SC2120

TESTS_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BUILD=$(cd "${BUILD:-$TESTS_DIR/../build}" && pwd)
VICTIMS=$BUILD/tests
LIBCKPT=$BUILD/lib/ckpt/libckpt.so
STEP_SECONDS=${STEP_SECONDS:-120}
PATH=$BUILD/bin:$PATH

# --- around a test ---

set_up() {
  set +T # no trap of bats's for each command of a helper: it took more time than what is tested
  unset CKPT_FILE CKPT_KEEP CKPT_SIGNAL CKPT_COMPRESS VICTIM_BREAK VICTIM_STDIN VICTIM_DOWNTIME LD_PRELOAD
  export CKPT_DIR=$BATS_TEST_TMPDIR/store
  started=()
  launch_options=()
  restart_options=()
  with_fifo=
  umask 022
  mkfifo "$BATS_TEST_TMPDIR/never"
  new_work work
}

# Ends what is left over, shows why a test failed, and takes the images away: they can be large.
tear_down() {
  local pid
  if [ -z "${BATS_TEST_COMPLETED:-}" ]; then
    show_work
    if [ -n "${has_tree:-}" ] && [ -n "${program_pid:-}" ]; then kill_members; fi
  fi
  for pid in "${started[@]}"; do
    if is_child "$pid"; then kill -KILL "$pid" 2>/dev/null || true; fi
    wait "$pid" 2>/dev/null || true
  done
  remove_objects
  rm -rf "${BATS_TEST_TMPDIR:?}"/*
}

# System V objects outlive a program that was killed (tests/progs/sysv.h notes them). keeps_objects=1: let them.
remove_objects() {
  local option id
  [ -z "${keeps_objects:-}" ] || return 0
  [ -e "$BATS_TEST_TMPDIR/ipc-left" ] || return 0
  while read -r option id; do
    case $option in
      -P) "$VICTIMS/posix-queues" remove "$id" ;;
      *) ipcrm "$option" "$id" 2>/dev/null || true ;;
    esac
  done <"$BATS_TEST_TMPDIR/ipc-left"
}

# Whether it is a child of this shell still: its number may be somebody else's by now.
is_child() {
  local parent
  parent=$(sed -n 's/^PPid:.\([0-9]*\)$/\1/p' "/proc/$1/status" 2>/dev/null)
  [ "$parent" = "$BASHPID" ]
}

# A fresh folder for one run of a program.
new_work() {
  export VICTIM_DIR=$BATS_TEST_TMPDIR/$1
  rm -rf "${VICTIM_DIR:?}"
  mkdir -p "$VICTIM_DIR"
  round=0
  restarts=0
  main_pid=
  program_pid=
}

show_work() {
  local file
  for file in "$VICTIM_DIR"/*err* "$VICTIM_DIR"/result; do
    [ ! -s "$file" ] || sed "s|^|${file##*/}: |" "$file" | tail -n 20
  done
}

fail() {
  printf '%s\n' "$@" >&2
  return 1
}

# --- processes ---

# What is asked again and again starts no process: nap is sleep, get_file sets $content to what cat prints.
nap() { # SECONDS
  read -rt "$1" <>"$BATS_TEST_TMPDIR/never" || true
}

get_file() {
  content=
  { read -rd '' content <"$1"; } 2>/dev/null || [ -n "$content" ]
}

# A process whose main thread has ended looks like a zombie, and has other threads.
is_alive() {
  local content tasks
  get_file "/proc/$1/stat" || return 1
  content=${content##*) }
  if [ "${content%% *}" = Z ]; then
    tasks=("/proc/$1/task/"*)
    [ "${#tasks[@]}" -gt 1 ]
  fi
}

# What a stuck program is doing.
show_process() {
  local task
  is_alive "$1" || return 0
  echo "--- process $1: $(tr '\0' ' ' <"/proc/$1/cmdline")"
  grep -E '^(State|Tgid|NSpid|Threads|TracerPid|SigPnd|ShdPnd|SigBlk|SigIgn|SigCgt)' "/proc/$1/status" || true
  for task in /proc/"$1"/task/*; do
    printf '%s %s wchan %s syscall %s\n' "${task##*/}" "$(cat "$task/comm" 2>/dev/null)" "$(cat "$task/wchan" 2>/dev/null)" \
      "$(cat "$task/syscall" 2>/dev/null)"
  done | head -n 20
  head -n 30 "/proc/$1/maps" || true
}

# Everything a command started, parents first: into the array `descendants`; or one number to a line.
find_descendants() {
  descendants=()
  add_descendants "$1"
}

add_descendants() {
  local file child content
  for file in /proc/"$1"/task/*/children; do
    get_file "$file" || continue
    for child in $content; do
      descendants+=("$child")
      add_descendants "$child"
    done
  done
}

descendants_of() {
  local descendants
  find_descendants "$1"
  [ "${#descendants[@]}" -eq 0 ] || printf '%s\n' "${descendants[@]}"
}

# Whether a process runs PROGRAM, which may have been deleted, or replaced. Its main thread may have ended.
runs() { # PID PROGRAM
  local link name
  for link in "/proc/$1/exe" /proc/"$1"/task/*/exe; do
    [ ! "$link" -ef "$2" ] || return 0
    if [ "$link" -ef "$BUILD/bin/ckpt-restart" ] || [ "$link" -ef "$BUILD/libexec/ckpt/ckpt-restorer" ]; then return 1; fi
    if name=$(readlink "$link" 2>/dev/null); then
      [ "${name% (deleted)}" = "$2" ]
      return
    fi
  done
  return 1
}

# Sets program_pid to the process below PID whose executable is PROGRAM, as this test sees it. PID itself, of ckpt-restart, may still be
# the shell that is about to become that. In a restart, a process may have its executable back before its parent has.
find_program() {
  local pid descendants
  find_descendants "$1"
  for pid in "${descendants[@]}"; do
    if runs "$pid" "$2"; then
      program_pid=$pid
      return
    fi
    [ ! "/proc/$pid/exe" -ef "$BUILD/libexec/ckpt/ckpt-restorer" ] || return 1
  done
  return 1
}

# Runs a command with no descriptor but the standard ones: what bats keeps open would be refused. Sets main_pid.
# stdin from $VICTIM_STDIN, stdout and stderr into the named files.
in_background() {
  local out=$1 err=$2
  shift 2
  (
    for fd in /proc/self/fd/*; do
      fd=${fd##*/}
      if [ "$fd" -gt 2 ]; then eval "exec $fd>&-"; fi
    done
    exec "$@"
  ) <"${VICTIM_STDIN:-/dev/null}" >"$out" 2>"$err" &
  main_pid=$!
  started+=("$main_pid")
}

# Waits until FILE exists; fails when PID is gone before, or after STEP_SECONDS.
await_file() {
  local file=$1 pid=$2 end=$((SECONDS + STEP_SECONDS))
  while [ ! -e "$file" ]; do
    if ! is_alive "$pid"; then
      [ ! -e "$file" ] || return 0
      fail "process $pid ended before '${file##*/}' appeared" || true
      show_work >&2
      return 1
    fi
    if [ "$SECONDS" -ge "$end" ]; then
      fail "'${file##*/}' did not appear within $STEP_SECONDS s" || true
      show_work >&2
      for pid in "$pid" $(descendants_of "$pid"); do show_process "$pid" >&2; done
      return 1
    fi
    nap 0.01
  done
}

# Waits until a command line succeeds, for as long as PID lives: await_that PID COMMAND [ARG…].
await_that() {
  local pid=$1 end=$((SECONDS + STEP_SECONDS))
  shift
  until "$@"; do
    if ! is_alive "$pid"; then
      fail "process $pid ended before: $*" || show_work >&2
      return 1
    fi
    if [ "$SECONDS" -ge "$end" ]; then
      fail "did not happen within $STEP_SECONDS s: $*" || show_work >&2
      return 1
    fi
    nap 0.01
  done
}

# Sets exit_status to that of the command in the background.
await_end() {
  local end=$((SECONDS + STEP_SECONDS)) pid
  while is_alive "$main_pid"; do
    if [ "$SECONDS" -ge "$end" ]; then
      for pid in "$main_pid" $(descendants_of "$main_pid"); do show_process "$pid" >&2; done
      fail "process $main_pid did not end within $STEP_SECONDS s" || return 1
    fi
    nap 0.01
  done
  exit_status=0
  wait "$main_pid" 2>/dev/null || exit_status=$?
}

# --- the steps of a test ---

# Feeds the program from a FIFO whose writing end is ours; `feed TEXT` writes into it.
use_fifo() {
  VICTIM_STDIN=$VICTIM_DIR/stdin
  mkfifo "$VICTIM_STDIN"
  exec {fifo_fd}<>"$VICTIM_STDIN"
}

feed() {
  printf '%s\n' "$1" >&"$fifo_fd"
}

# Starts a program under ckpt-launch and waits for nothing. Further options of ckpt-launch: the array launch_options.
launch() {
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" ckpt-launch "${launch_options[@]}" -- "$@"
  program_pid=$main_pid
}

# Starts a program under test: launch_victim TRAIT [ARG…], and waits until it is ready. A victim that ends with 77 lacks something.
launch_victim() {
  local trait=$1
  shift
  executable=$VICTIMS/$trait
  launch "$executable" "$@"
  await_ready
}

await_ready() {
  await_file "$VICTIM_DIR/ready" "$main_pid" 2>"$VICTIM_DIR/harness-err" && return 0
  if ! is_alive "$main_pid"; then
    exit_status=0
    wait "$main_pid" 2>/dev/null || exit_status=$?
    if [ "$exit_status" -eq 77 ]; then skip "this machine lacks what ${executable##*/} needs"; fi
    fail "${executable##*/} ended with status $exit_status before it was ready" || true
  fi
  cat "$VICTIM_DIR/harness-err" >&2
  return 1
}

# Checkpoints the program; sets image.
checkpoint() {
  local status=0
  image=$(timeout $((STEP_SECONDS * 3)) ckpt-trigger -t "$STEP_SECONDS" "$@" "$program_pid" 2>"$VICTIM_DIR/trigger-err") || status=$?
  if [ "$status" -ne 0 ]; then
    fail "ckpt-trigger ended with status $status: $(cat "$VICTIM_DIR/trigger-err")" || show_process "$program_pid" >&2
    return 1
  fi
  if [ ! -f "$image" ]; then fail "ckpt-trigger printed '$image', which is no file"; fi
}

# All processes of the job: those that map its control page.
members() {
  local maps
  for maps in /proc/[0-9]*/maps; do
    if grep -qs "$CKPT_DIR/run/" "$maps"; then
      maps=${maps%/maps}
      echo "${maps#/proc/}"
    fi
  done
}

# Ends all of them, as much at once as can be: who is left over must not have the time to complain of the others' end. Again until
# none is left: they may be starting others meanwhile.
kill_members() {
  local found=()
  mapfile -t found < <(members)
  found=("$program_pid" "${found[@]}") # it looks after its children
  while [ "${#found[@]}" -gt 0 ]; do
    kill -KILL "${found[@]}" 2>/dev/null || true
    mapfile -t found < <(members)
  done
}

# Ends the program at once, as a power cut would. has_tree=1: it has several processes.
kill_program() {
  if [ -n "${has_tree:-}" ]; then
    kill_members
  else
    kill -KILL "$program_pid"
  fi
  await_end
  if [ "$exit_status" -ne 137 ]; then fail "status $exit_status after SIGKILL instead of 137"; fi
  remove_objects # as a reboot does
  if [ -n "${VICTIM_DOWNTIME:-}" ]; then sleep "$VICTIM_DOWNTIME"; fi
}

# The writer that has an image of this test open.
own_writer() {
  local file
  while read -r file; do
    if find "${file%/comm}/fd" -lname "$CKPT_DIR/*" 2>/dev/null | grep -q .; then
      basename "${file%/comm}"
      return
    fi
  done < <(grep -lsx ckpt-writer /proc/[0-9]*/comm)
}

# Restarts an image (default: the last one) and finds the program below ckpt-restart. Options: the array restart_options.
restart() {
  restarts=$((restarts + 1))
  in_background "$VICTIM_DIR/restart-out-$restarts" "$VICTIM_DIR/restart-err-$restarts" ckpt-restart "${restart_options[@]}" \
    "${1:-$image}"
  await_that "$main_pid" find_program_now
}

find_program_now() {
  find_program "$main_pid" "$executable"
}

# Numbers were gone round, up to just below that of ckpt-restart: the next child of this shell to get that one, when it is free, would
# take its place in the shell's memory of exit statuses.
go_past() { # PID
  local number=0
  until [ "$number" -gt "$1" ]; do
    : &
    number=$!
    wait "$number"
  done
}

# Lets the program check itself once.
check_round() {
  round=$((round + 1))
  : >"$VICTIM_DIR/round-$round"
  await_round
}

await_round() {
  local end=$((SECONDS + STEP_SECONDS))
  until [ -e "$VICTIM_DIR/done-$round" ]; do
    if [ -e "$VICTIM_DIR/result" ]; then fail "round $round: $(cat "$VICTIM_DIR/result")" || return 1; fi
    if ! is_alive "$main_pid" || [ "$SECONDS" -ge "$end" ]; then
      await_file "$VICTIM_DIR/done-$round" "$main_pid"
      return
    fi
    nap 0.01
  done
}

# Last check and end: expects "pass" and the exit status (default 0).
finish() {
  local expected=${1:-0}
  : >"$VICTIM_DIR/go"
  if [ -n "${fifo_fd:-}" ]; then feed hello; fi
  await_file "$VICTIM_DIR/result" "$main_pid"
  await_end
  if [ "$(cat "$VICTIM_DIR/result")" != pass ]; then fail "$(cat "$VICTIM_DIR/result")"; fi
  if [ "$exit_status" -ne "$expected" ]; then fail "exit status $exit_status instead of $expected"; fi
  if [ -n "${fifo_fd:-}" ]; then
    exec {fifo_fd}>&-
    fifo_fd=
  fi
}

# --- the three ways a program under test is run ---

go_on() {
  checkpoint
  check_round
}

come_back() {
  checkpoint
  kill_program
  restart
  check_round
}

# A program that does not check itself, three times over: return_three_times [SECONDS]; so long it runs before each checkpoint.
return_three_times() {
  local moment
  for moment in 1 2 3; do
    sleep "${1:-0}"
    echo "moment $moment"
    checkpoint
    kill_program
    restart
  done
}

# run_way WAY TRAIT [ARG…]; WAY is go-on, restart or three-restarts. expected_status: of the end. with_fifo: 1 for standard input.
run_way() {
  local way=$1
  shift
  new_work "$way"
  rm -rf "$CKPT_DIR"
  if [ -n "${with_fifo:-}" ]; then use_fifo; fi
  echo "way: $way"
  launch_victim "$@"
  case $way in
    go-on) go_on ;;
    restart) come_back ;;
    three-restarts)
      come_back
      come_back
      come_back
      ;;
  esac
  finish "${expected_status:-0}"
  rm -rf "${VICTIM_DIR:?}"
}

# WAYS, from outside, chooses among them.
three_ways() {
  local way
  for way in ${WAYS:-go-on restart three-restarts}; do run_way "$way" "$@"; done
}

# Without ckpt-launch: LD_PRELOAD and kill -USR2 only.
preload_way() {
  local trait=$1
  shift
  new_work preload
  executable=$VICTIMS/$trait
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" env LD_PRELOAD="$LIBCKPT" "$executable" "$@"
  program_pid=$main_pid
  await_ready
  kill -USR2 "$program_pid"
  await_file "$CKPT_DIR/latest" "$main_pid"
  image=$(readlink -f "$CKPT_DIR/latest")
  check_round
  round=0
  rm -f "$VICTIM_DIR"/round-* "$VICTIM_DIR"/done-*
  kill_program
  restart
  check_round
  finish
}

is_root() {
  [ "$(id -u)" -eq 0 ]
}

has_cpu_flag() {
  grep -qw "$1" /proc/cpuinfo
}

# --- real programs ---

# Runs a command undisturbed and then checkpointed, killed and restarted at three random moments; its standard output must be the same
# to the byte. has_tree=1: it has several processes; unordered=1: the order of its lines depends on who is first. REAL_SEED repeats the
# moments. at_start names a function that is called before each of the two runs.
same_output_over_three_restarts() {
  local seed=${REAL_SEED:-$RANDOM$RANDOM} begin took worked cpu_ms moment
  echo "REAL_SEED=$seed"
  RANDOM=$seed
  new_work undisturbed
  "${at_start:-true}"
  begin=$(date +%s%N)
  measure_cpu
  worked=$cpu_ms
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" "$@"
  STEP_SECONDS=$((STEP_SECONDS * 5)) await_end
  took=$((($(date +%s%N) - begin) / 1000000))
  [ "$exit_status" -eq 0 ] || fail "undisturbed, it ended with status $exit_status: $(cat "$VICTIM_DIR/err")"
  measure_cpu
  worked=$((cpu_ms - worked))
  echo "undisturbed: $took ms, $worked ms of processor time"
  # On a busy machine the time of the next run is anybody's guess; what there is to do stays the same.
  if [ "$worked" -lt "$took" ] && [ "$worked" -ge 500 ]; then took=$worked; fi
  local expected=$VICTIM_DIR/out
  new_work restarted
  "${at_start:-true}"
  launch "$@"
  await_that "$main_pid" has_control_page
  for moment in 1 2 3; do
    # Between a twentieth and three of the whole time: three of them stay within it, also if the machine is less busy now.
    sleep_ms $((took / 40 + RANDOM % (took / 20)))
    executable=$(readlink "/proc/$program_pid/exe") || fail "it ended before moment $moment"
    checkpoint
    if [ -n "${has_tree:-}" ]; then
      kill_members
    else
      kill -KILL "$program_pid" 2>/dev/null || echo "moment $moment: it ended just after"
    fi
    await_end
    restart
    echo "moment $moment: $image"
  done
  STEP_SECONDS=$((STEP_SECONDS * 5)) await_end
  cat "$VICTIM_DIR"/restart-err-* >&2
  [ "$exit_status" -eq 0 ] || fail "restarted, it ended with status $exit_status"
  cat "$VICTIM_DIR/out" "$VICTIM_DIR"/restart-out-* >"$VICTIM_DIR/all"
  if [ -n "${unordered:-}" ]; then sort -o "$VICTIM_DIR/all" "$VICTIM_DIR/all" && sort -o "$expected" "$expected"; fi
  cmp "$expected" "$VICTIM_DIR/all"
}

# Has ckpt-launch become the program?
has_control_page() {
  [ "$(readlink "/proc/$program_pid/exe")" != "$BUILD/bin/ckpt-launch" ] && grep -qs "$CKPT_DIR/run/" "/proc/$program_pid/maps"
}

# Sets cpu_ms: the processor time of all commands that have ended. A subshell would begin at 0.
measure_cpu() {
  times >"$BATS_TEST_TMPDIR/times"
  cpu_ms=$(awk -F '[ms ]+' 'NR == 2 { printf "%d", (($1 + $3) * 60 + $2 + $4) * 1000 }' "$BATS_TEST_TMPDIR/times")
}

sleep_ms() {
  sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"
}

# The first of the named commands that is there as a program, not as a wrapper in somebody's home.
system_program() {
  PATH=/usr/local/bin:/usr/bin:/bin command -v "$1" || skip "no $1"
}
