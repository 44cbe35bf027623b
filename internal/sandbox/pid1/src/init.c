// The first process of a sandbox, and the process that makes it.
//
// One file, two parts:
//
//   spawner  A child of the server, small, so that cloning it is cheap. For
//            each message it clones one init into fresh namespaces, as a child
//            of the server, and answers with its pid and pidfd. It ends when
//            the server's end of its socket closes.
//
//   init     Process 1 of a sandbox. On PREPARE it builds all that does not
//            depend on the image (staging tmpfs, /proc, /sys, /dev, /tmp) and
//            lets go of the host's mounts. On GO it mounts the image's layers
//            as the root, drops every privilege, loads the system call filter
//            and starts the function's process. Then it reaps, forwards
//            signals, and reports the exit. When the server goes away it ends,
//            and the kernel ends everything in the sandbox with it; a detached
//            one goes on, copies the output to files, and leaves the exit in a
//            file, by rename.
//
// Nothing of the image is touched with more rights than those of the sandbox's
// own user namespace, and no path of the image is ever followed: the mount
// points are real directories in the upper layer, which hide whatever the
// image has there, and mounts are attached to file descriptors resolved with
// RESOLVE_IN_ROOT and RESOLVE_NO_SYMLINKS.
//
// The layouts of the messages are those of ../../message.go.
#include "sys.h"

#include <linux/capability.h>
#include <linux/fcntl.h>
#include <linux/filter.h>
#include <linux/mman.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/signal.h>
#include <linux/stat.h>
#include <linux/wait.h>

#ifndef MNT_DETACH
#define MNT_DETACH 2
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4
#endif
#define SIGNALFD_FLAGS (O_CLOEXEC | O_NONBLOCK)
#define KEYCTL_JOIN_SESSION_KEYRING 1
#define LOCK_EX 2

enum { CTL = 3 }; // the control socket, in both parts

// ---- messages ---------------------------------------------------------

struct spawn_request {
	u32 kind; // 'C'
	u32 flags;
	u32 owner; // of the user namespace
};
struct spawn_reply {
	int pid; // or -errno
};
enum { SPAWN_USERNS = 1, SPAWN_CGROUP = 2, SPAWN_ALONE = 4 };

struct request {
	u32 kind; // P prepare, G go, K pass a signal on
	u32 arg;  // of K: the signal
};

struct reply {
	u32 kind; // 'R' ready, 'S' started (with the directory of sockets, if any), 'E' error, 'X' exited
	int code; // of E: errno; of X: exit code
	int signal; // of E: to which of several, from 0
	int pad;
	char step[48]; // of E: what was being done
};

// What GO carries in its first file descriptor. Offsets count from its start;
// texts end in a zero byte.
struct config {
	u32 magic;
	u32 size;
	u32 layers, args, envs, groups;
	u32 flags;
	u32 uid, gid;
	u32 nofile;
	u32 tmp_kib;
	u32 args_at, envs_at, groups_at;
	u32 cwd_at, hostname_at, hosts_at, resolv_at, path_at;
	u32 filter_at, filter_len; // in instructions
	u32 sockets_at;		   // 0 for no directory of sockets
	u32 root_kib;		   // how much may be written to the root
	u32 mounts, mounts_at;	   // directories of the host, and where they go
	u32 pad;
	u64 out_limit, err_limit; // bytes of output kept of a detached one
};
enum { CONFIG_MAGIC = 0x64666c79 };
enum { DETACHED = 1, READ_ONLY = 2, USERNS = 4 };
// What stands in the staging area beside what the function writes.
enum { STAGING_KIB = 32, STAGING_INODES = 512 };
enum { FD_CONFIG, FD_IN, FD_OUT, FD_ERR, FD_DIR, FD_LOCK, FD_LAYERS };

static struct {
	int fd[MAX_FDS];
	int n;
} got; // the file descriptors that came with the last message

static long receive(void *buf, size_t size) {
	static union {
		struct cmsghdr h;
		u8 space[sizeof(struct cmsghdr) + MAX_FDS * sizeof(int)];
	} control;
	struct iovec iov = {buf, size};
	struct msghdr m = {.iov = &iov, .iovlen = 1, .control = &control, .controllen = sizeof control};
	long n;
	do n = sys(__NR_recvmsg, CTL, &m, MSG_CMSG_CLOEXEC);
	while (n == -EINTR);
	got.n = 0;
	if (n > 0 && m.controllen >= sizeof control.h && control.h.level == SOL_SOCKET && control.h.type == SCM_RIGHTS) {
		got.n = (int)((control.h.len - sizeof control.h) / sizeof(int));
		memcpy(got.fd, control.space + sizeof control.h, (size_t)got.n * sizeof(int));
	}
	if (n > 0 && (m.flags & (MSG_TRUNC | MSG_CTRUNC))) return -EMSGSIZE;
	return n;
}

