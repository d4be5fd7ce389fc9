/* Lets User-Mode Linux 6.1 run on processors whose register state is larger than 2696 bytes (those
 * with AMX), by LD_PRELOAD. It sets its processes' registers by PTRACE_SETREGSET with 2696 bytes,
 * and the host's kernel takes the whole state only: EFAULT, "ptrace set fp regs failed", a panic
 * of the guest. Here the 2696 bytes are put over the state that the process has, and all is set.
 *   cc -shared -fPIC -O2 -o uml-xstate.so uml-xstate.c */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { HEADER = 512, LARGEST = 16384 };

/* The states that the caller's bytes do not reach keep what the process has. */
static long set_state(pid_t pid, const struct iovec *wanted)
{
	static __thread unsigned char whole[LARGEST] __attribute__((aligned(64)));
	struct iovec all = { whole, sizeof whole };
	uint64_t had, given;

	if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, NT_X86_XSTATE, &all) < 0)
		return -1;
	if (wanted->iov_len < HEADER + 64 || wanted->iov_len > all.iov_len) {
		errno = EFAULT;
		return -1;
	}
	memcpy(&had, whole + HEADER, sizeof had);
	memcpy(whole, wanted->iov_base, wanted->iov_len);
	/* Bits 17 and 18 are AMX, the only states behind 2696 bytes. */
	memcpy(&given, whole + HEADER, sizeof given);
	given = (given & ~(3ull << 17)) | (had & 3ull << 17);
	memcpy(whole + HEADER, &given, sizeof given);
	return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &all);
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list list;
	va_start(list, request);
	pid_t pid = va_arg(list, pid_t);
	void *address = va_arg(list, void *);
	void *data = va_arg(list, void *);
	va_end(list);

	/* The library's function returns what was peeked; the system call stores it. */
	if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER) {
		long word;
		return syscall(SYS_ptrace, request, pid, address, &word) < 0 ? -1 : (errno = 0, word);
	}
	long result = syscall(SYS_ptrace, request, pid, address, data);
	if (result < 0 && errno == EFAULT && request == PTRACE_SETREGSET &&
	    address == (void *)NT_X86_XSTATE)
		return set_state(pid, data);
	return result;
}
