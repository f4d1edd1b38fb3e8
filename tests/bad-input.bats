#!/usr/bin/env bats
# What goes wrong while a program is saved: the message names object and reason, the exit status is the documented one, the program
# goes on unharmed, the images that were there stay, and no part of a file is left. With the real runtime; ckpt-launch.bats and
# ckpt-trigger.bats have what the commands find out alone.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() {
  set_up
  bats_load_library bats-support
  bats_load_library bats-assert
}
teardown() {
  if [ -n "${writer-}" ]; then kill -CONT "$writer" 2>/dev/null || true; fi # let_writer_go was not reached
  tear_down
}

trigger() {
  run timeout "$STEP_SECONDS" ckpt-trigger "$@" "$program_pid"
  echo "status $status: $output"
}

# Nothing half-written lies anywhere below the test's folder.
assert_no_partial() {
  run find "$BATS_TEST_TMPDIR" -name '*.tmp-*'
  assert_output ''
}

# The job's folder, known before there is an image in it.
job_folder() {
  local control
  control=$(find "$CKPT_DIR/run" -name '*.ckpt-control')
  control=${control##*/}
  echo "$CKPT_DIR/${control%.ckpt-control}"
}

# A program whose checkpoint takes long enough to meddle with it.
launch_slow() {
  launch_options=(-z zstd:12)
  launch_victim heap-mmap
}

is_writing() { [ -n "$(find "$BATS_TEST_TMPDIR" -name '*.ckpt.tmp-*')" ]; }

# Starts ckpt-trigger beside us and waits until the image is being written; then the writer stands still. Sets trigger_pid, writer.
trigger_slowly() {
  ckpt-trigger "$program_pid" >"$VICTIM_DIR/trigger-out" 2>"$VICTIM_DIR/trigger-err" 3>&- &
  trigger_pid=$!
  started+=("$trigger_pid")
  await_that "$trigger_pid" is_writing
  writer=$(own_writer)
  kill -STOP "$writer"
}

let_writer_go() { kill -CONT "$writer"; }

# Sets trigger_status.
await_trigger() {
  trigger_status=0
  wait "$trigger_pid" || trigger_status=$?
}

# A copy in namespaces of its own has the same process numbers.
@test "two copies of a job that are saved into one file at the same time do not disturb each other" {
  local file=$CKPT_DIR/one.ckpt first second
  launch_options=(-z zstd:12 -o "$file")
  launch_victim heap-mmap
  checkpoint
  first=$program_pid
  restart_options=(--again)
  restart
  second=$program_pid
  program_pid=$first trigger_slowly
  program_pid=$second checkpoint
  let_writer_go
  await_trigger
  [ "$trigger_status" -eq 0 ]
  ckpt-ls --verify "$file"
  assert_no_partial
  : >"$VICTIM_DIR/go"
  await_end
  [ "$exit_status" -eq 0 ]
}

@test "a folder that became unusable is named, and the program goes on" {
  launch_victim heap-brk
  local folder
  folder=$(job_folder)
  : >"$folder"
  trigger
  assert_failure 73
  assert_output "ckpt-trigger: process $program_pid was not saved: cannot create '$folder/000001.ckpt': Not a directory"
  rm "$folder"
  if ! is_root; then
    mkdir -m 500 "$folder"
    trigger
    assert_failure 73
    assert_output --partial "cannot create '$folder/000001.ckpt': Permission denied"
    chmod 700 "$folder"
  fi
  assert_no_partial
  check_round
  checkpoint
  finish
}

@test "a store that was removed is made again" {
  launch_victim heap-brk
  checkpoint
  rm -r "$(job_folder)" "$CKPT_DIR/files" "$CKPT_DIR/latest"
  come_back
  finish
}

@test "a limit on the size of files fails at any point with 74, and loses nothing" {
  local limit last='' folder first
  launch_victim heap-brk
  checkpoint
  first=$(cksum <"$image")
  for limit in 0 1 4095 4096 4097 8192 40000 65536 100000 200000 400000 1000000; do
    if [ "$limit" -ge "$(stat -c %s "$image")" ]; then break; fi
    prlimit --pid "$program_pid" --fsize="$limit:"
    trigger
    assert_failure 74
    assert_output --partial "process $program_pid was not saved: cannot "
    assert_output --partial 'File too large'
    assert_no_partial
  done
  # Copies of libraries are as many chances to fail.
  rm -r "$CKPT_DIR/files"
  prlimit --pid "$program_pid" --fsize=1300000:
  trigger
  assert_failure 74
  assert_output --partial 'File too large'
  assert_no_partial
  prlimit --pid "$program_pid" --fsize=unlimited:
  [ "$(cksum <"$image")" = "$first" ]
  [ "$(readlink -f "$CKPT_DIR/latest")" = "$image" ]
  check_round
  come_back
  finish
}

@test "a file that is replaced stays whole until its successor is" {
  launch_victim heap-brk
  image=$BATS_TEST_TMPDIR/only.ckpt
  checkpoint -o "$image"
  local first inode
  first=$(cksum <"$image")
  inode=$(stat -c %i "$image")
  exec {kept}<"$image"
  prlimit --pid "$program_pid" --fsize=100000:
  trigger -o "$image"
  assert_failure 74
  assert_no_partial
  [ "$(cksum <"$image")" = "$first" ]
  prlimit --pid "$program_pid" --fsize=unlimited:
  checkpoint -o "$image"
  [ "$(stat -c %i "$image")" != "$inode" ]
  # Who reads the old one reads it to its end.
  [ "$(cksum <&"$kept")" = "$first" ]
  exec {kept}<&-
  assert_no_partial
  kill_program
  restart
  check_round
  finish
}

@test "a full file system fails at any point with 74, and loses nothing" {
  # In a file system of our own, which fills up from one page to the next.
  cat >"$BATS_TEST_TMPDIR/fill" <<'SH'
set -eu
small=$1 victim=$2
mount -t tmpfs -o size=64m tmpfs "$small"
export CKPT_DIR=$small
(
  for fd in /proc/self/fd/*; do
    fd=${fd##*/}
    if [ "$fd" -gt 2 ]; then eval "exec $fd>&-"; fi
  done
  exec ckpt-launch -- "$victim"
) </dev/null >/dev/null 2>&1 &
pid=$!
end() { kill -KILL "$pid" 2>/dev/null || true; }
trap end EXIT
until [ -e "$VICTIM_DIR/ready" ]; do sleep 0.01; done
image=$(ckpt-trigger "$pid")
sum=$(cksum <"$image")
needed=$(stat -c %s "$image")
copies=$(du -s -B1 "$small/files" | cut -f1)
for room in 0 4096 16384 65536 $((needed / 2)) $((needed - 4096)) $((needed + 4096)) $((needed + copies / 2)) $((needed + copies - 32768)); do
  rm -rf "$small/files" "$small/filler"
  fallocate -l $(($(df -B1 --output=avail "$small" | tail -n 1) - room)) "$small/filler"
  status=0
  message=$(ckpt-trigger "$pid" 2>&1) || status=$?
  echo "room $room: status $status: $message"
  [ "$status" = 74 ]
  case $message in *"was not saved: cannot "*': No space left on device') ;; *) exit 1 ;; esac
  [ -z "$(find "$small" -name '*.tmp-*')" ]
  [ "$(cksum <"$image")" = "$sum" ]
  [ "$(readlink -f "$small/latest")" = "$image" ]
