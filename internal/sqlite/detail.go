package sqlite

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sqlitefile"
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
	detailThaw     // a duration
	detailPeak     // the peak of memory is that of the instance
	detailUsage    // throttled time, memory now, kills for memory
	detailSamples  // how many, then three numbers each: the step in time and in processor time, the memory
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
		{r.Start != core.StartPhases{Thaw: r.Start.Thaw}, detailPhases},
		{r.Start.Thaw != 0, detailThaw},
		{r.PeakOfInstance, detailPeak},
		{r.Usage.Throttled != 0 || r.Usage.Memory != 0 || r.Usage.OOMKills != 0, detailUsage},
		{len(r.Samples) > 0, detailSamples},
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
	if flags&detailThaw != 0 {
		b = binary.AppendVarint(b, int64(r.Start.Thaw))
	}
	if flags&detailUsage != 0 {
		b = binary.AppendVarint(b, int64(r.Usage.Throttled))
		b = binary.AppendVarint(b, int64(r.Usage.Memory))
		b = binary.AppendVarint(b, int64(r.Usage.OOMKills))
	}
	if flags&detailSamples != 0 {
		b = appendSamples(b, r.Samples)
	}
	return b
}

func appendSamples(b []byte, samples []core.UsageSample) []byte {
	b = binary.AppendUvarint(b, uint64(len(samples)))
	var last core.UsageSample
	for _, s := range samples {
		b = binary.AppendVarint(b, int64(s.At-last.At))
		b = binary.AppendVarint(b, int64(s.CPU-last.CPU))
		b = binary.AppendVarint(b, int64(s.Memory))
		last = s
	}
	return b
}

func readSamples(d *sqlitefile.Packed) (samples []core.UsageSample) {
	var last core.UsageSample
	for n := d.Uvarint(); n > 0 && d.Err() == nil; n-- {
		last.At += time.Duration(d.Varint())
		last.CPU += time.Duration(d.Varint())
		last.Memory = core.Bytes(d.Varint())
		samples = append(samples, last)
	}
	return samples
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
	d := sqlitefile.NewPacked(b)
	if format := d.Uvarint(); format != detailFormat {
		return fmt.Errorf("the detail of run %s has the format %d, which this release does not know", r.ID, format)
	}
	flags := d.Uvarint()
	r.Cold, r.UsageShared = flags&detailCold != 0, flags&detailShared != 0
	r.CreatedAt = instant(core.IDTime(int64(r.ID)).UnixMicro() + d.Varint())
	r.Attempt = int(d.Varint())
	r.Trigger, r.Principal, r.Method = s.words.get(d.Varint()), s.words.get(d.Varint()), s.words.get(d.Varint())
	r.ExitCode = int(d.Varint())
	r.BytesIn, r.BytesOut, r.LogBytes = core.Bytes(d.Varint()), core.Bytes(d.Varint()), core.Bytes(d.Varint())
	r.Usage.CPU, r.Usage.PeakMemory = time.Duration(d.Varint()), core.Bytes(d.Varint())
	if flags&detailPhases != 0 {
		r.Start = core.StartPhases{
			Image: time.Duration(d.Varint()), Sandbox: time.Duration(d.Varint()), Boot: time.Duration(d.Varint()),
		}
	}
	if flags&detailMessage != 0 {
		r.Message = d.Text()
	}
	r.Path = "/"
	if flags&detailPath != 0 {
		r.Path = d.Text()
	}
	r.Progress = -1
	if flags&detailProgress != 0 {
		r.Progress = int(d.Varint())
		r.ProgressText = d.Text()
	}
	if flags&detailWords != 0 {
		r.Reason += core.Reason(d.Text())
		r.Trigger += d.Text()
		r.Principal += d.Text()
		r.Method += d.Text()
	}
	if flags&detailThaw != 0 {
		r.Start.Thaw = time.Duration(d.Varint())
	}
	r.PeakOfInstance = flags&detailPeak != 0
	if flags&detailUsage != 0 {
		r.Usage.Throttled, r.Usage.Memory, r.Usage.OOMKills = time.Duration(d.Varint()), core.Bytes(d.Varint()), int(d.Varint())
	}
	if flags&detailSamples != 0 {
		r.Samples = readSamples(d)
	}
	if d.Err() != nil {
		return fmt.Errorf("reading the detail of run %s: %w", r.ID, d.Err())
	}
	return nil
}
