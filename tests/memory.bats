#!/usr/bin/env bats
# Memory survives: contents, protection, place and nature of every sort of area.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() {
  [ -z "${pool_before:-}" ] || echo "$pool_before" >/proc/sys/vm/nr_hugepages
  tear_down
}

@test "the brk heap survives and grows on" {
  three_ways heap-brk
}

@test "mapped memory survives, and mmap goes on" {
  three_ways heap-mmap
}

@test "a deep main stack survives and grows by six more megabytes" {
  three_ways stack-deep
}

@test "the stacks of threads survive" {
  three_ways thread-stacks
}

@test "a program with hardly any room below its limits of memory is saved, and keeps them" {
  three_ways tight-limits
}

@test "an area that grows downwards grows on" {
  three_ways grows-down
}

@test "guard pages still guard" {
  three_ways guard-pages
}

@test "a PROT_NONE area keeps its contents" {
  three_ways prot-none
}

@test "a read-only area keeps its contents and stays read-only" {
  three_ways read-only
}

@test "code made at run time still runs" {
  three_ways jit-pages
}

@test "private mappings of files keep their own pages and follow the file in the others" {
  three_ways private-file-mapping
}

@test "areas with and without transparent huge pages survive" {
  three_ways huge-pages
}

@test "forty thousand areas survive" {
  [ "$(cat /proc/sys/vm/max_map_count)" -ge 50000 ] || skip "vm.max_map_count allows no 40,000 areas"
  three_ways many-areas 40000
}

@test "a reservation of 1 TiB survives and its image is small" {
  [ "$(cat /proc/sys/vm/overcommit_memory)" -ne 2 ] || skip "vm.overcommit_memory=2 allows no such reservation"
  launch_victim sparse-reservation
  checkpoint
  [ "$(stat -c %s "$image")" -lt $((32 << 20)) ]
  kill_program
  three_ways sparse-reservation
}

@test "anonymous memory is anonymous afterwards" {
  three_ways anonymous-after
}

@test "everything stays at its address, with randomisation on" {
  three_ways aslr
  local first second
  new_work first
  launch_victim aslr
  first=$(cat "$VICTIM_DIR/address")
  finish
  new_work again
  launch_victim aslr
  second=$(cat "$VICTIM_DIR/address")
  finish
  if [ "$(cat /proc/sys/kernel/randomize_va_space)" -eq 2 ]; then [ "$first" != "$second" ]; fi
}

@test "the image holds the bytes of memory, page by page" {
  launch_options=(-z none)
  launch_victim image-bytes
  checkpoint
  # Each page-aligned page of the image by its digest; all pages of the program must be among them.
  split_digests() {
    perl -MDigest::MD5=md5_hex -e 'open F, "<:raw", shift or die; while (read(F, $p, 4096)) { print md5_hex($p), "\n" }' "$1" | sort -u
  }
  split_digests "$image" >"$VICTIM_DIR/in-image"
  split_digests "$VICTIM_DIR/pages" >"$VICTIM_DIR/in-memory"
  [ "$(wc -l <"$VICTIM_DIR/in-memory")" -eq 64 ]
  [ -z "$(comm -13 "$VICTIM_DIR/in-image" "$VICTIM_DIR/in-memory")" ]
  finish
}

@test "memory survives with every compression" {
  local codec
  for codec in none lz4 zstd zstd:7; do
    launch_options=(-z "$codec")
    run_way restart heap-mmap
  done
}

@test "shared anonymous memory survives" {
  three_ways shared-anonymous
}

@test "memory files survive" {
  three_ways memfds
}

@test "private mappings of memory files and deleted files keep their own pages and follow the file in the others" {
  three_ways private-objects
}

@test "shared mappings of files survive, named and deleted" {
  three_ways shared-files
}

@test "POSIX shared memory that is gone is made again" {
  launch_victim shared-files
  local object=/dev/shm/ckpt-test-$program_pid
  checkpoint
  kill_program
  rm "$object"
  restart
  check_round
  finish
  [ ! -e "$object" ]
}

@test "POSIX shared memory and shared files get their bytes back" {
  launch_victim shared-files
  checkpoint
  check_round
  kill_program
  round=0
  rm "$VICTIM_DIR"/round-* "$VICTIM_DIR"/done-*
  restart
  check_round
  finish
}

@test "what a program has asked for its memory still holds" {
  three_ways advised
}

@test "memory that a fork leaves out comes back in each process of a job" {
  has_tree=1
  three_ways advised-members
  new_work ended
  launch_victim advised-members
  checkpoint --kill
  await_end
  restart
  check_round
  finish
}