done
rm "$small/filler"
second=$(ckpt-trigger "$pid")
[ -f "$second" ]
: >"$VICTIM_DIR/go"
status=0
wait "$pid" || status=$?
[ "$status" = 0 ]
[ "$(cat "$VICTIM_DIR/result")" = pass ]
echo good
SH
  mkdir "$BATS_TEST_TMPDIR/small"
  run unshare -rm bash "$BATS_TEST_TMPDIR/fill" "$BATS_TEST_TMPDIR/small" "$VICTIMS/heap-brk"
  assert_success
  assert_output --partial good
}

@test "no descriptor left is said, and the program goes on" {
  launch_victim regular-files
  local limit
  # From none at all to one short of what is needed.
  for limit in 3 4; do
    prlimit --pid "$program_pid" --nofile="$limit:"
    trigger
    assert_failure
    assert_output --regexp "process $program_pid .*(descriptor|Too many open files)"
    assert_no_partial
  done
  prlimit --pid "$program_pid" --nofile=1024:
  check_round
  come_back
  finish
}

@test "a program that is just ending has ended" {
  local python said=
  python=$(system_program python3)
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" ckpt-launch "$python" -c '
import os, sys, time
memory = b"x" * (3 << 30)  # the kernel has something to take down
open(sys.argv[1], "w").close()
while not os.path.exists(sys.argv[2]): time.sleep(0.001)
os._exit(0)' "$VICTIM_DIR/ready" "$VICTIM_DIR/go"
  await_file "$VICTIM_DIR/ready" "$main_pid"
  : >"$VICTIM_DIR/go"
  while is_alive "$main_pid"; do said+=$(ckpt-trigger -t 1 "$main_pid" 2>&1 >/dev/null || echo "status $?")$'\n'; done
  echo "$said"
  [[ $said == *"status 66"* && $said != *"status 69"* && $said != *launched* ]]
}

