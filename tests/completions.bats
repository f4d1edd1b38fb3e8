# The bash completions, in a real interactive bash under expect.

setup() {
  cd "$BATS_TEST_DIRNAME/.." || return
  export PATH="$PWD/build/bin:$PATH" CKPT_DIR="$BATS_TEST_TMPDIR/store" HOME="$BATS_TEST_TMPDIR"
  export BASH_COMPLETION_USER_DIR=$PWD INPUTRC=/dev/null
  mkdir -p "$CKPT_DIR"
  # An image costs the full runtime; a stand-in for ckpt-ls that lists two is enough to see where the names come from.
  mkdir "$BATS_TEST_TMPDIR/bin"
  cat >"$BATS_TEST_TMPDIR/bin/ckpt-ls" <<END
#!/bin/sh
printf '%s\n' 'WHEN  AGE  PROGRAM  STATE    PATH' \
  '2026-01-01T00:00:00Z  1h  xz  ok       $CKPT_DIR/xz-1-2026/000002.ckpt' \
  '2026-01-01T00:00:00Z  1h  xz  damaged  $CKPT_DIR/xz-1-2026/000001.ckpt'
END
  chmod +x "$BATS_TEST_TMPDIR/bin/ckpt-ls"
  export RC=$BATS_TEST_TMPDIR/bashrc
  cat >"$RC" <<'END'
PS1='ready> '
. /usr/share/bash-completion/bash_completion
bind -x '"\C-x\C-t": printf "LINE<%s>\n" "$READLINE_LINE"'
END
}

# Types TEXT, lets readline insert all completions of the last word (M-*), and prints the line.
complete_line() {
  # shellcheck disable=SC2016  # Tcl's
  TEXT=$1 expect -c '
    log_user 0
    set timeout 20
    set stty_init "columns 2000"
    spawn bash --noprofile --rcfile $env(RC) -i
    expect "ready> "
    send -- $env(TEXT)
    send "\033*\030\024"
    expect {
      -re {LINE<([^\r\n]*)>} { puts $expect_out(1,string) }
      timeout { puts "nothing within 20 s" }
    }
    send "\025exit\r"
    expect eof
  '
}

completes() { # TEXT EXPECTED
  local line
  line=$(complete_line "$1")
  line=${line%"${line##*[! ]}"}
  if [ "$line" != "$2" ]; then
    printf 'typed     %s\nexpected  %s\ngot       %s\n' "$1" "$2" "$line"
    return 1
  fi
}

@test "each command completes its options" {
  completes 'ckpt-launch --c' 'ckpt-launch --compress'
  completes 'ckpt-trigger --k' 'ckpt-trigger --kill'
  completes 'ckpt-restart --d' 'ckpt-restart --dry-run'
  completes 'ckpt-ls --ver' 'ckpt-ls --verify --version'
  completes 'ckpt-check --j' 'ckpt-check --json'
  completes 'ckpt-every --q' 'ckpt-every --quiet'
  completes 'ckpt-run --n' 'ckpt-run --name'
}

@test "option values are completed, also after an equals sign" {
  completes 'ckpt-launch -z l' 'ckpt-launch -z lz4'
  completes 'ckpt-launch --compress n' 'ckpt-launch --compress none'
  completes 'ckpt-launch --compress=n' 'ckpt-launch --compress=none'
  completes 'ckpt-launch -s USR' 'ckpt-launch -s USR1 USR2'
  completes 'ckpt-restart --stdio in' 'ckpt-restart --stdio inherit'
  completes 'ckpt-every 3' 'ckpt-every 30m'
}

@test "after the options or a double dash a program is completed as a command" {
  completes 'ckpt-launch bash-completion-no-such' 'ckpt-launch bash-completion-no-such'
  completes 'ckpt-launch setpri' 'ckpt-launch setpriv'
  completes 'ckpt-launch -z lz4 setpri' 'ckpt-launch -z lz4 setpriv'
  completes 'ckpt-run -n x -- setpri' 'ckpt-run -n x -- setpriv'
}

@test "the program's own completion takes over after its name" {
  completes 'ckpt-launch -- xz --compr' 'ckpt-launch -- xz --compress'
}

@test "ckpt-restart offers the good images that ckpt-ls lists" {
  PATH=$BATS_TEST_TMPDIR/bin:$PATH
  completes 'ckpt-restart ' "ckpt-restart $CKPT_DIR/xz-1-2026/000002.ckpt"
  completes "ckpt-restart $CKPT_DIR/xz" "ckpt-restart $CKPT_DIR/xz-1-2026/000002.ckpt"
}

@test "ckpt completes its subcommands and their options" {
  completes 'ckpt tr' 'ckpt trigger'
  completes 'ckpt help li' 'ckpt help limits'
  completes 'ckpt ls --js' 'ckpt ls --json'
  completes 'ckpt launch -z l' 'ckpt launch -z lz4'
  completes 'ckpt launch setpri' 'ckpt launch setpriv'
}

@test "ckpt-run completes the names that have images" {
  mkdir "$CKPT_DIR/night.run"
  completes 'ckpt-run -n n' 'ckpt-run -n night'
}