static long transmit(const void *buf, size_t size, int fd) {
	struct {
		struct cmsghdr h;
		int fd, pad;
	} control = {{sizeof(struct cmsghdr) + sizeof(int), SOL_SOCKET, SCM_RIGHTS}, fd, 0};
	struct iovec iov = {(void *)buf, size};
	struct msghdr m = {.iov = &iov, .iovlen = 1};
	long n;
	if (fd >= 0) {
		m.control = &control;
		m.controllen = sizeof control;
	}
	do n = sys(__NR_sendmsg, CTL, &m, MSG_NOSIGNAL);
	while (n == -EINTR);
	return n;
}

_Noreturn static void leave(int code) {
	for (;;) sys(__NR_exit_group, code);
}

static void say_with(u32 kind, int code, int signal, const char *step, int fd) {
	struct reply r = {.kind = kind, .code = code, .signal = signal};
	size_t n = length(step);
	memcpy(r.step, step, n < sizeof r.step ? n : sizeof r.step - 1);
	transmit(&r, sizeof r, fd);
}

static void say(u32 kind, int code, int signal, const char *step) { say_with(kind, code, signal, step, -1); }

// fail_at reports what could not be done, and to which of several, and ends the
// sandbox.
_Noreturn static void fail_at(const char *step, int which, long err) {
	say('E', err < 0 ? (int)-err : (int)err, which, step);
	leave(1);
}

_Noreturn static void fail(const char *step, long err) { fail_at(step, 0, err); }

static long must(const char *step, long r) {
	if (r < 0) fail(step, r);
	return r;
}

// ---- mounts -----------------------------------------------------------

static int make_mount(const char *type, const char *const options[][2], u32 attrs) {
	int fs = (int)must(type, sys(__NR_fsopen, type, FSOPEN_CLOEXEC));
	for (int i = 0; options && options[i][0]; i++)
		must(type, sys(__NR_fsconfig, fs, FSCONFIG_SET_STRING, options[i][0], options[i][1], 0));
	must(type, sys(__NR_fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0));
	int m = (int)must(type, sys(__NR_fsmount, fs, FSMOUNT_CLOEXEC, attrs));
	sys(__NR_close, fs);
	return m;
}

// below opens a path below dir without following any link of it, nor leaving
// the mount that dir is on.
static long below(int dir, const char *path) {
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	return sys(__NR_openat2, dir, path, &how, sizeof how);
}

