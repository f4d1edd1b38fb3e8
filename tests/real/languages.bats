#!/usr/bin/env bats
# Runtimes of languages that manage memory, threads and signals in their own ways.

# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }

@test "ruby with a thread and a queue" {
  cat >"$BATS_TEST_TMPDIR/work.rb" <<'RB'
queue = Queue.new
thread = Thread.new { sum = 0; while (x = queue.pop); sum += x; end; sum }
(1..3000).each do |i|
  (1..1600).map { |j| (i * j).to_s }.join.hash
  puts "#{i} #{(1..300).inject(:*) % (i + 7)}"
  sleep 0.001 if i % 100 == 0
  queue << i
end
queue << nil
puts thread.value
RB
  same_output_over_three_restarts "$(system_program ruby)" "$BATS_TEST_TMPDIR/work.rb"
}

@test "sbcl" {
  cat >"$BATS_TEST_TMPDIR/work.lisp" <<'LISP'
(defun fib (n) (if (< n 2) n (+ (fib (- n 1)) (fib (- n 2)))))
(loop for i from 1 to 500
      do (format t "~a ~a ~a~%" i (+ i (fib 27)) (length (loop repeat 30000 collect (list i))))
         (finish-output))
LISP
  same_output_over_three_restarts "$(system_program sbcl)" --script "$BATS_TEST_TMPDIR/work.lisp"
}

@test "luajit" {
  cat >"$BATS_TEST_TMPDIR/work.lua" <<'LUA'
for i = 1, 400 do
  local sum, text = 0, {}
  for j = 1, 60000 do
    sum = (sum * 31 + j) % 1000003
    text[j % 1000] = tostring(sum)
  end
  print(i, sum, #text)
  io.flush()
end
LUA
  same_output_over_three_restarts "$(system_program luajit)" "$BATS_TEST_TMPDIR/work.lua"
}

@test "lua" {
  cat >"$BATS_TEST_TMPDIR/work.lua" <<'LUA'
local function produce(seed)
  return coroutine.wrap(function()
    for i = 1, math.huge do seed = (seed * 16807) % 2147483647; coroutine.yield(seed) end
  end)
end
local next_one, words = produce(7), {}
for block = 1, 40 do
  for i = 1, 60000 do
    local value = next_one()
    words[value % 5000] = ((words[value % 5000] or '') .. value):sub(-60)
  end
  print(block, #words[block] or 0, words[block * 3], next_one())
end
LUA
  same_output_over_three_restarts "$(system_program lua5.4)" "$BATS_TEST_TMPDIR/work.lua"
}

# Escripts run on a node of their own: schedulers, a clock thread, and a child for starting ports.
@test "erlang with processes that talk" {
  local has_tree=1
  command -v erl >/dev/null || skip "no erlang"
  cat >"$BATS_TEST_TMPDIR/work.escript" <<'ERL'
#!/usr/bin/env escript
main(_) ->
    Last = lists:foldl(fun(_, Next) -> spawn(fun() -> pass(Next) end) end, self(), lists:seq(1, 200)),
    work(Last, 1, 25, 1).
pass(Next) -> receive Value -> Next ! (Value * 48271 + 11) rem 2147483647, pass(Next) end.
work(_, Step, Steps, _) when Step > Steps -> ok;
work(Last, Step, Steps, Value) ->
    [Last ! (Value + N) rem 2147483647 || N <- lists:seq(1, 300)],
    Sum = lists:sum([receive Got -> Got end || _ <- lists:seq(1, 300)]),
    receive after 2 -> ok end,
    io:format("~p ~p~n", [Step, Sum]),
    work(Last, Step + 1, Steps, Sum rem 2147483647).
ERL
  export HOME=$BATS_TEST_TMPDIR
  same_output_over_three_restarts "$(system_program escript)" "$BATS_TEST_TMPDIR/work.escript"
}

@test "maxima" {
  cat >"$BATS_TEST_TMPDIR/work.mac" <<'MAC'
for i: 1 thru 100 do (
  print(i, factor(expand((x + y + i)^12 - (x - y)^4)), integrate(x^i * exp(x) * sin(x), x)),
  finish_output())$
print(bfloat(sum(1 / k^2, k, 1, 9000)))$
MAC
  export HOME=$BATS_TEST_TMPDIR
  same_output_over_three_restarts "$(system_program maxima)" --very-quiet --batch="$BATS_TEST_TMPDIR/work.mac"
}

# The program is ShellCheck, written in Haskell: GHC's runtime with its own heap, its timer thread and its signals.
@test "a program on GHC's runtime" {
  local has_tree=1 n
  {
    echo '#!/bin/sh'
    for n in $(seq 1 300); do
      echo "step$n() { for i in \$$n \`seq $n\`; do if [ \$i = $n ]; then echo \$i \$undefined$n | grep -v x; fi; done; }"
    done
  } >"$BATS_TEST_TMPDIR/checked.sh"
  # It ends with 1, as it finds something to say.
  export PROGRAM
  PROGRAM=$(system_program shellcheck)
  # shellcheck disable=SC2016 # for sh
  same_output_over_three_restarts /bin/sh -c '"$PROGRAM" -f gcc "$1" || [ $? = 1 ]' sh "$BATS_TEST_TMPDIR/checked.sh"
}

@test "perl with threads" {
  cat >"$BATS_TEST_TMPDIR/work.pl" <<'PL'
use threads; use threads::shared;
my %found : shared; my $next : shared = 1;
sub work {
  while (1) {
    my $n;
    { lock $next; return if $next > 400; $n = $next++; }
    my $value = $n;
    $value = ($value * 1103515245 + $_) % 2147483648 for 1 .. 100000;
    lock %found;
    $found{$n} = $value;
    cond_signal(%found);
  }
}
my @threads = map { threads->create(\&work) } 1 .. 3;
for my $n (1 .. 400) {
  lock %found;
  cond_wait(%found) until exists $found{$n};
  print "$n $found{$n}\n";
}
$_->join for @threads;
PL
  same_output_over_three_restarts "$(system_program perl)" "$BATS_TEST_TMPDIR/work.pl"
}

@test "python with threads, maps of memory and child processes" {
  local has_tree=1
  cat >"$BATS_TEST_TMPDIR/work.py" <<'PY'
import mmap, queue, struct, subprocess, sys, threading
shared, done = mmap.mmap(-1, 8 * 64), queue.Queue()
def work(slot):
    child = subprocess.Popen(["mawk", "-W", "interactive", "{ x = $1; for (i = 0; i < 20000; ++i) x = (x * 16807 + i) % 2147483647; print x }"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    for n in range(600):
        child.stdin.write("%d\n" % (struct.unpack_from("q", shared, 8 * slot)[0] + n))
        struct.pack_into("q", shared, 8 * slot, int(float(child.stdout.readline())))
        done.put((n, slot, struct.unpack_from("q", shared, 8 * slot)[0]))
    child.stdin.close()
    done.put((1000, slot, child.wait()))
threads = [threading.Thread(target=work, args=(slot,)) for slot in range(3)]
for thread in threads:
    thread.start()
for line in sorted(done.get() for _ in range(3 * 601)):
    print(*line)
sys.stdout.flush()
PY
  same_output_over_three_restarts "$(system_program python3)" "$BATS_TEST_TMPDIR/work.py"
}
