package seccomp_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/sandbox/seccomp"
)

// roleEnv makes the test binary, run by a test, put itself under the filter and act a part.
const roleEnv = "DAYFLY_SECCOMP_TEST_ROLE"

var roles = map[string]func() error{
	"idle": func() error { return nil },
	"probe": func() error {
		if err := confine(seccomp.Filter()); err != nil {
			return err
		}
		return errors.Join(probe(), work())
	},
	"exec": func() error {
		if err := confine(seccomp.Filter()); err != nil {
			return err
		}
		return unix.Exec(os.Args[1], os.Args[1:], nil)
	},
	"misfit": func() error { return confine(os.ReadFile(os.Args[1])) },
}

func TestMain(m *testing.M) {
	role, ok := roles[os.Getenv(roleEnv)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := role(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func actor(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	return cmd
}

// TestKernel loads the filter for real: what must fail fails, and a program goes on.
func TestKernel(t *testing.T) {
	t.Parallel()
	if out, err := actor(t, "probe").CombinedOutput(); err != nil {
		t.Errorf("a process under the filter: %v\n%s", err, out)
	}
}

// TestKernelKillsMisfits loads the filters of the other architectures: the kernel must accept them as programs, and they
// must take every call of this one for foreign.
func TestKernelKillsMisfits(t *testing.T) {
	t.Parallel()
	for arch := range audits {
		if arch == runtime.GOARCH {
			continue
		}
		out, err := actor(t, "misfit", arch+".bpf").CombinedOutput()
		if got := signalOf(t, err); got != unix.SIGSYS {
			t.Errorf("under the filter of %s: signal %v, want SIGSYS\n%s", arch, got, out)
		}
	}
}

// signalOf is the signal that ended a program, or 0.
func signalOf(t *testing.T, err error) unix.Signal {
	t.Helper()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return status.Signal()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0
}

// confine loads a filter into all threads of this process, for good.
func confine(filter []byte, err error) error {
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	prog := unix.SockFprog{
		Len:    uint16(len(filter) / seccomp.InstructionSize),
		Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.SliceData(filter))),
	}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&prog)))
	if errno != 0 || thread != 0 {
		return fmt.Errorf("load the filter: thread %d, %w", thread, errno)
	}
	return allThreadsFiltered()
}

func allThreadsFiltered() error {
	threads, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		return err
	}
	if len(threads) < 2 {
		return fmt.Errorf("found %d threads, too few to tell", len(threads))
	}
	for _, path := range threads {
		status, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // the thread has ended since
		}
		if err != nil {
			return err
		}
		if !strings.Contains(string(status), "\nSeccomp:\t2\n") {
			return fmt.Errorf("%s shows no filter:\n%s", path, status)
		}
	}
	return nil
}

// denials are calls with arguments that do no harm if they get through.
var denials = []struct {
	name   string
	number uintptr
	args   [2]uintptr
	want   unix.Errno
}{
	{"keyctl", unix.SYS_KEYCTL, [2]uintptr{}, unix.EPERM},
	{"add_key", unix.SYS_ADD_KEY, [2]uintptr{}, unix.EPERM},
	{"request_key", unix.SYS_REQUEST_KEY, [2]uintptr{}, unix.EPERM},
	{"bpf", unix.SYS_BPF, [2]uintptr{}, unix.EPERM},
	{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, [2]uintptr{}, unix.EPERM},
	{"userfaultfd", unix.SYS_USERFAULTFD, [2]uintptr{1}, unix.EPERM},
	{"io_uring_setup", unix.SYS_IO_URING_SETUP, [2]uintptr{1}, unix.EPERM},
	{"io_uring_enter", unix.SYS_IO_URING_ENTER, [2]uintptr{math.MaxUint32}, unix.EPERM},
	{"io_uring_register", unix.SYS_IO_URING_REGISTER, [2]uintptr{math.MaxUint32}, unix.EPERM},
	{"mount", unix.SYS_MOUNT, [2]uintptr{}, unix.EPERM},
	{"umount2", unix.SYS_UMOUNT2, [2]uintptr{}, unix.EPERM},
	{"pivot_root", unix.SYS_PIVOT_ROOT, [2]uintptr{}, unix.EPERM},
	{"chroot", unix.SYS_CHROOT, [2]uintptr{}, unix.EPERM},
	{"fsopen", unix.SYS_FSOPEN, [2]uintptr{}, unix.EPERM},
	{"move_mount", unix.SYS_MOVE_MOUNT, [2]uintptr{math.MaxUint32}, unix.EPERM},
	{"mount_setattr", unix.SYS_MOUNT_SETATTR, [2]uintptr{math.MaxUint32}, unix.EPERM},
	{"setns", unix.SYS_SETNS, [2]uintptr{math.MaxUint32}, unix.EPERM},
	{"unshare of a user namespace", unix.SYS_UNSHARE, [2]uintptr{unix.CLONE_NEWUSER}, unix.EPERM},
	{"unshare of nothing", unix.SYS_UNSHARE, [2]uintptr{}, unix.EPERM},
	{"kexec_load", unix.SYS_KEXEC_LOAD, [2]uintptr{0, math.MaxUint32}, unix.EPERM},
	{"reboot", unix.SYS_REBOOT, [2]uintptr{}, unix.EPERM},
	{"init_module", unix.SYS_INIT_MODULE, [2]uintptr{}, unix.EPERM},
	{"swapon", unix.SYS_SWAPON, [2]uintptr{}, unix.EPERM},
	{"clone3", unix.SYS_CLONE3, [2]uintptr{}, unix.ENOSYS},
	{"socket AF_VSOCK", unix.SYS_SOCKET, [2]uintptr{unix.AF_VSOCK, unix.SOCK_STREAM}, unix.EPERM},
	{"socket AF_VSOCK with a high bit", unix.SYS_SOCKET, [2]uintptr{1<<32 | unix.AF_VSOCK, unix.SOCK_STREAM}, unix.EPERM},
	{"socket AF_ALG", unix.SYS_SOCKET, [2]uintptr{unix.AF_ALG, unix.SOCK_SEQPACKET}, unix.EPERM},
	{"personality ADDR_NO_RANDOMIZE", unix.SYS_PERSONALITY, [2]uintptr{0x0040000}, unix.EPERM},
	{"a call of the future", unix.SYS_REMOVEXATTRAT + 1, [2]uintptr{}, unix.ENOSYS},
	{"a call of the far future", 5000, [2]uintptr{}, unix.ENOSYS},
	{"an x32 call", 0x4000_0000 | unix.SYS_GETPID, [2]uintptr{}, unix.ENOSYS},
	{"personality query", unix.SYS_PERSONALITY, [2]uintptr{math.MaxUint32}, 0},
	{"getpid", unix.SYS_GETPID, [2]uintptr{}, 0},
}

