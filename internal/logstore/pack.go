package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sqlitefile"
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

// unpack reads what pack gave; the lines get run and instance.
func unpack(b []byte, run core.RunID, instance core.InstanceID) ([]core.LogLine, error) {
	if len(b) == 0 || b[0] != packFormat {
		return nil, errors.New("its format is one that this release does not know")
	}
	u := sqlitefile.NewPacked(b[1:])
	var lines []core.LogLine
	var sequence int64
	at := u.Varint()
	for u.More() {
		stream := u.Byte()
		sequence += u.Varint()
		at += u.Varint()
		text := u.Text()
		if u.Err() != nil {
			return nil, fmt.Errorf("line %d: %w", len(lines)+1, u.Err())
		}
		lines = append(lines, core.LogLine{
			Instance: instance, Run: run, Stream: core.Stream(stream),
			Sequence: sequence, Time: time.UnixMicro(at).UTC(), Text: text,
		})
	}
	return lines, u.Err()
}
