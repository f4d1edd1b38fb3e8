#!/usr/bin/env bats
# Threads survive: how many there are, what they own, where they are blocked, and what their registers hold.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }

@test "one further thread survives, and new ones start" {
  three_ways threads-many 1
}

@test "eight threads survive, and new ones start" {
  three_ways threads-many 8
}

@test "a hundred threads survive, and new ones start" {
  three_ways threads-many 100
}

@test "a thousand threads survive" {
  # The program doubles their number after the restart.
  local limit
  limit=$(ulimit -u)
  if [ "$limit" != unlimited ] && [ "$limit" -lt 3000 ]; then skip "RLIMIT_NPROC is $limit"; fi
  three_ways threads-many 1000
}

@test "thread-local storage survives" {
  three_ways tls
}

@test "threads keep their names" {
  three_ways thread-names
}

@test "threads keep their signal masks" {
  three_ways thread-masks
}

@test "threads keep their alternate stacks" {
  three_ways thread-altstack
}

@test "locks stay held and their waiters stay blocked until the release" {
  three_ways locks-held
}

@test "robust and priority-inheriting locks tell the death of their owner" {
  three_ways robust-locks
}

@test "threads that no libc knows survive" {
  three_ways raw-threads
}

@test "a process survives whose main thread has ended" {
  three_ways main-thread-gone
}

@test "threads keep working directories and umasks of their own" {
  three_ways own-folders
}

@test "threads keep tables of descriptors of their own" {
  three_ways own-tables
}

@test "threads in tight loops go on" {
  three_ways tight-loop
}

@test "threads inside signal handlers go on there and return" {
  three_ways in-signal-handler
}

@test "general, x87 and SSE registers survive" {
  three_ways registers sse
}

@test "what is in vector registers while a call waits survives" {
  if has_cpu_flag avx; then three_ways registers-in-calls; fi
}

@test "the widest vector registers of this CPU survive" {
  if has_cpu_flag avx; then three_ways registers avx; fi
  if has_cpu_flag avx512bw; then three_ways registers avx512; fi
}
