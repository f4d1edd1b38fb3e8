#!/usr/bin/env bats
# A program under gdb or valgrind: refused or saved with it, and it never hangs.

# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }
has_tree=1

@test "a program under gdb --batch" {
  cat >"$BATS_TEST_TMPDIR/work.c" <<'C'
#include <stdio.h>
#include <unistd.h>
static void step(int i) { printf("step %d\n", i), fflush(stdout), usleep(20000); }
int main(int argc, char** argv) {
  fclose(fopen(argv[1], "w"));
  for (int i = 0; i < 20 || access(argv[2], F_OK); ++i) step(i % 20);
  return argc - 3;
}
C
  gcc -g -o "$BATS_TEST_TMPDIR/traced" "$BATS_TEST_TMPDIR/work.c"
  export HOME=$BATS_TEST_TMPDIR SHELL=/bin/sh # that of nobody is nologin
  launch "$(system_program gdb)" -nx --batch -ex 'break step if i == 7' -ex 'run' -ex 'print i' -ex 'delete' -ex 'continue' \
    --args "$BATS_TEST_TMPDIR/traced" "$VICTIM_DIR/ready" "$VICTIM_DIR/go"
  await_ready
  sleep 0.3
  run timeout 60 ckpt-trigger -t 3 "$program_pid"
  echo "status $status: $output"
  [ "$status" -eq 0 ] || [[ $output == *"is under a debugger" ]]
  : >"$VICTIM_DIR/go"
  await_end
  cat "$VICTIM_DIR/out" "$VICTIM_DIR/err"
  [ "$exit_status" -eq 0 ]
  grep 'exited normally' "$VICTIM_DIR/out"
}

@test "a program under valgrind is refused by name, and goes on" {
  launch "$(system_program valgrind)" -q --tool=none sleep 3
  await_that "$main_pid" runs_emulated
  run timeout 60 ckpt-trigger "$program_pid"
  echo "status $status: $output"
  [ "$status" -ne 0 ]
  [[ $output == *" runs under valgrind, whose signals are its own, and can't be saved" ]]
  await_end
  cat "$VICTIM_DIR/err"
  [ "$exit_status" -eq 0 ]
}

# Its tool has been started, and the program in that.
runs_emulated() { grep -qs '/sleep$' "/proc/$program_pid/maps"; }
