// The system calls and the few C functions that init.c needs, with no C
// library below: the program is a static file of some kilobytes, which is why
// a sandbox starts in a fraction of a millisecond.
#ifndef SYS_H
#define SYS_H

#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/types.h>
#include <stddef.h>

typedef __u8 u8;
typedef __u32 u32;
typedef __u64 u64;

#if defined(__x86_64__)
static inline long sys6(long n, long a, long b, long c, long d, long e, long f) {
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;
	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}
// The kernel enters with argc at the top of the stack.
__asm__(".globl _start\n_start:\n"
	"xor %ebp,%ebp\nmov %rsp,%rdi\nand $-16,%rsp\ncall start\nhlt\n");
#elif defined(__aarch64__)
static inline long sys6(long n, long a, long b, long c, long d, long e, long f) {
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory", "cc");
	return x0;
}
__asm__(".globl _start\n_start:\n"
	"mov x29,#0\nmov x0,sp\nand sp,x0,#-16\nbl start\nbrk #1\n");
#else
#error "no system calls written for this architecture"
#endif

#define sys(...) SYS_PICK(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)
#define SYS_PICK(n, a, b, c, d, e, f, ...) \
	sys6((n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

// gcc makes calls of these by itself.
void *memset(void *p, int c, size_t n) {
	u8 *b = p;
	while (n--) *b++ = (u8)c;
	return p;
}
void *memcpy(void *to, const void *from, size_t n) {
	u8 *a = to;
	const u8 *b = from;
	while (n--) *a++ = *b++;
	return to;
}
static size_t length(const char *s) {
	size_t n = 0;
	while (s[n]) n++;
	return n;
}

// The kernel's own layouts of what the C library would declare.
struct iovec {
	void *base;
	size_t len;
};
struct msghdr {
	void *name;
	u32 namelen;
	struct iovec *iov;
	size_t iovlen;
	void *control;
	size_t controllen;
	u32 flags;
};
struct cmsghdr {
	size_t len;
	int level;
	int type;
};
struct pollfd {
	int fd;
	short events;
	short revents;
};
struct rlimit {
	u64 cur;
	u64 max;
};

enum {
	MAX_FDS = 250, // SCM_RIGHTS carries 253 at the most (SCM_MAX_FD)
	SOL_SOCKET = 1,
	SCM_RIGHTS = 1,
	MSG_NOSIGNAL = 0x4000,
	MSG_CMSG_CLOEXEC = 0x40000000,
	MSG_TRUNC = 0x20,
	MSG_CTRUNC = 8,
	POLLIN = 1,
	POLLHUP = 16,
	POLLERR = 8,
	AT_FDCWD = -100,
	AT_EMPTY_PATH = 0x1000,
	AT_RECURSIVE = 0x8000,
};

#endif
