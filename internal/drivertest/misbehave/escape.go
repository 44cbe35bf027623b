package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// escape tries ways out of a sandbox and prints, as JSON, the error of each,
// "" for one that worked.
func escape([]string) {
	out := map[string]string{}
	for name, try := range escapes() {
		out[name] = ""
		if err := try(); err != nil {
			out[name] = err.Error()
		}
	}
	say(out)
}

func escapes() map[string]func() error {
	all := map[string]func() error{}
	for _, group := range []map[string]func() error{mounting(), namespacing(), spying(), kernel(), writing(), sockets()} {
		maps.Copy(all, group)
	}
	return all
}

// call makes a system call by number.
func call(number uintptr, args ...uintptr) func() error {
	return func() error {
		var a [6]uintptr
		copy(a[:], args)
		if _, _, err := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); err != 0 {
			return err
		}
		return nil
	}
}

// texts keeps what text has given the address of.
var texts []*byte

func text(s string) uintptr {
	p := must(unix.BytePtrFromString(s))
	texts = append(texts, p)
	return uintptr(unsafe.Pointer(p))
}

func mounting() map[string]func() error {
	return map[string]func() error{
		"mount tmpfs":   func() error { return unix.Mount("none", "/tmp", "tmpfs", 0, "") },
		"mount proc":    func() error { return unix.Mount("none", "/tmp", "proc", 0, "") },
		"remount root":  func() error { return unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND, "") },
		"remount proc":  func() error { return unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND, "") },
		"bind":          func() error { return unix.Mount("/proc", "/tmp", "", unix.MS_BIND, "") },
		"unmount":       func() error { return unix.Unmount("/proc/kcore", unix.MNT_DETACH) },
		"unmount proc":  func() error { return unix.Unmount("/proc", unix.MNT_DETACH) },
		"fsopen":        call(unix.SYS_FSOPEN, text("tmpfs"), 0),
		"open_tree":     call(unix.SYS_OPEN_TREE, ^uintptr(99), text("/"), unix.OPEN_TREE_CLONE),
		"move_mount":    call(unix.SYS_MOVE_MOUNT, ^uintptr(99), text("/proc"), ^uintptr(99), text("/tmp"), 0),
		"mount_setattr": call(unix.SYS_MOUNT_SETATTR, ^uintptr(99), text("/"), 0, text("0123456789abcdef0123456789abcdef"), 32),
		"pivot_root":    func() error { return unix.PivotRoot("/tmp", "/tmp") },
		"chroot":        func() error { return unix.Chroot("/tmp") },
		"mknod memory":  func() error { return unix.Mknod("/tmp/mem", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 1))) },
		"mknod disk":    func() error { return unix.Mknod("/tmp/disk", unix.S_IFBLK|0o666, int(unix.Mkdev(254, 0))) },
		"handle": func() error {
			h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "/", 0)
			if err != nil {
				h = unix.NewFileHandle(1, make([]byte, 8))
			}
			_, err = unix.OpenByHandleAt(unix.AT_FDCWD, h, unix.O_RDONLY)
			return err
		},
	}
}

func namespacing() map[string]func() error {
	tries := map[string]func() error{
		"clone3 user": func() error {
			args := [11]uint64{unix.CLONE_NEWUSER}
			pid, _, err := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
			if err == 0 && pid == 0 {
				unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
			}
			if err != 0 {
				return err
			}
			return nil
		},
		"setuid":    func() error { return unix.Setresuid(12345, 12345, 12345) },
		"setgroups": func() error { return unix.Setgroups([]int{0, 1, 2, 3}) },
		"capset": func() error {
			h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			d := [2]unix.CapUserData{{Effective: 1 << unix.CAP_SYS_ADMIN, Permitted: 1 << unix.CAP_SYS_ADMIN}}
			return unix.Capset(&h, &d[0])
		},
	}
	for name, flag := range map[string]int{
		"user": unix.CLONE_NEWUSER, "mount": unix.CLONE_NEWNS, "net": unix.CLONE_NEWNET, "pid": unix.CLONE_NEWPID, "cgroup": unix.CLONE_NEWCGROUP,
	} {
		tries["unshare "+name] = call(unix.SYS_UNSHARE, uintptr(flag))
	}
	for _, kind := range []string{"net", "mnt", "user", "pid"} {
		for _, pid := range []string{"1", "self"} {
			tries["setns "+kind+" of "+pid] = func() error {
				f, err := os.Open("/proc/" + pid + "/ns/" + kind)
				if err != nil {
					return err
				}
				return unix.Setns(int(f.Fd()), 0)
			}
		}
	}
	return tries
}

