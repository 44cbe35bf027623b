package compile_test

import (
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/internal/sandbox/seccomp/compile"
)

const audit = 0xc000_003e

var denied = compile.Errno(1)

// decide answers a call from the policy itself, rule by rule.
func decide(p compile.Policy, call compile.Call) compile.Action {
	switch {
	case call.Audit != p.Audit:
		return p.Foreign
	case call.Number > p.Highest:
		return p.Beyond
	}
	for _, r := range p.Rules {
		if r.Number == call.Number && allHold(r.Conds, call) {
			return r.Action
		}
	}
	return p.Default
}

func allHold(conds []compile.Cond, call compile.Call) bool {
	for _, c := range conds {
		if !holds(c, call.Args[c.Arg]) {
			return false
		}
	}
	return true
}

func holds(c compile.Cond, arg uint64) bool {
	if c.Narrow {
		arg &= math.MaxUint32
	}
	switch c.Op {
	case compile.Equal:
		return arg == c.Value
	case compile.NotEqual:
		return arg != c.Value
	case compile.MaskedEqual:
		return arg&c.Mask == c.Value
	case compile.Less:
		return arg < c.Value
	case compile.LessEqual:
		return arg <= c.Value
	case compile.Greater:
		return arg > c.Value
	case compile.GreaterEqual:
		return arg >= c.Value
	}
	panic("unknown comparison")
}

// value draws numbers whose halves collide often.
func value(r *rand.Rand) uint64 {
	half := func() uint64 {
		switch r.IntN(4) {
		case 0:
			return uint64(r.IntN(3))
		case 1:
			return math.MaxUint32 - uint64(r.IntN(3))
		case 2:
			return 1 << r.IntN(32)
		}
		return uint64(r.Uint32())
	}
	return half()<<32 | half()
}

func randomCond(r *rand.Rand) compile.Cond {
	c := compile.Cond{Arg: r.IntN(6), Op: compile.Op(1 + r.IntN(7)), Value: value(r), Narrow: r.IntN(4) == 0}
	if c.Narrow {
		c.Value &= math.MaxUint32
	}
	if c.Op == compile.MaskedEqual {
		c.Mask = value(r)
		if r.IntN(3) == 0 {
			c.Mask &= math.MaxUint32 // as flags in a register are
		}
		if c.Narrow {
			c.Mask &= math.MaxUint32
		}
		c.Value &= c.Mask
	}
	return c
}

// randomPolicy makes policies of very different size; the large ones need jumps longer than 255.
func randomPolicy(r *rand.Rand) compile.Policy {
	p := compile.Policy{
		Audit: audit, Foreign: compile.KillProcess, Default: denied, Beyond: compile.Errno(38),
		Highest: uint32(1 + r.IntN(500)),
	}
	actions := map[uint32]compile.Action{}
	conditional := r.IntN(10)
	for range r.IntN(200) {
		rule := compile.Rule{Number: uint32(r.IntN(int(p.Highest) + 1)), Action: compile.Allow}
		if r.IntN(5) == 0 {
			rule.Action = compile.Errno(uint(r.IntN(50)))
		}
		if a, ok := actions[rule.Number]; ok {
			rule.Action = a
		}
		actions[rule.Number] = rule.Action
		if r.IntN(10) < conditional {
			for range 1 + r.IntN(3) {
				rule.Conds = append(rule.Conds, randomCond(r))
			}
		}
		p.Rules = append(p.Rules, rule)
	}
	return p
}

// callsFor aims at the rules: their numbers and the neighbours, their values and the neighbours.
func callsFor(r *rand.Rand, p compile.Policy) []compile.Call {
	calls := []compile.Call{{Audit: 0x4000_0003}, {Audit: audit, Number: math.MaxUint32}, {Audit: audit, Number: 0x4000_0000}}
	for n := range p.Highest + 3 {
		calls = append(calls, compile.Call{Audit: audit, Number: n})
	}
	for _, rule := range p.Rules {
		for range 8 {
			call := compile.Call{Audit: audit, Number: rule.Number}
			for i := range call.Args {
				call.Args[i] = value(r)
			}
			for _, c := range rule.Conds {
				switch r.IntN(4) {
				case 0:
					call.Args[c.Arg] = c.Value
				case 1:
					call.Args[c.Arg] = c.Value + uint64(r.IntN(3)) - 1
				case 2:
					call.Args[c.Arg] = c.Value ^ 1<<r.IntN(64)
				}
			}
			calls = append(calls, call)
		}
	}
	return calls
}

// TestCompileAnswersAsThePolicy is the compiler's promise: for any policy, the program decides as the rules do.
func TestCompileAnswersAsThePolicy(t *testing.T) {
	t.Parallel()
	longest := 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := randomPolicy(r)
		program, err := compile.Compile(p)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		longest = max(longest, len(program))
		for _, call := range callsFor(r, p) {
			got, steps, err := compile.Run(program, call)
			if want := decide(p, call); err != nil || got != want {
				t.Fatalf("seed %d, %+v: %v after %d steps, %v; want %v", seed, call, got, steps, err, want)
			}
		}
	}
	if longest < 1000 {
		t.Errorf("the longest program has %d instructions: long jumps were not tried", longest)
	}
}

