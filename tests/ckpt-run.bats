#!/usr/bin/env bats
# Restart or launch. Stand-ins for the commands below it show what it calls; the last test does it for real.

load helpers

setup() {
  bats_load_library bats-support
  bats_load_library bats-assert
  set_up
  bin=$BATS_TEST_TMPDIR/bin
  mkdir "$bin"
  cp "$TESTS_DIR/../bin/ckpt-run" "$bin/"
  # Launching makes an image at once, unless the program is `fresh`; restarting runs what RESTARTED says.
  stand_in ckpt-launch '[ "$1 $3" = "-d --" ] || exit 99; store=$2; shift 3
    [ "$1" = true ] || { mkdir -p "$store/job"; echo image >"$store/job/000001.ckpt"; }
    exec "$@"'
  stand_in ckpt-restart 'echo "restart $*"; eval "$RESTARTED"'
  stand_in ckpt-ls 'if [ -e "$2/job/000001.ckpt" ]; then echo "\"state\": \"${STATE:-ok}\""; fi'
  stand_in ckpt-every '[ "$2" = -- ] && exit 66; echo "$@" >>"$CKPT_DIR/every"'
  export RESTARTED='exit 0'
}

teardown() { tear_down; }

stand_in() {
  printf '#!/bin/sh\n%s\n' "$2" >"$bin/$1"
  chmod +x "$bin/$1"
}

@test "a program is launched, with its arguments, streams and exit status" {
  # shellcheck disable=SC2016  # the inner shell's
  run "$bin/ckpt-run" -n it sh -c 'read -r line; printf "<%s>" "$line" "$@"; exit 3' - 'a  b' '' <<<'some input'
  assert_failure 3
  assert_line --index 0 '<some input><a  b><>'"ckpt-run: 'it' ended with status 3: the next run begins anew; what was saved is in '$CKPT_DIR/it.failed'"
}

@test "the images of a finished computation are removed" {
  run "$bin/ckpt-run" -n it sh -c 'exit 0'
  assert_success
  [ ! -e "$CKPT_DIR/it.run" ]
}

@test "the images of a failed one are moved aside, and the next run begins anew" {
  run "$bin/ckpt-run" -n it sh -c 'exit 3'
  assert_failure 3
  [ -e "$CKPT_DIR/it.failed/job/000001.ckpt" ]
  [ ! -e "$CKPT_DIR/it.run" ]
  run "$bin/ckpt-run" -n it sh -c 'exit 3'
  refute_output --partial restart
}

@test "a killed computation is carried on by the same command" {
  # shellcheck disable=SC2016
  run "$bin/ckpt-run" -n it sh -c 'kill -KILL $$'
  assert_failure 137
  # shellcheck disable=SC2016
  run "$bin/ckpt-run" -n it sh -c 'kill -KILL $$'
  assert_success
  assert_output "restart $CKPT_DIR/it.run"
  [ ! -e "$CKPT_DIR/it.run" ]
}

@test "it dies of the same signal as the program" {
  # shellcheck disable=SC2016
  run bash -c '"$0" -n it sh -c "kill -USR1 \$\$"; kill -l $?' "$bin/ckpt-run"
  assert_line USR1
}

@test "another command line or working directory is not carried on" {
  # shellcheck disable=SC2016
  run "$bin/ckpt-run" -n it sh -c 'kill -KILL $$'
  run "$bin/ckpt-run" -n it sh -c true
  assert_failure 125
  assert_output --partial 'another command'
  cd "$BATS_TEST_TMPDIR"
  # shellcheck disable=SC2016
  run "$bin/ckpt-run" -n it sh -c 'kill -KILL $$'
  assert_failure 125
}

@test "without a good image it is launched anew" {
  # shellcheck disable=SC2016
  run "$bin/ckpt-run" -n it sh -c 'kill -KILL $$'
  # shellcheck disable=SC2016
  STATE=damaged run "$bin/ckpt-run" -n it sh -c 'kill -KILL $$'
  assert_failure 137
  refute_output --partial restart
}

@test "when a full read finds all images damaged, it is launched anew, and says so" {
  stand_in ckpt-ls '[ "$1" = --verify ] || echo "\"state\": \"ok\""'
  mkdir -p "$CKPT_DIR/it.run"
  printf '%s %s\n' "${#PWD}" "$PWD" 2 sh 2 -c 6 'exit 0' >"$CKPT_DIR/it.run/command"
  RESTARTED='exit 125' run "$bin/ckpt-run" -n it sh -c 'exit 0'
  assert_success
  assert_line "restart $CKPT_DIR/it.run"
  assert_line "ckpt-run: all that was saved of 'it' is damaged: it begins anew"
}

@test "a restart that fails for another reason is not taken for damage" {
  stand_in ckpt-ls 'echo "\"state\": \"ok\""'
  mkdir -p "$CKPT_DIR/it.run"
  printf '%s %s\n' "${#PWD}" "$PWD" 2 sh 2 -c 6 'exit 0' >"$CKPT_DIR/it.run/command"
  RESTARTED='exit 125' run "$bin/ckpt-run" -n it sh -c 'exit 0'
  assert_failure 125
  assert_output "restart $CKPT_DIR/it.run"
}

@test "two runs of one name at once are refused" {
  mkfifo "$BATS_TEST_TMPDIR/hold"
  in_background /dev/null /dev/null "$bin/ckpt-run" -n it cat "$BATS_TEST_TMPDIR/hold"
  await_file "$CKPT_DIR/it.run/job/000001.ckpt" "$main_pid"
  run "$bin/ckpt-run" -n it true
  assert_failure 125
  assert_output --partial "'it' is running already"
  : >"$BATS_TEST_TMPDIR/hold"
  wait "$main_pid"
}

