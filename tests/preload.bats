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
