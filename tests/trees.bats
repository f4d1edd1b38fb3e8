#!/usr/bin/env bats
# Jobs of several processes: all are saved in one image, and come back wired together as they were.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }
has_tree=1

@test "a family keeps ids, groups, sessions, zombies, shared offsets and pipes" {
  three_ways family
}

# A program that starts others without a pause, by this way and with so many threads: it comes back, and thirty checkpoints in a row
# neither fail nor harm it.
survives_starting() {
  three_ways fork-storm "$@"
  new_work storm
  launch_victim fork-storm "$@"
  local i
  for i in {1..30}; do checkpoint; done
  check_round
  finish
}

@test "a program that forks all the time survives" { survives_starting fork 2; }
@test "a program that forks and execs all the time survives" { survives_starting exec 2; }
@test "a program that spawns others all the time survives" { survives_starting spawn; }
@test "a program that calls vfork and exec all the time survives" { survives_starting vfork; }

@test "pidfds of other processes of a job survive, and descriptors that raise signals in them" {
  three_ways pidfds-of-members
}

@test "files of /proc that show other processes of a job survive" { three_ways proc-of-members; }

@test "unix sockets tell who is at the other end, and who has sent what is in them" {
  three_ways peer-credentials
}

@test "children that have ended wait to be told, also where there is nobody else" {
  three_ways ended-children
}

@test "a child of a child that is just starting a program is waited for" {
  three_ways slow-start
}

@test "a deleted file that several processes have opened or mapped, each for itself, is one file" {
  three_ways deleted-of-members
}

@test "children that have ended keep the groups and sessions they led, and the signals they ended by" {
  three_ways ended-leaders
}

@test "memory files that several processes share keep their seals" {
  three_ways shared-memfds
}

@test "--kill ends all processes of the job, and each of them comes back" {
  cat >"$BATS_TEST_TMPDIR/job.sh" <<'EOF'
for number in 1 2 3 4 5 6; do
  (sleep 0.3; until [ -e "$VICTIM_DIR/go" ]; do sleep 0.01; done; echo "$number" >"$VICTIM_DIR/ended-$number") &
done
wait
EOF
  executable=$(readlink -f "$(command -v sh)")
  local attempt
  for attempt in 1 2 3 4 5; do
    new_work "kill-$attempt"
    launch "$executable" "$BATS_TEST_TMPDIR/job.sh"
    sleep 0.1
    checkpoint --kill
    await_end
    [ "$exit_status" -eq 137 ]
    [ -z "$(members)" ]
    restart
    : >"$VICTIM_DIR/go"
    await_end
    [ "$exit_status" -eq 0 ]
    [ "$(cat "$VICTIM_DIR"/ended-* | sort | tr -d '\n')" = 123456 ]
  done
}

@test "pseudo-terminals that are full, or whose output is stopped, stay as they are" {
  three_ways busy-terminals
}

@test "pseudo-terminals within a job keep numbers, settings, contents and those they control" {
  three_ways terminals
}

@test "an interactive shell on a pseudo-terminal of python keeps its terminal and its job control" {
  cat >"$BATS_TEST_TMPDIR/job.py" <<'EOF'
import os, pty, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
pid, master = pty.fork()
if pid == 0:
    os.environ["PS1"] = "$ "
    os.execlp("bash", "bash", "--norc", "--noediting", "-i")

def say(text, until):
    os.write(master, text)
    seen = b""
    while until not in seen:
        seen += os.read(master, 4096)
    return seen

who = b"echo shell $$ on $(tty) $((6 * 7))\n"
first = say(who, b" 42\r\n")
place = os.environ["VICTIM_DIR"]
open(place + "/ready", "w").close()
while not os.path.exists(place + "/go"):
    time.sleep(0.02)
second = say(who, b" 42\r\n")
line = lambda text: [l for l in text.split(b"\r\n") if l.endswith(b" 42")][0].split(b"shell ")[1]
assert line(first) == line(second), (first, second)
def in_foreground():  # and past its exec: until then it may ignore what the shell ignores
    while os.tcgetpgrp(master) == pid or open("/proc/%d/comm" % os.tcgetpgrp(master)).read() != "sleep\n":
        time.sleep(0.01)
say(b"sleep 1000\n", b"\n")
in_foreground()
say(b"\x1a", b"Stopped")
say(b"fg\n", b"sleep 1000")
in_foreground()
say(b"\x03", b"$ ")
say(b"exit 5\n", b"exit")
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
print("fine")
EOF
  launch "$(system_program python3)" "$BATS_TEST_TMPDIR/job.py"
  executable=$(readlink -f "$(system_program python3)")
  await_ready
  return_three_times
  : >"$VICTIM_DIR/go"
  await_end
  cat "$VICTIM_DIR"/err "$VICTIM_DIR"/restart-err-*
  [ "$exit_status" -eq 0 ]
  [ "$(cat "$VICTIM_DIR/out")" = fine ]
}