@test "a signal is passed on to the program" {
  # shellcheck disable=SC2016
  in_background "$BATS_TEST_TMPDIR/out" /dev/null "$bin/ckpt-run" -n it \
    sh -c 'trap "echo got it; exit 0" TERM; echo >"$1"; while :; do sleep 0.05; done' - "$BATS_TEST_TMPDIR/ready"
  await_file "$BATS_TEST_TMPDIR/ready" "$main_pid"
  kill -TERM "$main_pid"
  wait "$main_pid"
  assert_equal "$(cat "$BATS_TEST_TMPDIR/out")" 'got it'
}

@test "--every has the program saved at intervals" {
  run "$bin/ckpt-run" --every 10m -n it sleep 0.5
  assert_success
  assert_regex "$(cat "$CKPT_DIR/every")" '^-q 10m [0-9]+$'
}

@test "the name is that of the program, unless given" {
  run "$bin/ckpt-run" /bin/sh -c 'exit 4'
  assert_failure 4
  [ -d "$CKPT_DIR/sh.failed" ]
}

@test "a duration that is none is refused before anything is started" {
  local words
  cp "$TESTS_DIR/../bin/ckpt-every" "$bin/"
  for words in --every=10x "--every ten" --every= --every=0 --every=-h; do
    # shellcheck disable=SC2086  # words on purpose
    run "$bin/ckpt-run" $words -n it touch "$BATS_TEST_TMPDIR/ran"
    assert_failure 125
    assert_line --index 0 --regexp "^ckpt-run: --every: (not|too short) a duration"
    [ ! -e "$BATS_TEST_TMPDIR/ran" ]
  done
}

@test "wrong usage is refused with 125" {
  local words
  for words in '' '--' '-n' '-n a/b true' '-n .x true' '--nonsense true' '--every'; do
    # shellcheck disable=SC2086  # words on purpose
    run "$bin/ckpt-run" $words
    assert_failure 125
    assert_output --regexp '^ckpt-run: '
  done
}

@test "a computation that is saved and killed goes on where it was" {
  local below image
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" ckpt-run -n it "$VICTIMS/heap-brk"
  await_file "$VICTIM_DIR/ready" "$main_pid"
  find_program "$main_pid" "$VICTIMS/heap-brk"
  image=$(ckpt-trigger "$program_pid")
  [[ $image == "$CKPT_DIR"/it.run/*/000001.ckpt ]]
  kill -KILL "$program_pid"
  wait "$main_pid" || true
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" ckpt-run -n it "$VICTIMS/heap-brk"
  below=$main_pid
  touch "$VICTIM_DIR/go"
  wait "$below"
  assert_equal "$(cat "$VICTIM_DIR/result")" pass
  [ ! -e "$CKPT_DIR/it.run" ]
}

run_counting() {
  # shellcheck disable=SC2016 # for the shell inside
  in_background /dev/null /dev/null sh -c 'exec ckpt-run --every 1 -n it "$1" "$2" >>"$VICTIM_DIR/log" 2>&1' - \
    "$(system_program python3)" "$BATS_TEST_TMPDIR/count.py"
}
has_lines() { [ "$(wc -l <"$VICTIM_DIR/log")" -ge "$1" ]; }

# ckpt-run and ckpt-every have the log open as well.
@test "a log has each line once" {
  local lines
  cat >"$BATS_TEST_TMPDIR/count.py" <<'EOF'
import os, time
i = 0
while not os.path.exists(os.environ["VICTIM_DIR"] + "/go"):
    i += 1
    print(i, flush=True)
    time.sleep(0.05)
EOF
  run_counting
  await_that "$main_pid" compgen -G "$CKPT_DIR/it.run/*/000001.ckpt" >"$BATS_TEST_TMPDIR/images"
  lines=$(wc -l <"$VICTIM_DIR/log")
  await_that "$main_pid" has_lines "$((lines + 5))"
  find_program "$main_pid" "$(readlink -f "$(system_program python3)")"
  kill -KILL "$program_pid"
  wait "$main_pid" || true
  lines=$(wc -l <"$VICTIM_DIR/log")
  run_counting
  await_that "$main_pid" has_lines "$((lines + 5))"
  : >"$VICTIM_DIR/go"
  await_end
  lines=$(wc -l <"$VICTIM_DIR/log")
  seq "$lines" | diff - "$VICTIM_DIR/log"
}

@test "what a killed ckpt-run left running is not started once more, and its store stays" {
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" ckpt-run -n it "$VICTIMS/heap-brk"
  await_file "$VICTIM_DIR/ready" "$main_pid"
  find_program "$main_pid" "$VICTIMS/heap-brk"
  kill -KILL "$main_pid"
  wait "$main_pid" || true
  run ckpt-run -n it true
  assert_failure 125
  assert_output --partial "'it' still runs, as process $program_pid,"
  ckpt-trigger "$program_pid"
  run ckpt-run -n it "$VICTIMS/heap-brk"
  assert_failure 125
  : >"$VICTIM_DIR/go"
  while is_alive "$program_pid"; do sleep 0.01; done
  assert_equal "$(cat "$VICTIM_DIR/result")" pass
  rm "$VICTIM_DIR"/*
  : >"$VICTIM_DIR/go"
  run timeout "$STEP_SECONDS" ckpt-run -n it "$VICTIMS/heap-brk"
  assert_success
}
