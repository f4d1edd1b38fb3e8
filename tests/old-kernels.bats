#!/usr/bin/env bats
# Old kernels, and containers that forbid things: features are taken away one by one by a seccomp filter (tests/progs/without-calls.c).
# Each time the job is saved and comes back, with a line about what it does without; or it is refused before anything is touched,
# the program goes on, and the image comes back where the feature is there. Never a hang, never half of it.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

# The commands run below a filter while MASK is set: "ERROR CALL[,CALL…]".
setup() {
  set_up
  mkdir "$BATS_TEST_TMPDIR/bin"
  local command
  for command in ckpt-launch ckpt-trigger ckpt-restart; do
    # shellcheck disable=SC2016 # for the script
    printf '#!/bin/sh\nexec ${MASK:+"%s" $MASK} "%s" "$@"\n' "$VICTIMS/without-calls" "$BUILD/bin/$command" \
      >"$BATS_TEST_TMPDIR/bin/$command"
    chmod +x "$BATS_TEST_TMPDIR/bin/$command"
  done
  PATH=$BATS_TEST_TMPDIR/bin:$PATH
  export MASK=
}
teardown() {
  MASK=
  tear_down
}

# One line, and it names what is missing: is_refusal COMMAND PATTERN TEXT.
is_refusal() {
  if [[ $3 == *$'\n'* || $3 != "$1: "* || ! $3 =~ $2 ]]; then fail "not one line of $1 that matches '$2': $3"; fi
}

# The program cannot be saved here; it goes on.
refuses_to_save() {
  run timeout "$STEP_SECONDS" ckpt-trigger "$program_pid"
  [ "$status" -eq 1 ] || fail "ckpt-trigger ended with $status: $output"
  is_refusal ckpt-trigger "$1" "$output"
  [ -z "$(find "$CKPT_DIR" -name '*.ckpt*' ! -name '*.ckpt-control')" ]
  finish
}

# The image cannot be restarted here; where all is there, it can.
refuses_to_restart() {
  run timeout "$STEP_SECONDS" ckpt-restart "$image" </dev/null 3>&-
  [ "$status" -eq 125 ] || fail "ckpt-restart ended with $status: $output"
  is_refusal ckpt-restart "$1" "$output"
  [ ! -e "$VICTIM_DIR/result" ]
  MASK=
}

# cycle ERROR CALLS VICTIM SAVE RESTART: what is expected of each is "works"; "notes PATTERN": it works and says one line; else a
# pattern of the refusal. SAVE is - where the program itself cannot do without.
cycle() {
  local mask="$1 $2" save=$4 expected=$5 said
  echo "without $2 ($1): $3"
  new_work work
  rm -rf "${CKPT_DIR:?}"
  has_tree=$([ "$3" != family ] || echo 1)
  MASK=
  if [ "$save" != - ]; then MASK=$mask; fi
  VICTIM_STDIN=
  if [ "$3" = epoll-wait ]; then use_fifo; fi
  launch_victim "$3"
  if [ "$save" != works ] && [ "$save" != - ]; then
    refuses_to_save "$save"
    return
  fi
  checkpoint
  kill_program
  MASK=$mask
  case $expected in
    works) ;;
    notes\ without\ namespaces*) if ! is_root || [[ $2 == *clone3* ]]; then executable=$(readlink -f "$BUILD/libexec/ckpt/ckpt-restorer"); fi ;;
    notes\ *) ;;
    *) refuses_to_restart "$expected" ;;
  esac
  restart
  case $expected in notes\ without\ namespaces*) go_past "$main_pid" ;; esac
  check_round
  said=$(grep -vE 'seccomp filters that it was launched under|has changed since the checkpoint' "$VICTIM_DIR/restart-err-1" || true)
  case $expected in
    works) [ -z "$said" ] || fail "$said" ;;
    notes\ *) is_refusal ckpt-restart "${expected#notes }" "$said" ;;
  esac
  finish
}

# Both answers: of a kernel that has no such call, and of a container that forbids it.
without() {
  cycle ENOSYS "$@"
  cycle EPERM "$@"
}