@test "a stopped child of a job stays stopped" {
  cat >"$BATS_TEST_TMPDIR/job.py" <<'EOF'
import os, signal, time
place = os.environ["VICTIM_DIR"]
child = os.fork()
if child == 0:
    while True:
        time.sleep(0.001)
os.kill(child, signal.SIGSTOP)
assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
state = lambda: open("/proc/%d/stat" % child).read().rsplit(")")[1].split()[0]
open(place + "/ready", "w").close()
round = 1
while not os.path.exists(place + "/go"):
    if os.path.exists(place + "/round-%d" % round):
        while state() != "T":
            time.sleep(0.01)
        open(place + "/done-%d" % round, "w").close()
        round += 1
    time.sleep(0.01)
os.kill(child, signal.SIGCONT)
while state() == "T":
    time.sleep(0.01)
os.kill(child, signal.SIGTERM)
while not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
    pass
open(place + "/result", "w").write("pass\n")
EOF
  executable=$(readlink -f "$(system_program python3)")
  launch "$executable" "$BATS_TEST_TMPDIR/job.py"
  await_ready
  go_on
  come_back
  come_back
  finish
}

@test "a shell script with pipelines and background jobs comes back whole" {
  cat >"$BATS_TEST_TMPDIR/job.sh" <<'EOF'
count() { i=0; while [ "$i" -lt "$1" ]; do echo "$2 $i"; i=$((i + 1)); sleep 0.02; [ "$i" != 90 ] || until_go; done; }
until_go() { until [ -e "$VICTIM_DIR/go" ]; do sleep 0.02; done; }
trap 'echo trapped' USR1
count 120 left | sed 's/^/>/' | cat &
count 100 right | tr a-z A-Z >"$1.right" &
wait
echo "waited $?"
(exit 3) &
wait $!
echo "status $?"
cat "$1.right"
EOF
  new_work undisturbed
  : >"$VICTIM_DIR/go"
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" bash "$BATS_TEST_TMPDIR/job.sh" "$VICTIM_DIR/data"
  await_end
  local expected=$VICTIM_DIR/out
  new_work restarted
  # Under a name of its own: the harness is bash as well.
  executable=$BATS_TEST_TMPDIR/shell
  cp "$(command -v bash)" "$executable"
  launch "$executable" "$BATS_TEST_TMPDIR/job.sh" "$VICTIM_DIR/data"
  return_three_times 0.5
  : >"$VICTIM_DIR/go"
  await_end
  [ "$exit_status" -eq 0 ]
  cat "$VICTIM_DIR/out" "$VICTIM_DIR"/restart-out-* >"$VICTIM_DIR/all"
  cmp "$expected" "$VICTIM_DIR/all"
}

