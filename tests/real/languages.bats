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
