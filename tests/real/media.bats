#!/usr/bin/env bats
# Programs that make pictures, films and pages: checkpointed at three random moments, killed and restarted, with the output of an
# undisturbed run.

# bats file_tags=user
# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }

@test "ffmpeg with threads" {
  same_output_over_three_restarts "$(system_program ffmpeg)" -v error -nostdin -f lavfi -i testsrc2=size=640x480:rate=25:duration=100 \
    -f lavfi -i sine=frequency=440:duration=100 -threads 2 -c:v mpeg4 -q:v 4 -c:a mp2 -flags +bitexact -fflags +bitexact -f nut -
}

@test "povray with two threads" {
  cat >"$BATS_TEST_TMPDIR/scene.pov" <<'POV'
#version 3.7;
global_settings { assumed_gamma 1 }
camera { location <0, 3, -8> look_at <0, 1, 0> }
light_source { <10, 20, -10> color rgb 1 }
plane { y, 0 pigment { checker rgb 0.2, rgb 0.8 } finish { reflection 0.3 } }
#declare N = 0;
#while (N < 30)
  sphere { <sin(N) * 3, 0.5 + N / 15, cos(N) * 3>, 0.5 texture { pigment { color rgbt <N / 30, 0.5, 1 - N / 30, 0.4> } finish { reflection 0.4 } } }
  #declare N = N + 1;
#end
POV
  same_output_over_three_restarts "$(system_program povray)" +I"$BATS_TEST_TMPDIR/scene.pov" +O- +FB +W480 +H360 +WT2 -D -GA +A0.2
}

@test "ghostscript" {
  cat >"$BATS_TEST_TMPDIR/page.ps" <<'PS'
/x 7 def /next { /x x 16807 mul 99991 mod def x } def
1 1 6 {
  /Helvetica findfont 9 scalefont setfont
  1 1 2500 {
    pop next 600 mod next 800 mod moveto next 10 string cvs show
    next 255 mod 255 div next 255 mod 255 div 0.5 setrgbcolor
    newpath next 600 mod next 800 mod next 60 mod 0 300 arc fill
  } for
  = showpage
} for
PS
  same_output_over_three_restarts "$(system_program gs)" -q -dSAFER -dBATCH -dNOPAUSE -sDEVICE=ppmraw -r50 -dGraphicsAlphaBits=4 \
    -sOutputFile=%stdout "$BATS_TEST_TMPDIR/page.ps"
}