func probe() error {
	var errs []error
	for _, d := range denials {
		if _, _, got := unix.Syscall6(d.number, d.args[0], d.args[1], 0, 0, 0, 0); got != d.want {
			errs = append(errs, fmt.Errorf("%s: error number %d (%w), want %d", d.name, int(got), got, int(d.want)))
		}
	}
	for _, flag := range []uintptr{unix.CLONE_NEWUSER, unix.CLONE_NEWNS, unix.CLONE_NEWPID, unix.CLONE_NEWNET} {
		pid, _, got := unix.RawSyscall6(unix.SYS_CLONE, flag|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if got == 0 && pid == 0 {
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0) // the child of a clone that got through
		}
		if got != unix.EPERM {
			errs = append(errs, fmt.Errorf("clone with %#x: %w, want EPERM", flag, got))
		}
	}
	return errors.Join(errs...)
}

// work is what a program does all day.
func work() error {
	return errors.Join(useFiles(), useMemory(), useThreads(), useNetwork(), useChild())
}

func useFiles() error {
	dir, err := os.MkdirTemp("", "seccomp")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "file")
	writeErr := os.WriteFile(path, []byte("content"), 0o600)
	content, readErr := os.ReadFile(path)
	if readErr == nil && string(content) != "content" {
		readErr = fmt.Errorf("read back %q", content)
	}
	return errors.Join(writeErr, readErr, os.RemoveAll(dir))
}

func useMemory() error {
	page, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	if _, err := rand.Read(page); err != nil {
		return err
	}
	if _, err := unix.Getrandom(page, 0); err != nil {
		return fmt.Errorf("getrandom: %w", err)
	}
	return errors.Join(unix.Mprotect(page, unix.PROT_READ), unix.Munmap(page))
}

// useThreads has more goroutines hold a thread at once than there can be idle ones.
func useThreads() error {
	const threads = 16
	var mu sync.Mutex
	ids := map[int]bool{}
	var started, done sync.WaitGroup
	started.Add(threads)
	for range threads {
		done.Go(func() {
			runtime.LockOSThread()
			mu.Lock()
			ids[unix.Gettid()] = true
			mu.Unlock()
			started.Done()
			started.Wait()
		})
	}
	done.Wait()
	if len(ids) != threads {
		return fmt.Errorf("%d goroutines ran on %d threads", threads, len(ids))
	}
	return nil
}

func useNetwork() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, err = io.WriteString(conn, "hello")
			err = errors.Join(err, conn.Close())
		}
		served <- err
	}()
	conn, err := net.DialTimeout("tcp", listener.Addr().String(), 10*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	got, err := io.ReadAll(conn)
	if err == nil && string(got) != "hello" {
		err = fmt.Errorf("received %q", got)
	}
	return errors.Join(err, <-served)
}

// useChild starts a program, which inherits the filter.
func useChild() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleEnv+"=idle")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("start a program: %w: %s", err, out)
	}
	return nil
}
