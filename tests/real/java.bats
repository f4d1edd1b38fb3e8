#!/usr/bin/env bats
# A Java virtual machine: checkpointed at three random moments, killed and restarted, with the output of an undisturbed run.

# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }

# bats test_tags=user
@test "java with threads and its compilers" {
  cat >"$BATS_TEST_TMPDIR/Work.java" <<'JAVA'
import java.util.*;
import java.util.concurrent.*;
public class Work {
  static long chain(int n) {
    Map<Long, Long> table = new HashMap<>();
    long state = n + 1;
    for (int i = 0; i < 400000; ++i) {
      state = state * 6364136223846793005L + 1442695040888963407L;
      table.merge(state >>> 50, state ^ i, Long::sum);
    }
    long sum = 0;
    for (long value : table.values()) sum += value * 31;
    return sum;
  }
  public static void main(String[] args) throws Exception {
    ExecutorService pool = Executors.newFixedThreadPool(3);
    List<Future<Long>> results = new ArrayList<>();
    for (int n = 0; n < 50; ++n) { int k = n; results.add(pool.submit(() -> chain(k))); }
    for (int n = 0; n < results.size(); ++n) System.out.println(n + " " + results.get(n).get());
    pool.shutdown();
  }
}
JAVA
  same_output_over_three_restarts "$(readlink -f "$(system_program java)")" -Xmx256m "$BATS_TEST_TMPDIR/Work.java"
}
