#!/usr/bin/env bats
# Installing into a DESTDIR, using the tree from another place, and uninstalling. -o all: nothing is built for it.

load helpers

setup() {
  bats_load_library bats-support
  bats_load_library bats-assert
  set_up
  cd "$TESTS_DIR/.." || return
  root=$BATS_TEST_TMPDIR/root
}

teardown() { tear_down; }

@test "commands, runtime, pages and completions are installed, and uninstalled without a rest" {
  make -s -o all install PREFIX=/usr DESTDIR="$root"
  for file in bin/ckpt bin/ckpt-launch bin/ckpt-restart lib/ckpt/libckpt.so libexec/ckpt/ckpt-restorer share/man/man1/ckpt-ls.1 \
    share/man/man5/ckpt-image.5 share/man/man7/ckpt-limits.7 share/bash-completion/completions/ckpt-ls share/doc/ckpt/README.md; do
    [ -e "$root/usr/$file" ] || fail "$file is missing"
  done
  make -s uninstall PREFIX=/usr DESTDIR="$root"
  run find "$root" ! -type d
  assert_output ''
}

@test "an installed tree works after it was moved, and opens its pages" {
  make -s -o all install PREFIX=/usr/local DESTDIR="$root"
  mv "$root/usr/local" "$BATS_TEST_TMPDIR/moved"
  PATH=$BATS_TEST_TMPDIR/moved/bin:/usr/bin:/bin
  # shellcheck disable=SC2016  # the inner shell's
  run ckpt-launch sh -c 'echo "$LD_PRELOAD"'
  assert_success
  assert_output "$BATS_TEST_TMPDIR/moved/lib/ckpt/libckpt.so"
  MANPAGER=cat PAGER=cat run ckpt help trigger
  assert_success
  assert_output --partial 'save running programs, now'
}

@test "a build prints one short line for each file, and with V=1 the commands" {
  local build=$BATS_TEST_TMPDIR/build
  unset MAKEFLAGS MFLAGS MAKELEVEL V # of a make that runs the tests
  run make DEPS=skip BUILD="$build" "$build/obj/hosted/lib/common/signal-names.cc.o"
  [ "$status" -eq 0 ]
  [ "$output" = '  CC   lib/common/signal-names.cc' ]
  run make -n DEPS=skip V=1 BUILD="$build" "$build/obj/hosted/lib/common/units.cc.o"
  [[ $output != *'  CC '* ]]
  [[ $output == *'-c lib/common/units.cc'* ]]
}