@test "python's multiprocessing survives" {
  cat >"$BATS_TEST_TMPDIR/work.py" <<'EOF'
import multiprocessing, os, time
def square(x):
    time.sleep(0.01)
    while x == 900 and not os.path.exists(os.environ["VICTIM_DIR"] + "/go"):
        time.sleep(0.01)
    return x * x
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(3) as pool:
        for value in pool.imap(square, range(1000)):
            print(value, flush=True)
EOF
  new_work restarted
  launch "$(system_program python3)" "$BATS_TEST_TMPDIR/work.py"
  executable=$(readlink -f "$(system_program python3)")
  return_three_times 0.4
  : >"$VICTIM_DIR/go"
  await_end
  cat "$VICTIM_DIR"/err "$VICTIM_DIR"/restart-err-*
  [ "$exit_status" -eq 0 ]
  cat "$VICTIM_DIR/out" "$VICTIM_DIR"/restart-out-* >"$VICTIM_DIR/all"
  seq 0 999 | awk '{ print $1 * $1 }' | cmp - "$VICTIM_DIR/all"
}

@test "a server and a client keep talking over TCP, UDP and a unix socket" {
  three_ways client-server
}

@test "a client and a server in perl, and in python, keep talking over TCP" {
  cat >"$BATS_TEST_TMPDIR/talk.py" <<'EOF'
import os, socket, time
listener = socket.create_server(("127.0.0.1", 0))
if os.fork() == 0:
    connection = socket.create_connection(listener.getsockname())
    listener.close()
    for number, line in enumerate(connection.makefile()):
        assert int(line) == number, line
        connection.sendall(b"%d\n" % (number * number))
    os._exit(0)
connection, _ = listener.accept()
answers = connection.makefile()
for number in range(1200):
    connection.sendall(b"%d\n" % number)
    print(int(answers.readline()), flush=True)
    time.sleep(0.003)
    while number == 1000 and not os.path.exists(os.environ["VICTIM_DIR"] + "/go"):
        time.sleep(0.01)
connection.shutdown(socket.SHUT_WR)
assert os.wait()[1] == 0
EOF
  cat >"$BATS_TEST_TMPDIR/talk.pl" <<'EOF'
use strict;
use warnings;
use IO::Socket::INET;
$| = 1;
my $listener = IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 5, ReuseAddr => 1, Proto => "tcp") or die;
my $child = fork;
if ($child == 0) {
  my $connection = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $listener->sockport, Proto => "tcp") or die;
  while (my $line = <$connection>) { chomp $line; print $connection $line * $line, "\n"; }
  exit 0;
}
my $connection = $listener->accept;
for my $number (0 .. 1199) {
  print $connection "$number\n";
  print scalar <$connection>;
  do { select undef, undef, undef, 0.003 } until $number != 1000 or -e "$ENV{VICTIM_DIR}/go";
}
$connection->shutdown(1);
waitpid $child, 0;
exit($? == 0 ? 0 : 1);
EOF
  local language
  for language in perl:pl python3:py; do
    new_work "${language%:*}"
    launch "$(system_program "${language%:*}")" "$BATS_TEST_TMPDIR/talk.${language#*:}"
    executable=$(readlink -f "$(system_program "${language%:*}")")
    return_three_times 0.4
    : >"$VICTIM_DIR/go"
    await_end
    cat "$VICTIM_DIR"/err "$VICTIM_DIR"/restart-err-*
    [ "$exit_status" -eq 0 ]
    cat "$VICTIM_DIR/out" "$VICTIM_DIR"/restart-out-* >"$VICTIM_DIR/all"
    seq 0 1199 | awk '{ print $1 * $1 }' | cmp - "$VICTIM_DIR/all"
  done
}

