#!/usr/bin/env bats
# What ckpt-check says of running jobs, of programs, and of this machine. It is compared with what ckpt-trigger and ckpt-launch do.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154
bats_require_minimum_version 1.5.0

load helpers

setup() { set_up; }
teardown() { tear_down; }

# check STATUS [ARG…]: runs ckpt-check, expects the status, and nothing on stderr unless it could not ask at all; sets output.
check() {
  local expected=$1
  shift
  run --separate-stderr timeout "$STEP_SECONDS" ckpt-check "$@"
  printf '%s\n' "$output" "$stderr" "status $status"
  [ "$status" -eq "$expected" ]
  if [ "$expected" -lt 2 ]; then [ -z "$stderr" ]; fi
}

# has STATE CHECK [PATTERN]: there is one such line, and its rest matches; sets remedy.
has() {
  local line rest
  line=$(grep -E "^$1 +$2 " <<<"$output") || fail "no line '$1 $2'"
  rest=${line#*"$2"}
  [[ $rest =~ ${3:-.} ]] || fail "'$rest' does not match '$3'"
  remedy=$(grep -A1 -E "^$1 +$2 " <<<"$output" | sed -n '2s/^ *remedy: //p')
  if [ "$1" != ok ]; then [ -n "$remedy" ] || fail "no remedy for '$line'"; fi
}

no_image() {
  [ -z "$(find "$CKPT_DIR" -name '*.ckpt*' ! -name '*.ckpt-control')" ]
}

# What has no such call: runs a command with the call NUMBER answered by ENOSYS; REQUEST: only with this second argument (ioctl).
without_call() {
  python3 - "$@" <<'END'
import ctypes, os, struct, sys
number, request, command = int(sys.argv[1]), int(sys.argv[2], 0), sys.argv[3:]
code = [(0x20, 0, 0, 0), (0x15, 0, 3, number), (0x20, 0, 0, 24), (0x15, 0 if request else 0, 1 if request else 0, request),
        (0x06, 0, 0, 0x50000 | 38), (0x06, 0, 0, 0x7fff0000)]
if not request: code[3] = (0x15, 0, 0, 0)
filter = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in code))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(filter)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, program, 0, 0) != 0: sys.exit("no filter")
os.execvp(command[0], command)
END
}

@test "this machine has what the other tests rely on, and nothing is left behind" {
  check 0
  local name
  for name in store space address-space memory pagemap-scan kcmp user-namespace pid-namespace mount-namespace time-namespace \
    clone3-set-tid proc-mount; do
    has ok "$name"
  done
  grep -qE '^[a-z]+ +userfaultfd ' <<<"$output"
  grep -qE '^[a-z]+ +ptrace-scope ' <<<"$output"
  [ ! -e "$CKPT_DIR" ]
}

