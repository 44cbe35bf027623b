// The first process of a container that the docker driver starts.
//
// It talks to the driver through the container's own stdin and stdout, which
// the engine carries: frames, in both directions. That is enough to start the
// function, pass its streams and its connections, tell its use and its exit,
// and it works alike on this machine and on another one. The function has pipes
// of its own and never sees the frames.
//
//   HELLO ──► CONFIG ──► STARTED ─────────► EXIT ──► QUIT
//                │          │ data, drain,
//                └► FAILED  │ usage, signals
//
// Everything that can be long goes in a channel: 0 is stdin, 1 and 2 are stdout
// and stderr, further ones are connections into the container. A side sends no
// more than the other has given it credit for, so that neither ever waits for
// the other to make room, and a slow one holds up nobody else.
//
// When stdin ends the driver is gone; then this process ends, and the kernel
// ends everything in the container with it.
//
// The layouts are those of ../../frame.go.
#include "sys.h"

#include <linux/fcntl.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/signal.h>
#include <linux/socket.h>
#include <linux/stat.h>
#include <linux/tcp.h>
#include <linux/un.h>
#include <linux/wait.h>

enum {
	IN = 0,
	OUT = 1,
	WINDOW = 64 << 10, // bytes that may be under way in a channel
	CHANNELS = 1 << 11, // slots; the lower 11 bits of a channel's number
	DRAINS = 64,
	MAX_CONFIG = 8 << 20,
	LIMIT_NOFILE = 7,
	AF_UNIX_ = 1,
	AF_INET_ = 2,
	AF_INET6_ = 10,
	SOCK_STREAM_ = 1,
	SOCK_DGRAM_ = 2,
	SHUT_WR_ = 1,
	SO_ERROR_ = 4,
	POLLOUT_ = 4,
	FIONREAD_ = 0x541b,
};

// ---- frames -----------------------------------------------------------

struct frame {
	u32 kind;
	u32 id;   // of the channel; of a drain or usage what it was asked with
	u32 size; // of what follows
};

enum {
	// from the driver
	CONFIG = 'C',
	SIGNAL = 'K', // id is the signal
	DRAIN = 'D',
	USAGE = 'U',
	OPEN = 'O',
	QUIT = 'Q',
	// to the driver
	HELLO = 'H',
	STARTED = 'S',
	FAILED = 'F', // id is the errno, what follows is what was being done
	EXIT = 'X',
	// in both directions
	DATA = 'w',
	CREDIT = 'c',
	END = 'e',
	CLOSE = 'x',
};

_Noreturn static void leave(int code) {
	for (;;) sys(__NR_exit_group, code);
}

static void write_all(const void *data, size_t size) {
	const u8 *at = data;
	while (size) {
		long n = sys(__NR_write, OUT, at, size);
		if (n == -EINTR) continue;
		if (n <= 0) leave(1); // nobody listens any more
		at += n;
		size -= (size_t)n;
	}
}

static void read_all(void *data, size_t size) {
	u8 *at = data;
	while (size) {
		long n = sys(__NR_read, IN, at, size);
		if (n == -EINTR) continue;
		if (n <= 0) leave(1); // the driver is gone
		at += n;
		size -= (size_t)n;
	}
}

static void skip(u32 size) {
	u8 sink[512];
	while (size) {
		u32 n = size < sizeof sink ? size : (u32)sizeof sink;
		read_all(sink, n);
		size -= n;
	}
}

static void send(u32 kind, u32 id, const void *data, u32 size) {
	struct {
		struct frame f;
		u8 data[128];
	} out = {.f = {kind, id, size}};
	memcpy(out.data, data, size);
	write_all(&out, sizeof out.f + size);
}

static void send_number(u32 kind, u32 id, u32 n) { send(kind, id, &n, sizeof n); }

_Noreturn static void fail(const char *step, long err) {
	send(FAILED, (u32)(err < 0 ? -err : err), step, (u32)length(step));
	leave(1);
}