is_empty() { [ -z "$(ls -A "$1")" ]; }

@test "a program that has had children ends while it is saved: nobody is blamed, and its page goes" {
  local turn said=
  for turn in {1..25}; do
    in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" ckpt-launch perl -e 'system("true"); select undef, undef, undef, 0.03'
    while is_alive "$main_pid"; do said+=$(ckpt-trigger -q "$main_pid" 2>&1 >/dev/null || true)$'\n'; done
    wait "$main_pid"
  done
  echo "$said"
  [[ $said != *"can't be saved"* && $said != *launched* ]]
  # The last writer may be at work still; a file that nobody removes stays for a minute.
  await_that "$BASHPID" is_empty "$CKPT_DIR/run"
}

@test "a program of another user is not ours to save" {
  launch_victim heap-brk
  if is_root; then
    run setpriv --reuid=65534 --regid=65534 --clear-groups "$(command -v ckpt-trigger)" "$program_pid"
    # The build folder may be where only root gets.
    if [ "$status" -ne 126 ] && [ "$status" -ne 127 ]; then
      assert_failure 77
      assert_output --partial "process $program_pid"
      assert_output --partial 'not ours'
    fi
  else
    run ckpt-trigger 1
    assert_failure 77
    assert_output --partial 'not ours'
  fi
  checkpoint
  finish
}

@test "of two triggers at once one saves, and the other ends with 75" {
  launch_slow
  trigger_slowly
  trigger
  assert_failure 75
  assert_output "ckpt-trigger: a checkpoint of process $program_pid (heap-mmap) is being made already"
  let_writer_go
  await_trigger
  [ "$trigger_status" -eq 0 ]
  image=$(cat "$VICTIM_DIR/trigger-out")
  assert_no_partial
  kill_program
  restart
  check_round
  finish
}

# Keeps the lock of a writer, as one that has said that it is done and does not get a processor. Ends when `let-go` is there.
hold_writer_lock() {
  local control
  control=$(find "$CKPT_DIR/run" -name '*.ckpt-control')
  perl -MFcntl -e '
    open my $file, "+<", $ARGV[0] or die;
    my $lock = pack "s s x4 q q l x4", F_WRLCK, 0, 0, 1, 0;
    fcntl $file, 37, $lock or die; # F_OFD_SETLK
    open my $made, ">", "$ARGV[1]/held" or die;
    until (-e "$ARGV[1]/let-go") { select undef, undef, undef, 0.01 }' "$control" "$VICTIM_DIR" 3>&- &
  started+=("$!")
  await_that "$!" test -e "$VICTIM_DIR/held"
}

