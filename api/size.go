package api

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size. Its text is a number and a unit: B, KiB, MiB, GiB, TiB, or
// kB, MB, GB, TB in powers of ten.
type Bytes int64

// The binary units.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
	TiB Bytes = 1 << 40
)

var units = []struct {
	name string
	size Bytes
}{
	{"TiB", TiB},
	{"GiB", GiB},
	{"MiB", MiB},
	{"KiB", KiB},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"KB", 1e3},
	{"B", 1},
}

// ParseBytes reads a size such as 128MiB, 1.5GiB or 4096B. A number without a
// unit is refused, since whether it means bytes or megabytes cannot be seen.
func ParseBytes(s string) (Bytes, error) {
	text := strings.TrimSpace(s)
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || f < 0 || math.IsNaN(f) || f*float64(u.size) > math.MaxInt64/2 {
			break
		}
		return Bytes(math.Round(f * float64(u.size))), nil
	}
	return 0, fmt.Errorf("%q is not a size: write a number and a unit, such as 128MiB", s)
}

// String gives the size in the largest binary unit that divides it.
func (b Bytes) String() string {
	for _, u := range units[:4] {
		if b >= u.size && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// MarshalText gives the same text as String.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads what [ParseBytes] reads.
func (b *Bytes) UnmarshalText(text []byte) error {
	v, err := ParseBytes(string(text))
	if err != nil {
		return err
	}
	*b = v
	return nil
}

// Duration is a span of time whose text is Go's, such as 30s or 1m30s.
type Duration time.Duration

// ParseDuration reads a duration of 0 or more.
func ParseDuration(s string) (Duration, error) {
	d, err := time.ParseDuration(strings.TrimSpace(s))
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration: write numbers and units, such as 30s or 1m30s", s)
	}
	return Duration(d), nil
}

// String gives the text that [ParseDuration] reads.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText gives the same text as String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what [ParseDuration] reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// Milliseconds is a measured span of time, with microseconds after the point.
type Milliseconds float64

// ToMilliseconds gives d in whole microseconds.
func ToMilliseconds(d time.Duration) Milliseconds {
	return Milliseconds(float64(d.Microseconds()) / 1e3)
}

// Duration gives the same span as Go has it.
func (m Milliseconds) Duration() time.Duration {
	return time.Duration(math.Round(float64(m)*1e3)) * time.Microsecond
}
