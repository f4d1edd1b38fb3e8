#!/usr/bin/env bats
# Images and files that are not as they should be when a program is restarted: found and named before anything of it runs.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() {
  set_up
  bats_load_library bats-support
  bats_load_library bats-assert
  bad=$BATS_TEST_TMPDIR/bad.ckpt
}
teardown() { tear_down; }

# A killed program and its image, self-contained.
make_image() {
  launch_victim "${@:-heap-brk}"
  image=$BATS_TEST_TMPDIR/good.ckpt
  checkpoint -o "$image"
  kill_program
}

# ckpt-restart with nothing inherited that would get in its way; must end with 125 and say it.
refuses_to_restart() {
  run timeout "$STEP_SECONDS" ckpt-restart "$@" </dev/null 3>&-
  if [ "$status" -ne 125 ] || [[ $output != ckpt-restart:* ]]; then fail "ckpt-restart $* ended with $status: $output"; fi
  if [ -e "$VICTIM_DIR/result" ]; then fail "the program ran"; fi
}

# flip FILE OFFSET: another value in one byte.
flip() {
  local old
  old=$(od -An -tu1 -j "$2" -N 1 "$1")
  # shellcheck disable=SC2059 # the format is the byte
  printf "\\x$(printf %x $((old ^ (1 << RANDOM % 8))))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# The image is still good, and the program goes on from it.
comes_back() {
  restart "$@"
  check_round
  finish
}

@test "a flipped byte in header, data or index is found before the program runs" {
  make_image
  local size index offset n
  size=$(stat -c %s "$image")
  index=$("$VICTIMS/make-image" borders "$image" | awk '$2 == "record" { print $1; exit }')
  RANDOM=${FLIP_SEED:=$RANDOM}
  echo "FLIP_SEED=$FLIP_SEED, $size bytes, index at $index"
  cp "$image" "$bad"
  for ((n = 0; n < 45; ++n)); do
    case $((n % 3)) in
      0) offset=$((RANDOM % 4096)) ;;
      1) offset=$((4096 + (RANDOM << 15 | RANDOM) % (index - 4096))) ;;
      2) offset=$((index + (RANDOM << 15 | RANDOM) % (size - index))) ;;
    esac
    flip "$bad" "$offset"
    refuses_to_restart "$bad"
    assert_output --partial "'$bad'"
    dd if="$image" of="$bad" bs=1 skip="$offset" seek="$offset" count=1 conv=notrunc status=none
  done
  comes_back "$bad"
}