@test "the writer of the last checkpoint may take its time to end" {
  launch_victim heap-brk
  checkpoint
  hold_writer_lock
  trigger -t 0.5
  assert_failure 75
  kill -USR2 "$program_pid"
  await_that "$program_pid" grep -q 'the writer of the last checkpoint has not ended yet' "$VICTIM_DIR/err"
  ckpt-trigger -t "$STEP_SECONDS" "$program_pid" >"$VICTIM_DIR/trigger-out" 2>&1 3>&- &
  trigger_pid=$!
  started+=("$trigger_pid")
  await_that "$trigger_pid" grep -q "FLOCK.* $trigger_pid " /proc/locks
  : >"$VICTIM_DIR/let-go"
  await_trigger
  cat "$VICTIM_DIR/trigger-out"
  [ "$trigger_status" -eq 0 ]
  image=$(cat "$VICTIM_DIR/trigger-out")
  kill_program
  restart
  check_round
  finish
}

@test "a trigger that is killed half-way leaves a good image or none" {
  launch_slow
  trigger_slowly
  kill -KILL "$trigger_pid"
  await_trigger
  let_writer_go
  await_that "$program_pid" test -e "$CKPT_DIR/latest"
  assert_no_partial
  ckpt-ls --verify "$CKPT_DIR/latest"
  launch_options=()
  come_back
  finish
}

@test "a trigger that gets SIGTERM ends, and the program does not" {
  launch_slow
  trigger_slowly
  kill -TERM "$trigger_pid"
  await_trigger
  [ "$trigger_status" -eq 143 ]
  check_round
  let_writer_go
  await_that "$program_pid" test -e "$CKPT_DIR/latest"
  assert_no_partial
  finish
}

@test "a program that gets SIGTERM during a checkpoint ends as it would, and the image is good" {
  launch_slow
  trigger_slowly
  kill -TERM "$program_pid"
  await_end
  [ "$exit_status" -eq 143 ]
  let_writer_go
  await_trigger
  [ "$trigger_status" -eq 0 ]
  image=$(cat "$VICTIM_DIR/trigger-out")
  assert_no_partial
  restart
  check_round
  finish
}

@test "a writer that is killed is noticed, leaves nothing, and the next checkpoint works" {
  launch_slow
  trigger_slowly
  kill -KILL "$writer"
  await_trigger
  [ "$trigger_status" -eq 1 ]
  assert_equal "$(cat "$VICTIM_DIR/trigger-err")" 'ckpt-trigger: the writer of the image was killed'
  assert_no_partial
  launch_options=()
  come_back
  finish
}

@test "--kill ends the program before ckpt-trigger does" {
  local n
  for n in 1 2 3 4 5; do
    new_work "kill-$n"
    launch_victim heap-brk
    image=$(ckpt-trigger --kill "$program_pid")
    if is_alive "$program_pid"; then fail "it lives"; fi
    await_end
    [ "$exit_status" -eq 137 ]
  done
}

@test "--kill that fails does not kill" {
  launch_victim heap-brk
  prlimit --pid "$program_pid" --fsize=100000:
  trigger --kill
  assert_failure 74
  check_round
  prlimit --pid "$program_pid" --fsize=unlimited:
  image=$(ckpt-trigger --kill "$program_pid")
  await_end
  [ "$exit_status" -eq 137 ]
  restart
  check_round
  finish
}

@test "the last KEEP images stay, and latest is the newest" {
  local number folder
  launch_options=(-k 3)
  launch_victim heap-brk
  for number in 1 2 3 4 5; do checkpoint; done
  folder=$(job_folder)
  [ "$image" = "$folder/000005.ckpt" ]
  run ls "$folder"
  assert_output "$(printf '%s\n' 000003.ckpt 000004.ckpt 000005.ckpt latest)"
  [ "$(readlink "$folder/latest")" = 000005.ckpt ]
  [ "$(readlink "$CKPT_DIR/latest")" = "${folder##*/}/000005.ckpt" ]
  kill_program
  restart "$CKPT_DIR"
  check_round
  finish
}

@test "a program that ends leaves no control page behind" {
  launch_victim heap-brk
  checkpoint
  finish
  [ -z "$(ls "$CKPT_DIR/run")" ]
}

@test "--every saves a program until it ends" {
  launch_options=(--every 1s)
  launch_victim heap-brk
  await_that "$program_pid" test -e "$(job_folder)/000002.ckpt"
  image=$(readlink -f "$CKPT_DIR/latest")
  finish
}
