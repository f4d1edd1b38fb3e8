// The restorer's entry and the jumps that C++ can't make.
	.text
	.globl	_start
	.type	_start, @function
_start:
	xorl	%ebp, %ebp
	movq	%rsp, %rdi
	andq	$-16, %rsp
	call	engine_main
	hlt
	.size	_start, . - _start

// engine_move(rdi: argument, rsi: function, rdx: top of the new stack): goes on there, for good.
	.globl	engine_move
	.hidden	engine_move
	.type	engine_move, @function
engine_move:
	movq	%rdx, %rsp
	andq	$-16, %rsp
	xorl	%ebp, %ebp
	call	*%rsi
	hlt
	.size	engine_move, . - engine_move

// long engine_clone(rdi: clone_args, rsi: their size, rdx: function, rcx: argument): clone3(2); the child calls function(argument)
// on the stack that the arguments name.
	.globl	engine_clone
	.hidden	engine_clone
	.type	engine_clone, @function
engine_clone:
	movq	%rdx, %r8
	movq	%rcx, %r9
	movl	$435, %eax
	syscall
	testq	%rax, %rax
	jz	1f
	ret
1:	xorl	%ebp, %ebp
	movq	%r9, %rdi
	call	*%r8
	hlt
	.size	engine_clone, . - engine_clone

// engine_leave(rdi: context, rsi: counter, rdx: our memory, rcx: its size, r8: ckpt_resume in the program).
	.globl	engine_leave
	.hidden	engine_leave
	.type	engine_leave, @function
engine_leave:
	jmp	*%r8
	.size	engine_leave, . - engine_leave

	.section .note.GNU-stack, "", @progbits
