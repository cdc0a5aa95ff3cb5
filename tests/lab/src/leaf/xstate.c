/* Lets user-mode-linux run on a CPU with AMX. Preloaded into it, this stands in for ptrace(2).
 *
 * User-mode-linux 6.1 has room for 2696 bytes of a process's XSAVE area (arch/x86/um/user-offsets.c: HOST_FP_SIZE). With AMX
 * the area is larger, and Linux takes it whole or not at all (arch/x86/kernel/fpu/regset.c: xstateregs_set). The rest
 * is the tiles' state, which no process in the leaf has: a process has to ask for tiles first.
 *
 * Must never: change what another request of ptrace does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Of XSTATE_BV, the components that begin and end within those 2696 bytes: x87 to ZMM, and PKRU. */
#define KEPT 0x2ffull
/* Where XSTATE_BV stands (Intel SDM 1, 13.4.2). */
#define XSTATE_BV 512

static size_t less(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* The whole area; not on the stack, of which user-mode-linux has little. It calls ptrace from one thread. */
static long whole_area(long (*ptrace_of_libc)(int, ...), int request, pid_t pid, struct iovec *theirs)
{
	static unsigned char area[32768] __attribute__((aligned(64)));
	struct iovec whole = { area, sizeof area };
	long result;

	if (request == PTRACE_SETREGSET) {
		uint64_t components;

		memset(area, 0, sizeof area);
		memcpy(area, theirs->iov_base, less(theirs->iov_len, sizeof area));
		memcpy(&components, area + XSTATE_BV, sizeof components);
		components &= KEPT;
		memcpy(area + XSTATE_BV, &components, sizeof components);
	}
	result = ptrace_of_libc(request, pid, (void *)NT_X86_XSTATE, &whole);
	if (result == 0 && request == PTRACE_GETREGSET) {
		theirs->iov_len = less(theirs->iov_len, whole.iov_len);
		memcpy(theirs->iov_base, area, theirs->iov_len);
	}
	return result;
}

long ptrace(enum __ptrace_request request, ...)
{
	static long (*ptrace_of_libc)(int, ...);
	va_list arguments;
	pid_t pid;
	void *address, *data;

	va_start(arguments, request);
	pid = va_arg(arguments, pid_t);
	address = va_arg(arguments, void *);
	data = va_arg(arguments, void *);
	va_end(arguments);
	if (!ptrace_of_libc)
		ptrace_of_libc = (long (*)(int, ...))dlsym(RTLD_NEXT, "ptrace");
	if ((request == PTRACE_GETREGSET || request == PTRACE_SETREGSET) && address == (void *)NT_X86_XSTATE)
		return whole_area(ptrace_of_libc, request, pid, data);
	return ptrace_of_libc(request, pid, address, data);
}
