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
  run is_alive "$main_pid"
  [ "$status" -ne 0 ]
  [ "$(readlink -f "$CKPT_DIR/latest")" = "$image" ]
  [[ $image == */000005.ckpt ]]
  [ -z "$(find "$CKPT_DIR" -name '*tmp*')" ]
  rm -rf "${VICTIM_DIR:?}"
}

@test "what a program of lower rights has written into the control page moves no file of root's" {
  is_root || skip 'only root can launch such a program'
  local control elsewhere=$BATS_TEST_TMPDIR/elsewhere
  new_work
  mkdir -p "$elsewhere/run" "$elsewhere/victim"
  launch_victim dropped-root
  control=$(echo "$CKPT_DIR"/run/*.ckpt-control)
  # Settings: 16 bytes of the job's id, the store, the job's name (lib/format/control.h).
  printf '%s\0' "$elsewhere" | dd of="$control" bs=1 seek=$((11464 + 16)) conv=notrunc status=none
  printf '../elsewhere/victim\0' | dd of="$control" bs=1 seek=$((11464 + 16 + 4096)) conv=notrunc status=none
  checkpoint
  [[ $image == "$CKPT_DIR/$(basename "$control" .ckpt-control)/000001.ckpt" ]]
  ckpt-trigger -q -o - "$program_pid" >/dev/null
  [ -z "$(find "$elsewhere" -type f -o -type l)" ]
  finish
  rm -rf "${VICTIM_DIR:?}"
}

@test "an image file that ckpt-launch has named is root's to name again" {
  is_root || skip 'only root can launch such a program'
  new_work
  launch_options=(-o "$BATS_TEST_TMPDIR/named.ckpt")
  launch_victim dropped-root
  run ckpt-trigger -q "$program_pid"
  [ "$status" -eq 1 ]
  [[ $output == *'it has become user 65534'*'let root run ckpt-trigger (with -o, if ckpt-launch had it)' ]]
  ckpt-trigger -q -o "$BATS_TEST_TMPDIR/named.ckpt" "$program_pid"
  finish
  rm -rf "${VICTIM_DIR:?}"
}

@test "the programs under test notice their own sabotage" {
  is_root || skip 'only root can launch such a program'
  local trait is_broken
  for trait in dropped-root lowered-root; do
    for is_broken in 0 1; do
      new_work
      executable=$VICTIMS/$trait
      in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" env VICTIM_BREAK=$is_broken "$executable"
      await_ready
      : >"$VICTIM_DIR/go"
      await_end
      if [ "$is_broken" -eq 0 ]; then [ "$(cat "$VICTIM_DIR/result")" = pass ]; else [ "$(cat "$VICTIM_DIR/result")" != pass ]; fi
      rm -rf "${VICTIM_DIR:?}"
    done
  done
}

@test "a writer of lower rights that is killed leaves nothing, and the next checkpoint works" {
  is_root || skip 'only root can launch such a program'
  new_work
  launch_victim dropped-root
  ckpt-trigger -q "$program_pid" >"$VICTIM_DIR/image" 2>"$VICTIM_DIR/trigger-err" &
  local trigger=$! writer='' end=$((SECONDS + STEP_SECONDS))
  while is_alive "$trigger" && [ -z "$writer" ] && [ "$SECONDS" -lt "$end" ]; do
    writer=$(own_writer)
  done
  if [ -n "$writer" ]; then kill -KILL "$writer" || true; fi
  wait "$trigger" || true
  [ -z "$(find "$CKPT_DIR" -name '*tmp*')" ]
  checkpoint
  ckpt-ls --verify "$image"
  ckpt-check "$program_pid"
  finish
  rm -rf "${VICTIM_DIR:?}"
}
