package seccomp_test

import (
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/sandbox/seccomp/compile"
)

var audits = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

var (
	eperm  = compile.Errno(uint(unix.EPERM))
	enosys = compile.Errno(uint(unix.ENOSYS))
)

// profileFor is the profile as a container runtime applies it without capabilities on a recent kernel.
func profileFor(arch string) []specs.LinuxSyscall {
	var entries []specs.LinuxSyscall
	for _, call := range seccomp.DefaultProfile().Syscalls {
		if in := call.Includes; in != nil {
			if len(in.Caps) > 0 || len(in.Arches) > 0 && !slices.Contains(in.Arches, arch) {
				continue
			}
		}
		if ex := call.Excludes; ex != nil && (slices.Contains(ex.Arches, arch) || ex.MinKernel != nil) {
			continue
		}
		entries = append(entries, call.LinuxSyscall)
	}
	return entries
}

// named returns the entries for one system call.
func named(entries []specs.LinuxSyscall, name string) []specs.LinuxSyscall {
	return slices.DeleteFunc(slices.Clone(entries), func(e specs.LinuxSyscall) bool { return !slices.Contains(e.Names, name) })
}

// expect answers a native call from the profile's own entries for its name.
func expect(entries []specs.LinuxSyscall, name string, args [6]uint64) compile.Action {
	if name == "socket" {
		args[0] &= math.MaxUint32 // the kernel's view of an int
	}
	for _, e := range entries {
		if slices.ContainsFunc(e.Args, func(a specs.LinuxSeccompArg) bool { return !matches(a, args[a.Index]) }) {
			continue
		}
		if e.Action == specs.ActAllow {
			return compile.Allow
		}
		return compile.Errno(*e.ErrnoRet)
	}
	return eperm
}

// matches knows the comparisons that the profile uses.
func matches(a specs.LinuxSeccompArg, arg uint64) bool {
	switch a.Op {
	case specs.OpEqualTo:
		return arg == a.Value
	case specs.OpLessThan:
		return arg < a.Value
	case specs.OpGreaterThan:
		return arg > a.Value
	case specs.OpMaskedEqual:
		return arg&a.Value == a.ValueTwo
	}
	panic("the profile uses " + string(a.Op))
}

// sample draws arguments around the values that the entries compare with.
func sample(r *rand.Rand, entries []specs.LinuxSyscall) [6]uint64 {
	var args [6]uint64
	for i := range args {
		args[i] = r.Uint64() >> r.IntN(64)
	}
	for _, e := range entries {
		for _, a := range e.Args {
			switch r.IntN(5) {
			case 0:
				args[a.Index] = a.Value + uint64(r.IntN(5)) - 2
			case 1:
				args[a.Index] = a.Value ^ 1<<r.IntN(64)
			case 2:
				args[a.Index] = uint64(1)<<r.IntN(64) | uint64(r.IntN(64))
			case 3:
				args[a.Index] = uint64(r.IntN(64)) | uint64(r.IntN(3))<<32
			}
		}
	}
	return args
}

func TestProfileIsMobysOwn(t *testing.T) {
	t.Parallel()
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}
	resolved, err := seccomp.GetDefaultProfile(spec)
	if err != nil {
		t.Fatal(err)
	}
	if got := profileFor(runtime.GOARCH); !reflect.DeepEqual(got, resolved.Syscalls) {
		t.Errorf("the entries expected here are not those that moby resolves:\n%+v\n%+v", got, resolved.Syscalls)
	}
}

// TestFilterAnswersAsTheProfile is the promise of the package, on every number and on arguments around the profile's.
func TestFilterAnswersAsTheProfile(t *testing.T) {
	t.Parallel()
	for arch, audit := range audits {
		r := rand.New(rand.NewPCG(1, uint64(audit)))
		program, numbers, profile := committed(t, arch), numbersOf(t, arch), profileFor(arch)
		names := map[uint32]string{}
		for name, number := range numbers {
			names[number] = name
		}
		for number := range uint32(601) {
			entries := named(profile, names[number])
			rounds := 50
			if slices.ContainsFunc(entries, func(e specs.LinuxSyscall) bool { return len(e.Args) > 0 }) {
				rounds = 20_000
			}
			for range rounds {
				call := compile.Call{Audit: audit, Number: number, Args: sample(r, entries)}
				want := expect(entries, names[number], call.Args)
				if number > numbers["removexattrat"] {
					want = enosys
				}
				if got, _ := answer(t, program, call); got != want {
					t.Fatalf("%s %s %+v: %v, want %v", arch, names[number], call, got, want)
				}
			}
		}
	}
}