@test "an image cut at a border of its records or frames is found before the program runs" {
  make_image
  local offset
  # All records, and some frames; one byte more or less is no border.
  for offset in 1 4095 4096 $("$VICTIMS/make-image" borders "$image" | awk '$2 == "record" || n++ % 5 == 0 { print $1 }' | awk '
    { all[NR] = $1 } END { step = NR / 40; if (step < 1) step = 1; for (i = 1; i <= NR; i += step) print all[int(i)] }'); do
    head -c "$offset" "$image" >"$bad"
    refuses_to_restart "$bad"
    assert_output --regexp "'$bad': truncated"
  done
  comes_back
}

@test "another format, architecture, page size or CPU is refused by name" {
  make_image
  local field value words
  while read -r field value words; do
    cp "$image" "$bad"
    "$VICTIMS/make-image" with "$bad" "$field" "$value"
    refuses_to_restart "$bad"
    assert_output --partial "$words"
  done <<'LIST'
reader 2 it needs a newer ckpt (format 2, this one reads 1)
version 0 its format version is impossible
arch 183 it was taken on another architecture (183)
page-size 65536 it has pages of 65536 bytes
cpu 2 this CPU lacks
LIST
  # Newer, but readable by us.
  cp "$image" "$bad"
  "$VICTIMS/make-image" with "$bad" version 2
  comes_back "$bad"
}

@test "what is no image is refused by name" {
  make_image
  : >"$bad"
  refuses_to_restart "$bad"
  assert_output "ckpt-restart: cannot use image '$bad': it is empty"
  rm "$bad"
  refuses_to_restart "$bad"
  assert_output "ckpt-restart: cannot open '$bad': No such file or directory"
  mkfifo "$bad"
  refuses_to_restart "$bad"
  assert_output "ckpt-restart: cannot use image '$bad': not a regular file"
  mkdir "$BATS_TEST_TMPDIR/empty"
  refuses_to_restart "$BATS_TEST_TMPDIR/empty"
  assert_output "ckpt-restart: no image in '$BATS_TEST_TMPDIR/empty'"
  CKPT_DIR=$BATS_TEST_TMPDIR/empty refuses_to_restart
  assert_output "ckpt-restart: no image in '$BATS_TEST_TMPDIR/empty'"
  CKPT_DIR=$BATS_TEST_TMPDIR/nowhere refuses_to_restart
  assert_output --partial "'$BATS_TEST_TMPDIR/nowhere': No such file or directory"
}

@test "a folder's newest image that is damaged is named, and the one before it is taken" {
  launch_victim heap-brk
  checkpoint
  checkpoint
  kill_program
  flip "$image" 5000
  restart "$CKPT_DIR"
  grep -qF "'$image'" "$VICTIM_DIR/restart-err-1"
  check_round
  finish
}

@test "an image that others own or could have written needs --trust" {
  make_image
  cp "$image" "$bad"
  chmod 666 "$bad"
  refuses_to_restart "$bad"
  assert_output "ckpt-restart: cannot trust image '$bad': other users can write to it (--trust overrides)"
  chmod 600 "$bad"
  mkdir -m 777 "$BATS_TEST_TMPDIR/open"
  chmod 777 "$BATS_TEST_TMPDIR/open"
  cp "$image" "$BATS_TEST_TMPDIR/open/image.ckpt"
  refuses_to_restart "$BATS_TEST_TMPDIR/open/image.ckpt"
  assert_output --partial 'other users can write to its folder'
  if is_root; then
    chown 65534 "$bad"
    refuses_to_restart "$bad"
    assert_output --partial "'$bad': it belongs to another user"
  fi
  restart_options=(--trust)
  comes_back "$bad"
}

@test "an image goes through a pipe, out of ckpt-trigger and into ckpt-restart" {
  launch_victim heap-brk
  ckpt-trigger -o - "$program_pid" | cat >"$BATS_TEST_TMPDIR/piped"
  kill_program
  run find "$CKPT_DIR" -name '*.ckpt'
  assert_output ''
  run bash -c 'head -c 10000 "$1" | ckpt-restart -' - "$BATS_TEST_TMPDIR/piped" 3>&-
  assert_failure 125
  assert_output --partial "'standard input': truncated"
  run ckpt-restart - </dev/null 3>&-
  assert_failure 125
  assert_output --partial "'standard input': it is empty"
  mkfifo "$BATS_TEST_TMPDIR/pipe"
  cat "$BATS_TEST_TMPDIR/piped" >"$BATS_TEST_TMPDIR/pipe" 3>&- &
  VICTIM_STDIN=$BATS_TEST_TMPDIR/pipe
  comes_back -
}

@test "a stream that was a pipe to somebody else is refused by --stdio=original" {
  local to
  exec {to}> >(cat >/dev/null)
  executable=$VICTIMS/heap-brk
  in_background "/dev/fd/$to" "$VICTIM_DIR/err" ckpt-launch "$executable"
  program_pid=$main_pid
  exec {to}>&-
  await_ready
  ckpt-trigger --kill "$program_pid"
  run ckpt-restart -n --stdio original 3>&-
  assert_failure 125
  assert_output --regexp "standard stream 1 led to a process outside the job \('pipe:\[[0-9]+\]'\): --stdio=original can't have it again"
  run ckpt-restart -n 3>&-
  assert_success
}

@test "an image in one file is enough: it was copied away, and its store is gone" {
  make_image
  mkdir -m 700 "$BATS_TEST_TMPDIR/elsewhere"
  mv "$image" "$BATS_TEST_TMPDIR/elsewhere/"
  rm -r "$CKPT_DIR"
  comes_back "$BATS_TEST_TMPDIR/elsewhere/good.ckpt"
}

@test "while the original lives a restart is refused, and --again runs both" {
  launch_victim heap-brk
  checkpoint
  local original=$main_pid
  refuses_to_restart "$image"
  assert_output "ckpt-restart: the job still lives as process $program_pid; end it first, or use --again to run both"
  restart_options=(--again)
  restart
  # Both look for the same files.
  : >"$VICTIM_DIR/go"
  await_end
  [ "$exit_status" -eq 0 ]
  main_pid=$original
  await_end
  [ "$exit_status" -eq 0 ]
  [ "$(cat "$VICTIM_DIR/result")" = pass ]
}

# Stands in for a writer of the job: maps the control page, in whose stage it may put a number first. Sets writer.
start_writer() {
  local ready=$BATS_TEST_TMPDIR/writer-ready
  rm -f "$ready"
  python3 -c '
import mmap, sys, time
file = open(sys.argv[1], "r+b")
page = mmap.mmap(file.fileno(), 0)
if len(sys.argv) > 3: page[20] = int(sys.argv[3])
open("/proc/self/comm", "w").write("ckpt-writer")
open(sys.argv[2], "w")
time.sleep(1000)' "$(echo "$CKPT_DIR"/run/*.ckpt-control)" "$ready" "$@" 3>&- &
  writer=$!
  started+=("$writer")
  await_file "$ready" "$writer"
}

@test "a writer that has done its work and is about to end keeps nobody from restarting" {
  launch_victim heap-brk
  checkpoint
  kill_program
  start_writer
  comes_back
}

@test "while a writer that outlived the program is at work, a restart is refused by its name" {
  local kWriting=4
  launch_victim heap-brk
  checkpoint
  kill_program
  start_writer $kWriting
  refuses_to_restart "$image"
  assert_output --partial "process $writer still writes an image of the job"
  kill "$writer"
  wait "$writer" || true
  comes_back
}

@test "where user namespaces are not allowed, an ordinary user is told so, and the program comes back" {
  make_image
  # As inside a container that forbids them: no capability, and no namespace left to be made.
  # shellcheck disable=SC2016
  in_background "$VICTIM_DIR/restart-out" "$VICTIM_DIR/restart-err" \
    unshare -cm --keep-caps sh -c 'echo 0 >/proc/sys/user/max_user_namespaces
      exec setpriv --ambient-caps=-all --inh-caps=-all --bounding-set=-all --no-new-privs "$@"' - \
    "$(command -v ckpt-restart)" "$image"
  check_round
  go_past "$main_pid"
  finish
  grep -q '^ckpt-restart: restarted without namespaces (user namespace' "$VICTIM_DIR/restart-err"
}

# --- files of the program ---

# A program with a library of its own, both in the test's folder.
launch_with_library() {
  local top=$TESTS_DIR/..
  library=$BATS_TEST_TMPDIR/libanswer.so
  printf 'int answer(void) { return 42; }\n' | gcc -shared -fPIC -x c - -o "$library"
  printf '%s\n' '#include "tests/progs/victim.h"' 'int answer(void);' 'static void check(void) { CHECK(answer() == 42); }' \
    'int main(void) { victim_wait(check); check(); victim_pass(); }' |
    gcc -D_GNU_SOURCE "-I$top" -x c - -x none "$library" "-Wl,-rpath,$BATS_TEST_TMPDIR" -o "$BATS_TEST_TMPDIR/with-library"
  executable=$BATS_TEST_TMPDIR/with-library
  launch "$executable"
  await_ready
}

replace_library() {
  printf 'int other(void) { return 1; }\nint answer(void) { return 43; }\n' | gcc -shared -fPIC -x c - -o "$library.new"
  mv "$library.new" "$library"
}

@test "a library that was replaced is mapped from the copy in the store, and named" {
  launch_with_library
  checkpoint
  kill_program
  replace_library
  restart
  check_round
  grep -qE "'$library' has changed since the checkpoint: mapped from the copy '$CKPT_DIR/files/[0-9a-f]{32}'" "$VICTIM_DIR/restart-err-1"
  # And again, from the copy.
  come_back
  finish
}

@test "a library that is gone comes out of the image when the store is gone too" {
  launch_with_library
  image=$BATS_TEST_TMPDIR/one.ckpt
  checkpoint -o "$image"
  kill_program
  rm -r "$library" "$CKPT_DIR"
  run ckpt-restart -n "$image" 3>&-
  assert_success
  [ ! -e "$CKPT_DIR" ]
  restart
  check_round
  grep -qF "'$library' is gone: mapped from the copy" "$VICTIM_DIR/restart-err-1"
  kill -KILL "$program_pid"
  await_end
  # A damaged copy is replaced by the one in the image.
  copy=$(grep -o "$CKPT_DIR/files/[0-9a-f]*" "$VICTIM_DIR/restart-err-1")
  flip "$copy" 5000
  restart
  finish
}

@test "an executable that was rebuilt is mapped from the copy" {
  launch_with_library
  checkpoint
  kill_program
  cp "$VICTIMS/heap-brk" "$executable.new"
  mv "$executable.new" "$executable"
  in_background "$VICTIM_DIR/restart-out" "$VICTIM_DIR/restart-err" ckpt-restart "$image"
  check_round
  grep -qF "'$executable' has changed since the checkpoint" "$VICTIM_DIR/restart-err"
  finish
}

@test "a library that changed and whose copy is gone or damaged is refused by name" {
  launch_with_library
  checkpoint
  kill_program
  replace_library
  local copy
  run ckpt-restart -n "$image" 3>&-
  assert_success
  assert_output --partial "'$library' has changed since the checkpoint: mapped from the copy"
  copy=$(grep -o "$CKPT_DIR/files/[0-9a-f]*" <<<"$output" | head -n 1)
  cp "$copy" "$BATS_TEST_TMPDIR/kept"
  chmod 600 "$copy"
  flip "$copy" 5000
  refuses_to_restart "$image"
  assert_output --partial "'$library', which the program has mapped, has changed since the checkpoint, and its copy '$copy' is damaged"
  rm "$copy"
  refuses_to_restart "$image"
  assert_output --partial "'$library', which the program has mapped, has changed since the checkpoint, and its copy '$copy' is gone too"
  cp "$BATS_TEST_TMPDIR/kept" "$copy"
  comes_back
}

@test "a mapped data file that changed or is gone is refused by name" {
  make_image private-file-mapping
  local data=$VICTIM_DIR/data
  mv "$data" "$data.kept"
  refuses_to_restart "$image"
  assert_output --partial "file '$data', which the program has mapped, is gone"
  cp "$data.kept" "$data"
  printf x >>"$data"
  refuses_to_restart "$image"
  assert_output --partial "file '$data', which the program has mapped, has changed since the checkpoint"
  mv "$data.kept" "$data"
  comes_back
}

@test "a written file that was cut or overwritten is refused by name, and --files keep takes it" {
  launch_victim log-cut-back plain
  image=$BATS_TEST_TMPDIR/good.ckpt
  checkpoint -o "$image"
  kill_program
  local log=$VICTIM_DIR/log
  cp -p "$log" "$log.kept"
  : >"$log"
  refuses_to_restart "$image"
  assert_output "ckpt-restart: file '$log' is shorter than at the checkpoint (--files keep takes it as it is)"
  tr 'l' 'L' <"$log.kept" >"$log"
  refuses_to_restart "$image"
  assert_output "ckpt-restart: file '$log' was overwritten since the checkpoint (--files keep takes it as it is)"
  cp "$log" "$log.overwritten"
  run ckpt-restart -n --files keep "$image" 3>&-
  assert_success
  cmp "$log" "$log.overwritten"
  rm "$log"
  refuses_to_restart "$image"
  assert_output --partial "file '$log', which the program has open, is gone"
  cp -p "$log.kept" "$log"
  comes_back
}

@test "a file open for reading that changed is named, and read as it is now" {
  make_image regular-files
  touch -d '2001-01-01' "$VICTIM_DIR"/*
  restart
  grep -q "has changed since the checkpoint: read as it is now" "$VICTIM_DIR/restart-err-1"
  check_round
  finish
}

# Stores are moved to other disks, and copied to other machines.
@test "a job is saved in the store that its image lies in, or in CKPT_DIR" {
  local old=$CKPT_DIR new=$BATS_TEST_TMPDIR/new loose=$BATS_TEST_TMPDIR/loose.ckpt
  launch_victim heap-brk
  checkpoint
  cp "$image" "$loose"
  cp -r "$old" "$new"
  refuses_to_restart "$new/latest"
  [[ $output == *"the job still lives as process $program_pid"* ]]
  kill_program
  rm -r "$old"
  image=$new/latest
  unset CKPT_DIR
  restart
  checkpoint
  [[ $image == "$new"/*/000002.ckpt && ! -e $old ]]
  kill_program
  export CKPT_DIR=$BATS_TEST_TMPDIR/third
  restart "$loose"
  checkpoint
  [[ $image == "$CKPT_DIR"/*/000001.ckpt ]]
  finish
}

# bats test_tags=user
@test "a loose image whose store cannot be made again goes on in that of whoever restarts it" {
  local parent=$BATS_TEST_TMPDIR/parent loose=$BATS_TEST_TMPDIR/loose.ckpt
  mkdir "$parent"
  export CKPT_DIR=$parent/store HOME=$BATS_TEST_TMPDIR
  launch_victim heap-brk
  checkpoint
  cp "$image" "$loose"
  kill_program
  rm -r "$CKPT_DIR"
  chmod 555 "$parent"
  unset CKPT_DIR
  restart "$loose"
  checkpoint
  [[ $image == "$HOME"/.ckpt/*/000001.ckpt ]]
  finish
  chmod 755 "$parent"
}
