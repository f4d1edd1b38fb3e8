#!/usr/bin/env bats
# Real programs: checkpointed at three random moments, killed and restarted each time, their output is that of an undisturbed run.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }

@test "python3" {
  cat >"$VICTIM_DIR/../work.py" <<'PY'
import hashlib, random
random.seed(7)
table = {}
for block in range(25):
    for _ in range(20000):
        key = random.randrange(50000)
        table[key] = hashlib.sha256(str((key, table.get(key))).encode()).hexdigest()
    print(block, len(table), hashlib.sha256("".join(sorted(table.values())).encode()).hexdigest(), flush=block % 7 == 0)
PY
  same_output_over_three_restarts "$(system_program python3)" "$VICTIM_DIR/../work.py"
}

@test "perl" {
  cat >"$VICTIM_DIR/../work.pl" <<'PL'
my ($state, %count) = (1);
for my $block (1 .. 20) {
  for (1 .. 60000) {
    $state = ($state * 1103515245 + 12345) % 2147483648;
    $count{$state % 40000} .= chr(65 + $state % 26) if length($count{$state % 40000} // '') < 200;
  }
  my $sum = 0;
  $sum = ($sum * 31 + unpack('%32C*', $count{$_})) % 1000000007 for sort keys %count;
  print "$block $sum ", scalar(keys %count), "\n";
}
PL
  same_output_over_three_restarts "$(system_program perl)" "$VICTIM_DIR/../work.pl"
}

@test "xz with two threads" {
  seq 1 400000 | awk '{ print $1 * 7919 % 1000003, $1 }' >"$BATS_TEST_TMPDIR/data"
  same_output_over_three_restarts "$(system_program xz)" -T2 -6 --block-size=400KiB -c "$BATS_TEST_TMPDIR/data"
}

@test "gawk" {
  # shellcheck disable=SC2016 # the program is gawk's
  same_output_over_three_restarts "$(system_program gawk)" 'BEGIN {
    srand(5)
    for (block = 1; block <= 10; ++block) {
      for (i = 0; i < 150000; ++i) { key = int(rand() * 60000); table[key] = (table[key] * 33 + i) % 1000003 }
      sum = 0
      for (i = 0; i < 60000; ++i) sum = (sum * 17 + table[i]) % 1000000007
      print block, sum, length(table)
    }
  }'
}

@test "sqlite3 in a long in-memory query" {
  same_output_over_three_restarts "$(system_program sqlite3)" :memory: "
    create table t(a integer, b integer, c text);
    insert into t with recursive s(i, x) as (select 1, 1 union all select i + 1, x * 1103515245 % 2147483647 from s where i < 200000)
      select i, x % 1000, hex(x) from s;
    create index t_b on t(b);
    select b, count(*), sum(a), max(c) from t group by b order by sum(a) limit 20;
    select count(*), sum(u.a % 97), max(v.c) from t u join t v on u.b = v.b where u.a % 20 = 0 and v.a % 4 = 1;"
}

# The folder that --save names, empty at the start of each run.
fresh_folder() {
  rm -rf "$BATS_TEST_TMPDIR/saved"
  mkdir "$BATS_TEST_TMPDIR/saved"
}

@test "sqlite3 on a database with a write-ahead log" {
  at_start=fresh_folder
  launch_options=(--save "$BATS_TEST_TMPDIR/saved")
  local transactions
  transactions=$(for i in $(seq 1 100); do
    echo "begin; insert into t select value, $i * value % 1009, hex($i * value) from generate_series(1, 400);"
    echo "update t set b = b + 1 where a % 50 = $i % 50; commit; select $i, count(*), sum(b) from t where a > 380;"
  done)
  same_output_over_three_restarts "$(system_program sqlite3)" "$BATS_TEST_TMPDIR/saved/data.db" "
    pragma journal_mode = wal; pragma synchronous = normal; pragma wal_autocheckpoint = 200;
    create table t(a integer, b integer, c text); create index t_a on t(a); $transactions
    pragma integrity_check; select count(*), sum(b), max(c) from t;"
}

@test "sort with temporary files" {
  seq 1 1000000 | awk '{ print $1 * 7919 % 1000003, $1 }' >"$BATS_TEST_TMPDIR/data"
  at_start=fresh_folder
  launch_options=(--save "$BATS_TEST_TMPDIR/saved")
  same_output_over_three_restarts "$(system_program sort)" --parallel=2 -S 4M -T "$BATS_TEST_TMPDIR/saved" -k1,1n -k2,2r "$BATS_TEST_TMPDIR/data"
}