static long must(const char *step, long r) {
	if (r < 0) fail(step, r);
	return r;
}

// ---- what the container has used ---------------------------------------

struct usage {
	u64 cpu, throttled; // nanoseconds
	u64 memory, peak_memory;
	u32 oom; // how many processes were killed for memory
	int code, signal;
	u32 pad;
};

// field gives the number after a key in a file of "key number" lines, or the
// first number of a file when there is no key.
static int field(const char *path, const char *key, u64 *value) {
	char text[2048];
	long fd = sys(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0) return 0;
	long n = sys(__NR_read, fd, text, sizeof text - 1);
	sys(__NR_close, fd);
	if (n <= 0) return 0;
	text[n] = 0;
	const char *at = text;
	size_t k = length(key);
	while (*at) {
		size_t i = 0;
		while (i < k && at[i] == key[i]) i++;
		if (i == k && (k == 0 || at[k] == ' ')) {
			at += k + (k > 0);
			for (*value = 0; *at >= '0' && *at <= '9'; at++) *value = *value * 10 + (u64)(*at - '0');
			return 1;
		}
		while (*at && *at != '\n') at++;
		if (*at) at++;
	}
	return 0;
}

static struct usage used(void) {
	struct usage u = {0};
	u64 n = 0;
	if (field("/sys/fs/cgroup/cpu.stat", "usage_usec", &n))
		u.cpu = n * 1000;
	else if (field("/sys/fs/cgroup/cpuacct/cpuacct.usage", "", &n) || field("/sys/fs/cgroup/cpu,cpuacct/cpuacct.usage", "", &n))
		u.cpu = n;
	if (field("/sys/fs/cgroup/cpu.stat", "throttled_usec", &n))
		u.throttled = n * 1000;
	else if (field("/sys/fs/cgroup/cpu/cpu.stat", "throttled_time", &n) || field("/sys/fs/cgroup/cpu,cpuacct/cpu.stat", "throttled_time", &n))
		u.throttled = n;
	if (field("/sys/fs/cgroup/memory.current", "", &n) || field("/sys/fs/cgroup/memory/memory.usage_in_bytes", "", &n)) u.memory = n;
	if (field("/sys/fs/cgroup/memory.peak", "", &n) || field("/sys/fs/cgroup/memory/memory.max_usage_in_bytes", "", &n)) u.peak_memory = n;
	if (u.peak_memory < u.memory) u.peak_memory = u.memory; // Linux before 5.19
	if (field("/sys/fs/cgroup/memory.events", "oom_kill", &n) || field("/sys/fs/cgroup/memory/memory.oom_control", "oom_kill", &n))
		u.oom = (u32)n;
	return u;
}

// ---- channels ---------------------------------------------------------

struct channel {
	u32 id;
	int fd; // 0: there is no such channel (0 is this process's stdin)
	u8 connecting;
	u8 reads;  // what fd gives goes to the driver
	u8 writes; // what the driver sends goes to fd
	u8 ending; // no more comes from the driver
	u32 credit; // bytes that may still be sent to the driver
	u64 moved;  // bytes sent to the driver
	u8 *pending; // WINDOW bytes, once needed
	u32 from, size; // what of it waits for fd
	u32 port, place; // while connecting: where to, and which address it is
};

static struct channel channels[CHANNELS];
static int top; // no channel from here on

static struct channel *channel(u32 id) {
	struct channel *c = &channels[id % CHANNELS];
	return c->fd && c->id == id ? c : 0;
}

static struct channel *make(u32 id, int fd, int reads, int writes) {
	struct channel *c = &channels[id % CHANNELS];
	u8 *kept = c->pending;
	*c = (struct channel){.id = id, .fd = fd, .reads = (u8)reads, .writes = (u8)writes, .credit = WINDOW, .pending = kept};
	if ((int)(id % CHANNELS) >= top) top = (int)(id % CHANNELS) + 1;
	return c;
}

