#!/usr/bin/env bats
# Sockets of one process: each comes back as it stood, with what was in it.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }

@test "pairs of unix sockets survive, with what is in them" {
  three_ways unix-pairs
}

@test "a hundred pairs of unix sockets survive" {
  three_ways unix-pairs 100
}

@test "TCP connections within the process survive, with what is in flight" {
  three_ways tcp-loopback
}

@test "unix sockets with names survive, with connections and datagrams that wait" {
  three_ways unix-named
}

@test "a listening unix socket whose name is another's now survives, with those who wait at it" {
  three_ways replaced-listeners
}

@test "unix sockets survive whose names lead to them no more" {
  three_ways gone-names
}

@test "UDP sockets survive, with datagrams that nobody has read" {
  three_ways udp-sockets
}

@test "options, filters and shut directions of sockets survive" {
  three_ways socket-options
}

answer_in() { # FOLDER
  cd "$VICTIM_DIR/$1" || return
  timeout "$STEP_SECONDS" "$executable" -MIO::Socket::UNIX -e '
    my $server = IO::Socket::UNIX->new(Peer => "s.sock") or die "$!"; print scalar <$server>'
}

@test "relative names of unix sockets count from the folder of each process, wherever ckpt-restart is called" {
  local place
  has_tree=1
  executable=$(readlink -f "$(system_program perl)")
  mkdir -p "$VICTIM_DIR/a" "$VICTIM_DIR/b"
  launch "$executable" -MIO::Socket::UNIX -e '
    my $place = fork ? "a" : "b";
    chdir "$ENV{VICTIM_DIR}/$place" or die;
    my $server = IO::Socket::UNIX->new(Local => "s.sock", Listen => 5) or die;
    while (my $client = $server->accept) { print $client $place; close $client }'
  for place in a b; do await_that "$main_pid" test -S "$VICTIM_DIR/$place/s.sock"; done
  checkpoint
  kill_program
  mkdir "$VICTIM_DIR/elsewhere"
  cd "$VICTIM_DIR/elsewhere"
  restart
  for place in a b; do [ "$(answer_in $place)" = $place ]; done
  [ -z "$(ls)" ]
  checkpoint
  kill_program
}

start_outside() {
  new_work outside
  in_background "$VICTIM_DIR/server-out" "$VICTIM_DIR/server-err" "$VICTIMS/outside-sockets" server
  await_file "$VICTIM_DIR/port" "$main_pid"
}

@test "connections that lead outside are left alone while the program goes on" {
  start_outside
  launch_victim outside-sockets
  go_on
  finish
}

@test "connections that lead outside are reset after a restart" {
  start_outside
  launch_victim outside-sockets reset
  come_back
  come_back
  finish
}

# expect_refusal PATTERN: the restart and its plan are refused, and nothing has happened.
expect_refusal() {
  local way
  for way in -n ''; do
    run timeout "$STEP_SECONDS" ckpt-restart $way "$image"
    echo "$output"
    [ "$status" -eq 125 ]
    [[ $output =~ $1 ]]
  done
}

@test "a port that only an ended connection of the program holds is had again at once" {
  local port
  executable=$(readlink -f "$(system_program perl)")
  launch "$executable" -MIO::Socket::INET -e '
    my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 5) or die;
    open my $note, ">", "$ENV{VICTIM_DIR}/port" or die; print $note $server->sockport; close $note;
    while (my $client = $server->accept) { last if <$client> eq "end\n"; print $client "saved\n"; <$client> }'
  await_that "$main_pid" test -s "$VICTIM_DIR/port"
  port=$(cat "$VICTIM_DIR/port")
  checkpoint
  exec {client}<>"/dev/tcp/127.0.0.1/$port"
  echo hello >&"$client"
  read -r -u "$client" # it is in its second read when it is killed: its end of the connection ends first
  kill_program
  exec {client}>&-
  grep -qi ": 0100007F:$(printf %04X "$port") [0-9A-F:]* 06 " /proc/net/tcp
  # Somebody else has the port at another address.
  in_background "$VICTIM_DIR/other-out" "$VICTIM_DIR/other-err" "$executable" -MIO::Socket::INET -e '
    my $other = IO::Socket::INET->new(LocalAddr => "127.0.0.2", LocalPort => $ARGV[0], Listen => 5) or die "$!";
    open my $note, ">", "$ENV{VICTIM_DIR}/other"; close $note; sleep 1000' "$port"
  await_file "$VICTIM_DIR/other" "$main_pid"
  restart
  [ "$(grep -v 'has changed since the checkpoint' "$VICTIM_DIR/restart-err-1")" = "" ]
  echo end >"/dev/tcp/127.0.0.1/$port"
  await_end
  [ "$exit_status" -eq 0 ]
}

