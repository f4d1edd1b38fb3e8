#!/usr/bin/env bats
# Everyday tools: checkpointed at three random moments, killed and restarted, with the output of an undisturbed run.

# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }

# Text that is the same each time and neither random nor dull: numbered_text LINES.
numbered_text() {
  seq 1 "$1" | awk '{ print $1 * 7919 % 1000003, $1, $1 % 97 * $1 }' >"$BATS_TEST_TMPDIR/data"
}

@test "gcc's cc1 on a large source" {
  local compiler n
  compiler=$(gcc -print-prog-name=cc1)
  [ -x "$compiler" ] || skip "no cc1"
  for n in $(seq 1 400); do
    echo "int f$n(int* a, int x) { int s = $n; for (int i = 0; i < x; ++i) { s = s * $n + a[i]; a[s & 15] ^= i % ($n + 7); } return s; }"
  done >"$BATS_TEST_TMPDIR/large.c"
  same_output_over_three_restarts "$compiler" -quiet -O2 -o - "$BATS_TEST_TMPDIR/large.c"
}

@test "gzip" {
  numbered_text 1500000
  same_output_over_three_restarts "$(system_program gzip)" -6 -c "$BATS_TEST_TMPDIR/data"
}

@test "bzip2" {
  numbered_text 1000000
  same_output_over_three_restarts "$(system_program bzip2)" -9 -c "$BATS_TEST_TMPDIR/data"
}

@test "zstd with two threads" {
  numbered_text 1200000
  same_output_over_three_restarts "$(system_program zstd)" -q -9 -B1M -T2 -c "$BATS_TEST_TMPDIR/data"
}

@test "bc" {
  printf '%s\n' 'scale = 700' 'for (i = 1; i <= 40; ++i) { s = s + a(1 / (i + 4)) * 4; print i, " ", s, "\n" }' >"$BATS_TEST_TMPDIR/work.bc"
  same_output_over_three_restarts "$(system_program bc)" -lq "$BATS_TEST_TMPDIR/work.bc"
}

@test "mawk" {
  # shellcheck disable=SC2016 # the program is mawk's
  same_output_over_three_restarts "$(system_program mawk)" 'BEGIN {
    x = 5
    for (block = 1; block <= 40; ++block) {
      for (i = 0; i < 50000; ++i) { x = (x * 16807) % 2147483647; key = x % 60000; table[key] = (table[key] * 33 + i) % 1000003 }
      sum = 0
      for (i = 0; i < 60000; ++i) sum = (sum * 17 + table[i]) % 1000000007
      print block, sum, length(table)
    }
  }'
}

@test "openssl making a hash of a password" {
  same_output_over_three_restarts "$(system_program openssl)" kdf -keylen 32 -kdfopt digest:SHA512 -kdfopt pass:secret \
    -kdfopt salt:pepper -kdfopt iter:3000000 PBKDF2
}
