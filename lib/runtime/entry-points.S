// The runtime's entries that are not C++: where the kernel and the restorer come in.
//
// Symbols are hidden. Offsets of g_state's members that are used here are checked in signal-entry.cc.

	.text

// The kernel leaves the flag AC to a handler as the program had set it, and our code does not align what it reads.
	.macro	clear_alignment_check
	pushfq
	.cfi_adjust_cfa_offset 8
	andq	$~0x40000, (%rsp)
	popfq
	.cfi_adjust_cfa_offset -8
	.endm

// rt_sigreturn for our own handlers. The very bytes matter: gdb and libgcc know a signal frame by them, and there must be no
// unwind entry for this code.
	.globl	ckpt_restore_rt
	.hidden	ckpt_restore_rt
	.type	ckpt_restore_rt, @function
	nop
ckpt_restore_rt:
	movq	$15, %rax
	syscall
	.size	ckpt_restore_rt, . - ckpt_restore_rt

// Handler in the kernel's table for every signal the program handles, but the door signals: jumps on to the program's handler
// with everything as the kernel left it, but for one thing: behind a system call (rcx is rip, as the `syscall` instruction leaves it),
// rcx in the frame is changed, which that instruction clobbers anyway. So a frame of ours tells later whether an EINTR or a short count
// that it finds is the program's own (interruption.cc). Offsets are of ucontext: rcx 152, rip 168.
// After a first freeze it looks at the mark of its thread as well.
	.globl	ckpt_trampoline
	.hidden	ckpt_trampoline
	.type	ckpt_trampoline, @function
ckpt_trampoline:
	.cfi_startproc
	cmpl	$0, ckpt_watch_handlers(%rip)
	jne	1f
0:	movq	168(%rdx), %rcx
	cmpq	%rcx, 152(%rdx)
	jne	2f
	cmpw	$0x050f, -2(%rcx)
	jne	2f
	movq	$-1, 152(%rdx)
2:	movslq	%edi, %rax
	shlq	$4, %rax
	leaq	ckpt_actions(%rip), %rcx
	jmpq	*(%rcx,%rax)
1:	clear_alignment_check
	pushq	%rdi
	.cfi_adjust_cfa_offset 8
	pushq	%rsi
	.cfi_adjust_cfa_offset 8
	pushq	%rdx
	.cfi_adjust_cfa_offset 8
	call	ckpt_note_handler
	popq	%rdx
	.cfi_adjust_cfa_offset -8
	popq	%rsi
	.cfi_adjust_cfa_offset -8
	popq	%rdi
	.cfi_adjust_cfa_offset -8
	jmp	0b
	.cfi_endproc
	.size	ckpt_trampoline, . - ckpt_trampoline

// Handler of the door signals and of those that stop threads. ckpt_on_signal does the work and returns the program's handler
// where the signal was the program's, else 0.
	.globl	ckpt_door
	.hidden	ckpt_door
	.type	ckpt_door, @function
ckpt_door:
	.cfi_startproc
	clear_alignment_check
	pushq	%rdi
	.cfi_adjust_cfa_offset 8
	pushq	%rsi
	.cfi_adjust_cfa_offset 8
	pushq	%rdx
	.cfi_adjust_cfa_offset 8
	call	ckpt_on_signal
	popq	%rdx
	.cfi_adjust_cfa_offset -8
	popq	%rsi
	.cfi_adjust_cfa_offset -8
	popq	%rdi
	.cfi_adjust_cfa_offset -8
	testq	%rax, %rax
	jz	1f
	jmpq	*%rax
1:	ret
	.cfi_endproc
	.size	ckpt_door, . - ckpt_door

// void ckpt_call_on(void* stack_top, void (*function)(void*), void* argument): a checkpoint needs more stack than a thread
// of the program may have.
	.globl	ckpt_call_on
	.hidden	ckpt_call_on
	.type	ckpt_call_on, @function
