package sqlitefile

import (
	"encoding/binary"
	"errors"
)

// Packed reads a column that holds many values behind one another: varints
// (encoding/binary), and texts with their length in front as an unsigned one.
// After an error it gives zeros and Err says why.
type Packed struct {
	rest []byte
	err  error
}

var errShort = errors.New("it ends too early")

// NewPacked reads from b, which it does not change.
func NewPacked(b []byte) *Packed { return &Packed{rest: b} }

// Err gives the first error.
func (p *Packed) Err() error { return p.err }

// More reports whether something is left to read.
func (p *Packed) More() bool { return len(p.rest) > 0 }

// Varint reads a number.
func (p *Packed) Varint() int64 {
	v, n := binary.Varint(p.rest)
	p.skip(n)
	return v
}

// Uvarint reads an unsigned number.
func (p *Packed) Uvarint() uint64 {
	v, n := binary.Uvarint(p.rest)
	p.skip(n)
	return v
}

// Byte reads a byte.
func (p *Packed) Byte() byte {
	if len(p.rest) == 0 {
		p.skip(0)
		return 0
	}
	b := p.rest[0]
	p.skip(1)
	return b
}

// Text reads a text.
func (p *Packed) Text() string {
	n := p.Uvarint()
	if n > uint64(len(p.rest)) {
		p.skip(0)
		return ""
	}
	text := string(p.rest[:n])
	p.rest = p.rest[n:]
	return text
}

// skip takes off what was read; n is 0 or less when that was not whole.
func (p *Packed) skip(n int) {
	if n <= 0 {
		p.err, p.rest = errShort, nil
		return
	}
	p.rest = p.rest[n:]
}