@test "a bash script without children" {
  cat >"$BATS_TEST_TMPDIR/work.sh" <<'SH'
declare -A seen
state=1
while read -r line; do lines+=("$line"); done <"$0"
for ((block = 1; block <= 30; ++block)); do
  for ((i = 0; i < 5000; ++i)); do
    ((state = (state * 1103515245 + 12345) % 2147483648))
    seen[$((state % 3000))]+=${lines[state % ${#lines[@]}]:0:1}
  done
  printf '%d %d %s\n' "$block" "$state" "${#seen[@]} ${seen[$((state % 3000))]}"
done
SH
  # Under a name of its own: the harness is bash as well.
  cp "$(system_program bash)" "$BATS_TEST_TMPDIR/shell"
  same_output_over_three_restarts "$BATS_TEST_TMPDIR/shell" "$BATS_TEST_TMPDIR/work.sh"
}

@test "tclsh with timers" {
  cat >"$BATS_TEST_TMPDIR/work.tcl" <<'TCL'
proc step {n} {
  global total done table
  for {set i 0} {$i < 15000} {incr i} {
    set total [expr {($total * 1103515245 + $i) % 2147483648}]
    dict incr table [expr {$total % 5000}]
  }
  puts "$n $total [dict size $table]"
  if {$n == 60} { set done 1 } else { after 5 [list step [expr {$n + 1}]] }
}
set total 1
set table [dict create]
set beats 0
proc beat {} { incr ::beats; after 20 beat }
after 0 {step 1}
after 20 beat
vwait done
puts [expr {$beats > 10}]
TCL
  same_output_over_three_restarts "$(system_program tclsh)" "$BATS_TEST_TMPDIR/work.tcl"
}

@test "a shell that starts commands all the time" {
  has_tree=1
  # shellcheck disable=SC2016 # for the shell
  same_output_over_three_restarts "$(system_program sh)" -c \
    'i=0; while [ $i -lt 400 ]; do x=$(expr $i \* $i); echo $x | tr 0-9 a-j; i=$((i+1)); done'
}

@test "xargs -P" {
  has_tree=1
  unordered=1
  seq 1 20 >"$BATS_TEST_TMPDIR/numbers"
  # shellcheck disable=SC2016 # the program is gawk's
  same_output_over_three_restarts "$(system_program xargs)" -a "$BATS_TEST_TMPDIR/numbers" -P 3 -n 1 gawk 'BEGIN {
    for (i = 0; i < 600000; ++i) total = (total * 33 + ARGV[1] + i) % 1000003
    print ARGV[1], total
  }'
}

@test "python's concurrent.futures" {
  has_tree=1
  cat >"$BATS_TEST_TMPDIR/work.py" <<'PY'
import concurrent.futures, hashlib
def chain(n):
    value = str(n).encode()
    for _ in range(20000):
        value = hashlib.sha256(value).digest()
    return value.hex()
if __name__ == "__main__":
    with concurrent.futures.ProcessPoolExecutor(3) as pool:
        for n, value in enumerate(pool.map(chain, range(100))):
            print(n, value, flush=n % 7 == 0)
PY
  same_output_over_three_restarts "$(system_program python3)" "$BATS_TEST_TMPDIR/work.py"
}

@test "python's multiprocessing with queues and a manager" {
  has_tree=1
  cat >"$BATS_TEST_TMPDIR/work.py" <<'PY'
import multiprocessing, zlib
def worker(tasks, results, totals, lock):
    for n in iter(tasks.get, None):
        value = n
        for i in range(20000):
            value = (value * 1103515245 + i) % 2147483648
        with lock:
            totals[n % 10] = totals.get(n % 10, 0) + value
        results.put((n, value))
if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        tasks, results = multiprocessing.Queue(20), multiprocessing.Queue()
        totals, lock = manager.dict(), multiprocessing.Lock()
        workers = [multiprocessing.Process(target=worker, args=(tasks, results, totals, lock)) for _ in range(2)]
        for process in workers:
            process.start()
        found = {}
        for n in range(500):
            tasks.put(n)
            while not results.empty() or len(found) < n - 40:
                key, value = results.get()
                found[key] = value
        for process in workers:
            tasks.put(None)
        while len(found) < 500:
            key, value = results.get()
            found[key] = value
        for process in workers:
            process.join()
        for n in sorted(found):
            print(n, found[n])
        print(sorted(totals.items()), [process.exitcode for process in workers])
PY
  same_output_over_three_restarts "$(system_program python3)" "$BATS_TEST_TMPDIR/work.py"
}

@test "perl with fork and pipes" {
  has_tree=1
  cat >"$BATS_TEST_TMPDIR/work.pl" <<'PL'
use IO::Handle;
my (@to, @from, @pids);
for my $n (0 .. 2) {
  pipe(my $task, my $to) && pipe(my $from, my $result) or die $!;
  my $pid = fork // die $!;
  if (!$pid) {
    close $_ for $to, $from, @to, @from;
    $result->autoflush(1);
    while (my $line = <$task>) {
      my $value = $line;
      $value = ($value * 1103515245 + $_) % 2147483648 for 1 .. 60000;
      print $result "$n $value\n";
    }
    exit 40 + $n;
  }
  close $_ for $task, $result;
  $to->autoflush(1);
  push @to, $to; push @from, $from; push @pids, $pid;
}
for my $block (1 .. 120) {
  print { $to[$_] } $block * 3 + $_, "\n" for 0 .. 2;
  print "$block ", scalar(readline $from[$_]) for 0 .. 2;
}
close $_ for @to;
for (@pids) { waitpid($_, 0); print "status ", $? >> 8, "\n" }
my $lines = 0;
open(my $pipe, '-|', 'seq 1 200000 | sort -r') or die $!;
while (<$pipe>) { $lines += $_ * ++$count % 1009 }
close $pipe;
print "$lines $?\n";
PL
  same_output_over_three_restarts "$(system_program perl)" "$BATS_TEST_TMPDIR/work.pl"
}
