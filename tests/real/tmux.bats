#!/usr/bin/env bats
# tmux: a server without a terminal, shells on pseudo-terminals of their own, clients that come and go over its socket.

# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }
has_tree=1

@test "tmux with a shell and a running program in its windows" {
  command -v tmux >/dev/null || skip "no tmux"
  cat >"$BATS_TEST_TMPDIR/job.sh" <<'EOF'
tm() { tmux -S "$VICTIM_DIR/socket" -f /dev/null "$@"; }
tm new-session -d -x 90 -y 25 "sh -c 'i=0; while :; do i=\$((i + 1)); echo counted \$i; sleep 0.05; done'"
tm new-window "env PS1= sh"
sleep 0.3
tm send-keys -t :1 'x=secret; echo "shell $$ on $(tty)"' Enter
: >"$VICTIM_DIR/ready"
while [ ! -e "$VICTIM_DIR/go" ]; do sleep 0.05; done
before=$(tm capture-pane -p -t :0 | grep counted | tail -n 1)
tm send-keys -t :1 'echo "$x $$ on $(tty)"' Enter
sleep 1
tm capture-pane -p -t :1 | grep -E '^(shell|secret) '
[ "$(tm capture-pane -p -t :0 | grep counted | tail -n 1)" != "$before" ] && echo "goes on counting"
tm display-message -p '#{window_width}x#{window_height}'
tm kill-server
EOF
  export SHELL=/bin/sh # that of nobody is nologin
  executable=$(readlink -f "$(command -v bash)")
  launch "$executable" "$BATS_TEST_TMPDIR/job.sh"
  await_ready
  return_three_times 0.2
  : >"$VICTIM_DIR/go"
  await_end
  cat "$VICTIM_DIR"/err "$VICTIM_DIR"/restart-err-*
  [ "$exit_status" -eq 0 ]
  cat "$VICTIM_DIR"/out
  read -r _ shell _ terminal <"$VICTIM_DIR/out"
  [ "$(tail -n +2 "$VICTIM_DIR/out")" = "secret $shell on $terminal
goes on counting
90x25" ]
}