@test "contexts of Linux AIO come back with what was not fetched from them" {
  has_tree=1
  three_ways aio-contexts
}

@test "a request of Linux AIO that is in flight delays a checkpoint, and is named" {
  launch_victim aio-contexts in-flight
  run ckpt-trigger -t 1 "$program_pid"
  [ "$status" -eq 75 ]
  [[ $output == *"a Linux AIO context (io_setup) has requests in flight (1)"* ]]
  : >"$VICTIM_DIR/end-now"
  checkpoint
  check_round
  come_back
  finish
}

@test "names that a program has given to its memory stay, where the kernel has them" {
  three_ways named-areas
}

@test "memory that a fork leaves out survives after a bare signal" {
  preload_way advised
}

@test "locked memory is locked again" {
  three_ways locked-memory
}

# bats test_tags=root
@test "memory that is locked when it is mapped stays so" {
  three_ways locked-memory all
}

@test "a held program with memory that a fork leaves out is saved and ended" {
  launch_victim advised
  image=$(timeout "$STEP_SECONDS" ckpt-trigger --kill "$program_pid")
  await_end
  [ "$exit_status" -eq 137 ]
  restart
  check_round
  finish
}

@test "fixed addresses survive, the break moves on, and the stack has its room" {
  three_ways address-space
}

@test "a program with a large or unlimited stack is restarted where the limit is smaller" {
  local limit
  for limit in 262144 unlimited; do
    [ "$(ulimit -Hs)" = unlimited ] || skip "the hard limit of the stack is low"
    new_work "stack-$limit"
    ulimit -Ss "$limit"
    launch_victim address-space
    ulimit -Ss 8192
    checkpoint
    kill_program
    restart
    check_round
    finish
  done
}

@test "a program with a small stack is restarted where the limit is larger" {
  ulimit -Ss 4096
  launch_victim address-space
  ulimit -Ss unlimited || skip "the hard limit of the stack is low"
  checkpoint
  kill_program
  restart
  check_round
  finish
}

@test "the calls of the vdso survive" {
  three_ways vdso-calls
  three_ways vdso-calls busy
}

@test "the vdso of another kernel is led to this one's" {
  local kind
  for kind in plain poisoned; do
    launch_options=(-z none)
    new_work "vdso-$kind"
    launch_victim vdso-calls
    checkpoint
    kill_program
    "$VICTIMS/make-foreign-vdso" "$image" "$kind"
    restart
    grep -q 'vdso' "$VICTIM_DIR/restart-err-1"
    check_round
    # It can be saved again, and that image is of this kernel.
    come_back
    ! grep -q 'vdso' "$VICTIM_DIR/restart-err-2" || fail "the second image is taken for one of another kernel"
    "$VICTIMS/make-foreign-vdso" "$image" "$kind"
    kill_program
    restart
    check_round
    finish
  done
}

@test "threads that are inside the vdso of another kernel go on, and are named" {
  local i
  launch_options=(-z none)
  launch_victim vdso-calls inside
  for i in 1 2 3; do
    checkpoint
    kill_program
    "$VICTIMS/make-foreign-vdso" "$image"
    restart
    check_round
  done
  grep -q 'thread [0-9]* was .*vdso' "$VICTIM_DIR"/restart-err-*
  finish
}

# As many huge pages as the reserved pool is to have; the end of the test gives it back what it had.
set_pool() {
  local pool=/proc/sys/vm/nr_hugepages
  [ -w "$pool" ] || skip "the pool of huge pages can't be set"
  pool_before=${pool_before:-$(cat "$pool")}
  echo "$1" >"$pool" || skip "no pool of huge pages"
  [ "$(cat "$pool")" -ge "$1" ] || skip "no huge pages to be had"
}

# bats test_tags=root
@test "private memory of the reserved pool of huge pages survives, or the restart says what it lacks" {
  set_pool 12
  three_ways huge-pool
  new_work lacking
  launch_victim huge-pool
  checkpoint
  kill_program
  set_pool 0
  run ckpt-restart "$image"
  echo "$output"
  [ "$status" -eq 125 ]
  [[ $output == *nr_hugepages* ]]
}

# bats test_tags=root
@test "shared memory of the reserved pool of huge pages survives, or the restart says what it lacks" {
  set_pool 16
  three_ways huge-objects
  new_work lacking
  launch_victim huge-objects
  checkpoint
  kill_program
  set_pool 0
  run ckpt-restart "$image"
  echo "$output"
  [ "$status" -eq 125 ]
  [[ $output == *nr_hugepages* ]]
}