func TestFilterOnForeignCalls(t *testing.T) {
	t.Parallel()
	for arch, audit := range audits {
		program := committed(t, arch)
		for number := range uint32(601) {
			for _, foreign := range []uint32{0, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM, audit ^ 1<<31, audit ^ 1<<30, math.MaxUint32} {
				if got, _ := answer(t, program, compile.Call{Audit: foreign, Number: number}); got != compile.KillProcess {
					t.Fatalf("%s: call %d of architecture %#x: %v", arch, number, foreign, got)
				}
			}
			for _, n := range []uint32{0x4000_0000 | number, 0x8000_0000 | number, 0xc000_0000 | number, -number - 1} {
				if got, _ := answer(t, program, compile.Call{Audit: audit, Number: n}); got != enosys {
					t.Fatalf("%s: call %#x: %v", arch, n, got)
				}
			}
		}
	}
}

// TestFilterDenies names what must never be reached, whatever the profile of the day says.
func TestFilterDenies(t *testing.T) {
	t.Parallel()
	always := map[compile.Action][]string{
		eperm: {
			"acct", "add_key", "bpf", "chroot", "delete_module", "fanotify_init", "finit_module", "fsconfig", "fsmount",
			"fsopen", "fspick", "init_module", "io_uring_enter", "io_uring_register", "io_uring_setup", "kcmp",
			"kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie", "mount", "mount_setattr", "move_mount",
			"move_pages", "nfsservctl", "open_by_handle_at", "open_tree", "perf_event_open", "pidfd_getfd", "pivot_root",
			"process_madvise", "quotactl", "quotactl_fd", "reboot", "request_key", "setdomainname", "sethostname", "setns",
			"settimeofday", "swapoff", "swapon", "syslog", "umount2", "unshare", "userfaultfd", "vhangup",
		},
		enosys: {"clone3", "open_tree_attr"},
	}
	for arch, audit := range audits {
		r := rand.New(rand.NewPCG(2, uint64(audit)))
		program, numbers := committed(t, arch), numbersOf(t, arch)
		for want, names := range always {
			for _, name := range names {
				number, ok := numbers[name]
				if !ok {
					t.Fatalf("%s has no system call %s", arch, name)
				}
				for range 100 {
					call := compile.Call{Audit: audit, Number: number, Args: sample(r, nil)}
					if got, _ := answer(t, program, call); got != want {
						t.Fatalf("%s %s%x: %v, want %v", arch, name, call.Args, got, want)
					}
				}
			}
		}
	}
}

func TestFilterOnArguments(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		arg  uint64
		want compile.Action
	}{
		{"clone", uint64(unix.SIGCHLD), compile.Allow},
		{"clone", unix.CLONE_VM | unix.CLONE_VFORK | uint64(unix.SIGCHLD), compile.Allow},
		{"clone", unix.CLONE_NEWUSER, eperm},
		{"clone", unix.CLONE_NEWNS | uint64(unix.SIGCHLD), eperm},
		{"clone", unix.CLONE_NEWPID, eperm},
		{"clone", unix.CLONE_NEWNET, eperm},
		{"clone", unix.CLONE_NEWIPC, eperm},
		{"clone", unix.CLONE_NEWUTS, eperm},
		{"clone", unix.CLONE_NEWCGROUP, eperm},
		{"clone", 1<<63 | unix.CLONE_NEWUSER, eperm},
		{"socket", unix.AF_UNIX, compile.Allow},
		{"socket", unix.AF_INET6, compile.Allow},
		{"socket", unix.AF_ALG - 1, compile.Allow},
		{"socket", unix.AF_ALG, eperm},
		{"socket", unix.AF_ALG + 1, compile.Allow},
		{"socket", unix.AF_VSOCK, eperm},
		{"socket", unix.AF_VSOCK + 1, compile.Allow},
		{"socket", 1<<32 | unix.AF_VSOCK, eperm},
		{"socket", 1<<63 | unix.AF_ALG, eperm},
		{"socket", math.MaxUint32<<32 | unix.AF_UNIX, compile.Allow},
		{"personality", 0, compile.Allow},
		{"personality", 0x0008, compile.Allow},
		{"personality", 0x20000, compile.Allow},
		{"personality", 0x20008, compile.Allow},
		{"personality", math.MaxUint32, compile.Allow},
		{"personality", 0x0040000, eperm}, // ADDR_NO_RANDOMIZE
		{"personality", 0x0400000, eperm}, // READ_IMPLIES_EXEC
		{"personality", 1 << 32, eperm},
	}
	for arch, audit := range audits {
		program, numbers := committed(t, arch), numbersOf(t, arch)
		for _, tc := range cases {
			call := compile.Call{Audit: audit, Number: numbers[tc.name], Args: [6]uint64{tc.arg}}
			if got, _ := answer(t, program, call); got != tc.want {
				t.Errorf("%s %s(%#x): %v, want %v", arch, tc.name, tc.arg, got, tc.want)
			}
		}
	}
}