@test "without PAGEMAP_SCAN: all works" { without pagemap-scan sparse-reservation works works; }
@test "without userfaultfd: all works" { without userfaultfd heap-brk works works; }
@test "without clone3: it is saved, and a restart is refused but for one thread" {
  # glibc's own threads do not survive EPERM.
  cycle ENOSYS clone3 threads-many works 'clone3.* Linux 5.5'
  cycle EPERM clone3 threads-many - 'clone3.*Operation not permitted.*container'
  cycle ENOSYS clone3 heap-brk works 'notes without namespaces'
}
@test "without user namespaces, as an ordinary user: a program comes back with its threads, and so does a job of several processes" {
  local expected='notes without namespaces .user namespace'
  if is_root; then expected=works; fi
  without user-namespace threads-many works "$expected"
  without user-namespace regular-files works "$expected"
  without user-namespace family works "$expected"
}
# Restarts while the original stands, and has the numbers: beside PROGRAM [ARG…].
beside() {
  new_work beside
  rm -rf "${CKPT_DIR:?}"
  MASK=
  launch_victim "$@"
  checkpoint
  original=$main_pid
  mapfile -t originals < <(members)
  kill -STOP "${originals[@]}"
  restart_beside
}
restart_beside() {
  MASK="EPERM pid-namespace"
  restart_options=(--again)
  if ! is_root; then executable=$(readlink -f "$BUILD/libexec/ckpt/ckpt-restorer"); fi
  restart
  [ "$program_pid" -ne "$original" ]
}
# Nothing that the restarted one has sent may have come to it; but children have told that they stand.
original_is_untouched() {
  grep -qxE 'ShdPnd:.00000000000[01]0000' "/proc/$original/status"
  grep -qx 'SigPnd:.0000000000000000' "/proc/$original/status"
}
end_original() {
  kill -KILL "${originals[@]}"
  wait "$original" 2>/dev/null || true
}
@test "without namespaces a program whose number is taken goes on to see the old one, and that is said" {
  beside old-numbers
  check_round
  is_refusal ckpt-restart "number $original .old-numbers., is somebody else's" "$(cat "$VICTIM_DIR/restart-err-1")"
  original_is_untouched
  finish
  original_is_untouched
}
# … checks itself, ends well, and so does the original.
works_beside() {
  echo "beside: $*"
  beside "$@"
  check_round
  finish
  original_is_untouched
  end_original
}
@test "without namespaces threads whose numbers are taken go on to see the old ones: signals, timers and locks go by them" {
  works_beside old-numbers threads
  works_beside locks-held
  works_beside robust-locks
  works_beside threads-many
  works_beside signal-driven
}
# Saved under new numbers and restarted, with the original beside it and without, in namespaces and without.
comes_back_beside() {
  echo "again: $*"
  beside "$@"
  check_round
  checkpoint
  kill_program
  restart_beside
  check_round
  checkpoint
  kill_program
  original_is_untouched
  end_original
  restart_options=()
  restart
  go_past "$main_pid"
  check_round
  checkpoint
  kill_program
  MASK=
  restart
  [ "$(sed -n 's/^NSpid:.*\t//p' "/proc/$program_pid/status")" -eq "$original" ]
  check_round
  finish
}
@test "without namespaces jobs whose numbers are taken go on to see the old ones, of each other as well" {
  works_beside ended-children
  has_tree=1
  works_beside ended-leaders
  works_beside family
  # Saved under new numbers; the originals go with it.
  beside family
  check_round
  checkpoint
  kill_program
  MASK=
  restart_options=()
  restart
  check_round
  finish
}
@test "without namespaces a shell whose number is taken still waits for its child, and tells by what number it has ended" {
  has_tree=1
  executable=$VICTIMS/heap-brk
  # shellcheck disable=SC2016 # for the shell
  launch bash -c '"$1" & child=$!; kill -0 "$child"; wait -p which "$child"; status=$?
    [ "$which" = "$child" ] && [ "$status" = 0 ] && [ "$$" = "$BASHPID" ] && exit 9' bash "$executable"
  await_ready
  checkpoint
  original=$main_pid
  mapfile -t originals < <(members)
  kill -STOP "${originals[@]}"
  restart_beside
  check_round
  finish 9
  end_original
}
@test "a program that goes on to see old numbers is saved with those" {
  comes_back_beside old-numbers
  comes_back_beside old-numbers threads
  comes_back_beside locks-held
  comes_back_beside robust-locks
}
@test "without pid namespaces: a job comes back all the same, and that is said" {
  without pid-namespace family works 'notes without namespaces .pid namespace'
}
# On the machine itself: what a program has left there is taken again, what is gone is made again under its old id.
objects_come_back() { # TRAIT WHAT-IS-LEFT
  local said
  echo "$1: $2"
  new_work work
  rm -rf "${CKPT_DIR:?}"
  has_tree=1
  executable=$VICTIMS/$1
  launch "$executable"
  await_ready
  checkpoint
  if [ "$2" = left ]; then keeps_objects=1; fi
  kill_program
  keeps_objects=
  MASK="EPERM pid-namespace"
  if ! is_root; then executable=$(readlink -f "$BUILD/libexec/ckpt/ckpt-restorer"); fi
  : >"$VICTIM_DIR/restarted-plainly"
  STEP_SECONDS=300 restart # ids are gone round: half a minute, and more where others want the processors
  go_past "$main_pid"
  check_round
  checkpoint
  MASK=
  finish
  said=$(grep -vE 'has changed since the checkpoint' "$VICTIM_DIR/restart-err-1")
  is_refusal ckpt-restart 'notes?.*|without namespaces' "$said"
}

@test "without namespaces: System V objects and POSIX message queues come back" {
  local trait
  for trait in sysv-left sysv-queues posix-queues; do
    objects_come_back "$trait" left
  done
  for trait in sysv-queues posix-queues; do objects_come_back "$trait" gone; done
}