// spying looks into the first process of the sandbox.
func spying() map[string]func() error {
	open := func(path string, flags int) func() error {
		return func() error {
			_, err := os.OpenFile(path, flags, 0)
			return err
		}
	}
	return map[string]func() error{
		"ptrace attach":         call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1),
		"ptrace seize":          call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, 1),
		"memory of init":        open("/proc/1/mem", os.O_RDWR),
		"environment of init":   open("/proc/1/environ", os.O_RDONLY),
		"map of init":           open("/proc/1/maps", os.O_RDONLY),
		"root of init":          open("/proc/1/root", os.O_RDONLY),
		"directory of init":     open("/proc/1/cwd", os.O_RDONLY),
		"files of init":         open("/proc/1/fd", os.O_RDONLY),
		"a file of init":        open("/proc/1/fd/3", os.O_RDWR),
		"program of init":       open("/proc/1/exe", os.O_RDONLY),
		"stack of init":         open("/proc/1/stack", os.O_RDONLY),
		"process_vm_readv":      vmRead,
		"pidfd_getfd":           pidfdGetfd,
		"overwrite own program": open("/proc/self/exe", os.O_RDWR),
		"kernel memory":         readSome("/proc/kcore"),
		"kernel log":            func() error { _, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, make([]byte, 64)); return err },
		"kmsg":                  open("/proc/kmsg", os.O_RDONLY),
		"keys":                  readSome("/proc/keys"),
	}
}

// overwrite tries to write to the programs that run, by a handle that was
// opened before, as CVE-2019-5736 did, and prints the error of each as JSON.
func overwrite([]string) {
	out := map[string]string{}
	for _, path := range []string{"/proc/self/exe", "/proc/1/exe", "/proc/2/exe", "/misbehave"} {
		err := reopen(path)
		out[path] = ""
		if err != nil {
			out[path] = err.Error()
		}
	}
	say(out)
}

func reopen(path string) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for range 1000 {
		var f *os.File
		if f, err = os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), os.O_WRONLY, 0); err == nil {
			_, err = f.WriteString("#!/misbehave")
			return err
		}
	}
	return err
}

func vmRead() error {
	b := make([]byte, 8)
	local := []unix.Iovec{{Base: &b[0], Len: 8}}
	_, err := unix.ProcessVMReadv(1, local, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
	return err
}

func pidfdGetfd() error {
	fd, err := unix.PidfdOpen(1, 0)
	if err != nil {
		return err
	}
	_, err = unix.PidfdGetfd(fd, 3, 0)
	return err
}

func readSome(path string) func() error {
	return func() error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = f.Read(make([]byte, 16))
		return err
	}
}

func kernel() map[string]func() error {
	now := unix.Timespec{Sec: 1_000_000_000}
	attr := make([]byte, 128)
	return map[string]func() error{
		"bpf":           call(unix.SYS_BPF, unix.BPF_MAP_CREATE, uintptr(unsafe.Pointer(&attr[0])), 72),
		"io_uring":      call(unix.SYS_IO_URING_SETUP, 4, uintptr(unsafe.Pointer(&attr[0]))),
		"perf":          call(unix.SYS_PERF_EVENT_OPEN, uintptr(unsafe.Pointer(&attr[0])), 0, ^uintptr(0), ^uintptr(0), 0),
		"userfaultfd":   call(unix.SYS_USERFAULTFD, 0),
		"fanotify":      func() error { _, err := unix.FanotifyInit(0, 0); return err },
		"settimeofday":  func() error { return unix.Settimeofday(&unix.Timeval{Sec: 1_000_000_000}) },
		"clock_settime": func() error { return unix.ClockSettime(unix.CLOCK_REALTIME, &now) },
		"adjtimex":      func() error { _, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_OFFSET, Offset: 1000}); return err },
		"sethostname":   func() error { return unix.Sethostname([]byte("mine")) },
		"setdomainname": func() error { return unix.Setdomainname([]byte("mine")) },
		"reboot":        call(unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2, unix.LINUX_REBOOT_CMD_CAD_OFF),
		"load a module": func() error { return unix.InitModule(attr, "") },
		"kexec":         call(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0),
		"swapon":        call(unix.SYS_SWAPON, text("/tmp/swap"), 0),
		"acct":          func() error { return unix.Acct("") },
		"quota":         call(unix.SYS_QUOTACTL, 0x800002<<8, text("/dev/vda"), 0, 0),
		"keyctl":        func() error { _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, true); return err },
		"add_key": func() error {
			_, err := unix.AddKey("user", "x", []byte("y"), unix.KEY_SPEC_SESSION_KEYRING)
			return err
		},
		"request_key":       func() error { _, err := unix.RequestKey("user", "x", "", unix.KEY_SPEC_SESSION_KEYRING); return err },
		"personality":       call(unix.SYS_PERSONALITY, 0x0040000),
		"a higher priority": func() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -10) },
		"real time":         call(unix.SYS_SCHED_SETSCHEDULER, 0, 1, uintptr(unsafe.Pointer(&[1]int32{10}))),
		"more open files":   func() error { return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}) },
		"lock memory":       func() error { return unix.Mlock(make([]byte, 1<<20)) },
		"kcmp":              call(unix.SYS_KCMP, 1, uintptr(os.Getpid()), 0, 0, 0),
		"end init":          endInit,
		"signal the host":   signalHost,
	}
}