@test "what is started in a copy of a job, and starts something in a copy of that, stays in it" {
  cat >"$BATS_TEST_TMPDIR/job.sh" <<'EOF'
while [ ! -e "$VICTIM_DIR/begin" ]; do sleep 0.05; done
python3 -c 'import os, time
place = os.environ["VICTIM_DIR"]
open(place + "/begun", "w").close()
while not os.path.exists(place + "/spawn"): time.sleep(0.01)
os.system("echo >$VICTIM_DIR/spawned; read line <$VICTIM_DIR/fifo; echo $line >$VICTIM_DIR/ended")'
EOF
  mkfifo "$VICTIM_DIR/fifo"
  has_tree=1
  restart_options=(--again)
  executable=$(readlink -f "$(system_program dash)")
  launch "$executable" "$BATS_TEST_TMPDIR/job.sh"
  await_that "$main_pid" has_control_page
  checkpoint
  kill_program
  restart
  : >"$VICTIM_DIR/begin"
  await_file "$VICTIM_DIR/begun" "$main_pid"
  checkpoint
  kill_program
  restart
  : >"$VICTIM_DIR/spawn"
  await_file "$VICTIM_DIR/spawned" "$main_pid"
  checkpoint
  kill_program
  restart
  echo "all there" >"$VICTIM_DIR/fifo"
  await_end
  [ "$exit_status" -eq 0 ]
  [ "$(cat "$VICTIM_DIR/ended")" = "all there" ]
}

@test "several processes of one job are one checkpoint" {
  local all
  launch_victim family
  mapfile -t all < <(members)
  [ "${#all[@]}" -gt 1 ]
  ckpt-trigger "${all[@]}" >"$VICTIM_DIR/images"
  [ "$(wc -l <"$VICTIM_DIR/images")" -eq 1 ]
  ckpt-trigger --kill "${all[@]}" >"$VICTIM_DIR/images"
  [ "$(wc -l <"$VICTIM_DIR/images")" -eq 1 ]
  image=$(cat "$VICTIM_DIR/images")
  await_end
  restart
  check_round
  finish
}

@test "a second restart beside the first is a job of its own, with all that it starts" {
  local first second images
  cat >"$BATS_TEST_TMPDIR/job.sh" <<'EOF'
while [ ! -e "$VICTIM_DIR/go" ]; do sleep 0.05; python3 -c 'import os; os.system("sleep 0.05")'; done
echo "end" >>"$VICTIM_DIR/ends"
EOF
  executable=$(readlink -f "$(system_program dash)")
  launch "$executable" "$BATS_TEST_TMPDIR/job.sh"
  await_that "$main_pid" has_control_page
  checkpoint
  first=$main_pid images=$image
  restart_options=(--again)
  restart
  second=$main_pid
  for _ in {1..5}; do checkpoint; done
  [[ $image == *-again-* && $image != "$images" ]]
  timeout "$STEP_SECONDS" ckpt-trigger "$first"
  kill -KILL "$second"
  await_end
  restart # of the copy, while the first one lives
  checkpoint
  : >"$VICTIM_DIR/go"
  await_end
  [ "$exit_status" -eq 0 ]
  main_pid=$first
  await_end
  [ "$exit_status" -eq 0 ]
  [ "$(wc -l <"$VICTIM_DIR/ends")" -eq 2 ]
}

@test "what is started with another environment stays in the job" {
  cat >"$BATS_TEST_TMPDIR/each.sh" <<'EOF'
until [ -e "$1/go" ]; do sleep 0.02; done
echo "$2 $A" >>"$1/lines"
EOF
  cat >"$BATS_TEST_TMPDIR/job.py" <<'EOF'
import os, subprocess, sys
place = os.environ["VICTIM_DIR"]
command = lambda name: ["/bin/sh", sys.argv[1], place, name]
path = "PATH=/usr/bin:/bin"
jobs = [
    subprocess.Popen(command("popen"), env={"PATH": "/usr/bin:/bin", "A": "1"}),
    subprocess.Popen(["env", "-i", path, "A=2"] + command("env-i")),
    subprocess.Popen(["env", "LD_PRELOAD=libm.so.6", "A=3"] + command("preload")),
    subprocess.Popen(["bash", "-c", 'unset LD_PRELOAD CKPT_CONTROL; export A=4; exec "$@"', "bash"] + command("unset")),
]
spawned = [
    os.posix_spawn("/bin/sh", command("spawn"), {"PATH": "/bin", "A": "5"}),
    os.posix_spawnp("sh", command("spawnp"), {"PATH": "/bin", "A": "6"}),
]
for name, run in (("execvpe", lambda c: os.execvpe("sh", c, {"PATH": "/bin", "A": "7"})),
                  ("fexecve", lambda c: os.execve(os.open("/bin/sh", os.O_RDONLY), c, {"PATH": "/bin", "A": "8"}))):
    pid = os.fork()
    if pid == 0:
        run(command(name))
    spawned.append(pid)
open(place + "/ready", "w").close()
assert all(job.wait() == 0 for job in jobs)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in spawned)
EOF
  executable=$(readlink -f "$(system_program python3)")
  launch "$executable" "$BATS_TEST_TMPDIR/job.py" "$BATS_TEST_TMPDIR/each.sh"
  await_ready
  return_three_times 0.3
  : >"$VICTIM_DIR/go"
  await_end
  cat "$VICTIM_DIR"/err "$VICTIM_DIR"/restart-err-*
  [ "$exit_status" -eq 0 ]
  [ "$(sort -k2 "$VICTIM_DIR/lines" | paste -sd,)" = 'popen 1,env-i 2,preload 3,unset 4,spawn 5,spawnp 6,execvpe 7,fexecve 8' ]
  # Who names another job is left alone.
  run ckpt-launch env CKPT_CONTROL=/other LD_PRELOAD=libm.so.6 printenv CKPT_CONTROL LD_PRELOAD
  [ "$output" = $'/other\nlibm.so.6' ]
}

