#!/usr/bin/env bats
# GROMACS with threads: checkpointed at three random moments, killed and restarted, with the energies of an undisturbed run.

# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }

# A box of argon.
prepare() {
  local folder=$BATS_TEST_TMPDIR/box
  mkdir "$folder"
  cat >"$folder/argon.top" <<'TOP'
[ defaults ]
1 2 no 1 1
[ atomtypes ]
AR 39.948 0.0 A 0.34 0.996
[ moleculetype ]
Ar 1
[ atoms ]
1 AR 1 Ar AR 1 0 39.948
[ system ]
argon
[ molecules ]
Ar 1000
TOP
  awk 'BEGIN {
    print "argon"; print 1000
    for (i = 0; i < 1000; ++i)
      printf "%5d%-5s%5s%5d%8.3f%8.3f%8.3f\n", i + 1, "Ar", "AR", i + 1, i % 10 * 0.38, int(i / 10) % 10 * 0.38, int(i / 100) * 0.38
    print "3.8 3.8 3.8"
  }' >"$folder/argon.gro"
  printf '%s\n' 'integrator = md' 'dt = 0.002' 'nsteps = 6000' 'nstenergy = 100' 'nstxout = 500' 'rvdw = 0.9' 'rcoulomb = 0.9' \
    'gen-vel = yes' 'gen-temp = 90' 'gen-seed = 7' 'tcoupl = no' >"$folder/run.mdp"
  gmx -quiet grompp -f "$folder/run.mdp" -c "$folder/argon.gro" -p "$folder/argon.top" -o "$folder/run.tpr" -po "$folder/out.mdp" 2>&1
}

fresh_folder() {
  rm -rf "$BATS_TEST_TMPDIR/saved"
  mkdir "$BATS_TEST_TMPDIR/saved"
}

# bats test_tags=user
@test "gromacs with two threads" {
  prepare
  cat >"$BATS_TEST_TMPDIR/job.sh" <<'SH'
cd "$SAVED" || exit
gmx -quiet mdrun -s "$BOX/run.tpr" -ntmpi 1 -ntomp 2 -pin off -reprod -dlb no -notunepme -nb cpu 2>/dev/null || exit
gmx -quiet dump -e ener.edr 2>/dev/null | grep -vi time
gmx -quiet dump -f traj.trr 2>/dev/null
SH
  has_tree=1
  export SAVED=$BATS_TEST_TMPDIR/saved BOX=$BATS_TEST_TMPDIR/box HOME=$BATS_TEST_TMPDIR
  at_start=fresh_folder
  launch_options=(--save "$SAVED")
  same_output_over_three_restarts "$(system_program bash)" "$BATS_TEST_TMPDIR/job.sh"
}
