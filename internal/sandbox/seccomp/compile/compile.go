package compile

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// MaxInstructions is the most a filter may have: BPF_MAXINSNS in include/uapi/linux/bpf_common.h.
const MaxInstructions = 4096

// InstructionSize is the size of a struct sock_filter in bytes.
const InstructionSize = 8

// The few operations a seccomp filter needs, from include/uapi/linux/bpf_common.h. They are also the ones that the
// kernel's emulation for its cache of always-allowed calls understands (seccomp_is_const_allow in kernel/seccomp.c).
const (
	opLoad   = 0x20 // BPF_LD|BPF_W|BPF_ABS: A = the 32-bit word at offset K of struct seccomp_data
	opAnd    = 0x54 // BPF_ALU|BPF_AND|BPF_K: A &= K
	opJump   = 0x05 // BPF_JMP|BPF_JA: skip K instructions
	opJumpEQ = 0x15 // BPF_JMP|BPF_JEQ|BPF_K
	opJumpGT = 0x25 // BPF_JMP|BPF_JGT|BPF_K
	opJumpGE = 0x35 // BPF_JMP|BPF_JGE|BPF_K
	opReturn = 0x06 // BPF_RET|BPF_K
)

// Offsets in struct seccomp_data (include/uapi/linux/seccomp.h), in bytes. An argument is 64 bits, low half first on the
// little-endian architectures, which all of ours are.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
	argSize   = 8
)

// Instruction is one struct sock_filter (include/uapi/linux/filter.h).
type Instruction struct {
	// Code is the operation.
	Code uint16
	// True and False are how many instructions a conditional jump skips.
	True, False uint8
	// K is the operation's constant: an offset in bytes, a value or an Action.
	K uint32
}

// Compile lays a policy out as a seccomp filter. It errors on a rule that contradicts itself or another one, and on a
// policy that needs more than MaxInstructions.
func Compile(p Policy) ([]Instruction, error) {
	spans, err := p.spans()
	if err != nil {
		return nil, err
	}
	b := builder{fallback: p.Default, returns: map[Action]int{}}
	search := b.load(offNumber, b.search(spans))
	known := b.branch(opJumpEQ, p.Audit, search, b.ret(p.Foreign))
	b.load(offArch, known)
	if len(b.reversed) > MaxInstructions {
		return nil, fmt.Errorf("the policy needs %d instructions, a filter may have %d", len(b.reversed), MaxInstructions)
	}
	slices.Reverse(b.reversed)
	return b.reversed, nil
}

// Marshal encodes a program as an array of little-endian struct sock_filter, InstructionSize bytes each: what the filter
// field of struct sock_fprog points to.
func Marshal(program []Instruction) []byte {
	out := make([]byte, 0, len(program)*InstructionSize)
	for _, in := range program {
		out = binary.LittleEndian.AppendUint16(out, in.Code)
		out = append(out, in.True, in.False)
		out = binary.LittleEndian.AppendUint32(out, in.K)
	}
	return out
}

// Unmarshal is the inverse of Marshal. It errors when the length is not a whole number of instructions.
func Unmarshal(encoded []byte) ([]Instruction, error) {
	if len(encoded)%InstructionSize != 0 {
		return nil, fmt.Errorf("a filter of %d bytes is not a whole number of %d-byte instructions", len(encoded), InstructionSize)
	}
	var program []Instruction
	for in := range slices.Chunk(encoded, InstructionSize) {
		program = append(program, Instruction{
			Code: binary.LittleEndian.Uint16(in), True: in[2], False: in[3], K: binary.LittleEndian.Uint32(in[4:]),
		})
	}
	return program, nil
}

// builder writes a program from its last instruction to its first. Jumps only go forward, so every target exists, and
// has a known distance, when the jump to it is written. A position is an index into reversed.
type builder struct {
	reversed []Instruction
	fallback Action
	returns  map[Action]int // the copy of each return that was written last, hence nearest
}

func (b *builder) emit(in Instruction) int {
	b.reversed = append(b.reversed, in)
	return len(b.reversed) - 1
}

// distance is how many instructions one written now would skip to reach target.
func (b *builder) distance(target int) int { return len(b.reversed) - target - 1 }

func (b *builder) ret(a Action) int {
	if at, ok := b.returns[a]; ok {
		return at
	}
	at := b.emit(Instruction{Code: opReturn, K: uint32(a)})
	b.returns[a] = at
	return at
}

