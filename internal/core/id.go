package core

import (
	"strings"
	"time"
)

// Ids are int64 and ordered by time: 41 bits of milliseconds since 2024-01-01
// UTC, 10 bits of node, 12 bits of sequence. On the wire they are a prefix and
// 13 characters of Crockford base32 in lower case, so that they sort as text
// too. An id is no capability.
type (
	// AppID names an app for good.
	AppID int64
	// FunctionID names a function for good.
	FunctionID int64
	// RunID names a run.
	RunID int64
	// InstanceID names an instance.
	InstanceID int64
)

// Epoch is the instant from which ids count.
var Epoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// The parts of an id, in bits.
const (
	idSequenceBits = 12
	idNodeBits     = 10
)

// MaxNode is the highest node number an id can hold.
const MaxNode = 1<<idNodeBits - 1

const crockford = "0123456789abcdefghjkmnpqrstvwxyz"

const idDigits = 13

// NextID gives the id that follows last on the node at the instant now. It
// never goes back: while now is behind last, the sequence counts on.
func NextID(last int64, now time.Time, node int) int64 {
	ms := now.Sub(Epoch).Milliseconds()
	first := ms<<(idNodeBits+idSequenceBits) | int64(node&MaxNode)<<idSequenceBits
	if first > last {
		return first
	}
	const sequence = 1<<idSequenceBits - 1
	if last&sequence < sequence {
		return last + 1
	}
	// The millisecond is full: borrow from the next one.
	ms = last>>(idNodeBits+idSequenceBits) + 1
	return ms<<(idNodeBits+idSequenceBits) | int64(node&MaxNode)<<idSequenceBits
}

// IDTime gives the instant, in whole milliseconds, at which an id was made.
func IDTime(id int64) time.Time {
	return Epoch.Add(time.Duration(id>>(idNodeBits+idSequenceBits)) * time.Millisecond)
}

// FirstIDAt gives the lowest id that can have been made at the instant t; it
// bounds searches by time.
func FirstIDAt(t time.Time) int64 {
	return max(t.Sub(Epoch).Milliseconds(), 0) << (idNodeBits + idSequenceBits)
}

func formatID(prefix string, id int64) string {
	var b [idDigits]byte
	u := uint64(id)
	for i := idDigits - 1; i >= 0; i-- {
		b[i] = crockford[u&31]
		u >>= 5
	}
	return prefix + string(b[:])
}

func parseID(prefix, noun, s string) (int64, error) {
	digits, ok := strings.CutPrefix(s, prefix)
	if !ok || len(digits) != idDigits {
		return 0, Invalid("%q is not the id of a %s: it is %s and %d characters", s, noun, prefix, idDigits)
	}
	var u uint64
	for i := range idDigits {
		d := strings.IndexByte(crockford, digits[i])
		if d < 0 || (i == 0 && d > 7) {
			return 0, Invalid("%q is not the id of a %s: the character %q cannot stand there", s, noun, digits[i])
		}
		u = u<<5 | uint64(d)
	}
	return int64(u), nil
}

// String gives the id as it is on the wire, "app_...".
func (id AppID) String() string { return formatID("app_", int64(id)) }

// String gives the id as it is on the wire, "fn_...".
func (id FunctionID) String() string { return formatID("fn_", int64(id)) }

// String gives the id as it is on the wire, "run_...".
func (id RunID) String() string { return formatID("run_", int64(id)) }

// String gives the id as it is on the wire, "ins_...".
func (id InstanceID) String() string { return formatID("ins_", int64(id)) }

// ParseRunID reads an id of a run as it is on the wire.
func ParseRunID(s string) (RunID, error) {
	id, err := parseID("run_", "run", s)
	return RunID(id), err
}

// ParseFunctionID reads an id of a function as it is on the wire.
func ParseFunctionID(s string) (FunctionID, error) {
	id, err := parseID("fn_", "function", s)
	return FunctionID(id), err
}

// ParseInstanceID reads an id of an instance as it is on the wire.
func ParseInstanceID(s string) (InstanceID, error) {
	id, err := parseID("ins_", "instance", s)
	return InstanceID(id), err
}
