#!/usr/bin/env bats
# ckpt-trigger's side of the protocol. A stub takes the runtime's place and answers as STUB_ANSWER says.
bats_require_minimum_version 1.5.0

setup_file() {
  export TOP PREFIX_DIR
  TOP=$(cd "$BATS_TEST_DIRNAME/.." && pwd)
  PREFIX_DIR=$BATS_FILE_TMPDIR/prefix
  mkdir -p "$PREFIX_DIR/bin" "$PREFIX_DIR/lib/ckpt"
  cp "$TOP/${BUILD:-build}/bin/ckpt-launch" "$TOP/${BUILD:-build}/bin/ckpt-trigger" "$PREFIX_DIR/bin/"
  g++ -std=c++20 -O1 "-I$TOP" -shared -fPIC "$TOP/tests/progs/stub-runtime.cc" -o "$PREFIX_DIR/lib/ckpt/libckpt.so"
}

setup() {
  load /usr/lib/bats/bats-support/load
  load /usr/lib/bats/bats-assert/load
  cd "$BATS_TEST_TMPDIR" || return
  export CKPT_DIR=$BATS_TEST_TMPDIR/store
  PATH=$PREFIX_DIR/bin:$PATH
  pids=()
}

teardown() {
  local pid
  for pid in "${pids[@]}"; do
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
}

# assert_ended_with STATUS CHILD: `run wait` would look for the child in a subshell
assert_ended_with() {
  local code=0
  wait "$2" || code=$?
  assert_equal "$code" "$1"
}

# launch ANSWER: starts a program with the stub in it, waits until it runs; sets `pid`
launch() {
  mkfifo gate
  STUB_ANSWER=$1 ckpt-launch sh -c 'echo >gate; exec sleep 1000' 3>&- &
  pid=$!
  pids+=("$pid")
  read -r <gate
  rm gate
  while [ "$(cat "/proc/$pid/comm")" != sleep ] || ! grep -q ckpt-control "/proc/$pid/maps"; do sleep 0.01; done
}

@test "--help and --version print to stdout and succeed" {
  run ckpt-trigger --help
  assert_success
  assert_line --index 0 --partial 'usage: ckpt-trigger'
  run ckpt-trigger --version
  assert_success
  assert_output --regexp '^ckpt-trigger \(ckpt\) [0-9]'
}

@test "no process at all is a usage error with a hint" {
  run ckpt-trigger
  assert_failure 2
  assert_line --index 0 --partial 'is the program running?'
}

@test "what is no process number is a usage error" {
  local operand
  for operand in x 0 -- -5 12x 99999999999; do
    run ckpt-trigger "$operand"
    assert_failure 2
  done
}

@test "a process that does not exist ends with 66" {
  run ckpt-trigger 2147483647
  assert_failure 66
  assert_output 'ckpt-trigger: no such process: 2147483647'
}

@test "a program that is only just being launched is waited for" {
  for _ in {1..5}; do
    STUB_ANSWER=commit ckpt-launch sleep 1000 3>&- &
    pids+=("$!")
    run ckpt-trigger -t 30 "$!"
    assert_success
  done
}

@test "a process that was not launched for checkpointing ends with 69" {
  sleep 1000 3>&- &
  pids+=("$!")
  run ckpt-trigger "$!"
  assert_failure 69
  assert_output --regexp '^ckpt-trigger: process [0-9]+ \([a-z]+\) was not launched for checkpointing'
}

@test "a zombie ends with 66 and is called one" {
  mkfifo gate
  python3 -c '
import os, time
child = os.fork()
if child == 0: os._exit(0)
open("gate", "w").write(str(child) + "\n")
time.sleep(1000)' 3>&- &
  pids+=("$!")
  local zombie
  zombie=$(cat gate)
  until grep -q '^State:.Z' "/proc/$zombie/status"; do sleep 0.01; done
  run ckpt-trigger "$zombie"
  assert_failure 66
  assert_output --partial 'it is a zombie'
}

