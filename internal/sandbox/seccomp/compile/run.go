package compile

import (
	"errors"
	"fmt"
)

// Call is one system call as a filter sees it: struct seccomp_data without the instruction pointer.
type Call struct {
	// Number is the system call number.
	Number uint32
	// Audit is the AUDIT_ARCH_* value of the entry that the call came through.
	Audit uint32
	// Args are the argument registers.
	Args [6]uint64
}

// Run interprets a filter as the kernel does and returns its answer and the number of instructions executed. It knows
// only the operations that Compile uses, and errors on any other, on a load outside of the call and on a jump beyond the
// end.
func Run(program []Instruction, call Call) (answer Action, steps int, err error) {
	var a uint32
	for pc := 0; pc < len(program); pc++ {
		in := program[pc]
		steps++
		skip := in.False
		switch in.Code {
		case opLoad:
			if a, err = call.word(in.K); err != nil {
				return 0, steps, fmt.Errorf("instruction %d: %w", pc, err)
			}
			continue
		case opAnd:
			a &= in.K
			continue
		case opReturn:
			return Action(in.K), steps, nil
		case opJump:
			if in.K >= uint32(len(program)) {
				return 0, steps, fmt.Errorf("instruction %d jumps over %d of %d instructions", pc, in.K, len(program))
			}
			pc += int(in.K)
			continue
		case opJumpEQ:
			if a == in.K {
				skip = in.True
			}
		case opJumpGT:
			if a > in.K {
				skip = in.True
			}
		case opJumpGE:
			if a >= in.K {
				skip = in.True
			}
		default:
			return 0, steps, fmt.Errorf("instruction %d has the unknown operation %#x", pc, in.Code)
		}
		pc += int(skip)
	}
	return 0, steps, errors.New("the program runs past its last instruction")
}

func (c Call) word(offset uint32) (uint32, error) {
	switch {
	case offset == offNumber:
		return c.Number, nil
	case offset == offArch:
		return c.Audit, nil
	case offset < offArgs || offset >= offArgs+argSize*uint32(len(c.Args)) || offset%4 != 0:
		return 0, fmt.Errorf("no word of the call is at offset %d", offset)
	}
	arg := c.Args[(offset-offArgs)/argSize]
	if (offset-offArgs)%argSize != 0 {
		arg >>= 32
	}
	return uint32(arg), nil
}