@test "a job that can be saved: its threads are counted, and it goes on" {
  launch_victim threads-many
  check 0 "$program_pid"
  has ok process "process $program_pid would be saved: [0-9]+ threads, 1 processes"
  has ok store "$CKPT_DIR"
  has ok space 'an image takes at most'
  no_image
  local counted=${output#*would be saved: }
  counted=${counted%% threads*}
  run ckpt-trigger -v "$program_pid"
  [[ $output == *"process $program_pid: $counted threads,"* ]] || fail "counted $counted; $output"
  check_round
  finish
}

@test "a job of several processes: they are counted, and go on" {
  launch_victim family
  check 0 "$program_pid"
  no_image
  has ok process 'would be saved'
  local counted=${output#*would be saved: *threads, }
  counted=${counted%% processes*}
  checkpoint
  run ckpt-ls --json "$image"
  grep -qE "\"processes\": $counted,?\$" <<<"$output" || fail "counted $counted; $output"
  [ "$counted" -gt 2 ]
  check_round
  finish
}

@test "a job that is refused: the reason and the remedy, and it goes on unharmed" {
  launch_victim refuse-kind foreign-pidfd
  check 1 "$program_pid"
  has refused process "process $program_pid: descriptor [0-9]+.*pidfd of process"
  no_image
  finish
}

@test "a remedy that the job itself tells is told as such" {
  launch_victim refuse-kind unread-events
  check 1 "$program_pid"
  has refused process 'unread events'
  [[ $remedy == *'try again'* ]]
  finish
}

@test "a filter that the program has installed is refused without asking it" {
  launch_victim refuse-kind seccomp
  check 1 "$program_pid"
  has refused process seccomp
  finish
}

@test "a restarted job can be asked" {
  launch_victim tls
  come_back
  check 0 "$program_pid"
  has ok process 'would be saved: [0-9]+ threads, 1 processes'
  finish
}

@test "no such process or program is 66, one that was not launched 69, a bad command line 2" {
  check 66 2147483647
  [ -z "$output" ]
  [ "$stderr" = 'ckpt-check: no such process: 2147483647' ]
  check 66 no-such-program
  [[ $stderr == *"'no-such-program'"* ]]
  in_background /dev/null /dev/null sleep 1000
  await_that "$main_pid" grep -q sleep "/proc/$main_pid/comm"
  check 69 "$main_pid"
  [[ $stderr == *'was not launched for checkpointing'* ]]
  check 2 0
  check 2 1 2
  check 2 --nonsense
}

# bats test_tags=root
@test "a process of another user is 77" {
  in_background /dev/null /dev/null sleep 1000
  await_that "$main_pid" grep -q sleep "/proc/$main_pid/comm"
  cp "$BUILD/bin/ckpt-check" "$BATS_TEST_TMPDIR/"
  run --separate-stderr setpriv --reuid=65534 --regid=65534 --clear-groups sh -c 'exec /proc/self/fd/9 "$0"' "$main_pid" \
    9<"$BATS_TEST_TMPDIR/ckpt-check"
  echo "$stderr"
  [ "$status" -eq 77 ]
}

@test "a program that can be launched, and scripts" {
  check 0 sleep
  has ok program "/sleep' can be launched"
  printf '#!/bin/sh\n' >"$VICTIM_DIR/script"
  chmod +x "$VICTIM_DIR/script"
  check 0 "$VICTIM_DIR/script"
  cp "$VICTIM_DIR/script" "$VICTIM_DIR/4711"
  cd "$VICTIM_DIR"
  check 0 ./4711
  has ok program 4711
}

@test "a static program, a set-user-ID one and a damaged one are refused, as ckpt-launch does" {
  check 1 "$BUILD/bin/ckpt-ls"
  has refused program 'statically linked'
  run ckpt-launch "$BUILD/bin/ckpt-ls"
  [ "$status" -eq 126 ]
  cp "$(command -v sleep)" "$VICTIM_DIR/raised"
  chmod u+s "$VICTIM_DIR/raised"
  check 1 "$VICTIM_DIR/raised"
  has refused program 'set-uid'
  head -c 20 "$(command -v sleep)" >"$VICTIM_DIR/short"
  chmod +x "$VICTIM_DIR/short"
  check 1 "$VICTIM_DIR/short"
  has refused program 'cut short'
}

@test "--json has the same findings, with stable keys" {
  check 1 --json "$BUILD/bin/ckpt-ls"
  python3 -c '
import json, sys
findings = json.load(sys.stdin)
for one in findings:
    assert list(one) == ["schema", "check", "state", "detail", "remedy"], one
    assert one["schema"] == 1 and one["detail"]
    assert one["state"] in ("ok", "degraded", "missing", "refused"), one
    assert (one["remedy"] is None) == (one["state"] == "ok"), one
assert findings[0]["check"] == "program" and findings[0]["state"] == "refused"
checks = [one["check"] for one in findings]
assert len(checks) == len(set(checks)) == 15, checks
' <<<"$output"
}

@test "a store that cannot be written is missing, and then nothing would be saved" {
  CKPT_DIR=/dev/null/store check 1
  has missing store "'/dev/null' is no folder"
  CKPT_DIR=/dev/null/store check 1 sleep
  launch_victim tls
  # A job has its own.
  CKPT_DIR=/dev/null/store check 0 "$program_pid"
  has ok store "$CKPT_DIR"
  finish
}

@test "limits are told as degraded" {
  run sh -c 'ulimit -v 4000000; ckpt-check'
  echo "$output"
  [ "$status" -eq 0 ]
  has degraded address-space 'limited to 3.8G'
}

@test "a kernel without some calls: each is named, and what it means" {
  local call
  for call in 'kcmp 312 0 degraded' 'userfaultfd 323 0 degraded' 'pagemap-scan 16 0xc0606610 degraded' \
    'clone3-set-tid 435 0 missing'; do
    read -r name number request state <<<"$call"
    run without_call "$number" "$request" ckpt-check
    echo "$output"
    has "$state" "$name" 'Function not implemented'
    [ "$status" -eq "$([ "$state" = missing ] && echo 1 || echo 0)" ]
  done
}

@test "namespaces that are not allowed are missing, one by one" {
  local kind name
  for kind in pid=pid mnt=mount time=time; do
    name=${kind#*=}-namespace
    run unshare -Ur sh -c 'echo 0 >"/proc/sys/user/max_$0_namespaces" && exec ckpt-check' "${kind%=*}"
    echo "$output"
    [ "$status" -eq 1 ]
    has missing "$name" 'No space left on device: restarts have limits'
    [[ $remedy == *"max_${kind%=*}_namespaces"* ]]
  done
  # Nor may it do without one.
  run unshare -Ur sh -c 'echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --bounding-set=-all ckpt-check'
  echo "$output"
  [ "$status" -eq 1 ]
  has missing user-namespace 'No space left on device: this user restarts with limits'
  has missing clone3-set-tid
}
