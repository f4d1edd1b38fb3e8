#!/usr/bin/env bats
# ckpt-ls on images that a helper composes: no runtime needed.
bats_require_minimum_version 1.5.0

setup_file() {
  export TOP BUILD_DIR MAKE_IMAGE
  TOP=$(cd "$BATS_TEST_DIRNAME/.." && pwd)
  BUILD_DIR=$(cd "$TOP/${BUILD:-build}" && pwd)
  MAKE_IMAGE=$BUILD_DIR/tests/make-image
}

setup() {
  load /usr/lib/bats/bats-support/load
  load /usr/lib/bats/bats-assert/load
  cd "$BATS_TEST_TMPDIR" || return
  export CKPT_DIR=$BATS_TEST_TMPDIR/store
  PATH=$BUILD_DIR/bin:$PATH
  umask 077
}

# Two jobs with three images, the newest last.
make_store() {
  mkdir -p store/alpha-1 store/beta-2 store/run store/files
  "$MAKE_IMAGE" new store/alpha-1/000001.ckpt alpha 101 1700000000
  "$MAKE_IMAGE" new store/beta-2/000001.ckpt 'be ta' 102 1700000100
  "$MAKE_IMAGE" new store/alpha-1/000002.ckpt alpha 101 1700000200
  ln -s 000002.ckpt store/alpha-1/latest
  ln -s alpha-1/000002.ckpt store/latest
}

