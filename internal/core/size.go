package core

import (
	"math"
	"strconv"
	"strings"
)

// Bytes is a size. Its text is a whole number and a unit: B, KiB, MiB, GiB,
// TiB, or kB, MB, GB, TB in powers of ten.
type Bytes int64

// The binary units.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
	TiB Bytes = 1 << 40
)

var byteUnits = []struct {
	name string
	size Bytes
}{
	{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
}

// ParseBytes reads a size such as 128MiB, 1.5GiB or 4096B. A number without a
// unit is refused, since whether it means bytes or megabytes cannot be seen.
func ParseBytes(s string) (Bytes, error) {
	text := strings.TrimSpace(s)
	for _, u := range byteUnits {
		number, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || f < 0 || f*float64(u.size) > math.MaxInt64/2 || math.IsNaN(f) {
			break
		}
		return Bytes(math.Round(f * float64(u.size))), nil
	}
	return 0, Invalid("%q is not a size: write a number and a unit, such as 128MiB", s)
}

// String gives the size in the largest binary unit that divides it.
func (b Bytes) String() string {
	for _, u := range byteUnits[:4] {
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

// CPU is a share of processors in thousandths: 1000 is one whole processor.
type CPU int64

// ParseCPU reads processors as a decimal number, such as 0.5 or 2.
func ParseCPU(s string) (CPU, error) {
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || math.IsNaN(f) || f <= 0 || f > 1024 {
		return 0, Invalid("%q is not a number of processors: write a number over 0, such as 0.5", s)
	}
	return CPU(math.Round(f * 1000)), nil
}

// String gives the number of processors, such as 0.5.
func (c CPU) String() string { return strconv.FormatFloat(float64(c)/1000, 'f', -1, 64) }

// MarshalJSON gives a JSON number of processors.
func (c CPU) MarshalJSON() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalJSON reads a JSON number of processors.
func (c *CPU) UnmarshalJSON(text []byte) error {
	v, err := ParseCPU(strings.Trim(string(text), `"`))
	if err != nil {
		return err
	}
	*c = v
	return nil
}