static void drop(struct channel *c) {
	sys(__NR_close, c->fd);
	c->fd = 0;
	if (c->pending && c->id > 2) {
		sys(__NR_munmap, c->pending, WINDOW);
		c->pending = 0;
	}
	while (top > 0 && !channels[top - 1].fd) top--;
}

// broken tells the driver that a channel is no more.
static void broken(struct channel *c) {
	send(CLOSE, c->id, 0, 0);
	drop(c);
}

// settle closes a channel that neither side uses any more.
static void settle(struct channel *c) {
	if (c->ending && c->writes && !c->size && !c->connecting) {
		c->writes = 0;
		if (c->reads || c->id > 2) sys(__NR_shutdown, c->fd, SHUT_WR_);
	}
	if (c->reads || c->writes) return;
	if (c->id > 2)
		broken(c); // its slot is free again
	else
		drop(c);
}

// forward moves a piece from fd to the driver.
static void forward(struct channel *c) {
	static struct {
		struct frame f;
		u8 data[32 << 10];
	} out;
	size_t room = c->credit < sizeof out.data ? c->credit : sizeof out.data;
	if (!room) return;
	long n = sys(__NR_read, c->fd, out.data, room);
	if (n == -EINTR || n == -EAGAIN) return;
	if (n > 0) {
		out.f = (struct frame){DATA, c->id, (u32)n};
		c->credit -= (u32)n;
		c->moved += (u64)n;
		write_all(&out, sizeof out.f + (size_t)n);
		return;
	}
	if (n < 0 && c->id > 2) {
		broken(c);
		return;
	}
	send(END, c->id, 0, 0);
	c->reads = 0;
	settle(c);
}

// deliver moves what is pending to fd.
static void deliver(struct channel *c) {
	u32 before = c->size;
	while (c->size) {
		long n = sys(__NR_write, c->fd, c->pending + c->from, c->size);
		if (n == -EINTR) continue;
		if (n == -EAGAIN) break;
		if (n <= 0) { // who reads has gone; of a stdin that is its own affair
			broken(c);
			return;
		}
		c->from += (u32)n;
		c->size -= (u32)n;
	}
	if (before != c->size) send_number(CREDIT, c->id, before - c->size);
	settle(c);
}

static void take(u32 id, u32 size) {
	struct channel *c = channel(id);
	if (!c || !c->writes || c->ending || size > WINDOW - c->size) {
		skip(size);
		return;
	}
	if (!c->pending) {
		long p = sys(__NR_mmap, 0, WINDOW, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p < 0) {
			skip(size);
			broken(c);
			return;
		}
		c->pending = (u8 *)p;
	}
	if (c->from) {
		memcpy(c->pending, c->pending + c->from, c->size); // forwards: they may overlap
		c->from = 0;
	}
	read_all(c->pending + c->size, size);
	c->size += size;
	if (!c->connecting) deliver(c);
}

// ---- connections ------------------------------------------------------

static int stream_socket(int family) {
	return (int)sys(__NR_socket, family, SOCK_STREAM_ | O_CLOEXEC | O_NONBLOCK, 0);
}

// own_address gives the address that packets to elsewhere would carry, 0 when
// there is no way out.
static u32 own_address(void) {
	struct sockaddr_in to = {.sin_family = AF_INET_, .sin_port = 9 << 8, .sin_addr = {0x010200c0}}; // 192.0.2.1, RFC 5737
	u32 size = sizeof to;
	u32 address = 0;
	int fd = (int)sys(__NR_socket, AF_INET_, SOCK_DGRAM_ | O_CLOEXEC, 0);
	if (fd < 0) return 0;
	if (sys(__NR_connect, fd, &to, sizeof to) == 0 && sys(__NR_getsockname, fd, &to, &size) == 0) address = to.sin_addr.s_addr;
	sys(__NR_close, fd);
	return address;
}

