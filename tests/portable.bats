#!/usr/bin/env bats
# ckpt-launch --portable: the C library keeps to what every x86-64 CPU has, and the image is restarted where the CPU has less. A
# lesser CPU is not to be had here, so the image is changed to come from a better one: all features that exist, and more registers.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() {
  set_up
  bats_load_library bats-support
  bats_load_library bats-assert
}
teardown() { tear_down; }

# A killed program and its image.
make_image() {
  launch_victim "${1:-heap-brk}"
  image=$BATS_TEST_TMPDIR/image.ckpt
  checkpoint -o "$image"
  kill_program
}

# active LEAF REGISTER BIT: whether glibc uses this feature, as its loader tells under the GLIBC_TUNABLES of --portable.
active() {
  local value
  value=$(sed -n "s/^x86.cpu_features.features\[0x$1\].active\[0x$2\]=//p" "$BATS_TEST_TMPDIR/told")
  [ -n "$value" ] || fail "glibc says nothing of leaf $1, register $2"
  [ $((value >> $3 & 1)) = 1 ]
}

@test "glibc uses nothing that some x86-64 CPU lacks" {
  local loader name leaf register bit
  loader=$(readelf -lW "$VICTIMS/heap-brk" | sed -n 's/.*program interpreter: \(.*\)\]/\1/p')
  # shellcheck disable=SC2016 # for the shell inside
  ckpt-launch --portable sh -c 'unset LD_PRELOAD; exec "$0" --list-diagnostics' "$loader" >"$BATS_TEST_TMPDIR/told"
  while read -r name leaf register bit; do
    if active "$leaf" "$register" "$bit"; then fail "$name is in use"; fi
  done <<'LIST'
SSSE3 0 2 9
FMA 0 2 12
SSE4_1 0 2 19
SSE4_2 0 2 20
MOVBE 0 2 22
POPCNT 0 2 23
XSAVE 0 2 26
AVX 0 2 28
BMI1 1 1 3
AVX2 1 1 5
BMI2 1 1 8
ERMS 1 1 9
RTM 1 1 11
AVX512F 1 1 16
AVX512DQ 1 1 17
AVX512CD 1 1 28
AVX512BW 1 1 30
AVX512VL 1 1 31
LZCNT 2 2 5
XSAVEC 3 0 1
LIST
  # What is everywhere stays, so the list above can fail.
  active 0 3 26
}

@test "a portable program comes back, three times over" {
  launch_options=(--portable)
  three_ways tls
  three_ways vdso-calls
}

@test "with --portable an image of a better CPU is restarted, and a line says what is missing" {
  local word
  launch_options=(--portable)
  make_image
  for word in 0 2 3; do "$VICTIMS/make-image" with "$image" cpu "$word"; done
  restart
  check_round
  grep -qE 'ckpt-restart: this CPU lacks .*other features: launched with --portable' "$VICTIM_DIR/restart-err-1"
  finish
}

@test "with --portable registers that are not here do not matter as long as nobody uses them" {
  launch_options=(--portable)
  make_image
  "$VICTIMS/make-image" with "$image" register-sets 30
  restart
  check_round
  finish
}

@test "with --portable a thread that has other registers in use is refused by name, and one that has not comes back" {
  has_cpu_flag avx || skip 'no AVX'
  launch_options=(--portable)
  make_image registers
  "$VICTIMS/make-image" with "$image" other-layout 2
  run ckpt-restart "$image" 3>&-
  assert_failure 125
  assert_output --regexp 'lays out register set 2 differently .*, and thread [0-9]+ uses it$'
  new_work other
  make_image
  "$VICTIMS/make-image" with "$image" other-layout 2
  restart
  check_round
  finish
}

@test "without --portable either is refused by name" {
  make_image
  local bad=$BATS_TEST_TMPDIR/bad.ckpt
  cp "$image" "$bad"
  "$VICTIMS/make-image" with "$bad" cpu 2
  run ckpt-restart "$bad" 3>&-
  assert_failure 125
  assert_output --regexp '^ckpt-restart: this CPU lacks .*--portable$'
  cp "$image" "$bad"
  "$VICTIMS/make-image" with "$bad" register-sets 30
  run ckpt-restart "$bad" 3>&-
  assert_failure 125
  assert_output 'ckpt-restart: this CPU or kernel does not have register set 30, which the program may use'
  restart
  check_round
  finish
}