@test "a process of another user ends with 77" {
  local as=()
  if [ "$(id -u)" -eq 0 ]; then as=(setpriv --reuid=65534 --regid=65534 --clear-groups); fi
  local folder
  folder=$(mktemp -d)
  chmod 755 "$folder"
  install -m 755 "$(command -v ckpt-trigger)" "$folder"
  run "${as[@]}" "$folder/ckpt-trigger" 1
  rm -rf "$folder"
  assert_failure 77
  assert_output --partial 'is not ours'
}

@test "the path of the committed image is printed, alone" {
  launch commit
  run --separate-stderr ckpt-trigger -o image.ckpt "$pid"
  assert_success
  assert_output "$PWD/image.ckpt"
  assert_equal "$stderr" ''
  run ckpt-trigger -q "$pid" "$pid"
  assert_success
  assert_output /nowhere/000001.ckpt
}

@test "-v says how long it took, on stderr" {
  launch commit
  run --separate-stderr ckpt-trigger -v "$pid"
  assert_success
  assert_output /nowhere/000001.ckpt
  assert_regex "$stderr" 'stood .* ms'
}

@test "-o - writes the image to stdout and leaves no file" {
  launch commit
  run --separate-stderr ckpt-trigger -o - "$pid"
  assert_success
  assert_output 'image bytes'
  run find "$CKPT_DIR" -name '*.ckpt'
  assert_output ''
}

@test "-o - with a reader that went away fails, and --kill keeps the image then" {
  launch commit
  run bash -c "ckpt-trigger --kill -o - $pid >/dev/full"
  assert_failure 74
  assert_output --partial 'the image is'
  run find "$CKPT_DIR" -name '*.ckpt'
  refute_output ''
}

@test "--kill ends the program" {
  launch commit
  run ckpt-trigger --kill "$pid"
  assert_success
  assert_ended_with 137 "$pid"
}

@test "a failure is reported with the runtime's reason and code, and the program goes on" {
  launch fail
  run ckpt-trigger "$pid"
  assert_failure 73
  assert_output "ckpt-trigger: process $pid was not saved: cannot create 'x': No space left on device"
  kill -0 "$pid"
  run ckpt-trigger "$pid"
  assert_failure 73
}

@test "a process that does not answer is given up after -t, and can be asked again" {
  launch deaf
  run ckpt-trigger -t 0.2 "$pid"
  assert_failure 1
  assert_output --partial 'was not saved within 200 ms: it did not answer'
  run ckpt-trigger -t 0.1 "$pid"
  assert_failure 1
  assert_output --partial 'it did not answer'
}

@test "a second trigger ends with 75 while the first is at work" {
  launch freeze
  ckpt-trigger "$pid" 3>&- 2>/dev/null &
  local first=$!
  pids+=("$first")
  until [ -e "/proc/$first/fd" ] && grep -q FLOCK /proc/locks && grep -q " $first " /proc/locks; do sleep 0.01; done
  run ckpt-trigger "$pid"
  assert_failure 75
  assert_output --partial 'is being made already'
}

@test "a process that ends during the checkpoint is noticed" {
  launch freeze
  ckpt-trigger "$pid" >out 2>&1 3>&- &
  local trigger=$!
  until grep -q " $trigger " /proc/locks; do sleep 0.01; done
  kill -KILL "$pid"
  assert_ended_with 1 "$trigger"
  run cat out
  assert_output --partial 'ended'
}

@test "a writer that was killed is noticed, and the next trigger is served" {
  launch die
  run ckpt-trigger "$pid"
  assert_failure 1
  assert_output 'ckpt-trigger: the writer of the image was killed'
  run ckpt-trigger "$pid"
  assert_failure 1
}

@test "a trigger that was killed before the answer leaves the process free for the next" {
  launch deaf
  ckpt-trigger "$pid" 3>&- 2>/dev/null &
  local first=$!
  until grep -q " $first " /proc/locks; do sleep 0.01; done
  kill -KILL "$first"
  wait "$first" || true
  run ckpt-trigger -t 0.2 "$pid"
  assert_failure 1
  assert_output --partial 'it did not answer'
}

@test "-o is for one process, and its folder must exist" {
  launch commit
  run ckpt-trigger -o x.ckpt "$pid" 1
  assert_failure 2
  run ckpt-trigger -o no/such/x.ckpt "$pid"
  assert_failure 73
  mkdir folder
  run ckpt-trigger -o folder "$pid"
  assert_failure 73
}
