#!/usr/bin/env bats
# What cannot be saved yet is refused by name before anything is touched; the program goes on, and no file is left.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }

# refuses KIND PATTERN: the message must name the pid, the descriptor if there is one, and match the pattern. Where this kernel or
# this user can't have such a thing at all, the program has none, and must be saved.
refuses() {
  launch_victim refuse-kind "$1"
  local kind
  kind=$(cat "$VICTIM_DIR/kind")
  if [[ $kind == absent:* ]]; then
    echo "# no $1 here: ${kind#absent: }" >&3
    come_back
    finish
    return
  fi
  run timeout "$STEP_SECONDS" ckpt-trigger ${refused_with:+-t 1} "$program_pid"
  echo "$output"
  [ "$status" -eq "${refused_with:-1}" ]
  [[ $output == *"$program_pid"* ]]
  [[ ${output,,} =~ $2 ]]
  if [ "$kind" != none ]; then [[ ${output,,} =~ (fd|descriptor)\ "${kind#fd }"([^0-9]|$) ]]; fi
  # Neither an image nor a part of one.
  [ -z "$(find "$CKPT_DIR" -name '*.ckpt*' ! -name '*.ckpt-control')" ]
  finish
}

@test "a table of descriptors that some threads share is refused" { refuses shared-table 'thread .*shares descriptors with'; }
@test "an epoll set that only one thread has open is refused" { refuses own-epoll 'thread .*descriptor .*own'; }
@test "a lock through a descriptor of a thread's own is refused" { refuses own-lock 'thread .*lock .*own'; }
@test "a thread's own descriptor of a file that the process has locked is refused" { refuses locked-file 'thread .*own.*lock'; }
@test "a seccomp filter of the program is refused, and does not kill it" { refuses seccomp seccomp; }
# bats test_tags=root
@test "a program that was launched by root and has become another user is refused where root does not ask" {
  # Where that user may write, and below folders it may enter.
  VICTIM_DIR=$(mktemp -d)
  chmod 777 "$VICTIM_DIR"
  launch_victim dropped-root
  kill -USR2 "$program_pid"
  await_that "$main_pid" grep -q 'let root run ckpt-trigger' "$VICTIM_DIR/err"
  grep "process $program_pid: it has become user 65534" "$VICTIM_DIR/err"
  finish
  rm -rf "${VICTIM_DIR:?}"
}
@test "processes that share their descriptors are refused" { refuses shared-descriptors 'shares its descriptors \(clone_files\) with process'; }
@test "processes that share their working directory are refused" { refuses shared-folder 'shares its working directory \(clone_fs\)'; }
@test "a process that tells its end by another signal is refused" { refuses other-end-signal 'signal [0-9]+ instead of sigchld'; }
@test "inotify with unread events is refused" { refused_with=75 refuses unread-events 'unread events.*try again'; }
@test "the memory of another process, as a file of /proc, is refused" { refuses childs-maps '/proc/[0-9]+/maps.*this file of another process can.t be saved; close it'; }
@test "a process whose memory another can see in a file they share is refused" { refuses shared-maps 'shows this to another process as well can.t be saved; close it'; }
@test "a pidfd of another process is refused" { refuses foreign-pidfd 'pidfd of process [0-9]+'; }