// endInit reports success when it has not been ended with its init by now.
func endInit() error {
	if err := unix.Kill(1, unix.SIGKILL); err != nil {
		return err
	}
	if err := unix.Kill(1, unix.SIGSTOP); err != nil {
		return err
	}
	return errors.New("it lives on")
}

// signalHost looks for processes that are not the sandbox's.
func signalHost() error {
	for pid := 2; pid < 100_000; pid++ {
		if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); err == nil {
			continue
		}
		if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
			if _, gone := os.Stat("/proc/" + strconv.Itoa(pid)); gone == nil {
				continue
			}
			return nil
		}
	}
	return unix.ESRCH
}

func writing() map[string]func() error {
	tries := map[string]func() error{}
	for path, value := range map[string]string{
		"/proc/sys/kernel/hostname": "mine", "/proc/sys/net/ipv4/ip_forward": "1", "/proc/sys/kernel/core_pattern": "|/tmp/x",
		"/proc/sysrq-trigger": "h", "/proc/self/oom_score_adj": "-1000", "/proc/1/oom_score_adj": "1000",
		"/proc/self/uid_map": "0 0 1", "/proc/self/setgroups": "allow", "/proc/irq/default_smp_affinity": "1",
		"/sys/kernel/uevent_helper": "/tmp/x", "/sys/kernel/mm/ksm/run": "1", "/sys/power/state": "mem",
		"/proc/acpi/wakeup": "x", "/proc/1/clear_refs": "1", "/proc/1/coredump_filter": "1", "/proc/1/timerslack_ns": "1",
	} {
		tries["write "+path] = func() error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString(value)
			return err
		}
	}
	return tries
}

func sockets() map[string]func() error {
	tries := map[string]func() error{}
	for name, s := range map[string][3]int{
		"raw": {unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP}, "raw 6": {unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6},
		"packet": {unix.AF_PACKET, unix.SOCK_RAW, 0}, "packet datagram": {unix.AF_PACKET, unix.SOCK_DGRAM, 0},
		"vsock": {unix.AF_VSOCK, unix.SOCK_STREAM, 0},
	} {
		tries["socket "+name] = func() error {
			_, err := unix.Socket(s[0], s[1], s[2])
			return err
		}
	}
	for _, name := range []string{"@dayfly", "/run/docker.sock", "/var/run/docker.sock"} {
		tries["connect "+name] = func() error {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			return unix.Connect(fd, &unix.SockaddrUnix{Name: name})
		}
	}
	return tries
}

// scribble tries to make a file in every directory and to write to every file
// near the root, and prints which of them it could.
func scribble(dirs []string) {
	could := []string{}
	for _, dir := range dirs {
		for _, name := range append([]string{"misbehave-was-here"}, names(dir)...) {
			path := dir + "/" + name
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_NONBLOCK, 0o666)
			if err == nil {
				_ = f.Close()
				could = append(could, fmt.Sprintf("%s/%s", dir, name))
			}
		}
	}
	say(could)
}