@test "a restart is refused while a port or a name is taken, and works when it is free" {
  launch_victim listeners
  checkpoint
  kill_program
  executable=$VICTIMS/listeners
  local original=$VICTIM_DIR what other
  for what in tcp udp path abstract; do
    rm -f "$original/holds"
    in_background "$original/other-out" "$original/other-err" "$executable" "$what"
    other=$main_pid
    await_file "$original/holds" "$other"
    expect_refusal 'is taken by another program'
    kill -KILL "$other"
    await_end
  done
  restart
  check_round
  finish
}

@test "a restart is refused while another program's socket has the file that one of ours was renamed to" {
  launch_victim gone-names
  checkpoint
  kill_program
  local other moved=$VICTIM_DIR/moved
  rm "$moved"
  # It is not known by that name either.
  # shellcheck disable=SC2016
  in_background "$VICTIM_DIR/other-out" "$VICTIM_DIR/other-err" perl -MSocket -e '
    socket(S, PF_UNIX, SOCK_STREAM, 0) && bind(S, pack_sockaddr_un("$ARGV[0].new")) && listen(S, 1) && rename("$ARGV[0].new", $ARGV[0]) or die $!;
    sleep' "$moved"
  other=$main_pid
  await_file "$moved" "$other"
  expect_refusal 'moved.,.* is taken by another program'
  kill -KILL "$other"
  await_end
  restart
  check_round
  finish
}

@test "descriptors in flight survive" {
  three_ways rights-in-flight
}

@test "a checkpoint waits until somebody accepts what has been sent, and is refused if nobody does" {
  cat >"$BATS_TEST_TMPDIR/late.py" <<'EOF'
import os, socket, sys, time
place = os.environ["VICTIM_DIR"]
family, address = (socket.AF_UNIX, "\0ckpt-late-%d" % os.getpid()) if sys.argv[1] == "unix" else (socket.AF_INET, ("127.0.0.1", 0))
listener = socket.socket(family)
listener.bind(address)
listener.listen()
client = socket.create_connection(listener.getsockname()) if family == socket.AF_INET else socket.socket(family)
if family == socket.AF_UNIX:
    client.connect(address)
client.sendall(b"early")
open(place + "/ready", "w").close()
while not os.path.exists(place + "/accept"):
    time.sleep(0.02)
server = listener.accept()[0]
while not os.path.exists(place + "/go"):
    time.sleep(0.02)
assert server.recv(5, socket.MSG_DONTWAIT) == b"early"
server.sendall(b"late")
assert client.recv(4) == b"late"
open(place + "/result", "w").write("pass\n")
EOF
  executable=$(readlink -f "$(system_program python3)")
  local family trigger_pid
  for family in unix tcp; do
    new_work "$family"
    launch "$executable" "$BATS_TEST_TMPDIR/late.py" "$family"
    await_ready
    run timeout "$STEP_SECONDS" ckpt-trigger -t 1 "$program_pid"
    echo "$output"
    [ "$status" -eq 75 ]
    [[ $output == *"nobody has accepted yet"* ]]
    timeout "$STEP_SECONDS" ckpt-trigger -v -t 50 "$program_pid" >"$VICTIM_DIR/image" 2>"$VICTIM_DIR/trigger-err" 3>&- &
    trigger_pid=$!
    await_that "$trigger_pid" grep -qs '^ckpt-trigger: waiting: .*nobody has accepted yet' "$VICTIM_DIR/trigger-err"
    : >"$VICTIM_DIR/accept"
    wait "$trigger_pid"
    image=$(cat "$VICTIM_DIR/image")
    kill_program
    restart
    finish
  done
}

@test "netlink sockets survive" {
  three_ways netlink-sockets
}

@test "raw, ping, UDP-Lite and MPTCP sockets survive" {
  three_ways plain-sockets
}

# bats test_tags=root
@test "a raw socket that the user may not have is told, and the restart refused" {
  launch_victim plain-sockets
  checkpoint
  kill_program
  local way
  for way in -n ''; do
    run setpriv --bounding-set=-net_raw --inh-caps=-net_raw timeout "$STEP_SECONDS" ckpt-restart $way "$image"
    echo "$output"
    [ "$status" -eq 125 ]
    [[ $output == *"a raw socket (see CAP_NET_RAW)"* ]]
  done
  restart
  check_round
  finish
}

@test "a plain socket with what nobody has read is refused, and saved when that is read" {
  launch_victim plain-sockets unread
  run timeout "$STEP_SECONDS" ckpt-trigger "$program_pid"
  echo "$output"
  [ "$status" -eq 1 ]
  [[ $output == *"process $program_pid: descriptor "*"nobody has read can't be saved; try again later"* ]]
  check_round
  checkpoint
  finish
}

@test "threads that wait on sockets go on" {
  three_ways blocked-on-sockets
}
