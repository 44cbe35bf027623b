package seccomp_test

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// compatProgram is a 64-bit program that makes one call through the 32-bit entry and then exits with 0.
func compatProgram() []byte {
	const base, headers = 0x40_0000, 64 + 56
	code := []byte{
		0xb8, 20, 0, 0, 0, // mov eax, 20: getpid of i386
		0xcd, 0x80, // int 0x80
		0xbf, 0, 0, 0, 0, // mov edi, 0
		0xb8, 60, 0, 0, 0, // mov eax, 60: exit of x86-64
		0x0f, 0x05, // syscall
	}
	elf := []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00") // 64 bits, little-endian
	half := func(v ...uint16) {
		for _, n := range v {
			elf = binary.LittleEndian.AppendUint16(elf, n)
		}
	}
	word := func(v ...uint32) {
		for _, n := range v {
			elf = binary.LittleEndian.AppendUint32(elf, n)
		}
	}
	long := func(v ...uint64) {
		for _, n := range v {
			elf = binary.LittleEndian.AppendUint64(elf, n)
		}
	}
	half(2, 62) // ET_EXEC, EM_X86_64
	word(1)
	long(base+headers, 64, 0) // entry, program headers, section headers
	word(0)
	half(64, 56, 1, 0, 0, 0)
	size := uint64(headers + len(code))
	word(1, 5) // PT_LOAD, readable and executable
	long(0, base, base, size, size, 0x1000)
	return append(elf, code...)
}

func TestKernelKillsForeignCalls(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "compat")
	// A fork in a parallel test must not inherit the file while it is open for writing: running it would fail with ETXTBSY.
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, compatProgram(), 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	want := syscall.SIGSYS
	if free := signalOf(t, exec.CommandContext(t.Context(), path).Run()); free == syscall.SIGSEGV {
		t.Log("this kernel has no 32-bit entry, so there is nothing for the filter to close")
		want = syscall.SIGSEGV
	} else if free != 0 {
		t.Fatalf("without the filter: %v", free)
	}
	if got := signalOf(t, actor(t, "exec", path).Run()); got != want {
		t.Errorf("under the filter: signal %v, want %v", got, want)
	}
}
