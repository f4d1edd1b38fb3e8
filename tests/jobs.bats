#!/usr/bin/env bats
# What processes of a job share and wait for from each other, and what may happen to one of them: the job comes back whole.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() {
  tear_down
  [ -z "${VICTIM_SEMAPHORE:-}" ] || rm -f "/dev/shm/sem.$VICTIM_SEMAPHORE"
}
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
}
@test "a semaphore that keeps its name has it again after a reboot" {
  export VICTIM_SEMAPHORE=ckpt-test-$BATS_TEST_NUMBER-$$
  has_tree=1
  launch_victim shared-locks named
  checkpoint
  kill_program
  rm "/dev/shm/sem.$VICTIM_SEMAPHORE"
  restart
  check_round
  finish
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

outlives_first() { # HOW
  executable=$VICTIMS/leave-behind
  launch "$executable" "$1"
  await_end
  [ "$exit_status" -eq 0 ]
  await_that $$ test -e "$VICTIM_DIR/ready"
  program_pid=$(cat "$VICTIM_DIR/behind")
  checkpoint
  kill -KILL "$program_pid"
  restart
  check_round
  finish
}
@test "a daemon whose parent, the first process of the job, has exited is of the job still" { outlives_first child; }
@test "so is one whose parent had ended before that" { outlives_first orphan; }

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
      find_program_now
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

vfork_child() { pgrep -P "$program_pid" -x slow-vfork >"$VICTIM_DIR/child"; }

@test "a child between vfork and exec that is named is answered for, and its parent goes on" {
  launch_victim slow-vfork
  await_that "$main_pid" vfork_child
  run timeout "$STEP_SECONDS" ckpt-trigger -t 1 "$(cat "$VICTIM_DIR/child")"
  echo "$output"
  [ "$status" -eq 75 ]
  [[ $output == *"process $(cat "$VICTIM_DIR/child") "*'vfork'*'try again'* ]]
  expect_nothing_left
  check_round
  : >"$VICTIM_DIR/exec-now"
  come_back
  finish
}

@test "the end of a pipe comes at once while a large image is being written" {
  cat >"$BATS_TEST_TMPDIR/job.py" <<'EOP'
import os, time
place = os.environ["VICTIM_DIR"] + "/"
note = lambda name: open(place + name, "w").close()
def await_note(name):
    while not os.path.exists(place + name):
        time.sleep(0.001)
reading, writing = os.pipe()
memory = os.urandom(16 << 20)
if os.fork() == 0:
    os.close(reading)
    await_note("close-now")
    os.close(writing)
    await_note("go")
    os._exit(0)
os.close(writing)
if os.fork() == 0:
    assert os.read(reading, 1) == b""
    note("ended")
    await_note("go")
    os._exit(0)
note("ready")
assert os.wait()[1] == 0 and os.wait()[1] == 0
open(place + "result", "w").write("pass\n")
EOP
  executable=$(readlink -f "$(system_program python3)")
  launch_options=(-z zstd:19)
  launch "$executable" "$BATS_TEST_TMPDIR/job.py"
  await_ready
  timeout $((STEP_SECONDS * 3)) ckpt-trigger "$program_pid" >"$VICTIM_DIR/trigger-out" 2>"$VICTIM_DIR/trigger-err" 3>&- &
  local trigger=$!
  started+=("$trigger")
  # The writers have begun.
  await_that "$main_pid" is_being_written
  : >"$VICTIM_DIR/close-now"
  await_file "$VICTIM_DIR/ended" "$main_pid"
  is_being_written || fail 'the image was complete before the end came: nothing is shown'
  is_alive "$trigger"
  wait "$trigger"
  finish
}

# There is a part of an image, and no image.
is_being_written() {
  local files
  files=$(find "$CKPT_DIR" -path '*/run' -prune -o -path '*/files' -prune -o -type f -size +0 -print)
  [ -n "$files" ] && [[ $files != *.ckpt ]]
}

@test "two jobs with a pipe between them are saved each by itself, and restarted onto their own streams" {
  cat >"$BATS_TEST_TMPDIR/say.sh" <<'EOP'
seq 1 100
until [ -e "$VICTIM_DIR/go" ]; do sleep 0.02; done
seq 101 200
EOP
  local say hear image_of_say
  say=$BATS_TEST_TMPDIR/say hear=$BATS_TEST_TMPDIR/hear
  cp "$(command -v sh)" "$say"
  cp "$(command -v cat)" "$hear"
  # shellcheck disable=SC2016
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" bash -c 'ckpt-launch -- "$1" "$2" | ckpt-launch -- "$3"; exit "${PIPESTATUS[0]}"' \
    bash "$say" "$BATS_TEST_TMPDIR/say.sh" "$hear"
  await_that "$main_pid" has_lines 100
  for executable in "$say" "$hear"; do
    find_program_now
    checkpoint
    [ "$executable" != "$say" ] || image_of_say=$image
  done
  kill_members
  await_end
  # shellcheck disable=SC2016
  in_background "$VICTIM_DIR/restart-out" "$VICTIM_DIR/restart-err" bash -c \
    'ckpt-restart "$1" | ckpt-restart "$2"; exit $((PIPESTATUS[0] * 256 + PIPESTATUS[1]))' bash "$image_of_say" "$image"
  for executable in "$say" "$hear"; do await_that "$main_pid" find_program_now; done
  : >"$VICTIM_DIR/go"
  await_end
  [ "$exit_status" -eq 0 ]
  cat "$VICTIM_DIR/out" "$VICTIM_DIR/restart-out" | cmp - <(seq 1 200)
}

has_lines() { [ "$(wc -l <"$VICTIM_DIR/out")" -ge "$1" ]; }

@test "a pipeline under one ckpt-launch is one job, and comes back whole" {
  cat >"$BATS_TEST_TMPDIR/slowly.sh" <<'EOP'
i=0
while [ "$i" -lt 120 ]; do echo "line $i"; i=$((i + 1)); sleep 0.02; done
until [ -e "$VICTIM_DIR/go" ]; do sleep 0.02; done
EOP
  executable=$BATS_TEST_TMPDIR/shell
  cp "$(command -v sh)" "$executable"
  # The last command keeps all until the end: what it holds is in the image only.
  launch "$executable" -c "sh '$BATS_TEST_TMPDIR/slowly.sh' | tr lie LIE | sort -r; echo end"
  return_three_times 0.4
  : >"$VICTIM_DIR/go"
  await_end
  cat "$VICTIM_DIR"/err "$VICTIM_DIR"/restart-err-*
  [ "$exit_status" -eq 0 ]
  cat "$VICTIM_DIR/out" "$VICTIM_DIR"/restart-out-* | cmp - <(
    sh "$BATS_TEST_TMPDIR/slowly.sh" | tr lie LIE | sort -r
    echo end
  )
}

@test "two restarts of one image at the same time run apart" {
  local trait first
  for trait in blocked-pipes passed-files shared-locks; do
    echo "trait: $trait"
    new_work "$trait"
    launch_victim "$trait"
    checkpoint
    kill_program
    restart_options=(--again)
    restart
    first=$main_pid
    restart
    : >"$VICTIM_DIR/go"
    await_end
    [ "$exit_status" -eq 0 ]
    main_pid=$first
    await_end
    [ "$exit_status" -eq 0 ]
    [ "$(cat "$VICTIM_DIR/result")" = pass ]
    restart_options=()
  done
}

@test "a second restart at the same time is refused for what exists once, by name, and -n tells before" {
  local trait way
  for trait in member-sockets unix-named; do
    echo "trait: $trait"
    new_work "$trait"
    restart_options=()
    launch_victim "$trait"
    checkpoint
    kill_program
    run ckpt-restart -n --again "$image"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output =~ 'once       '(UDP port 127|unix socket \'@).*': a second restart is refused while the first has it' ]]
    restart
    check_round
    for way in -n -q; do
      run timeout "$STEP_SECONDS" ckpt-restart --again "$way" "$image"
      echo "$output"
      [ "$status" -eq 125 ]
      [[ $output == *', which the program '*', is taken by another program' ]]
    done
    finish
  done
}

@test "the plan shows the descriptors of every process of the job" {
  launch_victim passed-files
  checkpoint
  local pid count=0
  ckpt-restart -n --again "$image" >"$VICTIM_DIR/plan"
  cat "$VICTIM_DIR/plan"
  for pid in $(members); do
    count=$((count + 1))
    diff <(find "/proc/$pid/fd" -type l -printf '%f\n' | sort -n) \
      <(awk -v pid="$pid," '/^process /{ours = $3 == pid} ours && /^descriptor /{print $2}' "$VICTIM_DIR/plan" | sort -n)
  done
  [ "$count" -gt 1 ]
  finish
}

@test "what two restarts would both write to is told by -n with --again" {
  launch_victim passed-files
  checkpoint
  run ckpt-restart -n --again "$image"
  echo "$output"
  [[ $output == *"shared     '$VICTIM_DIR/passed': all restarts of this image write to it"* ]]
  [[ $output != *"shared     '/dev/null'"* ]]
  finish
  run ckpt-restart -n "$image"
  [[ $output != *"shared     "* ]]
}

# Makes terminal.py, which runs a command on a terminal of its own. What is in the file `order` is carried out there and taken away: size
# COLUMNS ROWS, or type HEX.
write_terminal() {
  cat >"$BATS_TEST_TMPDIR/terminal.py" <<'EOP'
import fcntl, os, pty, struct, sys, termios, time
place = os.environ["VICTIM_DIR"] + "/"
pid, master = pty.fork()
if pid == 0:
    os.closerange(3, 256)
    os.execvp(sys.argv[1], sys.argv[1:])
os.set_blocking(master, False)
while True:
    try:
        os.read(master, 65536)
    except OSError:
        pass
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
        os._exit(os.waitstatus_to_exitcode(status) & 255)
    if os.path.exists(place + "order"):
        word, *values = open(place + "order").read().split()
        if word == "size":
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", int(values[1]), int(values[0]), 0, 0))
        else:
            os.write(master, bytes.fromhex(values[0]))
        os.unlink(place + "order")
    time.sleep(0.002)
EOP
}

# order WORD VALUE… : by whoever has the terminal now.
order() {
  echo "$*" >"$VICTIM_DIR/order.new"
  mv "$VICTIM_DIR/order.new" "$VICTIM_DIR/order"
  await_that "$main_pid" is_gone "$VICTIM_DIR/order"
}

is_gone() { [ ! -e "$1" ]; }

# The program has heard this line NUMBER times.
has_heard() { [ "$(grep -cx "$2" "$VICTIM_DIR/heard")" -ge "$1" ]; }

# Everything that a user does at a terminal, the NUMBERth time.
use_terminal() {
  order size "$((80 + $1))" 33
  await_that "$main_pid" has_heard 1 "size $((80 + $1))x33"
  order type 03
  await_that "$main_pid" has_heard "$1" interrupted
  order type 1a
  await_that "$main_pid" has_heard "$1" stopped
  : >"$VICTIM_DIR/fg"
  await_that "$main_pid" has_heard "$1" 'went on'
  : >"$VICTIM_DIR/look"
  await_that "$main_pid" is_gone "$VICTIM_DIR/look"
}

@test "a full-screen program of a job moves from terminal to terminal: size, foreground, ^C and ^Z are right" {
  write_terminal
  executable=$VICTIMS/outer-terminal
  local python turn
  python=$(system_program python3)
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" "$python" "$BATS_TEST_TMPDIR/terminal.py" ckpt-launch -- "$executable"
  await_file "$VICTIM_DIR/heard" "$main_pid"
  find_program_now
  use_terminal 1
  checkpoint
  use_terminal 2
  for turn in 3 4; do
    checkpoint
    kill_members
    await_end
    in_background "$VICTIM_DIR/restart-out-$turn" "$VICTIM_DIR/restart-err-$turn" "$python" "$BATS_TEST_TMPDIR/terminal.py" \
      ckpt-restart "$image"
    await_that "$main_pid" find_program_now
    use_terminal "$turn"
  done
  : >"$VICTIM_DIR/go"
  await_end
  [ "$exit_status" -eq 0 ]
  [ "$(cat "$VICTIM_DIR/result")" = pass ]
}
