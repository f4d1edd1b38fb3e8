#!/usr/bin/env bats
# The command that is one name for all of them.

bats_require_minimum_version 1.5.0

setup() {
  bats_load_library bats-support
  bats_load_library bats-assert
  cd "$BATS_TEST_DIRNAME/.." || return
  export PATH="$PWD/build/bin:$PATH" CKPT_DIR="$BATS_TEST_TMPDIR/store"
}

@test "without a command it lists the commands, each in one line" {
  run ckpt
  assert_success
  local command
  for command in launch trigger restart ls check every run help; do
    assert_line --regexp "^  ckpt $command +[a-z]"
  done
}

@test "a command is run with its arguments untouched" {
  mkdir -p "$BATS_TEST_TMPDIR/bin"
  cp bin/ckpt "$BATS_TEST_TMPDIR/bin/"
  printf '#!/bin/sh\nprintf "<%%s>" "$@"\nexit 7\n' >"$BATS_TEST_TMPDIR/bin/ckpt-some"
  chmod +x "$BATS_TEST_TMPDIR/bin/ckpt-some"
  run "$BATS_TEST_TMPDIR/bin/ckpt" some -x 'a  b' '' '*'
  assert_failure 7
  assert_output '<-x><a  b><><*>'
}

@test "it works through a symbolic link from elsewhere" {
  ln -s "$PWD/build/bin/ckpt" "$BATS_TEST_TMPDIR/checkpoint"
  cd /
  run "$BATS_TEST_TMPDIR/checkpoint" ls --version
  assert_success
  assert_output --regexp '^ckpt-ls \(ckpt\) [0-9.]+$'
}

@test "help opens the page of a command, and those of other sections" {
  export MANPAGER=cat PAGER=cat MANWIDTH=80
  run ckpt help ls
  assert_success
  assert_output --partial 'list checkpoint images'
  run ckpt help limits
  assert_success
  assert_output --partial 'what can and cannot be saved'
}

@test "an unknown command or option is wrong usage" {
  run ckpt nonsense
  assert_failure 2
  assert_output "ckpt: no such command: 'nonsense': 'ckpt' lists what there is"
  run ckpt --nonsense
  assert_failure 2
  run ckpt ../bin/ckpt-ls
  assert_failure 2
}

@test "each command prints its version and its help, and nothing on stderr" {
  local command
  for command in ckpt ckpt-launch ckpt-trigger ckpt-restart ckpt-ls ckpt-check ckpt-every ckpt-run; do
    run --separate-stderr "$command" --version
    assert_success
    assert_line --index 0 --regexp "^$command \(ckpt\) [0-9.]+$"
    [ -z "$stderr" ]
    run --separate-stderr "$command" --help
    assert_success
    assert_line --index 0 --regexp "^usage: $command "
    [ -z "$stderr" ]
  done
}
