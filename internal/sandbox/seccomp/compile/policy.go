package compile

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

// Action is the 32-bit answer of a seccomp filter, in the encoding of the kernel's include/uapi/linux/seccomp.h: the
// action in the upper half, its data (for Errno the error number) in the lower half.
type Action uint32

const (
	// Allow lets the call through (SECCOMP_RET_ALLOW).
	Allow Action = 0x7fff_0000
	// KillProcess ends the whole process with SIGSYS (SECCOMP_RET_KILL_PROCESS, Linux 4.14).
	KillProcess Action = 0x8000_0000

	errnoBase Action = 0x0005_0000 // SECCOMP_RET_ERRNO
)

// maxErrno is the kernel's MAX_ERRNO; it clamps larger numbers, which would make two spellings of one answer.
const maxErrno = 4095

// Errno is the action that makes the call return the error number n without being run (SECCOMP_RET_ERRNO). Numbers above
// 4095 are the kernel's limit and become 4095.
func Errno(n uint) Action {
	return errnoBase | Action(min(n, maxErrno))
}

// String names the action as the kernel's documentation does, with the error number in decimal.
func (a Action) String() string {
	switch {
	case a == Allow:
		return "ALLOW"
	case a == KillProcess:
		return "KILL_PROCESS"
	case a&^0xffff == errnoBase:
		return fmt.Sprintf("ERRNO(%d)", uint32(a&0xffff))
	}
	return fmt.Sprintf("Action(%#x)", uint32(a))
}

// Op is a comparison of an argument with a constant. All comparisons are unsigned.
type Op int

// The comparisons of libseccomp and of the OCI runtime specification.
const (
	Equal        Op = iota + 1 // argument == Value
	NotEqual                   // argument != Value
	MaskedEqual                // argument & Mask == Value
	Less                       // argument < Value
	LessEqual                  // argument <= Value
	Greater                    // argument > Value
	GreaterEqual               // argument >= Value
)

// Cond is one condition on one argument of a system call.
type Cond struct {
	// Arg is the position of the argument, 0 to 5.
	Arg int
	// Op says how the argument is compared.
	Op Op
	// Value is the constant compared with. With MaskedEqual it has no bit outside Mask.
	Value uint64
	// Mask is used by MaskedEqual only.
	Mask uint64
	// Narrow compares the low 32 bits only. It is for arguments that the kernel declares as int: it drops the upper
	// half of the register, so a filter that looks at it can be talked past. Value and Mask must then fit 32 bits.
	Narrow bool
}

// Rule answers one system call when all its conditions hold.
type Rule struct {
	// Number is the system call number on the policy's architecture.
	Number uint32
	// Action is the answer.
	Action Action
	// Conds must all hold; none means that the rule always applies.
	Conds []Cond
}

// Policy says how every system call of a process is answered. Rules of the same number are alternatives: one that holds
// is enough. They must share one action, so their order does not matter.
type Policy struct {
	// Audit is the AUDIT_ARCH_* value (include/uapi/linux/audit.h) of the calls that the rules speak of.
	Audit uint32
	// Foreign answers calls made under any other architecture.
	Foreign Action
	// Default answers calls up to Highest that no rule answers.
	Default Action
	// Beyond answers every number above Highest. Numbers are unsigned, so this covers negative ones and, on amd64, the
	// x32 calls (0x4000_0000 and up).
	Beyond Action
	// Highest is the largest number the policy has an opinion on.
	Highest uint32
	// Rules in any order.
	Rules []Rule
}

// leaf is what the search over numbers ends in: the action if one of the alternatives holds, or always when there are
// none; otherwise the policy's default.
type leaf struct {
	action       Action
	alternatives [][]Cond
}

func (l leaf) constant() bool { return len(l.alternatives) == 0 }

// span is a run of consecutive numbers with one leaf. It reaches to the number before the next span.
type span struct {
	first uint32
	leaf  leaf
}

// spans covers all numbers from 0 to the largest, in order, with as few spans as the policy allows.
func (p Policy) spans() ([]span, error) {
	leaves, err := p.leaves()
	if err != nil {
		return nil, err
	}
	all := make([]span, 0, 2*len(leaves)+2)
	next := uint64(0) // the first number not covered yet
	for _, number := range slices.Sorted(maps.Keys(leaves)) {
		if uint64(number) > next {
			all = append(all, span{uint32(next), leaf{action: p.Default}})
		}
		all = append(all, span{number, leaves[number]})
		next = uint64(number) + 1
	}
	if next <= uint64(p.Highest) {
		all = append(all, span{uint32(next), leaf{action: p.Default}})
	}
	if p.Highest < math.MaxUint32 {
		all = append(all, span{p.Highest + 1, leaf{action: p.Beyond}})
	}
	return slices.CompactFunc(all, func(a, b span) bool {
		return a.leaf.constant() && b.leaf.constant() && a.leaf.action == b.leaf.action
	}), nil
}

// leaves gathers the rules by number.
func (p Policy) leaves() (map[uint32]leaf, error) {
	leaves := make(map[uint32]leaf, len(p.Rules))
	for _, r := range p.Rules {
		if err := p.check(r); err != nil {
			return nil, fmt.Errorf("rule for system call %d: %w", r.Number, err)
		}
		l, seen := leaves[r.Number]
		switch {
		case !seen && len(r.Conds) == 0:
			l = leaf{action: r.Action}
		case !seen:
			l = leaf{action: r.Action, alternatives: [][]Cond{r.Conds}}
		case l.action != r.Action:
			return nil, fmt.Errorf("rule for system call %d: answers %v and %v, only one is possible", r.Number, l.action, r.Action)
		case len(r.Conds) == 0:
			l.alternatives = nil
		case !l.constant():
			l.alternatives = append(l.alternatives, r.Conds)
		}
		leaves[r.Number] = l
	}
	return leaves, nil
}

func (p Policy) check(r Rule) error {
	if r.Number > p.Highest {
		return fmt.Errorf("the number is above the policy's highest, %d", p.Highest)
	}
	for _, c := range r.Conds {
		if err := c.check(); err != nil {
			return fmt.Errorf("condition on argument %d: %w", c.Arg, err)
		}
	}
	return nil
}

func (c Cond) check() error {
	switch {
	case c.Arg < 0 || c.Arg > 5:
		return errors.New("a system call has arguments 0 to 5")
	case c.Op < Equal || c.Op > GreaterEqual:
		return fmt.Errorf("unknown comparison %d", c.Op)
	case c.Op == MaskedEqual && c.Value&^c.Mask != 0:
		return fmt.Errorf("value %#x has bits outside mask %#x, so it can never be equal", c.Value, c.Mask)
	case c.Op != MaskedEqual && c.Mask != 0:
		return fmt.Errorf("mask %#x without a masked comparison", c.Mask)
	case c.Narrow && cmp.Or(c.Value>>32, c.Mask>>32) != 0:
		return fmt.Errorf("value %#x, mask %#x do not fit the 32 bits compared", c.Value, c.Mask)
	}
	return nil
}
