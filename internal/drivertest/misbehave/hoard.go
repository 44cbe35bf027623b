package main

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hoard WHAT [go] takes of something that the kernel counts by user until there
// is no more, says how many it has got, and keeps it, or exits with code 3.
func hoard(args []string) {
	runtime.LockOSThread() // a thread has its own mask of signals
	take := map[string]func(n int) error{
		"inotify": func(int) error { _, err := unix.InotifyInit1(unix.IN_CLOEXEC); return err },
		"queues":  makeQueue,
		"signals": func(int) error { return queueSignal() },
		"timers":  func(int) error { return makeTimer() },
		"pipes":   fillPipe,
		"watches": watchFile,
	}[args[0]]
	for n := 0; ; n++ {
		if err := take(n); err != nil {
			fmt.Println("hoarded", n, err)
			break
		}
	}
	if len(args) > 1 {
		os.Exit(3)
	}
	sleep(nil)
}

// makeQueue makes a POSIX message queue of the largest size for everybody
// (mq_overview(7)).
func makeQueue(n int) error {
	attr := [8]int64{1: 10, 2: 8192} // struct mq_attr: flags, maxmsg, msgsize
	name := must(unix.BytePtrFromString(fmt.Sprint("queue-", n)))
	_, _, err := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(name)), unix.O_CREAT|unix.O_RDWR, 0o600, uintptr(unsafe.Pointer(&attr)), 0, 0)
	return refusal(err)
}

// queueSignal sends a real-time signal to a thread that blocks it: it waits.
func queueSignal() error {
	info := [16]uint64{}
	code := int32(-1) // SI_QUEUE
	*(*int32)(unsafe.Add(unsafe.Pointer(&info), 8)) = code
	const last = 64
	blocked := unix.Sigset_t{}
	blocked.Val[0] = 1 << (last - 1)
	must(0, unix.PthreadSigmask(unix.SIG_BLOCK, &blocked, nil))
	_, _, err := unix.Syscall6(unix.SYS_RT_TGSIGQUEUEINFO, uintptr(os.Getpid()), uintptr(unix.Gettid()), last, uintptr(unsafe.Pointer(&info)), 0, 0)
	return refusal(err)
}

// fillPipe makes a pipe as large as it may be, and fills it.
func fillPipe(int) error {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return err
	}
	size, err := unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, 1<<20)
	if err != nil {
		return err
	}
	_, err = unix.Write(p[1], make([]byte, size))
	return err
}

// watchFile watches one file more, by one instance of inotify.
func watchFile(n int) error {
	if n == 0 {
		watching = must(unix.InotifyInit1(unix.IN_CLOEXEC))
	}
	path := fmt.Sprint("/tmp/", n)
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	_, err := unix.InotifyAddWatch(watching, path, unix.IN_ALL_EVENTS)
	return err
}

var watching int

func makeTimer() error {
	var id int32
	_, _, err := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, 0, uintptr(unsafe.Pointer(&id)))
	return refusal(err)
}

func refusal(err unix.Errno) error {
	if err != 0 {
		return err
	}
	return nil
}
