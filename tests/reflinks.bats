#!/usr/bin/env bats
# Large files on a file system that shares blocks between files (XFS, btrfs): they go back with memory, and cost nothing meanwhile.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load helpers

setup() { set_up; }
teardown() {
  tear_down
  [ -z "${mounted:-}" ] || umount "$mounted"
  rm -f "$BATS_FILE_TMPDIR/disk"
}

# A file system of its own in a file, mounted; the work and the store are in it. Only root may mount.
use_file_system() { # TYPE
  local image=$BATS_FILE_TMPDIR/disk
  truncate -s 600M "$image"
  "mkfs.$1" -q "$image"
  mkdir -p "$BATS_FILE_TMPDIR/mounted"
  mount -o loop "$image" "$BATS_FILE_TMPDIR/mounted"
  mounted=$BATS_FILE_TMPDIR/mounted
  export CKPT_DIR=$mounted/store VICTIM_DIR=$mounted/work
  mkdir "$VICTIM_DIR"
}

# What is in the file, as one number.
sum_of() { sha256sum <"$1"; }

goes_back() { # TYPE
  use_file_system "$1"
  launch_options=(-k 2)
  launch_victim large-files
  checkpoint
  local before
  before=$(sum_of "$VICTIM_DIR/large")
  : >"$VICTIM_DIR/write-in-place"
  check_round
  rm "$VICTIM_DIR/write-in-place"
  [ "$(sum_of "$VICTIM_DIR/large")" != "$before" ]
  kill_program
  ckpt-restart -n "$image"
  ckpt-restart -n "$image" | grep "'$VICTIM_DIR/large' has changed since the checkpoint: put back"
  rm "$VICTIM_DIR"/round-* "$VICTIM_DIR"/done-*
  round=0
  restart "$CKPT_DIR/latest"
  [ "$(sum_of "$VICTIM_DIR/large")" = "$before" ]
  check_round
  # Again and again: what belongs to images that are gone is gone.
  go_on
  go_on
  go_on
  [ "$(find "$CKPT_DIR" -name '*.files' | wc -l)" -eq 2 ]
  kill_program
  rm "$VICTIM_DIR/large"
  restart
  grep "'$VICTIM_DIR/large' is gone: made again" "$VICTIM_DIR/restart-err-2"
  check_round
  # Without the copy a file that has changed is refused, one that has not is not.
  kill_program
  rm -r "${image%.ckpt}.files"
  ckpt-restart -n "$image"
  printf x | dd of="$VICTIM_DIR/large" bs=1 seek=1000 conv=notrunc status=none
  run ckpt-restart "$image"
  [ "$status" -eq 125 ]
  [[ $output == *"'$VICTIM_DIR/large' has changed since the checkpoint, and what the file system had kept of it,"* ]]
  [ -z "$(find "$CKPT_DIR" -name '.new.files')" ]
}

# bats test_tags=root
@test "a large file on XFS that the program went on writing goes back with memory" { goes_back xfs; }

# bats test_tags=root
@test "a large file on btrfs that the program went on writing goes back with memory" { goes_back btrfs; }

# bats test_tags=root
@test "what is kept of large files goes when the checkpoint fails" {
  use_file_system xfs
  launch_victim large-files
  local job
  job=$(basename "$(echo "$CKPT_DIR"/run/*.ckpt-control)" .ckpt-control)
  mkdir -p "$CKPT_DIR/$job/.000001.ckpt.tmp-$program_pid/in-the-way"
  run ckpt-trigger "$program_pid"
  [ "$status" -eq 73 ]
  [ -z "$(find "$CKPT_DIR" -name '*.files')" ]
  rm -r "$CKPT_DIR/$job/.000001.ckpt.tmp-$program_pid"
  # A writer that is killed leaves them to the next checkpoint.
  mkdir "$CKPT_DIR/$job/.new.files"
  : >"$CKPT_DIR/$job/.new.files/77"
  come_back
  [ "$(ls "$CKPT_DIR/$job/000001.files")" != 77 ]
  [ "$(find "$CKPT_DIR" -name '*.files' | wc -l)" -eq 1 ]
  finish
}

# bats test_tags=root
@test "where the store is on another file system, a large file that changed is refused as ever" {
  use_file_system xfs
  export CKPT_DIR=$BATS_TEST_TMPDIR/store
  launch_victim large-files
  checkpoint
  : >"$VICTIM_DIR/write-in-place"
  check_round
  kill_program
  run ckpt-restart "$image"
  [ "$status" -eq 125 ]
  [[ $output == *"was too large to be kept"* ]]
  [ -z "$(find "$CKPT_DIR" -name '*.files')" ]
}
