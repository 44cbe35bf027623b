package compile_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/sandbox/seccomp/compile"
)

func TestNumbers(t *testing.T) {
	t.Parallel()
	// From arch/x86/entry/syscalls/syscall_64.tbl and scripts/syscall.tbl of the kernel.
	for arch, known := range map[string]map[string]uint32{
		"amd64": {"read": 0, "newfstatat": 262, "umount2": 166, "_sysctl": 156, "uretprobe": 335, "io_uring_setup": 425, "removexattrat": 466},
		"arm64": {"read": 63, "newfstatat": 79, "umount2": 39, "io_uring_setup": 425, "removexattrat": 466},
	} {
		numbers, err := compile.Numbers(t.Context(), arch)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range known {
			if got, ok := numbers[name]; !ok || got != want {
				t.Errorf("%s %s is %d, %t; want %d", arch, name, got, ok, want)
			}
		}
	}
	if numbers, err := compile.Numbers(t.Context(), "pdp11"); err == nil {
		t.Errorf("pdp11 has %d system calls", len(numbers))
	}
}

func TestDefault(t *testing.T) {
	t.Parallel()
	for _, arch := range compile.Arches() {
		numbers, err := compile.Numbers(t.Context(), arch)
		if err != nil {
			t.Fatal(err)
		}
		p, err := compile.Default(arch, numbers)
		if err != nil {
			t.Fatal(err)
		}
		// removexattrat is the newest call that the profile names.
		if p.Highest != numbers["removexattrat"] {
			t.Errorf("%s: the highest number is %d", arch, p.Highest)
		}
		if p.Default != compile.Errno(uint(unix.EPERM)) || p.Beyond != compile.Errno(uint(unix.ENOSYS)) || p.Foreign != compile.KillProcess {
			t.Errorf("%s: answers %v, %v, %v", arch, p.Default, p.Beyond, p.Foreign)
		}
	}
	if p, err := compile.Default("riscv64", nil); err == nil {
		t.Errorf("riscv64 has a policy: %+v", p)
	}
}
