#!/usr/bin/env bats
# The programs under test themselves, without ckpt: each passes when nothing happens, and fails when it spoils its own state.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }

# What a spoiled job leaves behind: nobody but us runs this very file.
end_leftovers() {
  local exe
  for exe in /proc/[0-9]*/exe; do
    if [ "$exe" -ef "$executable" ]; then kill -KILL "$(basename "$(dirname "$exe")")" || true; fi
  done
}

# Runs a victim plainly; prints its result.
plain() {
  new_work "plain-$1"
  executable=$VICTIMS/$2
  use_fifo
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" env VICTIM_BREAK="$1" "$executable" "${@:3}"
  await_ready
  : >"$VICTIM_DIR/go"
  feed hello
  await_end
  end_leftovers
  exec {fifo_fd}>&-
  fifo_fd=
  [ "$(cat "$VICTIM_DIR/result")" = pass ]
}

passes_and_bites() {
  echo "victim: $*"
  plain 0 "$@"
  if plain 1 "$@"; then fail "$* did not notice its sabotage"; fi
}

@test "the programs about memory pass undisturbed and notice sabotage" {
  local trait traits=(
    heap-brk
    heap-mmap
    stack-deep
    thread-stacks
    guard-pages
    grows-down
    tight-limits
    odd-files
    prot-none
    read-only
    jit-pages
    private-file-mapping
    private-objects
    many-areas
    sparse-reservation
    anonymous-after
    aslr
    image-bytes
    shared-anonymous
    memfds
    shared-files
    advised
    aio-contexts
    advised-members
    large-mapped
    locked-memory
    named-areas
    address-space
    vdso-calls
  )
  for trait in "${traits[@]}"; do
    passes_and_bites "$trait"
  done
}

@test "the programs about threads pass undisturbed and notice sabotage" {
  local trait traits=(
    threads-many
    old-numbers
    tls
    thread-names
    thread-masks
    thread-altstack
    locks-held
    robust-locks
    raw-threads
    own-folders
    own-tables
    main-thread-gone
    short-waits
    signal-storm
    tight-loop
    in-signal-handler
    epoll-wait
    registers
    registers-in-calls
    long-transfers
    robust-locks
    raw-threads
    main-thread-gone
  )
  for trait in "${traits[@]}"; do
    passes_and_bites "$trait"
  done
  passes_and_bites no-eintr all
  passes_and_bites raw-exec 3
  passes_and_bites timeouts 0.5
}

@test "the programs about identity, signals and files pass undisturbed and notice sabotage" {
  local trait traits=(
    identity
    attributes
    deleted-folder
    maps-names
    dispositions
    pending-signals
    own-sigusr2
    blocks-everything
    sigwait-everything
    itimers
    posix-timers
    oneshot-storm
    regular-files
    deleted-file
    std-streams
    log-cut-back
    kept-files
    large-files
    two-ways
    monotonic-clock
    shifted-clocks
  )
  for trait in "${traits[@]}"; do
    passes_and_bites "$trait"
  done
  passes_and_bites itimers oneshot
  passes_and_bites dispositions virgin
}

@test "the programs about descriptors pass undisturbed and notice sabotage" {
  local trait traits=(
    eventfds
    family
    ended-children
    ended-leaders
    fork-storm
    slow-start
    pidfds-of-members
    proc-of-members
    shared-memfds
    terminals
    busy-terminals
    client-server
    own-pipes
    timerfds
    signalfds
    epolls
    pidfds
    folders
    fifos
    proc-files
    lost-terminal
    file-locks
    process-locks
    signal-driven
    many-descriptors
    watches
    signalfd-all
  )
  for trait in "${traits[@]}"; do passes_and_bites "$trait"; done
}

@test "the programs about what processes share pass undisturbed and notice sabotage" {
  local trait traits=(
    shared-events
    deleted-of-members
    shared-locks
    waiting-locks
    blocked-pipes
    daemons
    together
    passed-files
    member-sockets
    mortal-members
    slow-vfork
  )
  for trait in "${traits[@]}"; do passes_and_bites "$trait"; done
  passes_and_bites many-processes 20
}

@test "the programs about sockets pass undisturbed and notice sabotage" {
  passes_and_bites unix-pairs
  passes_and_bites peer-credentials
  passes_and_bites unix-named
  passes_and_bites replaced-listeners
  passes_and_bites udp-sockets
  passes_and_bites listeners
  passes_and_bites blocked-on-sockets
  passes_and_bites netlink-sockets
  passes_and_bites plain-sockets
  passes_and_bites socket-options
  passes_and_bites gone-names
  passes_and_bites rights-in-flight
  passes_and_bites tcp-loopback
}

@test "the programs about System V objects pass undisturbed and notice sabotage" {
  passes_and_bites sysv-segments
  passes_and_bites sysv-semaphores
  passes_and_bites sysv-queues
  passes_and_bites sysv-left
  passes_and_bites posix-queues
  passes_and_bites queue-notification
}

@test "everything that is to be refused works undisturbed" {
  local kind
  for kind in $("$VICTIMS/refuse-kind" || true); do passes_and_bites refuse-kind "$kind"; done
}
