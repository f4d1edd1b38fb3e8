#!/usr/bin/env bats
# An emulated machine: checkpointed at three random moments, killed and restarted, with the output of an undisturbed run.

# bats file_tags=user
# shellcheck disable=SC2030,SC2031,SC2034,SC2154
load ../helpers

setup() { set_up; }
teardown() { tear_down; }

# A boot sector that computes, writes numbers to the serial port, and resets the machine.
write_image() {
  cat >"$BATS_TEST_TMPDIR/boot.s" <<'AS'
.code16
.globl _start
_start:
  cli
  xorl %eax, %eax
  movw %ax, %ds
  movw %ax, %ss
  movw $0x7c00, %sp
  movl $1, %ebp
  movw $400, %si
next:
  movl $1500000, %ecx
again:
  imull $1664525, %ebp, %ebp
  addl $1013904223, %ebp
  decl %ecx
  jnz again
  movl %ebp, %ebx
  movw $8, %cx
digit:
  roll $4, %ebx
  movb %bl, %al
  andb $15, %al
  addb $'A', %al
  call put
  loop digit
  movb $'\n', %al
  call put
  decw %si
  jnz next
  movb $0xfe, %al
  outb %al, $0x64
stop:
  hlt
  jmp stop
put:
  movw $0x3f8, %dx
  outb %al, %dx
  ret
.org 510
.word 0xaa55
AS
  as --32 -o "$BATS_TEST_TMPDIR/boot.o" "$BATS_TEST_TMPDIR/boot.s"
  ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o "$BATS_TEST_TMPDIR/boot.img" "$BATS_TEST_TMPDIR/boot.o"
}

@test "qemu-system-x86_64 emulating a small machine" {
  write_image
  same_output_over_three_restarts "$(system_program qemu-system-x86_64)" -accel tcg -machine pc -m 16 -nodefaults -display none -no-reboot \
    -serial stdio -drive "format=raw,if=ide,readonly=off,file=$BATS_TEST_TMPDIR/boot.img"
}
