package seccomp_test

import (
	"bytes"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/sandbox/seccomp"
	"github.com/dayfly-io/dayfly/internal/sandbox/seccomp/compile"
)

// common are the calls that ordinary servers and their language runtimes make most.
var common = []string{
	"read", "write", "close", "fstat", "lseek", "mmap", "mprotect", "munmap", "brk", "rt_sigaction", "rt_sigprocmask",
	"rt_sigreturn", "ioctl", "pread64", "readv", "writev", "sched_yield", "madvise", "nanosleep", "getpid", "gettid",
	"socket", "connect", "accept4", "sendto", "recvfrom", "sendmsg", "recvmsg", "setsockopt", "clone", "execve", "wait4",
	"futex", "epoll_ctl", "epoll_pwait", "clock_gettime", "openat", "newfstatat", "fcntl", "getrandom",
}

// committed reads a filter that the package embeds.
func committed(t *testing.T, arch string) []compile.Instruction {
	t.Helper()
	encoded, err := os.ReadFile(arch + ".bpf")
	if err != nil {
		t.Fatal(err)
	}
	program, err := compile.Unmarshal(encoded)
	if err != nil {
		t.Fatalf("%s.bpf: %v", arch, err)
	}
	return program
}

func numbersOf(t *testing.T, arch string) map[string]uint32 {
	t.Helper()
	numbers, err := compile.Numbers(t.Context(), arch)
	if err != nil {
		t.Fatal(err)
	}
	return numbers
}

// answer runs a filter and fails the test when the kernel would have refused it.
func answer(t *testing.T, program []compile.Instruction, call compile.Call) (compile.Action, int) {
	t.Helper()
	a, steps, err := compile.Run(program, call)
	if err != nil {
		t.Fatalf("%+v: %v", call, err)
	}
	return a, steps
}

func TestFilterIsTheCommittedOne(t *testing.T) {
	t.Parallel()
	filter, err := seccomp.Filter()
	if err != nil {
		t.Fatal(err)
	}
	if want := compile.Marshal(committed(t, runtime.GOARCH)); !bytes.Equal(filter, want) {
		t.Errorf("the embedded filter is not %s.bpf", runtime.GOARCH)
	}
	if seccomp.InstructionSize != compile.InstructionSize {
		t.Errorf("an instruction is %d bytes here and %d in the compiler", seccomp.InstructionSize, compile.InstructionSize)
	}
	filter[0] ^= 0xff
	if again, err := seccomp.Filter(); err != nil || again[0] == filter[0] {
		t.Errorf("a caller can change the filter of others (error %v)", err)
	}
}

func TestFiltersAreUpToDate(t *testing.T) {
	t.Parallel()
	for _, arch := range compile.Arches() {
		policy, err := compile.Default(arch, numbersOf(t, arch))
		if err != nil {
			t.Fatal(err)
		}
		program, err := compile.Compile(policy)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(compile.Marshal(program), compile.Marshal(committed(t, arch))) {
			t.Errorf("%s.bpf is out of date: run go generate ./internal/sandbox/seccomp", arch)
		}
	}
}

// TestFiltersAreLean keeps the price of a call in check: kernels before 5.11 run the filter for every one.
func TestFiltersAreLean(t *testing.T) {
	t.Parallel()
	for arch, audit := range audits {
		program := committed(t, arch)
		numbers := numbersOf(t, arch)
		total, worst := 0, ""
		most := 0
		for _, name := range common {
			number, ok := numbers[name]
			if !ok {
				t.Fatalf("%s has no system call %s", arch, name)
			}
			call := compile.Call{Audit: audit, Number: number, Args: [6]uint64{unix.AF_INET}}
			got, steps := answer(t, program, call)
			if got != compile.Allow {
				t.Errorf("%s %s: %v", arch, name, got)
			}
			if total += steps; steps > most {
				most, worst = steps, name
			}
		}
		mean := float64(total) / float64(len(common))
		t.Logf("%s: %d instructions; %d common calls execute %.1f on average, at most %d (%s)",
			arch, len(program), len(common), mean, most, worst)
		if len(program) >= 700 || mean >= 25 {
			t.Errorf("%s: %d instructions, %.1f executed on average: want below 700 and 25", arch, len(program), mean)
		}
	}
}