static long attach(int mount, int dir, const char *path) {
	long at = below(dir, path);
	if (at < 0) return at;
	long r = sys(__NR_move_mount, mount, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	sys(__NR_close, at);
	return r;
}

// place makes a directory in the staging area and attaches a mount to it.
static void place(const char *name, int mount) {
	must(name, sys(__NR_mkdirat, AT_FDCWD, name, 0755));
	must(name, sys(__NR_move_mount, mount, "", AT_FDCWD, name, MOVE_MOUNT_F_EMPTY_PATH));
}

static const struct device {
	const char *host, *name;
	u32 major, minor;
} devices[] = {
	{"/dev/null", "null", 1, 3},	 {"/dev/zero", "zero", 1, 5},	    {"/dev/full", "full", 1, 7},
	{"/dev/random", "random", 1, 8}, {"/dev/urandom", "urandom", 1, 9}, {"/dev/tty", "tty", 5, 0},
};
enum { DEVICES = sizeof devices / sizeof devices[0] };

// clone_device gives a detached mount of a host's device, having checked that
// it is that device and not something that stands in its place.
static int clone_device(const struct device *d) {
	struct statx st;
	int fd = (int)must(d->host, sys(__NR_open_tree, AT_FDCWD, d->host, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
	must(d->host, sys(__NR_statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st));
	if ((st.stx_mode & S_IFMT) != S_IFCHR || st.stx_rdev_major != d->major || st.stx_rdev_minor != d->minor)
		fail(d->host, ENODEV);
	return fd;
}

static long set_attr(int fd, u32 flags, u64 set) {
	struct mount_attr a = {.attr_set = set};
	return sys(__NR_mount_setattr, fd, "", AT_EMPTY_PATH | flags, &a, sizeof a);
}

static const u32 HARD = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

// What the moby project masks and makes read-only in its containers
// (github.com/moby/moby, daemon/pkg/oci/defaults.go).
static const char *const masked[] = {
	"proc/acpi",	       "proc/asound",	   "proc/interrupts",  "proc/kcore",	   "proc/keys",
	"proc/latency_stats",  "proc/timer_list",  "proc/timer_stats", "proc/sched_debug", "proc/scsi",
	"sys/firmware",	       "sys/devices/virtual/powercap", 0,
};
static const char *const read_only[] = {
	"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger", 0,
};

static void mask(int null) {
	static const char *const tiny[][2] = {{"size", "4k"}, {"nr_inodes", "2"}, {"mode", "555"}, {0}};
	int empty = -1;
	for (int i = 0; masked[i]; i++) {
		struct statx st;
		long at = below(AT_FDCWD, masked[i]);
		if (at < 0) continue; // this kernel has no such file
		must(masked[i], sys(__NR_statx, at, "", AT_EMPTY_PATH, STATX_TYPE, &st));
		long m;
		if ((st.stx_mode & S_IFMT) != S_IFDIR) {
			m = sys(__NR_open_tree, null, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
		} else if (empty < 0) {
			m = empty = make_mount("tmpfs", tiny, HARD | MOUNT_ATTR_RDONLY);
		} else {
			// Of the first one, which is attached by now: before Linux
			// 6.15 a detached mount cannot be cloned.
			m = sys(__NR_open_tree, empty, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
		}
		must(masked[i], m);
		must(masked[i], sys(__NR_move_mount, m, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
		if (m != empty) sys(__NR_close, m);
		sys(__NR_close, at);
	}
	if (empty >= 0) sys(__NR_close, empty);
	for (int i = 0; read_only[i]; i++) {
		long at = below(AT_FDCWD, read_only[i]);
		if (at < 0) continue;
		long m = must(read_only[i], sys(__NR_open_tree, at, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE));
		must(read_only[i], set_attr((int)m, AT_RECURSIVE, MOUNT_ATTR_RDONLY | HARD));
		must(read_only[i], sys(__NR_move_mount, m, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
		sys(__NR_close, m);
		sys(__NR_close, at);
	}
}

static void make_dev(int *null) {
	static const char *const dev[][2] = {{"size", "64k"}, {"nr_inodes", "64"}, {"mode", "755"}, {0}};
	static const char *const shm[][2] = {{"size", "64m"}, {"mode", "1777"}, {0}};
	static const char *const pts[][2] = {{"mode", "0620"}, {"ptmxmode", "0666"}, {"max", "64"}, {0}};
	static const char *const links[][2] = {
		{"/proc/self/fd", "dev/fd"},	   {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
		{"/proc/self/fd/2", "dev/stderr"}, {"pts/ptmx", "dev/ptmx"},	     {0},
	};
	place("dev", make_mount("tmpfs", dev, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC));
	for (int i = 0; i < DEVICES; i++) {
		char name[16] = "dev/";
		memcpy(name + 4, devices[i].name, length(devices[i].name) + 1);
		int m = clone_device(&devices[i]);
		int at = (int)must(name, sys(__NR_openat, AT_FDCWD, name, O_CREAT | O_EXCL | O_CLOEXEC | O_WRONLY, 0666));
		must(name, sys(__NR_move_mount, m, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
		sys(__NR_close, at);
		if (i == 0)
			*null = m;
		else
			sys(__NR_close, m);
	}
	for (int i = 0; links[i][0]; i++)
		must(links[i][1], sys(__NR_symlinkat, links[i][0], AT_FDCWD, links[i][1]));
	place("dev/shm", make_mount("tmpfs", shm, HARD));
	place("dev/pts", make_mount("devpts", pts, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC));
	place("dev/mqueue", make_mount("mqueue", 0, HARD));
	int dev_root = (int)must("dev", below(AT_FDCWD, "dev"));
	must("make /dev read-only", set_attr(dev_root, 0, MOUNT_ATTR_RDONLY));
	sys(__NR_close, dev_root);
}

// swap_root makes a directory the root and lets go of what was mounted.
static void swap_root(const char *step, int fresh) {
	int old = (int)must(step, sys(__NR_openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
	must(step, sys(__NR_fchdir, fresh));
	must(step, sys(__NR_pivot_root, ".", "."));
	must(step, sys(__NR_fchdir, old));
	must(step, sys(__NR_mount, 0, ".", 0, MS_PRIVATE | MS_REC, 0));
	must(step, sys(__NR_umount2, ".", MNT_DETACH));
	sys(__NR_close, old);
	must(step, sys(__NR_chdir, "/"));
}

// groups_denied reports whether the user namespace is one of a plain user with
// a single id, in which nobody may set supplementary groups
// (user_namespaces(7)): those of the user stay, and have no number here.
static int groups_denied(void) {
	char word[4] = {0};
	long fd = sys(__NR_openat, AT_FDCWD, "/proc/self/setgroups", O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0) return 0;
	long n = sys(__NR_read, fd, word, sizeof word);
	sys(__NR_close, fd);
	return n == sizeof word && word[0] == 'd' && word[1] == 'e' && word[2] == 'n' && word[3] == 'y';
}

static void set_groups(u32 n, const void *list) {
	long r = sys(__NR_setgroups, n, list);
	if (r == -EPERM && groups_denied()) return;
	must("set groups", r);
}

// What stands ready before the image is known. The upper layer already has
// real directories wherever something will be mounted.
static void prepare(void) {
	static const char *const staging[][2] = {{"size", "16m"}, {"nr_inodes", "8k"}, {"mode", "755"}, {0}};
	static const char *const tmp[][2] = {{"size", "64m"}, {"mode", "1777"}, {0}};
	static const char *const dirs[] = {"root", "layer", "work", "upper", "upper/proc", "upper/sys", "upper/dev",
					   "upper/etc", "upper/run", 0};
	// Where there is one id, the files of init in /proc would be the function's
	// to open: it sees only what it may trace, which init is not.
	static const char *const hidden[][2] = {{"hidepid", "ptraceable"}, {0}};
	int null = -1, one_id = groups_denied();
	set_groups(0, 0);
	must("become root of the user namespace", sys(__NR_setresgid, 0, 0, 0));
	must("become root of the user namespace", sys(__NR_setresuid, 0, 0, 0));
	must("make the cgroup namespace", sys(__NR_unshare, CLONE_NEWCGROUP));
	must("make mounts private", sys(__NR_mount, 0, "/", 0, MS_REC | MS_PRIVATE, 0));
	sys(__NR_umask, 0);
	// On top of the host's root, as the one directory that every user may
	// enter; it is this mount namespace's own and becomes the root below.
	int stage = make_mount("tmpfs", staging, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	must("attach the staging area", sys(__NR_move_mount, stage, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH));
	must("enter the staging area", sys(__NR_fchdir, stage));
	for (int i = 0; dirs[i]; i++) must(dirs[i], sys(__NR_mkdirat, AT_FDCWD, dirs[i], 0755));
	must("upper/tmp", sys(__NR_mkdirat, AT_FDCWD, "upper/tmp", 01777));
	place("proc", make_mount("proc", one_id ? hidden : 0, HARD));
	place("sys", make_mount("sysfs", 0, HARD | MOUNT_ATTR_RDONLY));
	make_dev(&null);
	mask(null);
	sys(__NR_close, null);
	place("tmp", make_mount("tmpfs", tmp, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
	swap_root("leave the host's tree", stage);
	sys(__NR_close, stage);
	sys(__NR_umask, 022);
}

// ---- start ------------------------------------------------------------

static char *put_number(char *at, u32 n) {
	char digits[10];
	int i = 0;
	do digits[i++] = (char)('0' + n % 10);
	while (n /= 10);
	while (i) *at++ = digits[--i];
	return at;
}

static char *put_text(char *at, const char *s) {
	while (*s) *at++ = *s++;
	return at;
}

static void write_file(const char *path, const char *text) {
	int fd = (int)must(path, sys(__NR_openat, AT_FDCWD, path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0644));
	size_t n = length(text);
	if (sys(__NR_write, fd, text, n) != (long)n) fail(path, EIO);
	sys(__NR_close, fd);
}

static const char *text_at(const struct config *c, u32 at) { return (const char *)c + at; }

// resize sets how much a tmpfs holds; inodes 0 leaves their number as it is.
static void resize(const char *step, const char *path, u32 kib, u32 inodes) {
	char size[16], count[16];
	*put_text(put_number(size, kib), "k") = 0;
	*put_number(count, inodes) = 0;
	int at = (int)must(step, sys(__NR_fspick, AT_FDCWD, path, FSPICK_CLOEXEC | FSPICK_NO_AUTOMOUNT));
	must(step, sys(__NR_fsconfig, at, FSCONFIG_SET_STRING, "size", size, 0));
	if (inodes) must(step, sys(__NR_fsconfig, at, FSCONFIG_SET_STRING, "nr_inodes", count, 0));
	must(step, sys(__NR_fsconfig, at, FSCONFIG_CMD_RECONFIGURE, 0, 0, 0));
	sys(__NR_close, at);
}

// directory gives the directory at a path below dir, and makes what of it is
// not there. No component may be a link.
static long directory(int dir, const char *path) {
	struct open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long at = sys(__NR_openat2, dir, ".", &how, sizeof how);
	while (at >= 0 && *path) {
		char name[256];
		size_t n = 0;
		while (path[n] && path[n] != '/') n++;
		if (n >= sizeof name) return -ENAMETOOLONG;
		memcpy(name, path, n);
		name[n] = 0;
		path += n + (path[n] == '/');
		if (n == 0) continue;
		long next = sys(__NR_openat2, at, name, &how, sizeof how);
		if (next == -ENOENT) {
			next = sys(__NR_mkdirat, at, name, 0755);
			if (next >= 0) next = sys(__NR_openat2, at, name, &how, sizeof how);
		}
		sys(__NR_close, at);
		at = next;
	}
	return at;
}

// attach_directories puts directories of the host where the function wants
// them. That is done by init as the function's own root, before anything of the
// function runs.
static void attach_directories(const struct config *c, int root) {
	static const char step[] = "attach a directory of the host";
	const char *path = text_at(c, c->mounts_at);
	for (u32 i = 0; i < c->mounts; i++, path += length(path) + 1) {
		int m = got.fd[FD_LAYERS + c->layers + i];
		long at = directory(root, path);
		if (at < 0) fail_at(step, (int)i, at);
		long r = sys(__NR_move_mount, m, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
		if (r < 0) fail_at(step, (int)i, r);
		sys(__NR_close, at);
		sys(__NR_close, m);
	}
}

// place_sockets makes the directory in which the function makes its sockets,
// wherever in the root it will be: on top of what the image has there, so that
// no link of the image decides where that is. The mount is small, and the
// server holds it too.
static int place_sockets(const char *path) {
	static const char *const sockets[][2] = {{"size", "64k"}, {"nr_inodes", "64"}, {"mode", "777"}, {0}};
	static const char tmp[] = "/tmp/";
	char at[4096];
	size_t n = 0;
	while (n < sizeof tmp - 1 && path[n] == tmp[n]) n++;
	char *end = n == sizeof tmp - 1 ? at : put_text(at, "upper");
	if (length(path) + sizeof "upper" > sizeof at || path[0] != '/') fail("make the directory of sockets", EINVAL);
	for (const char *s = n == sizeof tmp - 1 ? path + 1 : path;; s++) {
		if ((*s == '/' || !*s) && end > at) {
			*end = 0;
			long r = sys(__NR_mkdirat, AT_FDCWD, at, 0755);
			if (r < 0 && r != -EEXIST) fail("make the directory of sockets", r);
		}
		if (!*s) break;
		*end++ = *s;
	}
	return make_mount("tmpfs", sockets, HARD);
}

// mount_root makes the image's layers, below a writable layer of ours, the
// root of the sandbox.
static void mount_root(const struct config *c) {
	static char options[2048];
	char *at = put_text(options, "lowerdir=");
	// The uppermost layer comes first, as overlayfs wants it.
	for (u32 i = c->layers; i-- > 0;) {
		char dir[24];
		*put_number(put_text(dir, "layer/"), i) = 0;
		must("make a layer's directory", sys(__NR_mkdirat, AT_FDCWD, dir, 0755));
		must("attach a layer", sys(__NR_move_mount, got.fd[FD_LAYERS + i], "", AT_FDCWD, dir, MOVE_MOUNT_F_EMPTY_PATH));
		sys(__NR_close, got.fd[FD_LAYERS + i]);
		at = put_text(at, dir);
		if (i) at = put_text(at, ":");
	}
	at = put_text(at, ",upperdir=upper,workdir=work");
	if (c->flags & USERNS) at = put_text(at, ",userxattr");
	*at = 0;
	must("mount the layers", sys(__NR_mount, "dayfly", "root", "overlay", MS_NOSUID | MS_NODEV, options));
	static const char *const moves[] = {"proc", "sys", "dev", "tmp"};
	int root = (int)must("open the root", sys(__NR_openat, AT_FDCWD, "root", O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
	for (int i = 0; i < 4; i++) {
		int m = (int)must(moves[i], sys(__NR_openat, AT_FDCWD, moves[i], O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
		must(moves[i], attach(m, root, moves[i]));
		sys(__NR_close, m);
	}
	attach_directories(c, root);
	// Only now: their mount points may have had to be made. Who could undo
	// this would need a privilege that nothing has from here on.
	if (c->flags & READ_ONLY) must("make the root read-only", set_attr(root, 0, MOUNT_ATTR_RDONLY));
	swap_root("enter the root", root);
	sys(__NR_close, root);
}

static void limit(int which, u64 value) {
	struct rlimit l = {value, value};
	must("set a resource limit", sys(__NR_prlimit64, 0, which, &l, 0));
}

enum { LIMIT_CORE = 4, LIMIT_NOFILE = 7, LIMIT_MEMLOCK = 8 };

static void drop_privileges(const struct config *c) {
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {{0}, {0}};
	struct sock_fprog filter = {(unsigned short)c->filter_len, (struct sock_filter *)text_at(c, c->filter_at)};
	limit(LIMIT_CORE, 0);
	limit(LIMIT_MEMLOCK, 64 << 10);
	sys(__NR_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0); // a kernel without keyrings has none to share
	for (u32 cap = 0; sys(__NR_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++) {}
	sys(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	set_groups(c->groups, text_at(c, c->groups_at));
	must("set the group", sys(__NR_setresgid, c->gid, c->gid, c->gid));
	must("set the user", sys(__NR_setresuid, c->uid, c->uid, c->uid));
	must("drop capabilities", sys(__NR_capset, &h, none));
	must("forbid new privileges", sys(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	// The function runs as the same user: it may not look into this process.
	must("hide init", sys(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0));
	must("load the system call filter", sys(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter));
}

// exec_function does not return when it works. It looks for a program without
// a slash in its name on the PATH, as execvp does.
static long exec_function(const struct config *c, char **argv, char **envp) {
	char path[4096];
	long err = -ENOENT;
	const char *name = argv[0];
	for (const char *s = name; *s; s++)
		if (*s == '/') return sys(__NR_execve, name, argv, envp);
	for (const char *dir = text_at(c, c->path_at); *dir;) {
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

// enter_directory makes the working directory of the image the process's. The
// path is the image's and may lead through /proc/self/fd: whoever comes here
// has closed all files but its three streams (CVE-2024-21626), and what is not
// below the root is left again.
static long enter_directory(const char *path) {
	char at[4096];
	long r = sys(__NR_chdir, path);
	if (r >= 0) r = sys(__NR_getcwd, at, sizeof at);
	if (r > 0 && at[0] != '/') r = -ENOENT; // "(unreachable)", getcwd(2)
	return r;
}

_Noreturn static void function_process(const struct config *c, char **argv, char **envp, const int io[3], int pipe) {
	enum { REPORT = 3 };
	u64 no_signals = 0;
	struct rlimit files = {c->nofile, c->nofile};
	long r;
	sys(__NR_setsid);
	// The four may stand in each other's places: move them up first.
	int from[4] = {io[0], io[1], io[2], pipe};
	for (int i = 0; i < 4; i++)
		if ((r = from[i] = (int)sys(__NR_fcntl, from[i], F_DUPFD_CLOEXEC, 10)) < 0) child_fail(pipe, "join the streams", r);
	for (int i = 0; i < 4; i++)
		if ((r = sys(__NR_dup3, from[i], i, i == REPORT ? O_CLOEXEC : 0)) < 0) child_fail(from[REPORT], "join the streams", r);
	if ((r = sys(__NR_close_range, REPORT + 1, ~0U, 0)) < 0) child_fail(REPORT, "close files", r);
	if ((r = sys(__NR_prlimit64, 0, LIMIT_NOFILE, &files, 0)) < 0) child_fail(REPORT, "limit the open files", r);
	if ((r = enter_directory(text_at(c, c->cwd_at))) < 0) child_fail(REPORT, "enter the working directory", r);
	sys(__NR_rt_sigprocmask, SIG_SETMASK, &no_signals, 0, sizeof no_signals);
	child_fail(REPORT, "exec", exec_function(c, argv, envp));
}

static char **pointers(const char *text, u32 n) {
	char **p = (char **)must("get memory", sys(__NR_mmap, 0, (n + 1) * sizeof(char *), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	for (u32 i = 0; i < n; i++) {
		p[i] = (char *)text;
		text += length(text) + 1;
	}
	p[n] = 0;
	return p;
}

// ---- init's life ------------------------------------------------------

static struct {
	int child;
	int signals;   // signalfd
	int detached;
	int server;    // the control socket still has its other end
	int dir;       // of a detached one: where its exit goes
	struct copy {  // of a detached one: output on its way to a file
		int from, to;
		u64 left;
	} out, err;
} life;

static const struct config *map_config(int fd) {
	struct statx st;
	must("read the configuration", sys(__NR_statx, fd, "", AT_EMPTY_PATH, STATX_SIZE, &st));
	if (st.stx_size < sizeof(struct config)) fail("read the configuration", EINVAL);
	const struct config *c = (const struct config *)must("read the configuration",
		sys(__NR_mmap, 0, st.stx_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	if (c->magic != CONFIG_MAGIC || c->size > st.stx_size || c->layers > 128 || c->mounts > 16 ||
	    got.n != (int)(FD_LAYERS + c->layers + c->mounts))
		fail("read the configuration", EINVAL);
	return c;
}

static void start_function(void) {
	const struct config *c = map_config(got.fd[FD_CONFIG]);
	int io[3] = {got.fd[FD_IN], got.fd[FD_OUT], got.fd[FD_ERR]};
	int report[2], pipes[2][2];
	write_file("upper/etc/hostname", text_at(c, c->hostname_at));
	write_file("upper/etc/hosts", text_at(c, c->hosts_at));
	write_file("upper/etc/resolv.conf", text_at(c, c->resolv_at));
	if (c->tmp_kib) resize("resize /tmp", "tmp", c->tmp_kib, 0);
	// What is written to the root goes to the staging area, which has the upper
	// layer; a file takes a page of it at least, and a name.
	if (c->root_kib) resize("resize the root", "/", c->root_kib + STAGING_KIB, c->root_kib / 4 + STAGING_INODES);
	int sockets = c->sockets_at ? place_sockets(text_at(c, c->sockets_at)) : -1;
	mount_root(c);
	if (sockets >= 0) must("attach the directory of sockets", attach(sockets, AT_FDCWD, text_at(c, c->sockets_at) + 1));
	const char *host = text_at(c, c->hostname_at);
	size_t n = length(host);
	must("set the host name", sys(__NR_sethostname, host, n && host[n - 1] == '\n' ? n - 1 : n));
	if (c->flags & DETACHED) {
		life.detached = 1;
		life.dir = got.fd[FD_DIR];
		must("take the lock", sys(__NR_flock, got.fd[FD_LOCK], LOCK_EX));
		must("make a pipe", sys(__NR_pipe2, pipes[0], O_CLOEXEC));
		must("make a pipe", sys(__NR_pipe2, pipes[1], O_CLOEXEC));
		life.out = (struct copy){pipes[0][0], io[1], c->out_limit};
		life.err = (struct copy){pipes[1][0], io[2], c->err_limit};
		io[1] = pipes[0][1];
		io[2] = pipes[1][1];
	}
	drop_privileges(c);
	char **argv = pointers(text_at(c, c->args_at), c->args);
	char **envp = pointers(text_at(c, c->envs_at), c->envs);
	must("make a pipe", sys(__NR_pipe2, report, O_CLOEXEC));
	life.child = (int)must("fork", sys(__NR_clone, SIGCHLD, 0, 0, 0, 0));
	if (life.child == 0) function_process(c, argv, envp, io, report[1]);
	sys(__NR_close, report[1]);
	struct start_error e;
	long r;
	do r = sys(__NR_read, report[0], &e, sizeof e);
	while (r == -EINTR);
	if (r == sizeof e) fail(e.step, e.err);
	sys(__NR_close, report[0]);
	for (int i = 0; i < 3; i++) sys(__NR_close, io[i]);
	sys(__NR_close, got.fd[FD_CONFIG]);
	say_with('S', life.child, 0, "", sockets);
	if (sockets >= 0) sys(__NR_close, sockets);
}

// copy_some moves what is there from a pipe to its file; what is over the
// limit is read and dropped, so that the function never blocks on it.
static void copy_some(struct copy *c) {
	static char buf[32768];
	long n = sys(__NR_read, c->from, buf, sizeof buf);
	if (n == -EINTR || n == -EAGAIN) return;
	if (n <= 0) {
		sys(__NR_close, c->from);
		c->from = -1;
		return;
	}
	u64 keep = (u64)n < c->left ? (u64)n : c->left;
	c->left -= keep;
	for (u64 done = 0; done < keep;) {
		long w = sys(__NR_write, c->to, buf + done, keep - done);
		if (w == -EINTR) continue;
		if (w <= 0) { // the disk is full: the rest is lost, the run is not
			c->left = 0;
			break;
		}
		done += (u64)w;
	}
}

// finish ends the sandbox: the kernel kills every other process in it when
// this one exits.
_Noreturn static void finish(int code, int signal) {
	if (life.detached) {
		// What still holds the pipes would keep them open for ever.
		sys(__NR_kill, -1, SIGKILL);
		while (sys(__NR_wait4, -1, 0, 0, 0) > 0) {}
		while (life.out.from >= 0) copy_some(&life.out);
		while (life.err.from >= 0) copy_some(&life.err);
		char text[32], *at = put_number(text, (u32)code);
		*at++ = ' ';
		at = put_number(at, (u32)signal);
		*at++ = '\n';
		long fd = sys(__NR_openat, life.dir, "exit.tmp", O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd >= 0 && sys(__NR_write, fd, text, at - text) == at - text && sys(__NR_fsync, fd) == 0)
			sys(__NR_renameat2, life.dir, "exit.tmp", life.dir, "exit", 0);
	}
	if (life.server) say('X', code, signal, "");
	leave(0);
}

static void reap(void) {
	int status;
	long pid;
	while ((pid = sys(__NR_wait4, -1, &status, WNOHANG, 0)) > 0)
		if (pid == life.child) {
			int signal = status & 0x7f;
			finish(signal ? 128 + signal : (status >> 8) & 0xff, signal);
		}
}

static void hear_server(void) {
	struct request q;
	long n = receive(&q, sizeof q);
	if (n <= 0) { // the server is gone
		if (!life.detached) leave(0);
		sys(__NR_close, CTL);
		life.server = 0;
		return;
	}
	if (n == sizeof q && q.kind == 'K') sys(__NR_kill, life.child, q.arg);
	if (n == sizeof q && q.kind == 'G' && !life.child) start_function();
}

// hear_signals forwards what comes from outside (an init that lost its server
// has no other ear) and reaps. The function may send init signals too, and gets
// them back.
static void hear_signals(void) {
	u8 info[128]; // struct signalfd_siginfo; its first word is the number
	u32 number;
	while (sys(__NR_read, life.signals, info, sizeof info) == sizeof info) {
		memcpy(&number, info, sizeof number);
		if (number != SIGCHLD && life.child) sys(__NR_kill, life.child, number);
	}
	reap();
}

_Noreturn static void init_process(void) {
	struct request q;
	u64 all = ~0UL;
	life.out.from = life.err.from = -1;
	life.server = 1;
	sys(__NR_rt_sigprocmask, SIG_SETMASK, &all, 0, sizeof all);
	if (receive(&q, sizeof q) != sizeof q || q.kind != 'P') leave(0);
	// What came along are the "tasks" files of cgroups to move into.
	for (int i = 0; i < got.n; i++) {
		if (sys(__NR_write, got.fd[i], "0", 1) != 1) fail("join a cgroup", EIO);
		sys(__NR_close, got.fd[i]);
	}
	prepare();
	life.signals = (int)must("make a signalfd", sys(__NR_signalfd4, -1, &all, sizeof all, SIGNALFD_FLAGS));
	say('R', 0, 0, "");
	for (;;) {
		struct pollfd p[4] = {
			{life.signals, POLLIN, 0},
			{life.server ? CTL : -1, POLLIN, 0},
			{life.out.from, POLLIN, 0},
			{life.err.from, POLLIN, 0},
		};
		if (sys(__NR_ppoll, p, 4, 0, 0, 0) < 0) continue;
		if (p[1].revents) hear_server();
		if (p[2].revents) copy_some(&life.out);
		if (p[3].revents) copy_some(&life.err);
		if (p[0].revents) hear_signals();
	}
}

// ---- spawner ----------------------------------------------------------

// clone_for clones as another user, who then owns the user namespace. What the
// kernel counts by user (inotify instances, message queues, waiting signals,
// timers) it counts in the namespace and once more for its owner
// (user_namespaces(7)): were that root for all, one function could use up what
// root and every other function have.
static long clone_for(u32 owner, struct clone_args *a) {
	u32 self = (u32)sys(__NR_geteuid);
	long r = sys(__NR_setresuid, -1, owner, -1);
	if (r < 0) return r;
	sys(__NR_setfsuid, self); // to whom the cgroup belongs
	r = sys(__NR_clone3, a, sizeof *a);
	if (r != 0) sys(__NR_setresuid, -1, self, -1);
	return r;
}

static void spawn(const struct spawn_request *q) {
	int pidfd = -1;
	struct clone_args a = {
		.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD | CLONE_PARENT,
		.pidfd = (u64)(unsigned long)&pidfd,
	};
	// One whose user namespace is all that is wanted of it ends when its socket
	// closes, as an init does that nobody needs.
	if (q->flags & SPAWN_ALONE) a.flags = CLONE_PIDFD | CLONE_PARENT;
	if (q->flags & SPAWN_USERNS) a.flags |= CLONE_NEWUSER;
	if (q->flags & SPAWN_CGROUP) {
		a.flags |= CLONE_INTO_CGROUP;
		a.cgroup = (u64)got.fd[1];
	}
	int ctl = got.fd[0];
	long pid = q->flags & SPAWN_USERNS ? clone_for(q->owner, &a) : sys(__NR_clone3, &a, sizeof a);
	if (pid == 0) {
		sys(__NR_dup3, ctl, CTL, O_CLOEXEC);
		sys(__NR_close_range, CTL + 1, ~0U, 0);
		init_process();
	}
	struct spawn_reply r = {(int)pid};
	for (int i = 0; i < got.n; i++) sys(__NR_close, got.fd[i]);
	transmit(&r, sizeof r, pid > 0 ? pidfd : -1);
	if (pid > 0) sys(__NR_close, pidfd);
}

static void exempt_from_oom(void) {
	long fd = sys(__NR_openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC, 0);
	if (fd < 0) return;
	sys(__NR_write, fd, "-1000", 5);
	sys(__NR_close, fd);
}

// hear_all_signals undoes that whoever started the server had it ignore some, as
// nohup and shells do: functions would inherit it, execve(2) does not end it.
static void hear_all_signals(void) {
	static const u64 by_default[4]; // struct sigaction: SIG_DFL, no flags, no restorer, no mask
	for (int s = 1; s <= 64; s++) sys(__NR_rt_sigaction, s, by_default, 0, 8);
}

__attribute__((used)) _Noreturn void start(long *stack) {
	struct spawn_request q;
	(void)stack;
	exempt_from_oom();
	hear_all_signals();
	for (;;) {
		long n = receive(&q, sizeof q);
		if (n <= 0) leave(0);
		if (n == sizeof q && q.kind == 'C' && got.n >= 1) spawn(&q);
	}
}
