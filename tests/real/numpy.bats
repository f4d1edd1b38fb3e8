#!/usr/bin/env bats
# numpy with the threads of its BLAS: checkpointed at three random moments, killed and restarted, with the output of an undisturbed run.

# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }

@test "numpy with BLAS threads" {
  local python
  python=$(system_program python3)
  "$python" -c 'import numpy' || skip "no numpy"
  cat >"$BATS_TEST_TMPDIR/work.py" <<'PY'
import hashlib
import numpy
generator = numpy.random.Generator(numpy.random.PCG64(11))
a = generator.standard_normal((700, 700))
for step in range(90):
    a = a @ a.T
    a /= numpy.abs(a).max()
    a += generator.standard_normal(a.shape) * 0.1
    if step % 10 == 0:
        values = numpy.linalg.svd(a[:200, :200], compute_uv=False)
        print(step, hashlib.sha256(a.tobytes()).hexdigest(), hashlib.sha256(values.tobytes()).hexdigest())
print(repr(float(a.sum())))
PY
  # The same number of threads divides the sums in the same way: the bytes are reproducible.
  export OPENBLAS_NUM_THREADS=4 OMP_NUM_THREADS=4
  same_output_over_three_restarts "$python" "$BATS_TEST_TMPDIR/work.py"
}
