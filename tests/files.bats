#!/usr/bin/env bats
# Descriptors of files survive, and files go back with memory.

# Variables are shared with the helpers, and each test is a subshell by design.
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() { set_up; }
teardown() { tear_down; }

@test "regular files keep number, offset, flags, append, close-on-exec and shared offsets" {
  three_ways regular-files
}

@test "deleted files keep their contents" {
  three_ways deleted-file
}

@test "pipes within the process keep contents, capacity, modes and closed ends" {
  three_ways own-pipes
}

@test "standard output in a file goes on where it was" {
  launch_victim std-streams
  come_back
  come_back
  finish
  # In the old file or, as ckpt-restart was redirected too, in the new ones: each line once and in order.
  [ "$(cat "$VICTIM_DIR/out" "$VICTIM_DIR"/restart-out-*)" = "out start 0
out round 1
out round 2
out end 2" ]
  [ "$(cat "$VICTIM_DIR/err" "$VICTIM_DIR"/restart-err-* | grep '^err')" = "err start 0
err round 1
err round 2
err end 2" ]
}

@test "a standard output to /dev/null stays" {
  new_work null
  executable=$VICTIMS/std-streams
  in_background /dev/null /dev/null ckpt-launch -- "$executable"
  program_pid=$main_pid
  await_ready
  come_back
  [ "$(readlink "/proc/$program_pid/fd/1")" = /dev/null ]
  finish
}

@test "standard output into a pipe goes on into the standard output of ckpt-restart" {
  launch_victim_into_pipe() {
    mkfifo "$VICTIM_DIR/pipe"
    exec {reader}<>"$VICTIM_DIR/pipe"
    in_background "$VICTIM_DIR/pipe" "$VICTIM_DIR/err" ckpt-launch -- "$executable"
    program_pid=$main_pid
  }
  executable=$VICTIMS/std-streams
  launch_victim_into_pipe
  await_ready
  come_back
  finish
  exec {reader}>&-
  [ "$(cat "$VICTIM_DIR/restart-out-1")" = "out round 1
out end 1" ]
}

@test "standard input from a pipe goes on from the standard input of ckpt-restart" {
  with_fifo=1
  run_input_way() {
    use_fifo
    launch_victim std-streams input
    come_back
    finish
    grep -qx 'got hello' "$VICTIM_DIR/out" "$VICTIM_DIR"/restart-out-*
  }
  run_input_way
}

# The last number of the log in complete lines.
last_number() { tail -n 1 "$VICTIM_DIR/log" | sed 's/line //'; }
is_past() { [ "$(last_number)" -gt "$1" ]; }

cut_back() {
  local at
  launch_victim log-cut-back "$1"
  tail -n +1 -f "$VICTIM_DIR/log" >"$VICTIM_DIR/tail" 2>/dev/null 3>&- &
  local tail_pid=$!
  started+=("$tail_pid")
  checkpoint
  at=$(last_number)
  await_that "$main_pid" is_past $((at + 20))
  local cut
  cut=$(tail -n 2 "$VICTIM_DIR/log" | head -n 1)
  kill_program
  restart
  check_round
  finish
  # What was cut off is kept in the store, and ckpt-restart said where.
  grep -rqax "$cut" "$CKPT_DIR"
  grep -q "$VICTIM_DIR/log" "$VICTIM_DIR/restart-err-1"
  # tail saw whole lines only, and the last one.
  last_shown() { [ "$(tail -n 1 "$VICTIM_DIR/tail")" = "line $(last_number)" ]; }
  await_that "$tail_pid" last_shown
  if grep -vE '^line [0-9]+$' "$VICTIM_DIR/tail"; then fail "tail showed that"; fi
  kill "$tail_pid"
}

@test "a log written since the checkpoint is cut back, and the cut bytes are in the store" {
  cut_back plain
}

@test "a log in append mode is cut back too" {
  cut_back append
}

@test "a log has no line twice and misses none" {
  three_ways log-cut-back plain
  three_ways log-cut-back append
}

@test "files that are written in place go back with memory" {
  three_ways kept-files
}

@test "a file that is open as a log and to be written in place goes back with memory" {
  three_ways two-ways
}

@test "a folder that --save names goes back with memory" {
  launch_saved() {
    launch_options=(--save "$VICTIM_DIR/work")
    executable=$VICTIMS/kept-files
    launch "$executable" saved
    await_ready
  }
  new_work saved
  launch_saved
  come_back
  checkpoint
  # What happens after the checkpoint is undone: new files, missing ones, other kinds.
  kill_program
  echo stranger >"$VICTIM_DIR/work/stranger"
  rm "$VICTIM_DIR/work/f2" "$VICTIM_DIR/work/f99"
  rmdir "$VICTIM_DIR/work/f98"
  mkdir "$VICTIM_DIR/work/f99"
  restart
  check_round
  [ -d "$VICTIM_DIR/work/f98" ]
  [ "$(stat -c %a "$VICTIM_DIR/work/f98")" = 750 ]
  [ ! -e "$VICTIM_DIR/work/stranger" ]
  grep -rqx stranger "$CKPT_DIR"
  finish
}

@test "a kept file that is gone, truncated or replaced is put back, and -n says so" {
  launch_victim kept-files
  checkpoint
  kill_program
  rm "$VICTIM_DIR/work/f0"
  : >"$VICTIM_DIR/work/f1"
  echo other >"$VICTIM_DIR/work/new"
  mv "$VICTIM_DIR/work/new" "$VICTIM_DIR/work/f3"
  ckpt-restart -n "$image" >"$VICTIM_DIR/plan"
  cat "$VICTIM_DIR/plan"
  grep -q 'f0.*made again' "$VICTIM_DIR/plan"
  grep -q 'f1.*put back' "$VICTIM_DIR/plan"
  [ ! -e "$VICTIM_DIR/work/f0" ]
  restart
  check_round
  grep -rqx other "$CKPT_DIR"
  finish
}

# The restart is refused with 125, and says each of these.
is_refused() {
  local said
  run timeout "$STEP_SECONDS" ckpt-restart "$image"
  echo "$output"
  [ "$status" -eq 125 ] || fail "status $status instead of 125"
  for said; do [[ $output == *"$said"* ]] || fail "does not say: $said"; done
}

overwrite() { # FILE OFFSET
  printf xyz | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

@test "a kept file that was renamed comes back under its name, and the restart says where the old one is" {
  launch_victim kept-files
  checkpoint
  kill_program
  mv "$VICTIM_DIR/work/f2" "$VICTIM_DIR/work/elsewhere"
  local sum
  sum=$(cksum <"$VICTIM_DIR/work/elsewhere")
  restart
  check_round
  grep -q "work/f2' is gone: made again from the image" "$VICTIM_DIR/restart-err-1"
  grep -q "work/f2' was renamed to '.*work/elsewhere', which stays" "$VICTIM_DIR/restart-err-1"
  [ "$(cksum <"$VICTIM_DIR/work/elsewhere")" = "$sum" ]
  finish
}

@test "a log that is gone, renamed or another file now is refused, with the remedy" {
  launch_victim log-cut-back plain
  checkpoint
  kill_program
  local log=$VICTIM_DIR/log
  mv "$log" "$log.1"
  is_refused "file '$log', which the program has open, is gone (renamed to '$log.1') (rename it back" "--files keep"
  echo "another one" >"$log"
  is_refused "file '$log' is another file now (the old one is '$log.1'), and is shorter" "--files keep"
  cat "$log.1" >>"$log"
  is_refused "file '$log' is another file now (the old one is '$log.1'), and holds other bytes"
  rm "$log.1"
  is_refused "file '$log' is another file now, and holds other bytes"
  rm "$log"
  is_refused "file '$log', which the program has open, is gone (put it back" "--files keep"
  echo "a new one" >"$log"
  restart_options=(--files keep)
  restart
  has_more() { [ "$(grep -cE '^line [0-9]+$' "$log")" -gt 2 ]; }
  await_that "$main_pid" has_more
  [ "$(head -n 1 "$log")" = "a new one" ]
  kill_program
  [ "$(tr -d '\0' <"$log" | wc -c)" -eq "$(wc -c <"$log")" ] || fail "there is a hole in it"
}

@test "a log that was copied back is gone on with" {
  launch_victim log-cut-back plain
  checkpoint
  kill_program
  cp "$VICTIM_DIR/log" "$VICTIM_DIR/copy"
  mv "$VICTIM_DIR/copy" "$VICTIM_DIR/log"
  restart
  check_round
  finish
}

@test "a working directory that is gone is refused with the remedy, or made again where the image has it" {
  executable=$VICTIMS/std-streams
  local wanted
  for wanted in plain saved; do
    new_work "$wanted"
    mkdir -p "$VICTIM_DIR/work/in"
    [ "$wanted" = plain ] || launch_options=(--save "$VICTIM_DIR/work")
    in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" sh -c 'cd "$0" && exec "$@"' "$VICTIM_DIR/work/in" \
      ckpt-launch "${launch_options[@]}" -- "$executable"
    program_pid=$main_pid
    await_ready
    checkpoint
    kill_program
    rm -r "$VICTIM_DIR/work"
    if [ "$wanted" = plain ]; then
      is_refused "folder '$VICTIM_DIR/work/in', in which the program works, is gone: make it again (mkdir -p)"
      mkdir -p "$VICTIM_DIR/work/in"
    fi
    restart
    [ "$(readlink "/proc/$program_pid/cwd")" = "$VICTIM_DIR/work/in" ]
    check_round
    finish
  done
}

@test "files that are too large to be kept come back when they have not changed" {
  three_ways large-files
}

@test "a large file that somebody changed in place is refused by name" {
  launch_options=(-o "$BATS_TEST_TMPDIR/one.ckpt") # nothing is kept beside it
  launch_victim large-files
  checkpoint
  kill_program
  overwrite "$VICTIM_DIR/large" 20000000
  is_refused "'$VICTIM_DIR/large'" "changed since the checkpoint" "--save" "--files keep"
  restart_options=(--files keep)
  restart
  check_round
  finish
}

@test "a large file that the program itself went on writing is refused by name" {
  launch_options=(-o "$BATS_TEST_TMPDIR/one.ckpt")
  launch_victim large-files
  checkpoint
  : >"$VICTIM_DIR/write-in-place"
  check_round
  kill_program
  is_refused "'$VICTIM_DIR/large'" "--save" "--files keep"
}

@test "a large file that the program went on writing through memory is refused by name" {
  three_ways large-mapped
  new_work again
  launch_victim large-mapped
  checkpoint
  : >"$VICTIM_DIR/write"
  check_round
  kill_program
  if [ "$(stat -f -c %T "$VICTIM_DIR")" = tmpfs ]; then # a file of memory is in the image whatever its size
    rm "$VICTIM_DIR/write"
    round=0
    restart
    check_round
    finish
  else
    is_refused "'$VICTIM_DIR/large'" "which the program writes through memory, has changed" "--files keep"
  fi
}

@test "a log that was overwritten is refused, also if it has grown, or lies far before the end" {
  launch_victim large-files
  checkpoint
  kill_program
  cp -p "$VICTIM_DIR/log" "$VICTIM_DIR/log.before"
  cp -p "$VICTIM_DIR/long-log" "$VICTIM_DIR/long-log.before"
  overwrite "$VICTIM_DIR/log" 1000
  is_refused "'$VICTIM_DIR/log'" "overwritten" "--files keep"
  echo more >>"$VICTIM_DIR/log"
  is_refused "'$VICTIM_DIR/log'" "overwritten"
  cp -p "$VICTIM_DIR/log.before" "$VICTIM_DIR/log"
  overwrite "$VICTIM_DIR/long-log" 1000
  is_refused "'$VICTIM_DIR/long-log'" "overwritten" "--files keep"
  cp -p "$VICTIM_DIR/long-log.before" "$VICTIM_DIR/long-log"
  touch "$VICTIM_DIR/log"
  restart
  check_round
  finish
}

@test "a long log that has been cut back can be restarted from again at once" {
  launch_victim large-files
  checkpoint
  : >"$VICTIM_DIR/write-logs"
  check_round
  rm "$VICTIM_DIR/write-logs"
  kill_program
  restart
  grep -q "long-log' grew by 64 bytes" "$VICTIM_DIR/restart-err-1"
  kill_program
  round=0
  rm "$VICTIM_DIR"/round-* "$VICTIM_DIR"/done-*
  restart
  check_round
  finish
}

@test "a log that others append to is never cut" {
  launch_victim log-cut-back append
  exec {other}>>"$VICTIM_DIR/log"
  checkpoint
  local size
  size=$(stat -c %s "$VICTIM_DIR/log")
  sleep 0.1
  kill_program
  echo "from somebody else" >&"$other"
  restart
  exec {other}>&-
  grep -qx "from somebody else" "$VICTIM_DIR/log"
  grep -q "not cut back" "$VICTIM_DIR/restart-err-1"
  [ "$(stat -c %s "$VICTIM_DIR/log")" -gt "$size" ]
  kill_program
}

# A batch script with its output in one file: it launches, checkpoints, kills and restarts, and says what it does in between.
write_script() {
  cat >"$BATS_TEST_TMPDIR/script" <<'END'
say_and_wait() { # TEXT FILE
  echo "$1"
  until [ -e "$VICTIM_DIR/$2" ]; do sleep 0.02; done
}
ask() { # NUMBER
  rm -f "$VICTIM_DIR/done-$1"
  : >"$VICTIM_DIR/round-$1"
  say_and_wait "script: round $1" "done-$1"
}
echo "script: begin"
ckpt-launch "$EXECUTABLE" &
until [ -e "$VICTIM_DIR/ready" ]; do sleep 0.02; done
ask 1
image=$(ckpt-trigger $!)
ask 2
kill -KILL $!
wait $!
rm "$VICTIM_DIR/round-2"
echo "script: killed"
eval "$RESTART" '"$image"' &
ask 2
: >"$VICTIM_DIR/go"
wait $!
echo "script: end $?"
END
}

# What the script said, then what the program said, each in its order.
check_script() {
  tr -d '\n' <"$VICTIM_DIR/log" | tr -c '[:print:]' '#' | grep '#' && fail "holes in the log"
  grep '^script: ' "$VICTIM_DIR/log" >"$VICTIM_DIR/said"
  printf 'script: %s\n' begin "round 1" "round 2" killed "round 2" "end 0" | diff - "$VICTIM_DIR/said"
}

@test "a log that a batch script shares with the program loses no line and gets no holes" {
  export EXECUTABLE=$VICTIMS/std-streams RESTART=ckpt-restart
  write_script
  local mode
  for mode in '>' '>>'; do
    new_work shared
    : >"$VICTIM_DIR/log"
    bash -c "exec bash '$BATS_TEST_TMPDIR/script' $mode'$VICTIM_DIR/log' 2>&1 </dev/null 3>&- 4>&-"
    cat "$VICTIM_DIR/log"
    check_script
    grep '^out ' "$VICTIM_DIR/log" | diff <(printf 'out %s\n' "start 0" "round 1" "round 2" "round 2" "end 2") -
    grep -q "log' is written by process .* goes on with the standard stream of ckpt-restart" "$VICTIM_DIR/log"
  done
}

@test "a log that a batch script holds is not cut when the restart writes elsewhere" {
  export EXECUTABLE=$VICTIMS/std-streams
  # shellcheck disable=SC2016 # for the script to expand
  export RESTART='ckpt-restart >"$VICTIM_DIR/other" 2>&1'
  write_script
  new_work shared
  bash -c "exec bash '$BATS_TEST_TMPDIR/script' >>'$VICTIM_DIR/log' 2>&1 </dev/null 3>&- 4>&-"
  cat "$VICTIM_DIR/log"
  check_script
  grep -qx 'out end 2' "$VICTIM_DIR/log"
  grep -q "not cut back" "$VICTIM_DIR/other"
}

@test "a log that was emptied for the restart's own output is gone on with" {
  launch_victim std-streams
  come_back_into() {
    checkpoint
    kill_program
    in_background "$1" "$VICTIM_DIR/restart-err" ckpt-restart "$image"
    await_that "$main_pid" find_program_now
    check_round
  }
  come_back_into "$VICTIM_DIR/out"
  grep -q "out' was emptied" "$VICTIM_DIR/restart-err"
  finish
  [ "$(cat "$VICTIM_DIR/out")" = "out round 1
out end 1" ]
}

# Two jobs that append to one log; sets pids and images.
launch_array() {
  local name
  executable=$VICTIMS/std-streams
  pids=() images=() jobs=(a b)
  for name in "${jobs[@]}"; do
    new_work "$name"
    in_background /dev/null "$VICTIM_DIR/err" sh -c 'exec ckpt-launch -- "$0" >>"$1"' "$executable" "$BATS_TEST_TMPDIR/log"
    pids+=("$main_pid")
    await_ready
  done
}

in_job() { # INDEX COMMAND…
  export VICTIM_DIR=$BATS_TEST_TMPDIR/${jobs[$1]}
  main_pid=${pids[$1]} program_pid=${pids[$1]} round=0
  shift
  "$@"
}

count_lines() { # LINE COUNT
  [ "$(grep -cx "$1" "$BATS_TEST_TMPDIR/log")" -eq "$2" ] || fail "not $2 times '$1':" "$(cat "$BATS_TEST_TMPDIR/log")"
}

@test "array jobs that append to one log never cut each other's lines" {
  launch_array
  local job
  for job in 0 1; do
    in_job $job checkpoint
    images+=("$image")
  done
  for job in 0 1; do in_job $job check_round; done
  kill -KILL "${pids[@]}" # as a power cut does
  wait "${pids[@]}" || true
  for job in 0 1; do
    rm "$BATS_TEST_TMPDIR/${jobs[$job]}"/{round,done}-1
    in_job $job restart "${images[$job]}"
    pids[job]=$main_pid
    grep -q "log' was written by others as well: not cut back" "$VICTIM_DIR"/restart-err-*
    check_round
    count_lines "out round 1" $((3 + job))
    count_lines "out start 0" 2
  done
  for job in 0 1; do in_job $job finish; done
}

@test "a log that was shared stays so for the checkpoints after a restart" {
  launch_array
  in_job 0 checkpoint
  kill -KILL "${pids[0]}"
  wait "${pids[0]}" || true
  in_job 0 restart
  pids[0]=$main_pid
  check_round
  checkpoint # in a pid namespace of its own: the other job can't be seen
  local other=$image
  in_job 1 check_round
  kill -KILL "${pids[@]}"
  wait "${pids[@]}" || true
  in_job 0 restart "$other"
  grep -q "log' was written by others as well: not cut back" "$VICTIM_DIR"/restart-err-*
  count_lines "out round 1" 2
  round=1
  check_round
  finish
}

@test "a log is cut back as ever when only the script that started the program had it open too" {
  new_work own
  executable=$VICTIMS/std-streams
  # shellcheck disable=SC2016
  in_background "$VICTIM_DIR/out" "$VICTIM_DIR/err" bash -c 'ckpt-launch -- "$0" & echo $! >"$VICTIM_DIR/pid"; wait' "$executable"
  await_ready
  program_pid=$(cat "$VICTIM_DIR/pid")
  checkpoint
  check_round
  kill -KILL "$main_pid" "$program_pid"
  await_end
  rm "$VICTIM_DIR"/{round,done}-1
  round=0
  restart
  grep -q "out' grew by .*: cut back" "$VICTIM_DIR/restart-err-1"
  check_round
  finish
  [ "$(grep -c . "$VICTIM_DIR/out")" -eq 3 ] || fail "$(cat "$VICTIM_DIR/out")"
}

@test "a log that another job appended to last is left as it is" {
  launch_victim std-streams
  kill_program
  new_work shared
  executable=$VICTIMS/std-streams
  : >"$VICTIM_DIR/out"
  in_background /dev/null "$VICTIM_DIR/err" sh -c 'exec ckpt-launch -- "$1" >>"$2"' sh "$executable" "$VICTIM_DIR/out"
  program_pid=$main_pid
  await_ready
  echo "line of another job" >>"$VICTIM_DIR/out"
  checkpoint
  kill_program
  echo "another line of it" >>"$VICTIM_DIR/out"
  restart
  check_round
  finish
  grep -qx "line of another job" "$VICTIM_DIR/out"
  grep -qx "another line of it" "$VICTIM_DIR/out"
  grep -qx "out round 1" "$VICTIM_DIR/out"
}
