#!/usr/bin/env bats
# Descriptors that are neither files nor pipes: each survives as it was.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }

@test "eventfd counters survive" {
  three_ways eventfds
}

@test "timers that are read keep their time, and lose no tick" {
  three_ways timerfds
}

@test "signals that are read survive, and ours are never among them" {
  three_ways signalfds
}

@test "epoll sets survive: edges, one-shots, closed and reused numbers" {
  three_ways epolls
}

@test "a thread that waits in epoll for standard input survives" {
  with_fifo=1 three_ways epoll-wait
}

@test "pidfds of the program itself, and of what is gone, survive" {
  three_ways pidfds
}

@test "folders survive in the midst of their entries, and descriptors of paths" {
  three_ways folders
}

@test "files with another name than that they were opened by, and removed folders, survive" {
  three_ways odd-files
}

@test "named pipes within the program survive, and files without a name" {
  three_ways fifos
}

@test "pipes that lead outside are left alone while the program goes on, and cut off by a restart" {
  cat >"$BATS_TEST_TMPDIR/ends.py" <<'EOF'
import os, time
place = os.environ["VICTIM_DIR"]
incoming, outgoing, named = 11, 12, os.open(place + "/fifo", os.O_RDONLY | os.O_NONBLOCK)
os.set_blocking(incoming, False)
open(place + "/ready", "w").close()
while not os.path.exists(place + "/round-1"):
    time.sleep(0.01)
is_cut = os.path.exists(place + "/restarted")
try:
    got = os.read(incoming, 9)
except BlockingIOError:
    got = None
assert got == (b"" if is_cut else None), got
try:
    sent = os.write(outgoing, b"out")
except BrokenPipeError:
    sent = None
assert sent == (None if is_cut else 3), sent
assert os.read(named, 9) == b"named"
open(place + "/done-1", "w").close()
while not os.path.exists(place + "/go"):
    time.sleep(0.01)
open(place + "/result", "w").write("pass\n")
EOF
  executable=$(readlink -f "$(system_program python3)")
  local way
  for way in stays restarted; do
    new_work "$way"
    mkfifo "$VICTIM_DIR"/{fifo,into}
    exec {own_fifo}<>"$VICTIM_DIR/fifo" {into}<>"$VICTIM_DIR/into"
    # Anonymous ones: the other ends are those of two programs outside.
    in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" bash -c '
      exec 11< <(exec cat "$VICTIM_DIR/into") 12> >(exec cat >"$VICTIM_DIR/came")
      exec ckpt-launch -- "$@"' bash "$executable" "$BATS_TEST_TMPDIR/ends.py"
    program_pid=$main_pid
    await_ready
    checkpoint
    if [ "$way" = restarted ]; then
      : >"$VICTIM_DIR/restarted"
      kill_program
      restart
    fi
    printf named >&"$own_fifo"
    check_round
    finish
    exec {own_fifo}>&- {into}>&-
    [ "$way" = restarted ] || [ "$(cat "$VICTIM_DIR/came")" = out ]
  done
}

@test "open files of /proc show the program again" {
  three_ways proc-files
}

@test "a terminal that is not there any more is one that was hung up" {
  three_ways lost-terminal
  new_work elsewhere
  cat >"$VICTIM_DIR/with-terminal.py" <<'EOP'
import os, pty, sys
pid, master = pty.fork()
if pid == 0:
    for number in range(3):
        os.dup2(os.open("/dev/null", os.O_RDWR), number)
    os.closerange(3, 100)
    os.execvp(sys.argv[1], sys.argv[1:])
try:
    while os.read(master, 4096):
        pass
except OSError:
    pass
os.kill(os.getpid(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) * -1)
EOP
  executable=$VICTIMS/lost-terminal
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" "$(system_program python3)" "$VICTIM_DIR/with-terminal.py" \
    ckpt-launch -- "$executable"
  await_ready
  await_that "$main_pid" find_program_now
  checkpoint
  check_round
  kill_program
  : >"$VICTIM_DIR/lost"
  run setsid -w ckpt-restart -n "$image"
  echo "$output"
  [ "$status" -eq 0 ]
  [[ $output == *"no terminal here"*"one that was hung up"* ]]
  in_background "$VICTIM_DIR/restart-out" "$VICTIM_DIR/restart-err" setsid -w ckpt-restart "$image"
  await_that "$main_pid" find_program_now
  check_round
  checkpoint
  check_round
  finish
}

@test "locks on files are held again" {
  three_ways file-locks
}

@test "a lock of the process stays when its file is open more than once, mapped, deleted or a memory file" {
  three_ways process-locks
}

@test "each process of a job keeps its own locks on a file they share" {
  has_tree=1
  three_ways process-locks tree
}

@test "descriptors that raise signals do so again" {
  three_ways signal-driven
}

@test "ten thousand descriptors survive" {
  three_ways many-descriptors
}

@test "a restart with too low a limit of descriptors is refused, and names it" {
  launch_victim many-descriptors
  checkpoint
  kill_program
  if bash -c 'ulimit -n 1000 && ulimit -n 2000' 2>/dev/null; then # root may raise it, with CAP_SYS_RESOURCE
    run bash -c 'ulimit -n 1000; exec timeout "$1" ckpt-restart -n "$2"' bash "$STEP_SECONDS" "$image" 3>&-
    [ "$status" -eq 0 ]
  else
    run bash -c 'ulimit -n 1000; exec timeout "$1" ckpt-restart "$2"' bash "$STEP_SECONDS" "$image" 3>&-
    echo "$output"
    [ "$status" -eq 125 ]
    [[ $output == "ckpt-restart: cannot restart here: "*"descriptors"*"the limit is 1000"*"ulimit -Hn"* ]]
  fi
  restart
  check_round
  finish
}

@test "inotify watches survive with their numbers" {
  three_ways watches
}

@test "who reads every signal meets none of ours, in read or epoll" {
  three_ways signalfd-all
}

@test "a restart that cannot have a lock again is refused, and names the file" {
  launch_victim file-locks
  checkpoint
  kill_program
  local taken="$VICTIM_DIR/whole"
  exec {other_fd}<"$taken"
  flock -n "$other_fd"
  run timeout "$STEP_SECONDS" ckpt-restart "$image"
  exec {other_fd}<&-
  echo "$output"
  [ "$status" -eq 125 ]
  [[ $output == *"another process holds the lock"*"$taken"* ]]
  restart
  check_round
  finish
}
