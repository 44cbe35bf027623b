package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// A packed chunk is a byte 1 for the format, the instant of its first line in
// microseconds since 1970, and for each line: the stream (a byte), how much
// sequence and instant grew since the line before, and the text with its
// length in front. Numbers are varints (encoding/binary).
const packFormat = 1

func pack(lines []core.LogLine) []byte {
	size := 16
	for _, l := range lines {
		size += len(l.Text) + 12
	}
	b := append(make([]byte, 0, size), packFormat)
	var sequence, at int64
	if len(lines) > 0 {
		at = lines[0].Time.UnixMicro()
	}
	b = binary.AppendVarint(b, at)
	for _, l := range lines {
		b = append(b, byte(l.Stream))
		b = binary.AppendVarint(b, l.Sequence-sequence)
		b = binary.AppendVarint(b, l.Time.UnixMicro()-at)
		b = binary.AppendUvarint(b, uint64(len(l.Text)))
		b = append(b, l.Text...)
		sequence, at = l.Sequence, l.Time.UnixMicro()
	}
	return b
}

var errShort = errors.New("it ends too early")

// unpack reads what pack gave; the lines get run and instance.
func unpack(b []byte, run core.RunID, instance core.InstanceID) ([]core.LogLine, error) {
	if len(b) == 0 || b[0] != packFormat {
		return nil, errors.New("its format is one that this release does not know")
	}
	u := unpacker{rest: b[1:]}
	var lines []core.LogLine
	var sequence int64
	at := u.varint()
	for len(u.rest) > 0 {
		stream := u.take(1)
		sequence += u.varint()
		at += u.varint()
		text := u.take(u.length())
		if u.err != nil {
			return nil, fmt.Errorf("line %d: %w", len(lines)+1, u.err)
		}
		lines = append(lines, core.LogLine{
			Instance: instance, Run: run, Stream: core.Stream(stream[0]),
			Sequence: sequence, Time: time.UnixMicro(at).UTC(), Text: text,
		})
	}
	return lines, u.err
}

// unpacker reads numbers and texts. After an error it gives zeros.
type unpacker struct {
	rest []byte
	err  error
}

func (u *unpacker) varint() int64 {
	v, n := binary.Varint(u.rest)
	u.skip(n)
	return v
}

func (u *unpacker) length() uint64 {
	v, n := binary.Uvarint(u.rest)
	u.skip(n)
	return v
}

func (u *unpacker) skip(n int) {
	if n <= 0 {
		u.err, u.rest = errShort, nil
		return
	}
	u.rest = u.rest[n:]
}

func (u *unpacker) take(n uint64) string {
	if n > uint64(len(u.rest)) {
		u.err, u.rest = errShort, nil
		return ""
	}
	text := string(u.rest[:n])
	u.rest = u.rest[n:]
	return text
}