# flip_byte FILE OFFSET
flip_byte() {
  local old
  old=$(od -An -tu1 -j "$2" -N 1 "$1")
  # shellcheck disable=SC2059 # the format is the byte
  printf "\\x$(printf %x $((old ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

@test "--help and --version print to stdout and succeed" {
  run --separate-stderr ckpt-ls --help
  assert_success
  assert_line --index 0 --partial 'usage: ckpt-ls'
  assert_equal "$stderr" ''
  run ckpt-ls --version
  assert_success
  assert_output --regexp '^ckpt-ls \(ckpt\) [0-9]'
}

@test "an unknown option is a usage error that names it" {
  run ckpt-ls --nonsense
  assert_failure 2
  assert_line --index 0 "ckpt-ls: unknown or ambiguous option '--nonsense'"
}

@test "output that can't be written is an error" {
  run bash -c 'ckpt-ls --help >/dev/full'
  assert_failure 74
}

@test "an empty store lists nothing and succeeds" {
  run ckpt-ls
  assert_success
  assert_output ''
  run ckpt-ls --json
  assert_success
  assert_output '[]'
}

@test "a folder that does not exist is named" {
  run ckpt-ls ./nowhere
  assert_failure 66
  assert_output "ckpt-ls: cannot open './nowhere': No such file or directory"
}

@test "images are listed newest first, one line each, the path last" {
  make_store
  run ckpt-ls
  assert_success
  assert_equal "${#lines[@]}" 4
  assert_line --index 0 --regexp '^WHEN +AGE +PROGRAM +PID +THREADS +PROCESSES +SIZE +PARENT +STATE +PATH$'
  assert_line --index 1 --regexp '^2023-11-14T22:16:40Z .* alpha +101 +2 +1 .* - +ok +.*/store/alpha-1/000002.ckpt$'
  assert_line --index 2 --regexp ' be\\x20ta +102 .*/store/beta-2/000001.ckpt$'
  assert_line --index 3 --regexp '/store/alpha-1/000001.ckpt$'
  run awk '{ print NF }' <<<"$output"
  assert_output "$(printf '10\n10\n10\n10')"
}

@test "-l shows more columns" {
  make_store
  run ckpt-ls --long store/beta-2
  assert_success
  assert_line --index 0 --regexp ' ID +GENERATION +MEMORY +CODEC +HOST +KERNEL +PATH$'
  assert_line --index 1 --regexp ' ab000000 +1 +12K +none +lab +6.1 +store/beta-2/000001.ckpt$'
}

@test "an image can be named by its latest link" {
  make_store
  run ckpt-ls store/latest
  assert_success
  assert_line --index 1 --regexp ' alpha .* store/latest$'
}

@test "damaged and partial files are shown as such" {
  make_store
  flip_byte store/beta-2/000001.ckpt 100
  truncate -s 5000 store/alpha-1/000002.ckpt
  head -c 9000 /dev/zero >store/alpha-1/.000003.ckpt.tmp-99
  run ckpt-ls
  assert_success
  assert_line --regexp ' damaged .*/beta-2/000001.ckpt$'
  assert_line --regexp ' damaged .*/alpha-1/000002.ckpt$'
  assert_line --regexp ' partial .*/alpha-1/.000003.ckpt.tmp-99$'
  assert_line --regexp ' ok .*/alpha-1/000001.ckpt$'
}

@test "--verify finds damage in the data and exits 1" {
  make_store
  run ckpt-ls --verify
  assert_success
  flip_byte store/alpha-1/000001.ckpt 4200
  run ckpt-ls --verify
  assert_failure 1
  assert_line --partial "000001.ckpt': damaged at offset 4096"
  assert_line --regexp ' damaged .*/alpha-1/000001.ckpt$'
  assert_line --regexp ' ok .*/alpha-1/000002.ckpt$'
}

@test "any single flipped byte of an image is found" {
  make_store
  run "$MAKE_IMAGE" flip store/latest
  assert_success
  assert_output ok
}

@test "an image cut at any length is found" {
  make_store
  run "$MAKE_IMAGE" cut store/latest
  assert_success
  assert_output ok
}

@test "a header or index made to mislead is refused or read, never worse" {
  make_store
  run "$MAKE_IMAGE" hostile store/latest
  assert_success
  assert_output ok
}

@test "files that are no images are refused with the reason" {
  make_store
  : >empty.ckpt
  printf 'hello' >text.ckpt
  mkfifo fifo.ckpt
  truncate -s 100 store/alpha-1/000001.ckpt
  run ckpt-ls --verify empty.ckpt
  assert_failure 1
  assert_line --partial "cannot use image 'empty.ckpt': it is empty"
  run ckpt-ls --verify text.ckpt
  assert_failure 1
  assert_line --partial "cannot use image 'text.ckpt': not a checkpoint image"
  run ckpt-ls --verify fifo.ckpt
  assert_failure 66
  assert_output "ckpt-ls: cannot open 'fifo.ckpt': not a regular file"
  run ckpt-ls --verify store/alpha-1/000001.ckpt
  assert_failure 1
  assert_line --partial 'truncated'
}

@test "an image of a newer format is refused by its number" {
  make_store
  printf '\x09' | dd of=store/alpha-1/000001.ckpt bs=1 seek=12 conv=notrunc status=none
  run ckpt-ls --verify store/alpha-1/000001.ckpt
  assert_failure 1
  assert_line --regexp 'header is damaged|newer ckpt'
}

@test "--json is an array of objects with integers and UTC times" {
  make_store
  run ckpt-ls --json store/beta-2
  assert_success
  run python3 -c '
import json, sys
image, = json.loads(sys.argv[1])
assert image["schema"] == 1 and image["state"] == "ok" and image["problem"] is None
assert image["program"] == "be ta" and image["pid"] == 102 and image["threads"] == 2
assert image["time"] == "2023-11-14T22:15:00Z" and image["parent"] is None and isinstance(image["size"], int)
' "$output"
  assert_success
}

@test "--map shows areas, threads, descriptors and signals" {
  make_store
  run ckpt-ls --map store/latest
  assert_success
  assert_line --regexp '555500010000-555500013000 +rw- +anonymous +2 +1 +0 +\[heap\]$'
  assert_line --regexp '^ +102 +0+ +alpha$'
  assert_line --regexp '^ +3 +1 deleted +rw .* /tmp/lab \(close-on-exec\)$'
  assert_line --regexp 'SIGUSR1 handled'
  run ckpt-ls --map --json store/latest
  assert_success
  assert_output --partial '"pages_zero": 1'
}

@test "control bytes of names never reach the terminal" {
  mkdir -p store/job
  "$MAKE_IMAGE" new $'store/job/a\e[31m.ckpt' $'p\nq' 5 1700000000
  run ckpt-ls
  assert_success
  assert_line --index 1 --regexp ' p\\x0aq .*/a\\x1b\[31m.ckpt$'
}

@test "--color marks what is damaged, and nothing else depends on it" {
  make_store
  : >store/alpha-1/000009.ckpt
  run ckpt-ls --color=always
  assert_output --partial $'\e[31m'
  local coloured=$output
  run ckpt-ls --color=never
  refute_output --partial $'\e['
  # shellcheck disable=SC2001
  [ "$(sed $'s/\e\[[0-9]*m//g' <<<"$coloured")" = "$output" ]
  run ckpt-ls --color=sometimes
  assert_failure 2
}
