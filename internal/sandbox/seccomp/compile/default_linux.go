package compile

import (
	"fmt"
	"slices"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// oldestKernel is the version that the profile's "from this kernel on" rules are resolved for.
var oldestKernel = seccomp.KernelVersion{Kernel: 5, Major: 11}

// audits gives the AUDIT_ARCH_* value of each supported GOARCH.
var audits = map[string]uint32{
	"amd64": unix.AUDIT_ARCH_X86_64,
	"arm64": unix.AUDIT_ARCH_AARCH64,
}

// narrow names the calls whose filtered arguments the kernel declares as int. The profile compares all 64 bits of
// socket's family, but the kernel drops the upper half (net/socket.c): a family of 1<<32|AF_VSOCK is greater than
// AF_VSOCK, hence allowed, and then opens an AF_VSOCK socket.
var narrow = []string{"socket"}

// Arches returns the architectures that Default knows, named as GOARCH does.
func Arches() []string {
	return []string{"amd64", "arm64"}
}

// Default is the moby default profile as a policy for one architecture: for a process without capabilities, on
// Linux 5.11 or newer, with the deviations that the documentation of internal/sandbox/seccomp lists. numbers is the
// architecture's system call table; calls of the profile that it lacks do not exist there and are left out. It errors on
// an unknown architecture and on a profile that uses something a Policy cannot say.
func Default(arch string, numbers map[string]uint32) (Policy, error) {
	audit, ok := audits[arch]
	if !ok {
		return Policy{}, fmt.Errorf("no seccomp policy for architecture %q", arch)
	}
	profile := seccomp.DefaultProfile()
	fallback, err := actionOf(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		return Policy{}, fmt.Errorf("the profile's default: %w", err)
	}
	policy := Policy{Audit: audit, Foreign: KillProcess, Default: fallback, Beyond: Errno(uint(unix.ENOSYS))}
	for _, call := range profile.Syscalls {
		rules, err := rulesOf(call, numbers)
		if err != nil {
			return Policy{}, err
		}
		for _, r := range rules {
			// Calls that only a capability would allow are known to the profile, too: they are refused, not missing.
			policy.Highest = max(policy.Highest, r.Number)
		}
		if applies(call, arch) {
			policy.Rules = append(policy.Rules, rules...)
		}
	}
	return policy, nil
}

// applies decides the conditions of a profile entry for a process without capabilities.
func applies(call *seccomp.Syscall, arch string) bool {
	if in := call.Includes; in != nil {
		if len(in.Caps) > 0 || len(in.Arches) > 0 && !slices.Contains(in.Arches, arch) || !reached(in.MinKernel) {
			return false
		}
	}
	if ex := call.Excludes; ex != nil {
		if slices.Contains(ex.Arches, arch) || ex.MinKernel != nil && reached(ex.MinKernel) {
			return false
		}
	}
	return true
}

func reached(v *seccomp.KernelVersion) bool {
	if v == nil || oldestKernel.Kernel != v.Kernel {
		return v == nil || oldestKernel.Kernel > v.Kernel
	}
	return oldestKernel.Major >= v.Major
}

func rulesOf(call *seccomp.Syscall, numbers map[string]uint32) ([]Rule, error) {
	action, err := actionOf(call.Action, call.ErrnoRet)
	if err != nil {
		return nil, fmt.Errorf("profile entry for %v: %w", call.Names, err)
	}
	if call.Name != "" { //nolint:staticcheck // deprecated, and so refused
		return nil, fmt.Errorf("profile entry for %s uses the deprecated field name", call.Name) //nolint:staticcheck // as above
	}
	var rules []Rule
	for _, name := range call.Names {
		conds, err := condsOf(call.Args, slices.Contains(narrow, name))
		if err != nil {
			return nil, fmt.Errorf("profile entry for %s: %w", name, err)
		}
		if number, ok := numbers[name]; ok {
			rules = append(rules, Rule{Number: number, Action: action, Conds: conds})
		}
	}
	return rules, nil
}

// condsOf refuses two conditions on one argument: runtimes read those as alternatives, a Rule as both at once.
func condsOf(args []specs.LinuxSeccompArg, narrow bool) ([]Cond, error) {
	var conds []Cond
	for i, arg := range args {
		if slices.ContainsFunc(args[:i], func(a specs.LinuxSeccompArg) bool { return a.Index == arg.Index }) {
			return nil, fmt.Errorf("two conditions on argument %d", arg.Index)
		}
		op, ok := ops[arg.Op]
		if !ok {
			return nil, fmt.Errorf("unknown comparison %q", arg.Op)
		}
		c := Cond{Arg: int(arg.Index), Op: op, Value: arg.Value, Narrow: narrow}
		if op == MaskedEqual {
			c.Mask, c.Value = arg.Value, arg.ValueTwo
		}
		conds = append(conds, c)
	}
	return conds, nil
}

var ops = map[specs.LinuxSeccompOperator]Op{
	specs.OpEqualTo:      Equal,
	specs.OpNotEqual:     NotEqual,
	specs.OpMaskedEqual:  MaskedEqual,
	specs.OpLessThan:     Less,
	specs.OpLessEqual:    LessEqual,
	specs.OpGreaterThan:  Greater,
	specs.OpGreaterEqual: GreaterEqual,
}

func actionOf(a specs.LinuxSeccompAction, errno *uint) (Action, error) {
	switch a {
	case specs.ActAllow:
		return Allow, nil
	case specs.ActKillProcess:
		return KillProcess, nil
	case specs.ActErrno:
		if errno == nil {
			return Errno(uint(unix.EPERM)), nil // as the runtime specification says
		}
		return Errno(*errno), nil
	}
	return 0, fmt.Errorf("unknown action %q", a)
}
