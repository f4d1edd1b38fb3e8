#!/usr/bin/env bats
# System V objects: shared memory, semaphores and message queues come back with their ids and all that is in them.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }
has_tree=1

@test "System V shared memory survives, attached, inherited, removed or detached" {
  three_ways sysv-segments
}

@test "System V semaphores survive, with what is undone at the end of a process" {
  three_ways sysv-semaphores
}

@test "System V message queues survive, with their messages and those who wait" {
  three_ways sysv-queues
}

@test "System V objects that were left by a child, or never used, survive" {
  three_ways sysv-left
}

@test "two restarts of one image have System V objects of their own" {
  launch_victim sysv-queues
  checkpoint
  kill_program
  restart
  local first=$main_pid
  restart_options=(--again)
  restart
  check_round
  : >"$VICTIM_DIR/go"
  await_end
  [ "$exit_status" -eq 0 ]
  main_pid=$first
  await_end
  [ "$exit_status" -eq 0 ]
  [ "$(cat "$VICTIM_DIR/result")" = pass ]
}

@test "objects that processes outside of the job use as well are refused, until those end" {
  local kind holder
  for kind in segment queue set; do
    new_work "$kind"
    in_background "$VICTIM_DIR/hold-out" "$VICTIM_DIR/hold-err" "$VICTIMS/sysv-outside" hold
    holder=$main_pid
    await_file "$VICTIM_DIR/ids" "$holder"
    launch_victim sysv-outside "$kind"
    run timeout "$STEP_SECONDS" ckpt-trigger "$program_pid"
    echo "$output"
    [ "$status" -eq 1 ]
    [[ $output =~ "process $program_pid: System V "[a-z\ ]+[0-9]+' (key 0x0): '.*'not of the job'.*'launch them as one job' ]]
    [ "$kind" = segment ] || [[ $output == *"process $holder,"* ]]
    kill -KILL "$holder"
    until ! is_alive "$holder"; do sleep 0.01; done
    come_back
    finish
    remove_objects
  done
}

@test "what ckpt-ls and ckpt-restart -n show of System V objects" {
  launch_victim sysv-queues
  checkpoint
  run ckpt-ls --map "$image"
  echo "$output"
  [[ $output =~ 'message queue '.*' mode 0640 '.*'8 messages' ]]
  kill_program
  run ckpt-restart -n "$image"
  echo "$output"
  [ "$status" -eq 0 ]
  [[ $output == *'System V objects'*'are made again in an IPC namespace'* ]]
}

@test "POSIX message queues survive, with their messages, without a name, and with those who wait" {
  three_ways posix-queues
}

@test "a process that is to be told of a message in a POSIX queue still is" {
  three_ways queue-notification
}

@test "a POSIX message queue that a process outside of the job has open is refused" {
  launch_victim posix-queues
  local pid=$program_pid fd
  for fd in /proc/"$pid"/fd/*; do
    case $(readlink "$fd") in /ckpt-queue-*) break ;; esac
  done
  mkfifo "$VICTIM_DIR/end"
  # A redirection opens it for a shell that is not of the job.
  in_background "$VICTIM_DIR/hold-out" "$VICTIM_DIR/hold-err" sh -c "exec 3<'$fd'; : >'$VICTIM_DIR/holds'; read -r line <'$VICTIM_DIR/end'"
  await_file "$VICTIM_DIR/holds" "$main_pid"
  run timeout "$STEP_SECONDS" ckpt-trigger "$pid"
  echo "$output"
  [ "$status" -eq 1 ]
  [[ $output =~ "process $pid: descriptor "[0-9]+.*'not of the job has it open' ]]
}

@test "a server and a client in perl keep talking over System V queues, semaphores and shared memory" {
  cat >"$BATS_TEST_TMPDIR/talk.pl" <<'EOF'
use strict;
use warnings;
use IPC::SysV qw(IPC_PRIVATE IPC_CREAT IPC_RMID SEM_UNDO);
$| = 1;
my ($queue, $set, $segment) = (msgget(IPC_PRIVATE, IPC_CREAT | 0600), semget(IPC_PRIVATE, 2, IPC_CREAT | 0600),
  shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600));
open my $list, ">>", $ARGV[0] or die;
print $list "-q $queue\n-s $set\n-m $segment\n";
close $list;
semop($set, pack("s!3", 0, 1, 0)) or die;
sub locked {
  semop($set, pack("s!3", 0, -1, SEM_UNDO)) or die "lock: $!";
  my $value = shift->();
  semop($set, pack("s!3", 0, 1, SEM_UNDO)) or die "unlock: $!";
  return $value;
}
shmwrite($segment, pack("q", 0), 0, 8) or die;
sub add { my $by = shift; locked(sub { my $sum; shmread($segment, $sum, 0, 8) or die; $sum = $by + unpack "q", $sum;
  shmwrite($segment, pack("q", $sum), 0, 8) or die; $sum }) }
my $child = fork;
if ($child == 0) {
  my $message;
  while (msgrcv($queue, $message, 64, 1, 0)) {
    my ($type, $number) = unpack "l! a*", $message;
    last if $number eq "end";
    add($number);
    msgsnd($queue, pack("l! a*", 2, $number * $number), 0) or die "send: $!";
  }
  exit 0;
}
for my $number (0 .. 1199) {
  my $message;
  msgsnd($queue, pack("l! a*", 1, $number), 0) or die "send: $!";
  add(1);
  msgrcv($queue, $message, 64, 2, 0) or die "receive: $!";
  print substr($message, 8), "\n";
  do { select undef, undef, undef, 0.002 } until $number != 1000 or -e "$ENV{VICTIM_DIR}/go";
}
msgsnd($queue, pack("l! a*", 1, "end"), 0) or die;
waitpid $child, 0;
my $sum = add(0);
print "sum $sum\n";
msgctl($queue, IPC_RMID, 0);
semctl($set, 0, IPC_RMID, 0);
shmctl($segment, IPC_RMID, 0);
exit($? == 0 ? 0 : 1);
EOF
  new_work perl
  launch "$(system_program perl)" "$BATS_TEST_TMPDIR/talk.pl" "$BATS_TEST_TMPDIR/ipc-left"
  executable=$(readlink -f "$(system_program perl)")
  return_three_times 0.5
  : >"$VICTIM_DIR/go"
  await_end
  cat "$VICTIM_DIR"/err "$VICTIM_DIR"/restart-err-*
  [ "$exit_status" -eq 0 ]
  cat "$VICTIM_DIR/out" "$VICTIM_DIR"/restart-out-* >"$VICTIM_DIR/all"
  { seq 0 1199 | awk '{ print $1 * $1 }' && echo "sum $((1199 * 600 + 1200))"; } | cmp - "$VICTIM_DIR/all"
}
