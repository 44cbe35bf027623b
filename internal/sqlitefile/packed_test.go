package sqlitefile_test

import (
	"encoding/binary"
	"testing"

	"github.com/dayfly-io/dayfly/internal/sqlitefile"
)

func TestPacked(t *testing.T) {
	t.Parallel()
	whole := binary.AppendVarint(nil, -300)
	whole = append(binary.AppendUvarint(whole, 300), 7)
	whole = append(binary.AppendUvarint(whole, 4), "text"...)
	whole = append(whole, 0) // an empty text
	read := func(b []byte) (values [5]any, p *sqlitefile.Packed) {
		p = sqlitefile.NewPacked(b)
		return [5]any{p.Varint(), p.Uvarint(), p.Byte(), p.Text(), p.Text()}, p
	}
	got, p := read(whole)
	if want := [5]any{int64(-300), uint64(300), byte(7), "text", ""}; got != want || p.Err() != nil || p.More() {
		t.Errorf("got %v, %v, more %v", got, p.Err(), p.More())
	}
	for n := range whole {
		if _, p := read(whole[:n]); p.Err() == nil || p.More() {
			t.Errorf("the first %d of %d bytes gave %v, more %v", n, len(whole), p.Err(), p.More())
		}
	}
	if _, p := read([]byte{0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 'x'}); p.Err() == nil {
		t.Error("a text longer than the column was read")
	}
}
