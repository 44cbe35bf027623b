package main

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reach PID... tries to get hold of processes of others, and of what another
// instance may have left under a name that both know (see leave), and prints,
// as JSON, the error of each, "" for what worked.
func reach(args []string) {
	out := map[string]string{}
	note := func(what string, err error) {
		out[what] = ""
		if err != nil {
			out[what] = err.Error()
		}
	}
	for i, arg := range args {
		pid := number(args, i)
		for name, try := range map[string]func() error{
			"signal":   func() error { return unix.Kill(pid, unix.SIGKILL) },
			"group":    func() error { return unix.Kill(-pid, unix.SIGKILL) },
			"thread":   func() error { return unix.Tgkill(pid, pid, unix.SIGKILL) },
			"pidfd":    func() error { _, err := unix.PidfdOpen(pid, 0); return err },
			"ptrace":   call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, uintptr(pid)),
			"seize":    call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid)),
			"limits":   func() error { return unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &unix.Rlimit{}) },
			"priority": func() error { return unix.Setpriority(unix.PRIO_PROCESS, pid, 19) },
			"affinity": func() error { return unix.SchedSetaffinity(pid, &unix.CPUSet{1}) },
			"look":     func() error { _, err := os.Stat("/proc/" + arg); return err },
			"memory": func() error {
				b := make([]byte, 8)
				_, err := unix.ProcessVMWritev(pid, []unix.Iovec{{Base: &b[0], Len: 8}}, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
				return err
			},
		} {
			note(name+" "+arg, try())
		}
	}
	for name, open := range shared() {
		note(name, open(0))
	}
	say(out)
}

// leave makes things that have a name, says so, and waits for its end.
func leave([]string) {
	for name, open := range shared() {
		if err := open(unix.O_CREAT); err != nil {
			fail("%s: %v", name, err)
		}
	}
	sleep([]string{"left"})
}

// shared opens or makes things that have a name of their own world: of an IPC
// or network namespace, or a directory.
func shared() map[string]func(flags int) error {
	const key = 0xdf
	return map[string]func(int) error{
		"message queue": func(flags int) error {
			name := must(unix.BytePtrFromString("left"))
			_, _, err := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(name)), uintptr(flags|unix.O_RDWR), 0o666, 0, 0, 0)
			return refusal(err)
		},
		// IPC_CREAT has the value of 01000, O_CREAT that of 0100.
		"shared memory":           func(flags int) error { return call(unix.SYS_SHMGET, key, 4096, uintptr(flags*8|0o666))() },
		"semaphores":              func(flags int) error { return call(unix.SYS_SEMGET, key, 1, uintptr(flags*8|0o666))() },
		"System V queue":          func(flags int) error { return call(unix.SYS_MSGGET, key, uintptr(flags*8|0o666))() },
		"a file in /tmp":          openShared("/tmp/left"),
		"a file in /dev/shm":      openShared("/dev/shm/left"),
		"an abstract Unix socket": abstract,
	}
}

func openShared(path string) func(flags int) error {
	return func(flags int) error {
		_, err := os.OpenFile(path, flags|os.O_RDWR, 0o666)
		return err
	}
}

func abstract(flags int) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	at := &unix.SockaddrUnix{Name: "@left"}
	if flags == 0 {
		return unix.Connect(fd, at)
	}
	if err := unix.Bind(fd, at); err != nil {
		return err
	}
	return unix.Listen(fd, 1)
}
