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
	for _, u := range byteUnits {
		number, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		if n, ok := scale(strings.TrimSpace(number), int64(u.size)); ok {
			return Bytes(n), nil
		}
		break
	}
	return 0, Invalid("%q is not a size: write a number and a unit, such as 128MiB", s)
}

// scale reads a decimal number of units and gives it in ones, rounded; false
// when it is none, or does not fit.
func scale(number string, unit int64) (int64, bool) {
	if strings.Trim(number, "0123456789.") != "" {
		return 0, false
	}
	// Whole numbers are read exactly: a float has 53 bits of them.
	if n, err := strconv.ParseInt(number, 10, 64); err == nil && n <= math.MaxInt64/unit {
		return n * unit, true
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f*float64(unit) >= math.MaxInt64 {
		return 0, false
	}
	return int64(math.Round(f * float64(unit))), true
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

// MinCPU and MaxCPU are the bounds of a share.
const (
	MinCPU CPU = 10
	MaxCPU CPU = 1024_000
)

// ParseCPU reads processors as a decimal number, such as 0.5 or 2.
func ParseCPU(s string) (CPU, error) {
	n, ok := scale(strings.TrimSpace(s), 1000)
	if !ok || n <= 0 || n > int64(MaxCPU) {
		return 0, Invalid("%q is not a number of processors: write a number from %s to %s, such as 0.5", s, MinCPU, MaxCPU)
	}
	return CPU(n), nil
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
