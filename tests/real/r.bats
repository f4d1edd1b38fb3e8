#!/usr/bin/env bats
# R: checkpointed at three random moments, killed and restarted, with the output of an undisturbed run.

# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }

@test "R" {
  cat >"$BATS_TEST_TMPDIR/work.R" <<'RS'
set.seed(9)
x <- matrix(rnorm(40000), 200)
for (step in 1:120) {
  x <- x %*% t(x)
  x <- x / max(abs(x)) + 0.1 * matrix(rnorm(40000), 200)
  total <- 0
  for (i in 1:300000) total <- (total * 31 + i * step) %% 1000003
  if (step %% 10 == 0) cat(step, format(sum(x), digits = 17), total, length(unique(sample(1e5, 1e4))), "\n")
}
fit <- lm(x[, 1] ~ x[, 2:5])
cat(format(coef(fit), digits = 17), "\n")
RS
  export HOME=$BATS_TEST_TMPDIR OPENBLAS_NUM_THREADS=2 OMP_NUM_THREADS=2
  same_output_over_three_restarts "$(system_program R)" --vanilla --no-echo --file="$BATS_TEST_TMPDIR/work.R"
}

@test "R's mclapply" {
  local has_tree=1
  cat >"$BATS_TEST_TMPDIR/work.R" <<'RS'
library(parallel)
RNGkind("L'Ecuyer-CMRG")
set.seed(4)
for (step in 1:12) {
  sums <- mclapply(1:4, function(n) {
    total <- 0
    for (i in 1:150000) total <- (total * 31 + i * n * step) %% 1000003
    c(total, sum(rnorm(1000)))
  }, mc.cores = 2)
  cat(step, format(unlist(sums), digits = 17), "\n")
}
RS
  export HOME=$BATS_TEST_TMPDIR OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
  same_output_over_three_restarts "$(system_program R)" --vanilla --no-echo --file="$BATS_TEST_TMPDIR/work.R"
}
