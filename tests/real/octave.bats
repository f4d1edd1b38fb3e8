#!/usr/bin/env bats
# octave-cli: checkpointed at three random moments, killed and restarted, with the output of an undisturbed run.

# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }

@test "octave-cli" {
  cat >"$BATS_TEST_TMPDIR/work.m" <<'M'
rand("twister", 5);
a = rand(300);
for step = 1:200
  a = a * a';
  a = a / max(abs(a(:))) + 0.1 * rand(300);
  total = 0;
  for i = 1:4000
    total = mod(total * 31 + i * step, 1000003);
  end
  if mod(step, 20) == 0
    printf("%d %.17g %.17g %d\n", step, sum(a(:)), norm(a), total);
  end
end
M
  # In a home of its own: octave reads and writes there.
  export HOME=$BATS_TEST_TMPDIR OPENBLAS_NUM_THREADS=2 OMP_NUM_THREADS=2
  same_output_over_three_restarts "$(system_program octave-cli)" --norc --no-history --quiet "$BATS_TEST_TMPDIR/work.m"
}
