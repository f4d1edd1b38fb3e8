#!/usr/bin/env bats
# Versions that meet: a job that runs for months keeps the runtime it was launched with, while commands, runtime and images of other
# versions come. Each pair works, or one says which is too old; the program goes on.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

GOLDEN=$BATS_TEST_DIRNAME/golden

setup() {
  set_up
  bats_load_library bats-support
  bats_load_library bats-assert
}
teardown() { tear_down; }

# An installation of our own, to be upgraded.
install_here() {
  prefix=$BATS_TEST_TMPDIR/prefix
  mkdir -p "$prefix"/bin "$prefix"/lib "$prefix"/libexec
  cp "$BUILD"/bin/ckpt-launch "$BUILD"/bin/ckpt-trigger "$BUILD"/bin/ckpt-restart "$prefix/bin/"
  cp -r "$BUILD/lib/ckpt" "$prefix/lib/"
  cp -r "$BUILD/libexec/ckpt" "$prefix/libexec/"
  PATH=$prefix/bin:$PATH
}

# Another runtime takes the place of the installed one, as a package manager does it.
upgrade() {
  local runtime=$prefix/lib/ckpt/libckpt.so
  cp "$runtime" "$runtime.new"
  printf 'another version' >>"$runtime.new"
  mv "$runtime.new" "$runtime"
}

# set_number FILE OFFSET NUMBER: four bytes of a control page (docs/architecture.md).
set_number() {
  # shellcheck disable=SC2059 # the format is the bytes
  printf "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($3 & 255)) $(($3 >> 8 & 255)) $(($3 >> 16 & 255)) $(($3 >> 24 & 255)))" |
    dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

control_file() { find "$CKPT_DIR/run" -name '*.ckpt-control'; }

@test "a job whose runtime was replaced on disk is saved, and comes back with the one it had" {
  install_here
  launch_victim heap-brk
  upgrade
  grep -q 'libckpt.so (deleted)' "/proc/$program_pid/maps"
  checkpoint
  check_round
  come_back
  # It is a file no more, and is saved once more.
  come_back
  finish
}

@test "a job with processes of two runtimes is saved whole, and again after a restart" {
  install_here
  executable=$(command -v bash)
  # shellcheck disable=SC2016 # for the job
  launch bash -c 'sleep 1000 & : >"$VICTIM_DIR/old"; until [ -e "$VICTIM_DIR/upgraded" ]; do read -rt 0.02 <> <(:); done
    sleep 1001 & : >"$VICTIM_DIR/ready"; wait'
  await_file "$VICTIM_DIR/old" "$main_pid"
  await_that "$main_pid" pgrep -P "$program_pid" -x sleep
  upgrade
  : >"$VICTIM_DIR/upgraded"
  await_ready
  await_that "$main_pid" runs_sleeps
  local pid
  for pid in $(descendants_of "$program_pid"); do await_that "$pid" grep -q "$CKPT_DIR/run/" "/proc/$pid/maps"; done
  has_tree=1
  for _ in 1 2; do
    checkpoint
    run ckpt-ls --json "$image"
    assert_output --partial '"processes": 3,'
    kill_program
    restart
    await_that "$main_pid" runs_sleeps
  done
  checkpoint
}

runs_sleeps() { [ "$(pgrep -P "$program_pid" -x sleep | wc -l)" = 2 ]; }

@test "a job of a newer version that knows us is saved; one that does not is refused, and goes on" {
  launch_victim heap-brk
  set_number "$(control_file)" 8 7
  checkpoint
  set_number "$(control_file)" 12 7
  local command
  for command in ckpt-trigger ckpt-check; do
    run "$command" "$program_pid"
    if [ "$command" = ckpt-trigger ]; then assert_failure 69; else assert_failure; fi
    assert_output --partial "its job needs a newer ckpt (control version 7)"
  done
  set_number "$(control_file)" 12 1
  come_back
  finish
}

@test "a control page of another size or kind is refused, and the job goes on" {
  launch_victim heap-brk
  local page
  page=$(control_file)
  cp "$page" "$BATS_TEST_TMPDIR/page"
  printf x | dd of="$page" bs=1 conv=notrunc status=none
  run ckpt-trigger "$program_pid"
  assert_failure 69
  assert_output --partial 'not a control file'
  printf C | dd of="$page" bs=1 conv=notrunc status=none
  cmp "$page" "$BATS_TEST_TMPDIR/page"
  come_back
  finish
}

# While a version is not released, tests/golden/renew follows its changes.
@test "golden images: each format that ever was is read as it was written" {
  local golden name
  cd "$BATS_TEST_TMPDIR"
  for golden in "$GOLDEN"/version-*.ckpt; do
    name=$(basename "$golden" .ckpt)
    cp "$golden" "$name.ckpt"
    chmod 600 "$name.ckpt"
    ckpt-ls --verify "$name.ckpt"
    ckpt-ls --map "$name.ckpt" | diff "$GOLDEN/$name.map" -
    ckpt-ls --json --map "$name.ckpt" | diff "$GOLDEN/$name.json" -
  done
  # The format that is written now has one.
  local format
  format=$(sed -n 's/.*kImageVersion = \([0-9]*\);.*/\1/p' "$BATS_TEST_DIRNAME/../lib/format/image.h")
  [ -f "$GOLDEN/version-$format.ckpt" ]
}
