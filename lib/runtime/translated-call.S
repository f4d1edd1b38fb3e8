// Where the stubs lead to that a restart without namespaces puts before libc's system calls (restart/engine/call-sites.cc).
//
// ckpt_translated_call: rax and the argument registers as for `syscall`, which it does in the stub's place: everything else comes
// back as the kernel leaves it. rsp is below the red zone of the program. The frame is a TranslatedCall (translator.cc): number,
// six arguments as given, six as passed on, result, stack pointer, and whether the translator has made the call itself.
	.text
	.globl	ckpt_translated_call
	.hidden	ckpt_translated_call
	.globl	ckpt_translated_call_again
	.hidden	ckpt_translated_call_again
	.globl	ckpt_translated_call_end
	.hidden	ckpt_translated_call_end
	.type	ckpt_translated_call, @function
ckpt_translated_call:
	movq	%rsp, %rcx
	subq	$256, %rsp
	andq	$-16, %rsp
	movq	%rax, (%rsp)
	movq	%rdi, 8(%rsp)
	movq	%rsi, 16(%rsp)
	movq	%rdx, 24(%rsp)
	movq	%r10, 32(%rsp)
	movq	%r8, 40(%rsp)
	movq	%r9, 48(%rsp)
	movq	%rcx, 112(%rsp)
	cld
ckpt_translated_call_again:
	movq	%rsp, %rdi
	call	ckpt_before_call
	cmpq	$0, 120(%rsp)
	jne	1f
	movq	56(%rsp), %rdi
	movq	64(%rsp), %rsi
	movq	72(%rsp), %rdx
	movq	80(%rsp), %r10
	movq	88(%rsp), %r8
	movq	96(%rsp), %r9
	movq	(%rsp), %rax
	syscall
ckpt_translated_call_end:
	movq	%rax, 104(%rsp)
	movq	%rsp, %rdi
	call	ckpt_after_call
1:
	movq	104(%rsp), %rax
	movq	8(%rsp), %rdi
	movq	16(%rsp), %rsi
	movq	24(%rsp), %rdx
	movq	32(%rsp), %r10
	movq	40(%rsp), %r8
	movq	48(%rsp), %r9
	movq	112(%rsp), %rsp
	ret
	.size	ckpt_translated_call, . - ckpt_translated_call

	.section .note.GNU-stack, "", @progbits
