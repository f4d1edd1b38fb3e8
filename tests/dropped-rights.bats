#!/usr/bin/env bats
# What root has launched and what then became another user is saved when root asks.
# bats file_tags=root

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }

# Where that user may write, and below folders it may enter.
new_work() {
  VICTIM_DIR=$(mktemp -d)
  export VICTIM_DIR
  chmod 777 "$VICTIM_DIR"
  round=0 restarts=0 main_pid='' program_pid=''
}

@test "a program that has become another user for good is saved by root, and comes back as it" {
  is_root || skip 'only root can launch such a program'
  restart_options=(--trust)
  three_ways dropped-root
}

@test "a program that keeps root as its saved user is saved by root, and its image is trusted" {
  is_root || skip 'only root can launch such a program'
  three_ways lowered-root
}

@test "an image that was written with lower rights is not restarted by root without --trust" {
  is_root || skip 'only root can launch such a program'
  new_work
  launch_victim dropped-root
  checkpoint
  check_round
  kill_program
  [ "$(stat -c '%u %a' "$image")" = '65534 600' ]
  run ckpt-restart "$image"
  [ "$status" -ne 0 ]
  [[ $output == *'it belongs to another user (--trust overrides)' ]]
  restart_options=(--trust)
  restart
  check_round
  finish
  rm -rf "${VICTIM_DIR:?}"
}

@test "root saves a program of lower rights into a file, to a stream, and ends it" {
  is_root || skip 'only root can launch such a program'
  new_work
  launch_victim dropped-root
  run ckpt-trigger -q -o "$BATS_TEST_TMPDIR/one.ckpt" "$program_pid"
  [ "$output" = "$BATS_TEST_TMPDIR/one.ckpt" ]
  ckpt-trigger -q -o - "$program_pid" >"$BATS_TEST_TMPDIR/two.ckpt"
  ckpt-ls --verify "$BATS_TEST_TMPDIR/one.ckpt" "$BATS_TEST_TMPDIR/two.ckpt"
  check_round
  for _ in 1 2 3 4; do ckpt-trigger -q "$program_pid" >/dev/null; done
  image=$(ckpt-trigger -q --kill "$program_pid")
  ! is_alive "$main_pid"
  [ "$(readlink -f "$CKPT_DIR/latest")" = "$image" ]
  [[ $image == */000005.ckpt ]]
  [ -z "$(find "$CKPT_DIR" -name '*tmp*')" ]
  rm -rf "${VICTIM_DIR:?}"
}
