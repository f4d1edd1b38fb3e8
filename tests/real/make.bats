#!/usr/bin/env bats
# make -j2 with a C compiler: checkpointed at three random moments, killed and restarted, with the output of an undisturbed run.

# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }
has_tree=1

# Twelve sources and their Makefile, in the folder that --save names: what was compiled since the image goes back.
write_sources() {
  local folder=$BATS_TEST_TMPDIR/saved n i
  rm -rf "$folder"
  mkdir -p "$folder/tmp"
  for n in $(seq 1 12); do
    for i in $(seq 1 150); do
      echo "int f${n}_$i(int x) { int s = 0; for (int i = 0; i < x; ++i) s = s * $i + (x ^ i) % ($n + 7); return s; }"
    done >"$folder/part$n.c"
    echo "int part$n(int x) { return f${n}_1(x) + f${n}_77(x) + f${n}_150(x); }" >>"$folder/part$n.c"
  done
  {
    for n in $(seq 1 12); do echo "int part$n(int);"; done
    echo '#include <stdio.h>'
    echo 'int main(void) {'
    for n in $(seq 1 12); do printf 'printf("%s %%d\\n", part%s(%s * 100));\n' "$n" "$n" "$n"; done
    echo '}'
  } >"$folder/main.c"
  cat >"$folder/Makefile" <<'MK'
parts = $(patsubst %.c,%.o,$(wildcard part*.c)) main.o
all: program
	./program
program: $(parts)
	$(CC) -o $@ $(sort $(parts))
%.o: %.c
	$(CC) -O2 -fwrapv -c -o $@ $<
MK
}

@test "make -j2 compiling C" {
  # The compiler keeps its temporary files there too.
  export TMPDIR=$BATS_TEST_TMPDIR/saved/tmp
  at_start=write_sources
  # Which compiler starts first depends on which ends first.
  unordered=1
  launch_options=(--save "$BATS_TEST_TMPDIR/saved")
  same_output_over_three_restarts "$(system_program make)" -C "$BATS_TEST_TMPDIR/saved" --no-print-directory -j2 CC=gcc
}
