#!/usr/bin/env bats
# vim moved from one pseudo-terminal to another, of another size.

# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }

@test "vim moved to another terminal" {
  export HOME=$BATS_TEST_TMPDIR TERM=xterm PROGRAM
  PROGRAM=$(system_program vim.tiny)
  cat >"$BATS_TEST_TMPDIR/move.exp" <<'EXP'
set timeout 60
proc until {what} {
  expect {
    -re $what {}
    eof { puts stderr "\nended before: $what"; exit 1 }
    timeout { puts stderr "\nnever came: $what"; exit 1 }
  }
}
set text $env(HOME)/text
set stty_init "rows 20 columns 70"
spawn ckpt-launch -- $env(PROGRAM) -u NONE -n $text
set vim [exp_pid]
until "~"
send "ione line"
until "line"
set image [exec ckpt-trigger --kill $vim 2>@stderr]
expect eof
wait
set stty_init "rows 30 columns 90"
spawn ckpt-restart $image
# It draws as many lines as there are now.
until {\[29;1H}
send " and more\033"
until "and more"
send ":wq\r"
expect eof
set status [lindex [wait] 3]
exit $status
EXP
  run expect "$BATS_TEST_TMPDIR/move.exp"
  printf '%s\n' "$output"
  [ "$status" -eq 0 ]
  cat -A "$BATS_TEST_TMPDIR/text"
  [ "$(cat "$BATS_TEST_TMPDIR/text")" = "one line and more" ]
}
