#!/usr/bin/env bats
# A program on a terminal of somebody's, restarted on another one of another size.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }

# In python, with a session and a terminal of its own each time: launch ARGUMENTS, checkpoint with --kill, restart.
write_mover() {
  cat >"$BATS_TEST_TMPDIR/move.py" <<'PY'
import fcntl, os, pty, re, select, signal, struct, subprocess, sys, termios
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