# The static program is started by this command line of bash, which has it as $0.
names_what_is_out_of_control() {
  new_work stranger
  printf '#include <unistd.h>\nint main(void) { pause(); }\n' | gcc -static -x c - -o "$BATS_TEST_TMPDIR/static"
  launch "$(command -v bash)" -c "$1" "$BATS_TEST_TMPDIR/static"
  await_file "$VICTIM_DIR/ready" "$main_pid"
  until [ "$(cat /proc/"$(cat "$VICTIM_DIR/child")"/comm)" = static ]; do sleep 0.05; done
  run timeout "$STEP_SECONDS" ckpt-trigger "$program_pid"
  echo "$output"
  [ "$status" -ne 0 ]
  [[ $output == *"$(cat "$VICTIM_DIR/child") (static)"*"out of control"* ]]
  kill "$(cat "$VICTIM_DIR/child")"
  await_end
}

@test "a child that is out of control is named before anything is touched" {
  names_what_is_out_of_control '"$0" & echo $! >"$VICTIM_DIR/child"; touch "$VICTIM_DIR/ready"; wait'
}

@test "a child of a child that is out of control is named, and the others go on" {
  names_what_is_out_of_control '("$0" & echo $! >"$VICTIM_DIR/child"; touch "$VICTIM_DIR/ready"; wait) & wait'
}

@test "an image that was asked for through a child is listed as that of the job" {
  has_tree=1
  executable=$(readlink -f "$(command -v bash)")
  launch "$executable" -c 'sleep 1000 & echo $! >"$VICTIM_DIR/new"; mv "$VICTIM_DIR/new" "$VICTIM_DIR/child"; wait'
  await_file "$VICTIM_DIR/child" "$main_pid"
  local child
  child=$(cat "$VICTIM_DIR/child")
  await_that "$child" has_control_page
  run ckpt-ls --json "$(ckpt-trigger "$child")"
  echo "$output"
  kill "$child"
  await_end
  [[ $output == *'"program": "bash"'* ]]
  [[ $output == *'"command": "'"$executable"' -c sleep 1000 & '* ]]
}

# bats test_tags=root
@test "a child that has become another user is named before anything is touched" {
  new_work dropped
  launch "$(system_program perl)" -MPOSIX -e '
    if (fork == 0) { POSIX::setuid(65534); sleep 60; exit 0 }
    open my $ready, ">", "$ENV{VICTIM_DIR}/ready"; close $ready; wait'
  await_file "$VICTIM_DIR/ready" "$main_pid"
  local child
  child=$(descendants_of "$program_pid")
  until grep -q '^Uid:.65534' "/proc/$child/status"; do sleep 0.02; done
  run timeout "$STEP_SECONDS" ckpt-trigger "$program_pid"
  echo "$output"
  [ "$status" -ne 0 ]
  [[ $output == *"${child// /} (perl)"*"has become another user"* ]]
  kill "${child// /}"
  await_end
  [ "$exit_status" -eq 0 ]
}