@test "an io_uring is refused" { refuses io-uring 'an io_uring can.t be saved; close it'; }
@test "an io_uring is refused by its name while a thread of the kernel works for it" {
  refuses working-io-uring 'an io_uring can.t be saved; (unmap it, )?close'
}
@test "an io_uring whose rings are mapped is refused" { refuses mapped-io-uring 'mapping of an io_uring can.t be saved; unmap it, close descriptor'; }
@test "a namespace of another process is refused" { refuses namespace 'a namespace that is not the process.s own can.t be saved; close it'; }
@test "a program that has moved to a namespace of users is refused" { refuses own-users 'another user namespace.*launch it in there'; }
@test "a program with a hostname of its own is refused" { refuses own-hostname 'another (uts|user) namespace'; }
@test "a program with a network of its own is refused" { refuses own-network 'another (network|user) namespace'; }
@test "a program with mounts of its own is refused" { refuses own-mounts 'another (mount|user) namespace'; }
@test "a program with IPC of its own is refused" { refuses own-ipc 'another (ipc|user) namespace'; }
@test "a program with cgroups of its own is refused" { refuses own-cgroups 'another (cgroup|user) namespace'; }
@test "a program whose children have clocks of their own is refused" { refuses own-clock 'another (time|user) namespace'; }
@test "a program whose children have numbers of their own is refused, and can make them still" { refuses own-numbers 'another pid namespace'; }
@test "a process of the job with a hostname of its own is refused" {
  refuses hostname-of-child "$(if is_root; then echo 'another uts namespace'; else echo 'moved to another user namespace'; fi)"
}
@test "a thread with a hostname of its own is refused" { refuses hostname-of-thread 'thread .*another uts namespace'; }
@test "a userfaultfd is refused" { refuses userfaultfd 'a userfaultfd can.t be saved; close it'; }
@test "memory that a userfaultfd serves is refused, and served on" { refuses served-memory 'a userfaultfd can.t be saved; close it'; }
@test "a performance counter is refused" { refuses perf-event 'a performance counter can.t be saved; close it'; }
@test "a bpf object is refused" { refuses bpf-map 'a bpf object can.t be saved; close it'; }
@test "a fanotify group is refused" { refuses fanotify 'a fanotify group can.t be saved; close it'; }
@test "a device is refused" { refuses device '/dev/.*device can.t be saved; close it'; }
@test "a refused descriptor that is only in flight is told as such" { refuses in-flight 'in flight.*performance counter.*; '; }
@test "a pipe whose other end is in flight to a process of the job is refused" { refused_with=75 refuses pipe-in-flight 'other end is in flight.*try again'; }
@test "a socket whose other end is in flight to a process of the job is refused" { refused_with=75 refuses socket-in-flight 'other end is in flight.*try again'; }
@test "syscall user dispatch is refused before any signal is sent" { refuses dispatch 'thread .*syscall_user_dispatch.*; switch that off'; }
@test "syscall user dispatch in another process of the job is refused" { refuses dispatch-in-child 'thread .*syscall_user_dispatch.*; switch'; }
@test "a request over a unix socket that nobody has accepted, and whose sender is gone, is refused" {
  refused_with=75 refuses ended-unix 'other end is closed.*; try again'
}
@test "a lease that is being broken is refused" { refused_with=75 refuses broken-lease 'lease that is being broken.*; try again'; }
@test "data behind the mark of urgent data is refused" { refused_with=75 refuses behind-mark 'mark of urgent data.*; try again'; }
@test "a request over TCP that nobody has accepted, and whose sender is gone, is refused" {
  refused_with=75 refuses ended-tcp 'other end is closed.*; try again'
}
@test "a descriptor in flight to nobody is refused" { refused_with=75 refuses unaccepted 'nobody has accepted.*; try again'; }

@test "a shadow stack is refused" {
  # No CPU here may have one: what the kernel would show of it is laid over the status of the program's thread.
  cat >"$BATS_TEST_TMPDIR/pretend" <<'SH'
set -eu
ckpt-launch -- "$1" </dev/null >/dev/null 2>&1 &
pid=$!
trap 'kill -KILL "$pid" 2>/dev/null || true' EXIT
until [ -e "$VICTIM_DIR/ready" ]; do sleep 0.01; done
status=/proc/$pid/task/$pid/status
{ cat "$status" && printf 'x86_Thread_features:\twrss shstk \n'; } >"$VICTIM_DIR/status"
mount --bind "$VICTIM_DIR/status" "$status"
code=0
ckpt-trigger "$pid" || code=$?
umount "$status"
[ "$code" = 1 ]
[ -z "$(find "$CKPT_DIR" -name '*.ckpt')" ]
ckpt-trigger "$pid"
: >"$VICTIM_DIR/go"
wait "$pid"
[ "$(cat "$VICTIM_DIR/result")" = pass ]
echo "good $pid"
SH
  run unshare -rm bash "$BATS_TEST_TMPDIR/pretend" "$VICTIMS/heap-brk" 3>&-
  echo "$output"
  [ "$status" -eq 0 ]
  [[ $output == *"process ${output##*good }: thread ${output##*good } has a shadow stack; start it without: "*x86_shstk=off* ]]
}
@test "the notification of a POSIX message queue with messages is refused, and stays" { refused_with=75 refuses queue-notification 'notification.*try again'; }
