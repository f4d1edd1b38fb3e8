#!/usr/bin/env bats
# Without ckpt-launch: LD_PRELOAD of the runtime and kill -USR2 are enough.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }

@test "memory survives under a bare LD_PRELOAD" { preload_way heap-mmap; }
@test "threads survive under a bare LD_PRELOAD" { preload_way threads-many 20; }
@test "locks survive under a bare LD_PRELOAD" { preload_way locks-held; }
@test "no call sees an EINTR under a bare LD_PRELOAD" { preload_way no-eintr all; }
@test "signal dispositions survive under a bare LD_PRELOAD" { preload_way dispositions virgin; }
@test "files survive under a bare LD_PRELOAD" { preload_way regular-files; }
@test "the program is who it was under a bare LD_PRELOAD" { preload_way identity; }

# Each of them makes a control page of its own, several within a second.
@test "a program that has been executed many times in a row is saved under a bare LD_PRELOAD" { preload_way raw-exec 20; }

@test "without CKPT_DIR the image goes below HOME" {
  unset CKPT_DIR
  export HOME=$VICTIM_DIR/home
  mkdir "$HOME"
  executable=$VICTIMS/heap-brk
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" env LD_PRELOAD="$LIBCKPT" "$executable"
  program_pid=$main_pid
  await_ready
  kill -USR2 "$program_pid"
  await_file "$HOME/.ckpt/latest" "$main_pid"
  image=$(readlink -f "$HOME/.ckpt/latest")
  kill_program
  restart "$HOME/.ckpt/latest"
  check_round
  finish
}

@test "CKPT_FILE names the image" {
  export CKPT_FILE=$VICTIM_DIR/one.ckpt
  executable=$VICTIMS/heap-brk
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" env LD_PRELOAD="$LIBCKPT" "$executable"
  program_pid=$main_pid
  await_ready
  kill -USR2 "$program_pid"
  await_file "$CKPT_FILE" "$main_pid"
  kill_program
  restart "$CKPT_FILE"
  check_round
  finish
}

# Each more makes every fork of the program dearer (lib/runtime/state.h).
@test "the runtime is two mappings: its text and the page of the job" {
  LD_PRELOAD=$LIBCKPT cat /proc/self/maps >"$BATS_TEST_TMPDIR/maps"
  [ "$(grep -c 'libckpt\.so' "$BATS_TEST_TMPDIR/maps")" -eq 1 ]
  [ "$(grep -c '\.ckpt-control' "$BATS_TEST_TMPDIR/maps")" -eq 1 ]
}

# As that of libjsig, through which Java shares signals with other code.
@test "a wrapper of sigaction behind the runtime is asked each time" {
  cat >"$BATS_TEST_TMPDIR/wrapper.c" <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
int sigaction(int number, const struct sigaction* action, struct sigaction* old) {
  if (number == SIGUSR1) puts("asked");
  return ((int (*)(int, const struct sigaction*, struct sigaction*))dlsym(RTLD_NEXT, "sigaction"))(number, action, old);
}
C
  cat >"$BATS_TEST_TMPDIR/main.c" <<'C'
#include <signal.h>
#include <stddef.h>
static void handler(int number) { (void)number; }
int main(void) {
  struct sigaction action = {.sa_handler = handler};
  for (int i = 0; i < 3; ++i) {
    if (sigaction(SIGUSR1, &action, NULL) != 0) return 1;
  }
  return 0;
}
C
  cd "$BATS_TEST_TMPDIR"
  gcc -shared -fPIC -o wrapper.so wrapper.c
  gcc -o main main.c
  [ "$(LD_PRELOAD=$LIBCKPT:$PWD/wrapper.so ./main)" = $'asked\nasked\nasked' ]
}