# bats test_tags=root
@test "a child that has given up capabilities is named before anything is touched" {
  new_work lowered
  has_tree=1
  executable=$(readlink -f "$(command -v bash)")
  launch "$executable" -c 'setpriv --bounding-set=-all --inh-caps=-all sleep 1000 & echo $! >"$VICTIM_DIR/child"; wait'
  await_file "$VICTIM_DIR/child" "$main_pid"
  local child
  child=$(cat "$VICTIM_DIR/child")
  until [ "$(cat "/proc/$child/comm")" = sleep ]; do sleep 0.02; done
  run timeout "$STEP_SECONDS" ckpt-trigger "$program_pid"
  echo "$output"
  [ "$status" -eq 1 ]
  [[ $output == *"process $child (sleep), a child of $program_pid, has given up capabilities that process $program_pid has"* ]]
  kill "$child"
  await_end
  [ "$exit_status" -eq 0 ]
}

# bats test_tags=root
@test "a child in another user or pid namespace is named before anything is touched" {
  has_tree=1
  executable=$(readlink -f "$(command -v bash)")
  local kind options child
  for kind in user pid; do
    new_work "$kind"
    options=$([ $kind = user ] && echo -Ur || echo '-pf --kill-child')
    launch "$executable" -c 'unshare $0 sh -c "echo >\"\$VICTIM_DIR/ready\"; exec sleep 1000"; exit 0' "$options"
    await_file "$VICTIM_DIR/ready" "$main_pid"
    run timeout "$STEP_SECONDS" ckpt-trigger "$program_pid"
    echo "$output"
    [ "$status" -eq 1 ]
    [[ $output == *" has moved to another $kind namespace (unshare(2)) than process $program_pid" ]]
    child=$(descendants_of "$program_pid" | head -n 1)
    kill -KILL "${child%% *}"
    await_end
    [ "$exit_status" -eq 0 ]
  done
}

# A shell and its child that note each SIGUSR1 they get; sleeps of theirs may die of it.
noting_job() {
  has_tree=1
  executable=$(readlink -f "$(command -v bash)")
  launch "$executable" -c '
    note() { trap "echo $1 >>\"$VICTIM_DIR/log\"" USR1; : >"$VICTIM_DIR/$1"; while [ ! -e "$VICTIM_DIR/go" ]; do sleep 0.05; done; }
    note child &
    note root
    wait'
  await_file "$VICTIM_DIR/root" "$main_pid"
  await_file "$VICTIM_DIR/child" "$main_pid"
}

has_noted() { [ "$(grep -cx "$1" "$VICTIM_DIR/log" 2>/dev/null)" = "$2" ]; }

@test "a signal to the group of ckpt-restart reaches the job's group, one to ckpt-restart alone the program alone" {
  noting_job
  checkpoint --kill
  await_end
  in_background "$VICTIM_DIR/restart-out-1" "$VICTIM_DIR/restart-err-1" setsid ckpt-restart "$image"
  await_that "$main_pid" find_program_now
  await_that "$main_pid" is_taking_signals
  kill -USR1 "$main_pid"
  await_that "$main_pid" has_noted root 1
  kill -USR1 -- "-$main_pid"
  await_that "$main_pid" has_noted root 2
  await_that "$main_pid" has_noted child 1
  kill -USR1 "$main_pid"
  await_that "$main_pid" has_noted root 3
  has_noted child 1
  : >"$VICTIM_DIR/go"
  await_end
  [ "$exit_status" -eq 0 ]
}

# ckpt-restart blocks what it is to pass on.
is_taking_signals() { [ $((0x$(sed -n 's/^SigBlk:.//p' "/proc/$main_pid/status") & 1 << 9)) -ne 0 ]; }
