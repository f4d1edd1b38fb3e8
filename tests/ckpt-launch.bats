#!/usr/bin/env bats
# ckpt-launch: what it refuses, and what it hands over. A stub takes the runtime's place.
bats_require_minimum_version 1.5.0

setup_file() {
  export TOP PREFIX_DIR
  TOP=$(cd "$BATS_TEST_DIRNAME/.." && pwd)
  PREFIX_DIR=$BATS_FILE_TMPDIR/prefix
  mkdir -p "$PREFIX_DIR/bin" "$PREFIX_DIR/lib/ckpt"
  cp "$TOP/${BUILD:-build}/bin/ckpt-launch" "$PREFIX_DIR/bin/"
  g++ -std=c++20 -O1 "-I$TOP" -shared -fPIC "$TOP/tests/progs/stub-runtime.cc" -o "$PREFIX_DIR/lib/ckpt/libckpt.so"
}

setup() {
  load /usr/lib/bats/bats-support/load
  load /usr/lib/bats/bats-assert/load
  cd "$BATS_TEST_TMPDIR" || return
  export CKPT_DIR=$BATS_TEST_TMPDIR/store
  unset CKPT_FILE CKPT_KEEP CKPT_SIGNAL CKPT_COMPRESS STUB_ANSWER
  PATH=$PREFIX_DIR/bin:$PATH
}

# No control page may stay behind after a failed launch.
assert_no_control_file() {
  run find . -name '*.ckpt-control'
  assert_output ''
}

# setting OFFSET-NAME: prints a field of the control page as a number, at an offset in Settings after its strings
settings_of() {
  python3 -c '
import struct, sys
page = open(sys.argv[1], "rb").read()
start = page.index(sys.argv[2].encode() + b"\0") - 16
names = ("keep", "codec", "level", "flags", "signal", "portable")
values = struct.unpack_from("<IBBHII", page, start + 16 + 4096 + 256 + 4096)
print(*(f"{n}={v}" for n, v in zip(names, values)))' "$1" "$CKPT_DIR"
}

@test "--help and --version print to stdout and succeed" {
  run ckpt-launch --help
  assert_success
  assert_line --index 0 --partial 'usage: ckpt-launch'
  run ckpt-launch --version
  assert_success
  assert_output --regexp '^ckpt-launch \(ckpt\) [0-9]'
}

@test "the program keeps pid, arguments, streams and exit status" {
  run --separate-stderr bash -c 'echo $$; exec ckpt-launch sh -c '\''echo $$ "$@"; exit 7'\'' x "a b" --help'
  assert_failure 7
  assert_line --index 1 "${lines[0]} a b --help"
  assert_equal "$stderr" ''
}

@test "the program ends by its own signal" {
  run bash -c 'ckpt-launch sh -c '\''kill -TERM $$'\''; exit $?'
  assert_failure 143
}

@test "options after the program belong to it" {
  run ckpt-launch echo --version -q
  assert_success
  assert_output -- '--version -q'
}

@test "the program sees the runtime first in LD_PRELOAD and its control page" {
  LD_PRELOAD='' run ckpt-launch sh -c 'echo "$LD_PRELOAD"; echo "$CKPT_CONTROL"; stat -c "%a %s" "$CKPT_CONTROL"; stat -c %a "${CKPT_CONTROL%/*}"'
  assert_success
  assert_line --index 0 "$PREFIX_DIR/lib/ckpt/libckpt.so"
  assert_line --index 1 --regexp "^$CKPT_DIR/run/sh-[0-9]+-[0-9]{8}T[0-9]{6}Z.ckpt-control\$"
  assert_line --index 2 '600 32768'
  assert_line --index 3 700
}

@test "settings reach the control page, command line before environment" {
  export CKPT_KEEP=9 CKPT_COMPRESS=lz4
  run ckpt-launch -z zstd:7 -s USR1 --portable sh -c 'echo "$CKPT_CONTROL"'
  assert_success
  run settings_of "$output"
  assert_output 'keep=9 codec=2 level=7 flags=0 signal=10 portable=1'
}

@test "--portable adds to GLIBC_TUNABLES" {
  GLIBC_TUNABLES=glibc.malloc.arena_max=1 run ckpt-launch --portable sh -c 'echo "$GLIBC_TUNABLES"'
  assert_success
  assert_output --regexp '^glibc.malloc.arena_max=1:glibc.cpu.hwcaps=-AVX,'
}

