#!/usr/bin/env bats
# Saving at intervals. A stand-in for ckpt-trigger writes down what it was asked for: the intervals are the matter here.

load helpers

setup() {
  bats_load_library bats-support
  bats_load_library bats-assert
  set_up
  bin=$BATS_TEST_TMPDIR/bin
  mkdir "$bin"
  cp "$TESTS_DIR/../bin/ckpt-every" "$bin/"
  stand_in 'echo "image of $2"'
}

teardown() { tear_down; }

# What ckpt-trigger does from now on: a shell script.
stand_in() {
  printf '#!/bin/sh\necho "$@" >>"%s"\n%s\n' "$BATS_TEST_TMPDIR/asked" "$1" >"$bin/ckpt-trigger"
  chmod +x "$bin/ckpt-trigger"
}

# Starts a process to be saved. Sets job.
start_job() {
  sleep "$1" 3>&- &
  job=$!
  started+=("$job")
}

@test "a program is saved again and again until it ends, and the paths are printed" {
  start_job 60
  stand_in "echo \"image of \$2\"; if [ \"\$(wc -l <'$BATS_TEST_TMPDIR/asked')\" -ge 2 ]; then kill $job; fi"
  run timeout 30 "$bin/ckpt-every" 0.1 "$job"
  assert_success
  assert_line --index 0 "image of $job"
  assert_line --index 1 "image of $job"
  assert_equal "$(head -n 1 "$BATS_TEST_TMPDIR/asked")" "-q $job"
}

@test "it ends when the last of several has ended, long before the next interval" {
  start_job 0.3
  first=$job
  start_job 1
  run timeout 30 "$bin/ckpt-every" 1h "$first" "$job"
  assert_success
  [ ! -e "$BATS_TEST_TMPDIR/asked" ]
}

@test "quiet means no paths, but complaints are passed on, each once" {
  # The job ends with the third attempt.
  start_job 60
  stand_in "echo 'ckpt-trigger: no space' >&2; echo path
    if [ \"\$(wc -l <'$BATS_TEST_TMPDIR/asked')\" -ge 3 ]; then kill $job; fi; exit 74"
  run timeout 30 "$bin/ckpt-every" -q 0.1 "$job"
  assert_success
  assert_output 'ckpt-trigger: no space'
}

@test "it gives up on a program that was not launched for it" {
  stand_in 'echo "ckpt-trigger: not launched" >&2; exit 69'
  start_job 60
  run timeout 30 "$bin/ckpt-every" 0.2 "$job"
  assert_failure 69
  assert_output 'ckpt-trigger: not launched'
  [ "$(wc -l <"$BATS_TEST_TMPDIR/asked")" = 2 ]
}

@test "ended by a signal, it leaves nothing behind" {
  start_job 60
  "$bin/ckpt-every" 1h "$job" 3>&- &
  every=$!
  started+=("$every")
  until [ -n "$(descendants_of "$every")" ]; do sleep 0.05; done
  mapfile -t below < <(descendants_of "$every")
  kill -TERM "$every"
  status=0
  wait "$every" || status=$?
  assert_equal "$status" 143
  for pid in "${below[@]}"; do
    while is_alive "$pid"; do sleep 0.05; done
  done
}

@test "a process that is not there is said at once" {
  run "$bin/ckpt-every" 10 4194304
  assert_failure 66
  assert_output 'ckpt-every: no such process: 4194304'
}

@test "wrong usage is refused" {
  local words
  for words in '' '10' '10x 1' 'x 1' '1.2.3 1' '0 1' '-5 1' '10 abc' '99999999999999999999 1' '--nonsense 1 1'; do
    # shellcheck disable=SC2086  # words on purpose
    run "$bin/ckpt-every" $words
    assert_failure 2
    assert_output --regexp '^ckpt-every: '
  done
}

@test "all units are taken" {
  local duration
  for duration in 08 90s 1.5m 10m 2h 1d; do
    run "$bin/ckpt-every" "$duration" 4194304
    assert_failure 66
  done
}