@test "without mount namespaces: a job comes back all the same, and that is said" {
  without mount-namespace family works 'notes without namespaces .mount namespace'
}
@test "without time namespaces: a job comes back all the same, and that is said" {
  without time-namespace family works 'notes without namespaces .time namespace.* clocks go on'
  cycle EINVAL time-namespace heap-brk works 'notes without namespaces.*Invalid argument.*Linux 5.6'
}
# As if the machine had been started anew meanwhile: the program sees clocks that are far ahead, and the restart does not.
launch_ahead() { # VICTIM
  local options=(--time --fork --kill-child --monotonic 5000000 --boottime 6000000)
  is_root || options+=(--user --map-current-user)
  unshare "${options[@]}" true || skip "no time namespaces here"
  executable=$VICTIMS/$1
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" unshare "${options[@]}" "$BUILD/bin/ckpt-launch" -- "$executable"
  await_ready
  find_program_now
}
@test "without time namespaces, and after a reboot: clocks go on where they stood, and times mean what they meant" {
  local turn
  launch_ahead shifted-clocks
  for turn in 1 2 3; do
    echo "turn $turn"
    checkpoint
    kill -KILL "$program_pid"
    await_end
    MASK="EPERM time-namespace"
    is_root || executable=$(readlink -f "$BUILD/libexec/ckpt/ckpt-restorer")
    restart
    go_past "$main_pid"
    is_refusal ckpt-restart 'restarted without namespaces.*monotonic clock' \
      "$(grep -vE 'has changed since the checkpoint|cut back' "$VICTIM_DIR/restart-err-$restarts")"
    check_round
  done
  finish
}
@test "without network namespaces: TCP connections come back in the network of the machine, and that is said" {
  cycle ENOSYS network-namespace tcp-loopback works 'notes network namespace.*TCP connections'
  without network-namespace unix-pairs works works
}
@test "without mount(2): the process ids in /proc are those of outside, and that is said" {
  without mount heap-brk works 'notes proc mount: .*process ids of outside'
}
@test "without rseq: a program that has registered it is not restarted" {
  without rseq heap-brk - 'restartable sequences .*; '
  without rseq heap-brk works works
}
@test "without pidfd_open: all works but pidfds" {
  without pidfd heap-brk works works
  without pidfd pidfds - 'pidfd'
}
@test "without process_vm_readv: all works" { without process-vm-readv sigwait-everything works works; }
@test "without memfd_create: one process is saved, several are not, and a restart is refused" {
  without memfd-create heap-brk works 'memory files \(memfd_create\).*; '
  without memfd-create family 'memory file \(memfd_create\).*can.t be made' -
  without memfd-create memfds - 'memory files \(memfd_create\).*; '
}
@test "without kcmp: all works but epoll sets with entries that lead elsewhere" {
  without kcmp own-pipes works works
  without kcmp family works works
  without kcmp signal-driven works works
  without kcmp epoll-wait works works
  without kcmp epolls 'epoll.*kcmp.* missing or not allowed; take it out' -
}
@test "without kcmp and F_DUPFD_QUERY: duplicates of descriptors stay duplicates" {
  without kcmp,dup-query eventfds works works
  without kcmp,dup-query own-pipes works works
  without kcmp,dup-query unix-pairs works works
  without kcmp,dup-query regular-files works works
}
@test "without locks of open files: all works" { without ofd-locks heap-brk works works; }
@test "without openat2: all works" { without openat2 regular-files works works; }
@test "without statx: all works" { without statx regular-files works works; }
@test "without close_range: all works, and no descriptor is left over" { without close-range many-descriptors works works; }
@test "without copy_file_range: all works" { without copy-file-range kept-files works works; }
@test "without preadv2 and pwritev2: all works" {
  without preadv2 kept-files works works
  without pwritev2 kept-files works works
}
@test "without membarrier: all works" { without membarrier heap-brk works works; }
@test "without mseal: all works" { without mseal heap-brk works works; }
@test "without execveat: all works" { without execveat heap-brk works works; }
@test "without faccessat2: all works" { cycle ENOSYS faccessat2 regular-files works works; }
@test "without PR_SET_MM: it is saved, and a restart is refused" {
  without prctl-mm heap-brk works 'memory layout .*CONFIG_CHECKPOINT_RESTORE'
  cycle EINVAL prctl-mm heap-brk works 'memory layout .*CONFIG_CHECKPOINT_RESTORE'
}
@test "without socket diagnostics: sockets are refused" { without netlink unix-pairs 'sock_diag.*; close it' -; }

@test "a restart that is refused for the kernel's sake has cut no file back" {
  launch_victim log-cut-back plain
  checkpoint
  kill_program
  echo 'a line that came later' >>"$VICTIM_DIR/log"
  cp "$VICTIM_DIR/log" "$BATS_TEST_TMPDIR/log"
  local calls
  for calls in clone3 rseq memfd-create prctl-mm; do
    MASK="EPERM $calls"
    refuses_to_restart "cannot restart here: |without namespaces it can't be restarted: "
    cmp "$VICTIM_DIR/log" "$BATS_TEST_TMPDIR/log"
  done
  restart
  check_round
  finish
}
