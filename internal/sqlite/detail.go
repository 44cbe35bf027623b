package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// The column detail holds what no list asks for, packed: a byte 1 for the
// format, flags, then whole numbers as varints (encoding/binary) in the order
// of appendDetail, then what the flags say is there. A plain hot run takes
// some 30 bytes. New fields go to the end, with a flag of their own, so that
// an older release can read what a newer one wrote.
const detailFormat = 1

const (
	detailCold = 1 << iota
	detailShared
	detailPhases   // three durations
	detailMessage  // a text
	detailPath     // a text; without it the path is /
	detailProgress // a number and a text; without it the progress is -1
	detailWords    // reason, trigger, principal, method, those without a number
)

// codes are the numbers that stand for a run's words.
type codes struct {
	function, reason, trigger, principal, method int64
}

func detailFlags(r *core.Run, c codes) (flags uint64) {
	for _, f := range []struct {
		set bool
		bit uint64
	}{
		{r.Cold, detailCold},
		{r.UsageShared, detailShared},
		{r.Start != core.StartPhases{}, detailPhases},
		{r.Message != "", detailMessage},
		{r.Path != "/", detailPath},
		{r.Progress != -1 || r.ProgressText != "", detailProgress},
		{c.reason == 0 && r.Reason != "" || c.trigger == 0 && r.Trigger != "" ||
			c.principal == 0 && r.Principal != "" || c.method == 0 && r.Method != "", detailWords},
	} {
		if f.set {
			flags |= f.bit
		}
	}
	return flags
}

func appendDetail(b []byte, r *core.Run, c codes) []byte {
	flags := detailFlags(r, c)
	b = append(b, detailFormat)
	b = binary.AppendUvarint(b, flags)
	for _, v := range [...]int64{
		r.CreatedAt.UnixMicro() - core.IDTime(int64(r.ID)).UnixMicro(),
		int64(r.Attempt), c.trigger, c.principal, c.method, int64(r.ExitCode),
		int64(r.BytesIn), int64(r.BytesOut), int64(r.LogBytes), int64(r.Usage.CPU), int64(r.Usage.PeakMemory),
	} {
		b = binary.AppendVarint(b, v)
	}
	if flags&detailPhases != 0 {
		b = binary.AppendVarint(b, int64(r.Start.Image))
		b = binary.AppendVarint(b, int64(r.Start.Sandbox))
		b = binary.AppendVarint(b, int64(r.Start.Boot))
	}
	if flags&detailMessage != 0 {
		b = appendText(b, r.Message)
	}
	if flags&detailPath != 0 {
		b = appendText(b, r.Path)
	}
	if flags&detailProgress != 0 {
		b = binary.AppendVarint(b, int64(r.Progress))
		b = appendText(b, r.ProgressText)
	}
	if flags&detailWords != 0 {
		b = appendText(b, unnumbered(c.reason, string(r.Reason)))
		b = appendText(b, unnumbered(c.trigger, r.Trigger))
		b = appendText(b, unnumbered(c.principal, r.Principal))
		b = appendText(b, unnumbered(c.method, r.Method))
	}
	return b
}

func unnumbered(number int64, word string) string {
	if number != 0 {
		return ""
	}
	return word
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// readDetail fills in a run whose id and reason are there already.
func (s *Store) readDetail(b []byte, r *core.Run) error {
	d := detailReader{rest: b}
	if format := d.uvarint(); format != detailFormat {
		return fmt.Errorf("the detail of run %s has the format %d, which this release does not know", r.ID, format)
	}
	flags := d.uvarint()
	r.Cold, r.UsageShared = flags&detailCold != 0, flags&detailShared != 0
	r.CreatedAt = instant(core.IDTime(int64(r.ID)).UnixMicro() + d.varint())
	r.Attempt = int(d.varint())
	r.Trigger, r.Principal, r.Method = s.words.get(d.varint()), s.words.get(d.varint()), s.words.get(d.varint())
	r.ExitCode = int(d.varint())
	r.BytesIn, r.BytesOut, r.LogBytes = core.Bytes(d.varint()), core.Bytes(d.varint()), core.Bytes(d.varint())
	r.Usage.CPU, r.Usage.PeakMemory = time.Duration(d.varint()), core.Bytes(d.varint())
	if flags&detailPhases != 0 {
		r.Start = core.StartPhases{
			Image: time.Duration(d.varint()), Sandbox: time.Duration(d.varint()), Boot: time.Duration(d.varint()),
		}
	}
	if flags&detailMessage != 0 {
		r.Message = d.text()
	}
	r.Path = "/"
	if flags&detailPath != 0 {
		r.Path = d.text()
	}
	r.Progress = -1
	if flags&detailProgress != 0 {
		r.Progress = int(d.varint())
		r.ProgressText = d.text()
	}
	if flags&detailWords != 0 {
		r.Reason += core.Reason(d.text())
		r.Trigger += d.text()
		r.Principal += d.text()
		r.Method += d.text()
	}
	if d.err != nil {
		return fmt.Errorf("reading the detail of run %s: %w", r.ID, d.err)
	}
	return nil
}

var errShort = errors.New("it ends too early")

// detailReader reads what appendDetail wrote. After an error it gives zeros.
type detailReader struct {
	rest []byte
	err  error
}

func (d *detailReader) varint() int64 {
	v, n := binary.Varint(d.rest)
	d.skip(n)
	return v
}

func (d *detailReader) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	d.skip(n)
	return v
}

func (d *detailReader) skip(n int) {
	if n <= 0 {
		d.err, d.rest = errShort, nil
		return
	}
	d.rest = d.rest[n:]
}

func (d *detailReader) text() string {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.err, d.rest = errShort, nil
		return ""
	}
	text := string(d.rest[:n])
	d.rest = d.rest[n:]
	return text
}
