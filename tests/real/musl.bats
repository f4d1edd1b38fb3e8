#!/usr/bin/env bats
# A program of another libc, built with musl-gcc, through the same libckpt.so.

# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() {
  command -v musl-gcc >/dev/null || skip "no musl-gcc"
  set_up
  VICTIMS=$BATS_TEST_TMPDIR/musl
  mkdir "$VICTIMS"
}
teardown() { tear_down; }

build() { # TRAIT
  musl-gcc -std=gnu11 -O1 -g -w -pthread -o "$VICTIMS/$1" "$TESTS_DIR/progs/$1.c"
}

@test "a program built with musl-gcc" {
  build busy-work
  same_output_over_three_restarts "$VICTIMS/busy-work" 400
}

@test "programs under test built with musl-gcc" {
  local trait
  for trait in heap-mmap threads-many thread-masks tls regular-files short-waits; do
    build "$trait"
    three_ways "$trait"
  done
}

@test "calls of musl that begin just before the freeze notice nothing" {
  build short-waits
  launch_victim short-waits
  timeout $((STEP_SECONDS * 10)) "$BUILD/tests/freeze-loop" "$program_pid" 300
  check_round
  finish
}
