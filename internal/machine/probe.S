# A firmware of two hundred bytes that enters long mode, counts to twenty
# million and tells so to isa-debug-exit. Real mode proves nothing: SeaBIOS runs
# happily under a KVM that cannot boot Linux.
#
# It lies at the top of a 64 KiB ROM: the code at 0xfffff000, the reset vector
# in the last sixteen bytes. probe.bin is what becomes of it:
#
#   as --32 -o probe.o probe.S && ld -m elf_i386 -Ttext 0xfffff000 --oformat binary -o probe.bin probe.o

	.set PML4, 0x1000
	.set PDPT, 0x2000
	.set LOW, 0x3000		# maps the first 2 MiB
	.set HIGH, 0x4000		# maps the last 2 MiB below 4 GiB
	.set DONE, 0x10			# QEMU's exit status is 2*DONE+1

	.globl _start
	.code16
_start:
	cli
	cld
	lgdtl	%cs:(gdtr - _start + 0xf000)
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$0x08, $protected

	.code32
protected:
	movw	$0x10, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	xorl	%eax, %eax
	movl	$PML4, %edi
	movl	$0x1000, %ecx		# four pages of four-byte words
	rep stosl
	movl	$(PDPT + 3), PML4
	movl	$(LOW + 3), PDPT
	movl	$(HIGH + 3), PDPT + 3 * 8
	movl	$0x83, LOW		# 2 MiB, present, writable
	movl	$0xffe00083, HIGH + 511 * 8
	movl	%cr4, %eax
	orl	$0x20, %eax		# PAE
	movl	%eax, %cr4
	movl	$PML4, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx	# EFER
	rdmsr
	orl	$0x100, %eax		# LME
	wrmsr
	movl	%cr0, %eax
	orl	$0x80000000, %eax	# PG
	movl	%eax, %cr0
	ljmpl	$0x18, $long

	.code64
long:
	movl	$20000000, %ecx
1:	decl	%ecx
	jnz	1b
	movw	$0xf4, %dx
	movb	$DONE, %al
	outb	%al, %dx
2:	hlt
	jmp	2b

	.balign	8
gdt:
	.quad	0
	.quad	0x00cf9b000000ffff	# 0x08: code, 32 bits
	.quad	0x00cf93000000ffff	# 0x10: data
	.quad	0x00af9b000000ffff	# 0x18: code, 64 bits
gdtr:
	.word	gdtr - gdt - 1
	.long	gdt

	.org	0xff0
	.code16
	.byte	0xe9			# jmp to _start, within the segment
	.word	0xf000 - 0xfff3
	.org	0x1000