static long try_connect(int family, const void *to, u32 size, int *made) {
	int one = 1;
	int fd = stream_socket(family);
	if (fd < 0) return fd;
	long r = sys(__NR_connect, fd, to, size);
	if (r < 0 && r != -EINPROGRESS) {
		sys(__NR_close, fd);
		return r;
	}
	if (family != AF_UNIX_) sys(__NR_setsockopt, fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	*made = fd;
	return r;
}

// connect_port begins to connect to a port on the first address, from *place
// on, that does not refuse at once: 127.0.0.1, our own, ::1.
static long connect_port(u32 port, u32 *place, int *fd) {
	__u16 number = (__u16)((port >> 8) | (port << 8));
	long r = -ECONNREFUSED;
	for (; *place < 3; ++*place) {
		if (*place == 2) {
			struct sockaddr_in6 to = {.sin6_family = AF_INET6_, .sin6_port = number};
			to.sin6_addr.in6_u.u6_addr8[15] = 1;
			long r6 = try_connect(AF_INET6_, &to, sizeof to, fd);
			if (r6 != -EADDRNOTAVAIL && r6 != -EAFNOSUPPORT) r = r6;
		} else {
			struct sockaddr_in to = {.sin_family = AF_INET_, .sin_port = number, .sin_addr = {0x0100007f}};
			if (*place == 1 && !(to.sin_addr.s_addr = own_address())) continue;
			r = try_connect(AF_INET_, &to, sizeof to, fd);
		}
		if (r == 0 || r == -EINPROGRESS) break;
	}
	return r;
}

// begin makes a channel of a connection, unless it could not be begun.
static void begin(u32 id, int fd, long r, u32 port, u32 place) {
	if (fd < 0) {
		send_number(OPEN, id, (u32)-r);
		return;
	}
	struct channel *c = make(id, fd, 1, 1);
	c->port = port;
	c->place = place;
	c->connecting = r == -EINPROGRESS;
	if (!c->connecting) send_number(OPEN, id, 0);
}

// open_channel connects to a port, or to a socket's path when one follows.
static void open_channel(u32 id, u32 size) {
	struct {
		u32 port;
		char path[108];
	} q = {0};
	int fd = -1;
	u32 place = 0;
	if (size > sizeof q || id % CHANNELS <= 2 || channels[id % CHANNELS].fd) {
		skip(size);
		send_number(OPEN, id, EINVAL);
		return;
	}
	read_all(&q, size);
	long r;
	if (q.port) {
		r = connect_port(q.port, &place, &fd);
	} else {
		struct sockaddr_un to = {.sun_family = AF_UNIX_};
		memcpy(to.sun_path, q.path, sizeof q.path);
		r = try_connect(AF_UNIX_, &to, sizeof to, &fd);
	}
	begin(id, fd, r, q.port, place);
}

// connected hears how an attempt has ended, and makes the next one.
static void connected(struct channel *c) {
	int err = 0, fd = -1;
	u32 size = sizeof err, id = c->id, port = c->port, place = c->place + 1;
	sys(__NR_getsockopt, c->fd, SOL_SOCKET, SO_ERROR_, &err, &size);
	if (!err) {
		c->connecting = 0;
		send_number(OPEN, id, 0);
		deliver(c);
		return;
	}
	drop(c);
	long r = err == ECONNREFUSED && port ? connect_port(port, &place, &fd) : -err;
	begin(id, fd, r, port, place);
}

// ---- the function's process --------------------------------------------

// What CONFIG carries; then, each with a zero byte after it: the working
// directory, the PATH to search, the arguments, the environment.
struct config {
	u32 args, envs;
	u32 nofile;
	u32 has_stdin;
};

static struct {
	int child;
	int signals; // signalfd
	int exited;
	int told;    // the driver was told of the exit
	int code, signal;
} life;

static char *put_text(char *at, const char *s) {
	while (*s) *at++ = *s++;
	return at;
}

// execute executes the program: by its path when it has a slash, else from the
// directories of PATH, as execvp(3) does.
static long execute(const char *search, char **argv, char **envp) {
	static char path[4096];
	long err = -ENOENT;
	const char *name = argv[0];
	for (const char *s = name; *s; s++)
		if (*s == '/') return sys(__NR_execve, name, argv, envp);
	for (const char *dir = search; *dir;) {
		const char *end = dir;
		while (*end && *end != ':') end++;
		size_t n = (size_t)(end - dir);
		if (n && n + length(name) + 2 < sizeof path) {
			memcpy(path, dir, n);
			path[n] = '/';
			*put_text(path + n + 1, name) = 0;
			long r = sys(__NR_execve, path, argv, envp);
			if (r != -ENOENT && r != -ENOTDIR && err != -EACCES) err = r;
		}
		dir = *end ? end + 1 : end;
	}
	return err;
}

struct start_error {
	int err;
	char step[44];
};

_Noreturn static void child_fail(int report, const char *step, long err) {
	struct start_error e = {.err = (int)-err};
	memcpy(e.step, step, length(step) + 1);
	sys(__NR_write, report, &e, sizeof e);
	leave(127);
}

// first_to_go makes the function, and not this process, what the kernel kills
// when the memory limit is reached.
static void first_to_go(void) {
	sys(__NR_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0); // else /proc/self is not ours to write
	long fd = sys(__NR_openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC, 0);
	if (fd < 0) return;
	sys(__NR_write, fd, "1000", 4);
	sys(__NR_close, fd);
}

_Noreturn static void function_process(const struct config *c, const char *dir, const char *search, char **argv, char **envp, const int io[3], int pipe) {
	enum { REPORT = 3 };
	u64 no_signals = 0;
	struct rlimit files = {c->nofile, c->nofile};
	char at[4096];
	long r;
	sys(__NR_setsid);
	int from[4] = {io[0], io[1], io[2], pipe};
	for (int i = 0; i < 4; i++)
		if ((r = from[i] = (int)sys(__NR_fcntl, from[i], F_DUPFD_CLOEXEC, 10)) < 0) child_fail(pipe, "join the streams", r);
	for (int i = 0; i < 4; i++)
		if ((r = sys(__NR_dup3, from[i], i, i == REPORT ? O_CLOEXEC : 0)) < 0) child_fail(from[REPORT], "join the streams", r);
	// All others close on exec too; what an engine has left open goes here.
	if (sys(__NR_close_range, REPORT + 1, ~0U, 0) < 0) // Linux before 5.9, or a filter of that time
		for (int fd = REPORT + 1; fd < 1024; fd++) sys(__NR_close, fd);
	first_to_go();
	if ((r = sys(__NR_prlimit64, 0, LIMIT_NOFILE, &files, 0)) < 0) child_fail(REPORT, "limit the open files", r);
	// A path may lead through /proc/self/fd: what is not below the root is left
	// again (CVE-2024-21626).
	r = sys(__NR_chdir, dir);
	if (r >= 0) r = sys(__NR_getcwd, at, sizeof at);
	if (r > 0 && at[0] != '/') r = -ENOENT; // "(unreachable)", getcwd(2)
	if (r < 0) child_fail(REPORT, "enter the working directory", r);
	sys(__NR_rt_sigprocmask, SIG_SETMASK, &no_signals, 0, sizeof no_signals);
	child_fail(REPORT, "exec", execute(search, argv, envp));
}

static char *next_text(char *at) { return at + length(at) + 1; }

static char **pointers(char **text, u32 n, u32 room) {
	char **p = (char **)must("get memory", sys(__NR_mmap, 0, (n + room + 1) * sizeof(char *), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	for (u32 i = 0; i < n; i++) {
		p[i] = *text;
		*text = next_text(*text);
	}
	p[n] = 0;
	return p;
}

static int begins(const char *s, const char *with) {
	while (*with)
		if (*s++ != *with++) return 0;
	return 1;
}

// add_home gives the function the home directory that the engine has found in
// the image for its user, unless it has one.
static void add_home(char **envp, u32 n, char **own) {
	for (u32 i = 0; i < n; i++)
		if (begins(envp[i], "HOME=")) return;
	for (; *own; own++)
		if (begins(*own, "HOME=")) {
			envp[n] = *own;
			envp[n + 1] = 0;
			return;
		}
}

static void start_function(u32 size, char **own) {
	int io[3], report[2], pipe[2];
	if (size < sizeof(struct config) || size > MAX_CONFIG) fail("read the configuration", EINVAL);
	char *data = (char *)must("get memory", sys(__NR_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	read_all(data, size);
	const struct config *c = (const struct config *)data;
	if (data[size - 1] || life.child) fail("read the configuration", EINVAL);
	char *dir = data + sizeof *c, *search = next_text(dir), *text = next_text(search);
	char **argv = pointers(&text, c->args, 0);
	char **envp = pointers(&text, c->envs, 1);
	add_home(envp, c->envs, own);
	if (c->has_stdin) {
		must("make a pipe", sys(__NR_pipe2, pipe, O_CLOEXEC));
		io[0] = pipe[0];
		must("make a pipe", sys(__NR_fcntl, pipe[1], F_SETFL, O_NONBLOCK));
		make(0, pipe[1], 0, 1);
	} else {
		io[0] = (int)must("open an empty stdin", sys(__NR_openat, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC, 0));
	}
	for (int i = 1; i <= 2; i++) {
		must("make a pipe", sys(__NR_pipe2, pipe, O_CLOEXEC));
		must("make a pipe", sys(__NR_fcntl, pipe[0], F_SETFL, O_NONBLOCK));
		make((u32)i, pipe[0], 1, 0);
		io[i] = pipe[1];
	}
	must("make a pipe", sys(__NR_pipe2, report, O_CLOEXEC));
	life.child = (int)must("fork", sys(__NR_clone, SIGCHLD, 0, 0, 0, 0));
	if (life.child == 0) function_process(c, dir, search, argv, envp, io, report[1]);
	sys(__NR_close, report[1]);
	struct start_error e;
	long r;
	do r = sys(__NR_read, report[0], &e, sizeof e);
	while (r == -EINTR);
	if (r == sizeof e) fail(e.step, e.err);
	sys(__NR_close, report[0]);
	for (int i = 0; i < 3; i++) sys(__NR_close, io[i]);
	sys(__NR_munmap, data, size);
	send(STARTED, (u32)life.child, 0, 0);
}

// ---- drains -----------------------------------------------------------

static struct drain {
	u32 token;
	u64 until[2]; // bytes of stdout and stderr that have to be on their way
} drains[DRAINS];
static int waiting;

static u64 printed(u32 id) {
	struct channel *c = channel(id);
	int pending = 0;
	if (!c || !c->reads) return 0;
	if (sys(__NR_ioctl, c->fd, FIONREAD_, &pending) < 0) pending = 0;
	return c->moved + (u64)pending;
}

static void answer_drains(void) {
	int kept = 0;
	for (int i = 0; i < waiting; i++) {
		int done = 1;
		for (u32 id = 1; id <= 2; id++) {
			struct channel *c = channel(id);
			if (c && c->reads && c->moved < drains[i].until[id - 1]) done = 0;
		}
		if (done)
			send(DRAIN, drains[i].token, 0, 0);
		else
			drains[kept++] = drains[i];
	}
	waiting = kept;
}

static void drain(u32 token) {
	if (waiting == DRAINS) { // more than the driver asks for at a time
		send(DRAIN, token, 0, 0);
		return;
	}
	drains[waiting++] = (struct drain){token, {printed(1), printed(2)}};
}

// ---- life -------------------------------------------------------------

static void hear_driver(char **own) {
	struct frame f;
	struct usage u;
	struct channel *c;
	u32 n = 0;
	read_all(&f, sizeof f);
	switch (f.kind) {
	case CONFIG: start_function(f.size, own); return;
	case DATA: take(f.id, f.size); return;
	case OPEN: open_channel(f.id, f.size); return;
	case CREDIT:
		if (f.size == sizeof n) {
			read_all(&n, sizeof n);
			if ((c = channel(f.id))) c->credit += n;
			return;
		}
		break;
	case END:
		if ((c = channel(f.id))) {
			c->ending = 1;
			settle(c);
		}
		break;
	case CLOSE:
		if ((c = channel(f.id))) drop(c);
		break;
	case SIGNAL:
		if (life.child && !life.exited) sys(__NR_kill, life.child, f.id);
		break;
	case DRAIN: drain(f.id); break;
	case USAGE:
		u = used();
		send(USAGE, f.id, &u, sizeof u);
		break;
	case QUIT: leave(life.code);
	}
	skip(f.size);
}

static void reap(void) {
	int status;
	long pid;
	while ((pid = sys(__NR_wait4, -1, &status, WNOHANG, 0)) > 0)
		if (pid == life.child) {
			life.signal = status & 0x7f;
			life.code = life.signal ? 128 + life.signal : (status >> 8) & 0xff;
			life.exited = 1;
		}
	if (!life.exited || life.told) return;
	// With the process everything that it has left behind ends: then its pipes
	// end too.
	sys(__NR_kill, -1, SIGKILL);
	do pid = sys(__NR_wait4, -1, &status, 0, 0);
	while (pid > 0 || pid == -EINTR);
}

static void hear_signals(void) {
	u8 info[128]; // struct signalfd_siginfo; its first word is the number
	u32 number;
	while (sys(__NR_read, life.signals, info, sizeof info) == sizeof info) {
		memcpy(&number, info, sizeof number);
		if (number != SIGCHLD && life.child && !life.exited) sys(__NR_kill, life.child, number);
	}
	reap();
}

// tell_exit says how the function has ended once all it printed is on its way.
// Then the driver says when to go.
static void tell_exit(void) {
	if (!life.exited || life.told || channel(1) || channel(2)) return;
	struct usage u = used();
	u.code = life.code;
	u.signal = life.signal;
	send(EXIT, 0, &u, sizeof u);
	life.told = 1;
}

static void serve(struct channel *c, short events) {
	if (!events) return;
	if (c->connecting) {
		connected(c);
		return;
	}
	u32 id = c->id;
	if (c->size && (events & (POLLOUT_ | POLLERR | POLLHUP))) deliver(c);
	if (!(c = channel(id))) return;
	if (c->reads && c->credit && (events & (POLLIN | POLLERR | POLLHUP))) forward(c);
}

__attribute__((used)) _Noreturn void start(long *stack) {
	static struct pollfd p[CHANNELS + 2];
	char **own = (char **)(stack + 1 + *stack + 1); // the environment is after argc, argv and a zero
	u64 all = ~0UL;
	sys(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
	sys(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	sys(__NR_rt_sigprocmask, SIG_SETMASK, &all, 0, sizeof all);
	life.signals = (int)must("make a signalfd", sys(__NR_signalfd4, -1, &all, sizeof all, O_CLOEXEC | O_NONBLOCK));
	send_number(HELLO, 0, 1);
	for (;;) {
		int n = top;
		p[CHANNELS] = (struct pollfd){life.signals, POLLIN, 0};
		p[CHANNELS + 1] = (struct pollfd){IN, POLLIN, 0};
		// The channels stand right before these two, as many as there are.
		struct pollfd *list = &p[CHANNELS - n];
		for (int i = 0; i < n; i++) {
			struct channel *c = &channels[i];
			short events = 0;
			if (c->fd && (c->connecting || c->size)) events |= POLLOUT_;
			if (c->fd && c->reads && c->credit && !c->connecting) events |= POLLIN;
			list[i] = (struct pollfd){events ? c->fd : -1, events, 0};
		}
		if (sys(__NR_ppoll, list, n + 2, 0, 0, 0) < 0) continue;
		if (p[CHANNELS].revents) hear_signals();
		for (int i = 0; i < n; i++)
			if (channels[i].fd && channels[i].fd == list[i].fd) serve(&channels[i], list[i].revents);
		if (p[CHANNELS + 1].revents) hear_driver(own);
		answer_drains();
		tell_exit();
	}
}
