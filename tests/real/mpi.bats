#!/usr/bin/env bats
# MPI: processes that exchange messages all the time, below a launcher with proxies of its own.

# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }
has_tree=1

# ring MPI [OPTION…]: two processes below mpirun of that MPI.
ring() {
  local mpi=$1
  shift
  command -v "mpicc.$mpi" >/dev/null || skip "no $mpi"
  cat >"$BATS_TEST_TMPDIR/ring.c" <<'EOF'
#include <mpi.h>
#include <stdio.h>

int main(int argc, char** argv) {
  int rank, size;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  long value = rank, received, sum;
  for (int i = 0; i < 200000; ++i) {
    MPI_Sendrecv(&value, 1, MPI_LONG, (rank + 1) % size, 0, &received, 1, MPI_LONG, (rank + size - 1) % size, 0,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    value = (received * 31 + i) % 1000003;
    for (volatile int work = 0; work < 20000; ++work) {
    }
    if (rank == 0 && i % 500 == 0) printf("%d %ld\n", i, value), fflush(stdout);
  }
  MPI_Reduce(&value, &sum, 1, MPI_LONG, MPI_SUM, 0, MPI_COMM_WORLD);
  if (rank == 0) printf("sum %ld\n", sum);
  MPI_Finalize();
  return 0;
}
EOF
  "mpicc.$mpi" -O1 -o "$BATS_TEST_TMPDIR/ring" "$BATS_TEST_TMPDIR/ring.c"
  same_output_over_three_restarts "$(system_program mpirun."$mpi")" "$@" -np 2 "$BATS_TEST_TMPDIR/ring"
}

@test "mpich with two processes" {
  ring mpich
}

@test "openmpi with two processes" {
  # Not to be asked twice, as root, whether that is meant; a container may have one core.
  export TMPDIR=$BATS_TEST_TMPDIR OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  # A port of its launcher is held for a minute after the first kill: by connections that have ended.
  STEP_SECONDS=150 ring openmpi --oversubscribe
}