func TestCompileSingleConditions(t *testing.T) {
	t.Parallel()
	const big = 5<<32 | 7
	near := []uint64{0, 6, 7, 8, 4<<32 | 7, 4<<32 | 8, 5 << 32, big - 1, big, big + 1, 6<<32 | 6, 6 << 32, math.MaxUint64}
	for op := compile.Equal; op <= compile.GreaterEqual; op++ {
		for _, narrow := range []bool{false, true} {
			c := compile.Cond{Arg: 3, Op: op, Value: big, Narrow: narrow}
			if narrow {
				c.Value = 7
			}
			if op == compile.MaskedEqual {
				c.Mask = c.Value | 0x10
			}
			p := compile.Policy{
				Audit: audit, Foreign: compile.KillProcess, Default: denied, Beyond: denied, Highest: 9,
				Rules: []compile.Rule{{Number: 4, Action: compile.Allow, Conds: []compile.Cond{c}}},
			}
			program, err := compile.Compile(p)
			if err != nil {
				t.Fatalf("%+v: %v", c, err)
			}
			for _, arg := range near {
				call := compile.Call{Audit: audit, Number: 4, Args: [6]uint64{3: arg}}
				got, _, err := compile.Run(program, call)
				if want := decide(p, call); err != nil || got != want {
					t.Errorf("%+v on %#x: %v, %v; want %v", c, arg, got, err, want)
				}
			}
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	one := func(c compile.Cond) []compile.Rule {
		return []compile.Rule{{Number: 1, Action: compile.Allow, Conds: []compile.Cond{c}}}
	}
	large := make([]compile.Rule, 0, 500)
	for n := range uint32(500) {
		rule := compile.Rule{Number: n, Action: compile.Allow}
		for arg := range 6 {
			rule.Conds = append(rule.Conds, compile.Cond{Arg: arg, Op: compile.Equal, Value: uint64(n)})
		}
		large = append(large, rule)
	}
	for _, tc := range []struct {
		name  string
		rules []compile.Rule
		want  string
	}{
		{"argument", one(compile.Cond{Arg: 6, Op: compile.Equal}), "argument 6"},
		{"negative argument", one(compile.Cond{Arg: -1, Op: compile.Equal}), "argument -1"},
		{"no comparison", one(compile.Cond{}), "unknown comparison"},
		{"impossible mask", one(compile.Cond{Op: compile.MaskedEqual, Value: 2, Mask: 1}), "never be equal"},
		{"stray mask", one(compile.Cond{Op: compile.Equal, Mask: 1}), "without a masked comparison"},
		{"wide value", one(compile.Cond{Op: compile.Equal, Value: 1 << 32, Narrow: true}), "do not fit"},
		{"number", []compile.Rule{{Number: 501, Action: compile.Allow}}, "above the policy's highest"},
		{"two answers", []compile.Rule{{Number: 1, Action: compile.Allow}, {Number: 1, Action: denied}}, "only one is possible"},
		{"too long", large, "may have 4096"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := compile.Compile(compile.Policy{Highest: 500, Rules: tc.rules})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestMarshal(t *testing.T) {
	t.Parallel()
	program := []compile.Instruction{{Code: 0x20, K: 4}, {Code: 0x1234, True: 5, False: 6, K: 0x789a_bcde}}
	encoded := compile.Marshal(program)
	want := "\x20\x00\x00\x00\x04\x00\x00\x00\x34\x12\x05\x06\xde\xbc\x9a\x78"
	if string(encoded) != want {
		t.Errorf("got %x, want %x", encoded, want)
	}
	back, err := compile.Unmarshal(encoded)
	if err != nil || !reflect.DeepEqual(back, program) {
		t.Errorf("got %+v, %v; want %+v", back, err, program)
	}
	if _, err := compile.Unmarshal(encoded[:9]); err == nil {
		t.Error("half an instruction was accepted")
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	for name, program := range map[string][]compile.Instruction{
		"empty":               nil,
		"no return":           {{Code: 0x20}},
		"unknown operation":   {{Code: 0x99}},
		"load past the call":  {{Code: 0x20, K: 64}, {Code: 0x06}},
		"load of half a word": {{Code: 0x20, K: 18}, {Code: 0x06}},
		"jump past the end":   {{Code: 0x05, K: math.MaxUint32}, {Code: 0x06}},
		"branch past the end": {{Code: 0x15, True: 9, False: 9}, {Code: 0x06}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if answer, _, err := compile.Run(program, compile.Call{}); err == nil {
				t.Errorf("answered %v, want an error", answer)
			}
		})
	}
}

func TestActionString(t *testing.T) {
	t.Parallel()
	for want, a := range map[string]compile.Action{
		"ALLOW": compile.Allow, "KILL_PROCESS": compile.KillProcess, "ERRNO(38)": compile.Errno(38),
		"ERRNO(4095)": compile.Errno(1 << 20), "Action(0x1)": 1,
	} {
		if a.String() != want {
			t.Errorf("got %s, want %s", a, want)
		}
	}
}
