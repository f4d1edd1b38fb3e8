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

@test "TCP connections within the process survive, with what is in flight" {
  three_ways tcp-loopback
}

@test "unix sockets with names survive, with connections and datagrams that wait" {
  three_ways unix-named
}

@test "UDP sockets survive, with datagrams that nobody has read" {
  three_ways udp-sockets
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

@test "descriptors in flight survive" {
  three_ways rights-in-flight
}

@test "netlink sockets survive" {
  three_ways netlink-sockets
}

@test "threads that wait on sockets go on" {
  three_ways blocked-on-sockets
}
