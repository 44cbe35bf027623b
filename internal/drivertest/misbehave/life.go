package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func number(args []string, i int) int {
	if i >= len(args) {
		fail("argument %d is missing", i)
	}
	return must(strconv.Atoi(args[i]))
}

// exit CODE [TEXT...] says the text on stderr and exits.
func exit(args []string) {
	if len(args) > 1 {
		fmt.Fprintln(os.Stderr, strings.Join(args[1:], " "))
	}
	os.Exit(number(args, 0))
}

// killSelf SIGNAL.
func killSelf(args []string) {
	signal.Reset()
	_ = unix.Kill(os.Getpid(), unix.Signal(number(args, 0)))
	select {}
}

// argument prints the length and sum of what follows.
func argument(args []string) {
	for _, a := range args {
		fmt.Printf("%d %x\n", len(a), sha256.Sum256([]byte(a)))
	}
}

// copyStdin copies stdin to stdout and says on stderr how much it was.
func copyStdin([]string) {
	n := must(io.Copy(os.Stdout, os.Stdin))
	fmt.Fprintf(os.Stderr, "%d bytes\n", n)
}

// printBoth N prints N bytes to each of stdout ("o") and stderr ("e").
func printBoth(args []string) {
	left := number(args, 0)
	out, err := strings.Repeat("o", 1<<16), strings.Repeat("e", 1<<16)
	for left > 0 {
		n := min(left, 1<<16)
		must(io.WriteString(os.Stdout, out[:n]))
		must(io.WriteString(os.Stderr, err[:n]))
		left -= n
	}
}

// flood prints lines without end.
func flood([]string) {
	line := strings.Repeat("flood ", 1000) + "\n"
	for {
		must(io.WriteString(os.Stderr, line))
	}
}

// sleep [TEXT] says the text and waits for its end.
func sleep(args []string) {
	if len(args) > 0 {
		fmt.Println(args[0])
	}
	for {
		time.Sleep(time.Hour)
	}
}

// spin [N] uses the processor, or N of them.
func spin(args []string) {
	fmt.Println("spinning")
	if len(args) > 0 {
		runtime.GOMAXPROCS(number(args, 0) + 1)
		for range number(args, 0) - 1 {
			go func() {
				for i := 0; ; i++ {
					runtime.KeepAlive(i)
				}
			}()
		}
	}
	for i := 0; ; i++ {
		runtime.KeepAlive(i)
	}
}

// signals ignore: takes no notice of any. signals CODE: prints the first one
// and exits.
func signals(args []string) {
	c := make(chan os.Signal, 8)
	signal.Notify(c, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1)
	fmt.Println("ready")
	for s := range c {
		fmt.Println(s)
		if args[0] != "ignore" {
			os.Exit(number(args, 0))
		}
	}
}

func start(args ...string) error {
	_, err := os.StartProcess("/proc/self/exe", append([]string{os.Args[0]}, args...), &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	return err
}

// children N CODE leaves processes behind that hold the streams open.
func children(args []string) {
	for range number(args, 0) {
		if err := start("signals", "ignore"); err != nil {
			fail("%v", err)
		}
	}
	os.Exit(number(args, 1))
}

// daemon leaves a process behind whose parent has ended, which prints for ever.
func daemon(args []string) {
	if len(args) > 0 {
		fmt.Println("daemon")
		flood(nil)
	}
	// Its child's child is the daemon.
	if err := start("daemon", "inner"); err != nil {
		fail("%v", err)
	}
	fmt.Println("left")
}

// raw makes a child that waits for its end, or forks on, without the Go
// runtime, which cannot do without new threads.
func raw(on bool) unix.Errno {
	pid, _, err := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if err != 0 || pid != 0 {
		return err
	}
	for {
		if on {
			unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
			continue
		}
		unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
}

// fork makes processes until it cannot, and says how many there were.
func fork([]string) {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	for n := 0; ; n++ {
		if err := raw(false); err != 0 {
			fmt.Println(n, err)
			return
		}
	}
}

// bomb makes processes that make processes.
func bomb([]string) {
	runtime.LockOSThread()
	fmt.Println("bomb")
	for {
		raw(true)
	}
}

// feed MIB CODE [TEXT] has a child use memory, tells its end, and exits itself;
// with a text it says that and waits instead.
func feed(args []string) {
	child := exec.Command("/proc/self/exe", "eat", "memory", args[0])
	fmt.Println("the child:", child.Run())
	if len(args) > 2 {
		sleep(args[2:])
	}
	os.Exit(number(args, 1))
}

// breathe MIB... uses so much memory one after the other, and lets go of it.
// It does each when a line comes, and says when it is done.
func breathe(args []string) {
	in := bufio.NewReader(os.Stdin)
	for i := range args {
		if _, err := in.ReadString('\n'); err != nil {
			fail("%v", err)
		}
		b := must(unix.Mmap(-1, 0, number(args, i)<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE))
		for j := 0; j < len(b); j += 4096 {
			b[j] = 1
		}
		if err := unix.Munmap(b); err != nil {
			fail("%v", err)
		}
		fmt.Println("breathed", i)
	}
	_, _ = in.ReadString('\n')
}

// eat WHAT MIB uses memory; it says so when it has it and then waits.
func eat(args []string) {
	want := number(args, 1) << 20
	dir, inodes := strings.CutPrefix(args[0], "inodes:")
	switch {
	case args[0] == "memory":
		b := must(unix.Mmap(-1, 0, want, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE))
		for i := 0; i < want; i += 4096 {
			b[i] = 1
		}
	case inodes:
		for i := 0; ; i++ {
			f, err := os.Create(dir + "/" + strconv.Itoa(i) + strings.Repeat("x", 200))
			if err != nil {
				fmt.Println(i, err)
				os.Exit(3)
			}
			_ = f.Close()
		}
	default: // a directory
		f := must(os.Create(args[0] + "/eaten"))
		for n := 0; n < want; n += 1 << 16 {
			if _, err := f.Write(make([]byte, 1<<16)); err != nil {
				fmt.Println(n, err)
				os.Exit(3)
			}
		}
	}
	fmt.Println("ate", want)
	// Whoever is told so may let it go.
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}