// closer writes a stand-in for a target that is out of a conditional jump's reach: the same return again, or a jump.
func (b *builder) closer(target int) int {
	in := b.reversed[target]
	if in.Code != opReturn {
		return b.emit(Instruction{Code: opJump, K: uint32(b.distance(target))})
	}
	at := b.emit(in)
	b.returns[Action(in.K)] = at
	return at
}

// branch writes a conditional jump; its offsets are 8 bits wide.
func (b *builder) branch(code uint16, k uint32, yes, no int) int {
	if yes == no {
		return yes
	}
	// A stand-in for one target moves the other one instruction away, hence the loop. It ends: a fresh stand-in is at a
	// distance of at most one.
	for {
		switch {
		case b.distance(yes) > math.MaxUint8:
			yes = b.closer(yes)
		case b.distance(no) > math.MaxUint8:
			no = b.closer(no)
		default:
			return b.emit(Instruction{Code: code, True: uint8(b.distance(yes)), False: uint8(b.distance(no)), K: k})
		}
	}
}

// follow makes target the instruction that the next one written runs into.
func (b *builder) follow(target int) {
	if b.distance(target) > 0 {
		b.closer(target)
	}
}

func (b *builder) load(offset uint32, next int) int {
	b.follow(next)
	return b.emit(Instruction{Code: opLoad, K: offset})
}

// search writes a balanced binary search of the number in the accumulator.
func (b *builder) search(s []span) int {
	switch {
	case len(s) == 1:
		return b.leaf(s[0].leaf)
	case exception(s):
		rest := b.leaf(s[0].leaf)
		return b.branch(opJumpEQ, s[1].first, b.leaf(s[1].leaf), rest)
	}
	mid := len(s) / 2
	upper := b.search(s[mid:])
	lower := b.search(s[:mid])
	return b.branch(opJumpGE, s[mid].first, upper, lower)
}

// exception says whether s is one number in the midst of others that are all answered alike: one comparison then does
// what would take two.
func exception(s []span) bool {
	return len(s) == 3 && s[1].first+1 == s[2].first &&
		s[0].leaf.constant() && s[2].leaf.constant() && s[0].leaf.action == s[2].leaf.action
}

func (b *builder) leaf(l leaf) int {
	if l.constant() {
		return b.ret(l.action)
	}
	at := b.ret(b.fallback)
	for _, conds := range slices.Backward(l.alternatives) {
		otherwise := at
		at = b.ret(l.action)
		for _, c := range slices.Backward(conds) {
			at = b.cond(c, at, otherwise)
		}
	}
	return at
}

// cond writes a comparison of a 64-bit argument in two halves, the upper one first.
func (b *builder) cond(c Cond, yes, no int) int {
	switch c.Op {
	case NotEqual:
		c.Op, yes, no = Equal, no, yes
	case Less:
		c.Op, yes, no = GreaterEqual, no, yes
	case LessEqual:
		c.Op, yes, no = Greater, no, yes
	default: // the others are tested as they are
	}
	low := uint32(offArgs + argSize*c.Arg)
	high := low + 4
	lowValue, highValue := uint32(c.Value), uint32(c.Value>>32)
	switch c.Op {
	case Equal:
		yes = b.load(low, b.branch(opJumpEQ, lowValue, yes, no))
		if c.Narrow {
			return yes
		}
		return b.load(high, b.branch(opJumpEQ, highValue, yes, no))
	case MaskedEqual:
		yes = b.masked(low, uint32(c.Mask), lowValue, yes, no)
		return b.masked(high, uint32(c.Mask>>32), highValue, yes, no)
	default: // greater, below
	}
	code := uint16(opJumpGT)
	if c.Op == GreaterEqual {
		code = opJumpGE
	}
	tie := b.load(low, b.branch(code, lowValue, yes, no))
	if c.Narrow {
		return tie
	}
	return b.load(high, b.branch(opJumpGT, highValue, yes, b.branch(opJumpEQ, highValue, tie, no)))
}

// masked writes nothing for a half that the mask leaves out.
func (b *builder) masked(offset, mask, value uint32, yes, no int) int {
	switch mask {
	case 0:
		return yes
	case math.MaxUint32:
		return b.load(offset, b.branch(opJumpEQ, value, yes, no))
	}
	b.follow(b.branch(opJumpEQ, value, yes, no))
	return b.load(offset, b.emit(Instruction{Code: opAnd, K: mask}))
}