@test "a runtime whose path has a space is preloaded through a link" {
  cp -r "$PREFIX_DIR" 'a b'
  run 'a b/bin/ckpt-launch' sh -c 'echo "$LD_PRELOAD"; readlink "$LD_PRELOAD"'
  assert_success
  assert_line --index 0 --regexp "^$CKPT_DIR/run/libckpt-[0-9a-f]+.so\$"
  assert_line --index 1 "$PWD/a b/lib/ckpt/libckpt.so"
}

@test "a program that does not exist ends with 127" {
  run -127 ckpt-launch no-such-program
  assert_output "ckpt-launch: cannot run 'no-such-program': No such file or directory"
  run -127 ckpt-launch ./no-such-program
}

@test "a file that is not executable ends with 126" {
  echo hello >text
  run ckpt-launch ./text
  assert_failure 126
  assert_output --partial 'Permission denied'
  run ckpt-launch ./
  assert_failure 126
}

@test "a static program is refused by name" {
  echo 'int main(void) { return 0; }' >main.c
  gcc -static -o static main.c
  run ckpt-launch ./static
  assert_failure 126
  assert_output "ckpt-launch: cannot run './static': it is statically linked, which can't be checkpointed"
  gcc -static-pie -o static-pie main.c
  run ckpt-launch ./static-pie
  assert_failure 126
  assert_no_control_file
}

@test "32-bit and foreign programs are refused by name" {
  cp /bin/true small
  printf '\x01' | dd of=small bs=1 seek=4 conv=notrunc status=none
  run ckpt-launch ./small
  assert_failure 126
  assert_output --partial '32-bit'
  cp /bin/true foreign
  printf '\xb7' | dd of=foreign bs=1 seek=18 conv=notrunc status=none
  run ckpt-launch ./foreign
  assert_failure 126
  assert_output --partial 'another architecture'
}

@test "set-uid and set-gid programs are refused by name" {
  cp /bin/true uid
  chmod 4755 uid
  run ckpt-launch ./uid
  assert_failure 126
  assert_output --partial 'set-uid'
  cp /bin/true gid
  chmod 2755 gid
  run ckpt-launch ./gid
  assert_failure 126
  assert_output --partial 'set-gid'
}

@test "a script is judged by its interpreter" {
  printf '#! /bin/sh -e\necho script "$1"\n' >good
  printf '#!/no/such/interpreter\n' >bad
  printf 'echo plain "$1"\n' >plain
  chmod +x good bad plain
  run ckpt-launch ./good x
  assert_success
  assert_output 'script x'
  run ckpt-launch ./plain x
  assert_success
  assert_output 'plain x'
  run -127 ckpt-launch ./bad
  assert_output --partial "/no/such/interpreter"
}

@test "a folder that can't be used ends with 125 and the reason" {
  echo file >file
  run ckpt-launch -d file/sub true
  assert_failure 125
  assert_output "ckpt-launch: cannot create folder '$PWD/file/sub': Not a directory"
  run ckpt-launch -d /proc/nothing true
  assert_failure 125
  mkdir -p store/run
  chmod 755 store/run
  run ckpt-launch true
  assert_failure 125
  assert_output --partial 'other users may enter it'
}

@test "a file size limit and a descriptor limit are failures of ours" {
  run bash -c 'ulimit -f 1; ckpt-launch true'
  assert_failure 125
  assert_output --partial 'File too large'
  assert_no_control_file
  run bash -c 'ulimit -n 3; ckpt-launch true'
  assert_failure 125
  assert_output --partial 'Too many open files'
}

@test "mistakes in options are said, with 125" {
  local arguments
  for arguments in '' '-k 0 true' '-k x true' '-z gzip true' '-z zstd:99 true' '-s NOPE true' '-s KILL true' '--every 0 true' '--every 5x true'; do
    # shellcheck disable=SC2086 # several words
    run ckpt-launch $arguments
    assert_failure 125
    assert_line --index 1 "ckpt-launch: try 'ckpt-launch --help'"
  done
  CKPT_KEEP=none run ckpt-launch true
  assert_failure 125
  assert_line --index 0 --partial 'CKPT_KEEP: '
}

@test "a missing runtime is said, with 125" {
  mkdir -p lone/bin
  cp "$PREFIX_DIR/bin/ckpt-launch" lone/bin/
  run lone/bin/ckpt-launch true
  assert_failure 125
  assert_output --partial 'cannot find the runtime'
}
