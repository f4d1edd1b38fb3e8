#!/usr/bin/env bats
# node with worker threads: checkpointed at three random moments, killed and restarted, with the output of an undisturbed run.

# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }

# bats test_tags=user
@test "node with worker threads" {
  cat >"$BATS_TEST_TMPDIR/work.js" <<'JS'
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { createHash } = require('crypto');
function work(seed) {
  const table = new Map();
  let state = seed;
  for (let i = 0; i < 60000; ++i) {
    state = (state * 16807) % 2147483647;
    table.set(state % 2000, createHash('sha1').update(`${state} ${table.get(state % 2000)}`).digest('hex'));
  }
  return createHash('sha1').update([...table.values()].join()).digest('hex');
}
if (!isMainThread) {
  parentPort.on('message', (n) => parentPort.postMessage([n, work(workerData * 1000 + n)]));
} else {
  const results = [];
  let sent = 0, ticks = 0;
  const timer = setInterval(() => ++ticks, 10);
  for (let w = 1; w <= 2; ++w) {
    const worker = new Worker(__filename, { workerData: 1 });
    worker.on('message', ([n, hash]) => {
      results[n] = hash;
      if (sent < 20) return worker.postMessage(sent++);
      worker.terminate();
      if (results.filter((x) => x).length === 20) {
        clearInterval(timer);
        results.forEach((hash, n) => console.log(n, hash));
        console.log(ticks > 10);
      }
    });
    worker.postMessage(sent++);
  }
}
JS
  same_output_over_three_restarts "$(system_program node)" "$BATS_TEST_TMPDIR/work.js"
}
