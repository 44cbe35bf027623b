// Takes the place of a server that a plain user has started, moves into a user
// namespace and a mount namespace of its own, and gives the place back: same
// process, same descriptors, now root of that namespace. Only a process with
// one thread may enter a user namespace, which a Go program never is.
//
// Arguments (see enter.go): the descriptor of the program to go on with, the
// text of uid_map and of gid_map with one id, then three lists, each ended by an
// empty argument: newuidmap and its arguments, newgidmap and its, both empty
// where there is no range of ids; the program's own arguments.
//
// How it went is left in the environment, in the place that the server kept
// for it: DAYFLY_USERNS=step:error, where a step of "" is success.
#include "sys.h"

#include <linux/fcntl.h>
#include <linux/sched.h>
#include <linux/signal.h>

enum { CLOEXEC = 1 };

static char **environment;

static char *put_text(char *at, const char *s) {
	while (*s) *at++ = *s++;
	return at;
}

static char *put_number(char *at, u32 n) {
	char digits[10];
	int i = 0;
	do digits[i++] = (char)('0' + n % 10);
	while (n /= 10);
	while (i) *at++ = digits[--i];
	return at;
}

static int begins(const char *s, const char *with) {
	while (*with)
		if (*s++ != *with++) return 0;
	return 1;
}

// note leaves word of what did not work. The last word stands.
static void note(const char *step, long err) {
	static char text[64];
	char *at = put_text(text, "DAYFLY_USERNS=");
	at = put_text(at, step);
	*at++ = ':';
	at = put_number(at, (u32)(err < 0 ? -err : err));
	*at = 0;
	for (char **e = environment; *e; e++)
		if (begins(*e, "DAYFLY_USERNS=")) *e = text;
}

_Noreturn static void leave(int code) {
	for (;;) sys(__NR_exit_group, code);
}

// helper is a process that stays in the old namespace and starts a program
// there as soon as the pipe is closed. The new one has no rights over it.
struct helper {
	long pid;
	int go;
};

static struct helper make_helper(char **argv) {
	struct helper h = {0, -1};
	int p[2];
	char byte;
	if (!argv[0][0]) return h;
	if ((h.pid = sys(__NR_pipe2, p, O_CLOEXEC)) < 0) return h;
	h.pid = sys(__NR_clone, SIGCHLD, 0, 0, 0, 0);
	if (h.pid == 0) {
		sys(__NR_close, p[1]);
		if (sys(__NR_read, p[0], &byte, 1) == 1) sys(__NR_execve, argv[0], argv, environment);
		leave(127);
	}
	sys(__NR_close, p[0]);
	h.go = p[1];
	return h;
}

// run lets a helper do its work, and gives 0 when that went well, else its exit
// code, or 128 and the signal.
static int run(struct helper h) {
	int status = 0;
	long r;
	if (h.pid <= 0) return 126;
	sys(__NR_write, h.go, "", 1);
	sys(__NR_close, h.go);
	do r = sys(__NR_wait4, h.pid, &status, 0, 0);
	while (r == -EINTR);
	return status & 0x7f ? 128 + (status & 0x7f) : (status >> 8) & 0xff;
}

static void end(struct helper h) {
	if (h.pid <= 0) return;
	sys(__NR_close, h.go);
	sys(__NR_wait4, h.pid, 0, 0, 0);
}

static long write_file(const char *path, const char *text) {
	long fd = sys(__NR_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
	if (fd < 0) return fd;
	long r = sys(__NR_write, fd, text, length(text));
	sys(__NR_close, fd);
	return r < 0 ? r : 0;
}

static long map_one(const char *users, const char *groups) {
	long r = write_file("/proc/self/uid_map", users);
	if (r == 0) r = write_file("/proc/self/setgroups", "deny");
	if (r == 0) r = write_file("/proc/self/gid_map", groups);
	return r;
}

static void enter(const char *users, const char *groups, char **newuidmap, char **newgidmap) {
	long r;
	int code = 0, ranges = newuidmap[0][0] && newgidmap[0][0];
	struct helper u = {0, -1}, g = {0, -1};
	if (ranges) {
		u = make_helper(newuidmap);
		g = make_helper(newgidmap);
	}
	if ((r = sys(__NR_unshare, CLONE_NEWUSER | CLONE_NEWNS)) < 0) {
		end(g); // it holds the other end of u's pipe as well
		end(u);
		note("unshare", r);
		return;
	}
	if (ranges) {
		// The groups first: while no user is mapped, one id can be still.
		if ((code = run(g)) != 0) {
			end(u);
			note("newgidmap", code);
		} else if ((code = run(u)) != 0) {
			note("newuidmap", code);
			if ((r = write_file("/proc/self/uid_map", users)) < 0) note("map", r);
			return;
		} else {
			note("", 0);
			return;
		}
	} else {
		note("", 0);
	}
	if ((r = map_one(users, groups)) < 0) note("map", r);
}

// list gives the arguments up to the next empty one, and moves behind it.
static char **list(char ***at) {
	char **first = *at;
	while (**at && ***at) ++*at;
	if (**at) {
		if (*at != first) **at = 0;
		++*at;
	}
	return first;
}

__attribute__((used)) _Noreturn void start(long *stack) {
	char **argv = (char **)(stack + 1);
	long argc = *stack;
	environment = argv + argc + 1;
	if (argc < 7) leave(125);
	u32 program = 0;
	for (const char *d = argv[1]; *d; d++) program = program * 10 + (u32)(*d - '0');
	char **at = argv + 4;
	char **newuidmap = list(&at), **newgidmap = list(&at);
	sys(__NR_fcntl, program, F_SETFD, CLOEXEC);
	enter(argv[2], argv[3], newuidmap, newgidmap);
	sys(__NR_execveat, program, "", at, environment, AT_EMPTY_PATH);
	leave(126);
}