ckpt_call_on:
	pushq	%rbp
	movq	%rsp, %rbp
	movq	%rdi, %rsp
	movq	%rdx, %rdi
	call	*%rsi
	movq	%rbp, %rsp
	popq	%rbp
	ret
	.size	ckpt_call_on, . - ckpt_call_on

// long ckpt_clone_on(unsigned long flags, void* stack_top, int (*function)(void*), void* argument): clone(2) whose child runs
// function on that stack and exits with its result.
	.globl	ckpt_clone_on
	.hidden	ckpt_clone_on
	.type	ckpt_clone_on, @function
ckpt_clone_on:
	movq	%rdx, %r9
	movq	%rcx, %r8
	xorl	%edx, %edx
	xorl	%r10d, %r10d
	movl	$56, %eax
	syscall
	testq	%rax, %rax
	jz	1f
	ret
1:	xorl	%ebp, %ebp
	movq	%r8, %rdi
	call	*%r9
	movl	%eax, %edi
	movl	$60, %eax
	syscall
	hlt
	.size	ckpt_clone_on, . - ckpt_clone_on

// Where the restorer leaves: ckpt_resume(rdi: address of the ucontext, rsi: counter of threads still inside, rdx: start and
// rcx: size of the restorer's memory). Nothing of the restorer may be touched once the counter went down; the last thread
// unmaps it. No stack is used: rsp is set to the frame, and the kernel does the rest.
// Before it stand a ShiftNote and a TranslatorNote (lib/format/numbers.h).
	.globl	ckpt_resume
	.hidden	ckpt_resume
	.type	ckpt_resume, @function
	.balign	8
	.ascii	"CPTSHF01"
	.long	ckpt_translation - .
	.long	0
	.ascii	"CPTRNS01"
	.long	ckpt_translated_call - .
	.long	ckpt_numbers - .
	.long	ckpt_translated_call_end - 2 - .
	.long	ckpt_translated_call_again - .
ckpt_resume:
	movq	%rdi, %rbx
	lock decl (%rsi)
	jnz	1f
	movq	%rdx, %rdi
	movq	%rcx, %rsi
	movl	$11, %eax
	syscall
1:	movq	%rbx, %rsp
	movl	$15, %eax
	syscall
	hlt
	.size	ckpt_resume, . - ckpt_resume

// A call that goes on with other arguments than the program gave: a shorter timeout, or the rest of a transfer. rsp points at a
// ResumedCall (entry-points.h) somewhere below the red zone. What was transferred is added to the result; an error behind it is for
// the next call to meet. A handler that starts with rip at ckpt_resumed_call is told that the call was interrupted
// (ckpt_note_handler). rcx and r11 are lost in each system call.
	.globl	ckpt_resumed_call
	.hidden	ckpt_resumed_call
	.globl	ckpt_resumed_call_end
	.hidden	ckpt_resumed_call_end
	.type	ckpt_resumed_call, @function
	.cfi_startproc
	.cfi_escape 0x0f, 4, 0x77, 0xc0, 0x00, 0x06	// the CFA is at 64(%rsp): DW_CFA_def_cfa_expression, DW_OP_breg7 64, DW_OP_deref
	.cfi_escape 0x10, 16, 2, 0x77, 0x00		// rip is at (%rsp): DW_CFA_expression, DW_OP_breg7 0
	nop
ckpt_resumed_call:
	syscall
ckpt_resumed_call_end:
	movq	56(%rsp), %rcx
	testq	%rcx, %rcx
	jz	2f
	testq	%rax, %rax
	js	1f
	addq	%rax, %rcx
1:	movq	%rcx, %rax
2:	movq	8(%rsp), %rdi
	movq	16(%rsp), %rsi
	movq	24(%rsp), %rdx
	movq	32(%rsp), %r10
	movq	40(%rsp), %r8
	movq	(%rsp), %r11
	movq	64(%rsp), %rsp
	jmpq	*%r11
	.cfi_endproc
	.size	ckpt_resumed_call, . - ckpt_resumed_call

	.section .note.GNU-stack, "", @progbits
