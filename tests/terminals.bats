#!/usr/bin/env bats
# A program on a terminal of somebody's, restarted on another one of another size.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }

# In python: spawn starts a program on a terminal of its own, until waits for what it writes there.
write_terminal() {
  cat >"$BATS_TEST_TMPDIR/terminal.py" <<'PY'
import fcntl, os, pty, re, select, struct, sys, termios
def spawn(rows, columns, *command):
    pid, master = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        os.execvp(command[0], command)
    return pid, master
seen = b""
def until(master, what):
    global seen
    while not re.search(what, seen):
        if not select.select([master], [], [], 60)[0]:
            sys.exit("never came: %r in %r" % (what, seen))
        try:
            seen += os.read(master, 4096)
        except OSError:
            sys.exit("ended before: %r in %r" % (what, seen))
    seen = seen[re.search(what, seen).end():]
PY
}

# Launches ARGUMENTS, checkpoints with --kill, restarts.
write_mover() {
  cat >"$BATS_TEST_TMPDIR/move.py" <<'PY'
import os, subprocess, sys, termios
from terminal import spawn, until
def flags(master):
    local = termios.tcgetattr(master)[3]
    return bool(local & termios.ICANON), bool(local & termios.ECHO), bool(local & termios.ISIG)
pid, first = spawn(20, 70, "ckpt-launch", "--", *sys.argv[1:])
until(first, b"ready 20 70")
before = flags(first)
image = subprocess.run(["ckpt-trigger", "--kill", str(pid)], stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
os.waitpid(pid, 0)
pid, second = spawn(30, 90, "ckpt-restart", "-q", image)
until(second, b"size 30 90")
print("modes", before, flags(second))
os.write(second, b"x")
until(second, b"typed x")
os.write(second, b"\x03")
until(second, b"typed \\^C" if not before[2] else b"interrupted")
status = os.waitpid(pid, 0)[1]
print("status", status, "then", flags(second))
PY
}

# A full-screen program: no lines, no echo, no signals from keys; told of another size.
write_screen() {
  cat >"$BATS_TEST_TMPDIR/screen.py" <<'PY'
import os, select, signal, sys, termios, tty
old = termios.tcgetattr(0)
tty.setraw(0)
news, wake = os.pipe()
os.set_blocking(wake, False)
signal.set_wakeup_fd(wake)
signal.signal(signal.SIGWINCH, lambda number, frame: None)
if len(sys.argv) > 1 and os.fork() > 0:  # the program is a child, below one that waits
    os.wait()
    sys.exit(0)
def tell(what):
    size = os.get_terminal_size(0)
    os.write(1, b"%s %d %d\r\n" % (what, size.lines, size.columns))
tell(b"ready")
while True:
    ready = select.select([0, news], [], [])[0]
    if news in ready:
        os.read(news, 1)
        tell(b"size")
    if 0 in ready:
        key = os.read(0, 1)
        os.write(1, b"typed " + (b"^C" if key == b"\x03" else key) + b"\r\n")
        if key == b"\x03":
            break
termios.tcsetattr(0, termios.TCSADRAIN, old)
PY
}

move() {
  write_terminal
  write_mover
  write_screen
  run "$(system_program python3)" "$BATS_TEST_TMPDIR/move.py" "$(system_program python3)" "$BATS_TEST_TMPDIR/screen.py" "$@"
  printf '%s\n' "$output"
  [ "$status" -eq 0 ]
  [ "$output" = "modes (False, False, False) (False, False, False)
status 0 then (True, True, True)" ]
}

@test "a full-screen program finds its modes on another terminal, and is told of the size" {
  move
}

@test "so does one below a process that waits for it" {
  move child
}

# A shell with job control, whose prompt is `>>`. The program says `here` when it is asked, and reads when it is told to.
write_shell() {
  cat >"$BATS_TEST_TMPDIR/reader.py" <<'PY'
import os, time
place = os.environ["VICTIM_DIR"]
while not os.path.exists(place + "/read"):
    if os.path.exists(place + "/ask"):
        os.remove(place + "/ask")
        print("here", flush=True)
    time.sleep(0.05)
while True:
    print("got <%s>" % os.read(0, 100).decode().strip(), flush=True)
PY
  cat >"$BATS_TEST_TMPDIR/shell.py" <<'PY'
import os, sys
from terminal import spawn, until
os.environ["PS1"] = ">>"
pid, shell = spawn(24, 80, "bash", "--norc", "--noprofile", "--noediting", "-i")
until(shell, b">>")
for line in open(sys.argv[1]):
    what, answer = line.rstrip("\n").split(" -> ")
    print(what, flush=True)
    if what[0] == "!":
        open(os.path.join(os.environ["VICTIM_DIR"], what[1:]), "w").close()
    else:
        os.write(shell, {"^Z": b"\x1a", "^C": b"\x03"}.get(what, what.encode() + b"\n"))
    until(shell, answer.encode())
try:
    os.write(shell, b"exit\n")
except OSError:
    pass  # exec: the shell is gone
os.waitpid(pid, 0)
PY
}

# Lines of KEYS -> ANSWER, a regular expression; !FILE makes a file instead.
drive_shell() {
  write_terminal
  write_shell
  executable=$(readlink -f "$(system_program python3)")
  launch env --default-signal=INT "$executable" "$BATS_TEST_TMPDIR/reader.py" # whoever runs the tests may ignore it
  await_that "$main_pid" has_control_page
  checkpoint
  kill_program
  export image BATS_TEST_TMPDIR
  cat >"$BATS_TEST_TMPDIR/lines"
  timeout $((STEP_SECONDS * 2)) "$(system_program python3)" "$BATS_TEST_TMPDIR/shell.py" "$BATS_TEST_TMPDIR/lines"
}

@test "a restarted program that ^Z has stopped goes on in the background, and in the foreground" {
  drive_shell <<'EOF'
ckpt-restart -q --stdio inherit $image -> \n
!ask -> here
^Z -> Stopped(.|\n)*>>
bg -> &\r\n(.|\n)*>>
!ask -> here
echo alive-$((40 + 2)) -> alive-42
fg -> ckpt-restart
!read -> $
some words -> got <some words>
^C -> >>
echo status $? -> status 130
EOF
}

@test "where no shell watches, as below ssh, ^Z stops nothing" {
  drive_shell <<'EOF'
exec ckpt-restart -q --stdio inherit $image -> \n
!ask -> here
^Z -> \^Z
!ask -> here
!read -> $
some words -> got <some words>
^C -> \^C
EOF
}

@test "a restart in the background comes to the foreground when it wants to read" {
  drive_shell <<'EOF'
ckpt-restart -q --stdio inherit $image & -> \[1\]
!ask -> here
!read -> $
until jobs | grep Stopped; do sleep 0.1; done; echo now-$((40 + 2)) -> now-42
fg -> ckpt-restart
some words -> got <some words>
^Z -> Stopped(.|\n)*>>
fg -> ckpt-restart
more -> got <more>
^C -> >>
EOF
}

@test "a restart that was moved to the foreground while it ran can read" {
  drive_shell <<'EOF'
ckpt-restart -q --stdio inherit $image & -> \[1\]
!ask -> here
fg -> ckpt-restart
!read -> $
some words -> got <some words>
^C -> >>
EOF
}

@test "^Z stops the script that a restart is called by, and a checkpoint of what is stopped changes nothing" {
  drive_shell <<'EOF'
sh -c 'ckpt-restart -q --stdio inherit $image; echo after' -> \n
!ask -> here
^Z -> Stopped(.|\n)*>>
ckpt-trigger -q $(pgrep -f "$BATS_TEST_TMPDIR/reader.py") -> 000002.ckpt
fg -> sh -c
!ask -> here
!read -> $
some words -> got <some words>
^C -> >>
EOF
}
