package core_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"testing/quick"

	"github.com/dayfly-io/dayfly/internal/core"
)

func TestParseBytes(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]core.Bytes{
		"0B": 0, "1B": 1, "4096B": 4096, "128MiB": 128 << 20, " 128 MiB ": 128 << 20, "1.5GiB": 3 << 29, "0.5KiB": 512, "2TiB": 2 << 40,
		"1kB": 1000, "1KB": 1000, "1.5MB": 1_500_000, "3GB": 3e9, "4TB": 4e12, ".5KiB": 512, "5.KiB": 5120, "0.3B": 0,
		"9223372036854775807B": math.MaxInt64, "9007199254740993B": 1<<53 + 1,
	} {
		if got, err := core.ParseBytes(s); err != nil || got != want {
			t.Errorf("%q is read as %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "128", "MiB", "B", "-1B", "+1B", "1e3B", "0x10MiB", "1_000B", "infB", "NaNB", "1 M", "1mib", "1Mi", "1.2.3MiB", ".B",
		"9223372036854775808B", "8388608TiB", "99999999TiB", "1MiBB", "1BMiB", "１MiB",
	} {
		got, err := core.ParseBytes(s)
		if !core.IsKind(err, core.KindInvalid) {
			t.Errorf("%q is read as %d, %v", s, got, err)
		} else if !strings.Contains(err.Error(), "such as 128MiB") {
			t.Errorf("the error %q does not say how to write it", err)
		}
	}
}

func TestBytesText(t *testing.T) {
	t.Parallel()
	for b, want := range map[core.Bytes]string{
		0: "0B", 1: "1B", 1000: "1000B", 1024: "1KiB", 1536: "1536B", 128 << 20: "128MiB", 3 << 29: "1536MiB", 1 << 40: "1TiB", 1 << 50: "1024TiB",
	} {
		if got := b.String(); got != want {
			t.Errorf("%d is %s, want %s", int64(b), got, want)
		}
	}
	same := func(n int64, shift uint8) bool {
		b := core.Bytes(n & math.MaxInt64 >> (shift % 63) << (shift % 40) & math.MaxInt64)
		text, err := b.MarshalText()
		var back core.Bytes
		return err == nil && back.UnmarshalText(text) == nil && back == b
	}
	if err := quick.Check(same, &quick.Config{MaxCount: 2000}); err != nil {
		t.Error(err)
	}
	if err := new(core.Bytes).UnmarshalText([]byte("x")); err == nil {
		t.Error("x is a size")
	}
}

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"128MiB", "1.5GiB", "-1B", "9223372036854775807B", "0x1B"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := core.ParseBytes(s)
		if err != nil {
			return
		}
		if back, err := core.ParseBytes(b.String()); b < 0 || err != nil || back != b {
			t.Errorf("%q is %d, which is written %s and read as %d, %v", s, int64(b), b, int64(back), err)
		}
	})
}

func TestParseCPU(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]core.CPU{
		"1": 1000, "0.5": 500, " 2 ": 2000, "0.001": 1, "1.0005": 1001, "1024": 1_024_000, "0.0006": 1,
	} {
		if got, err := core.ParseCPU(s); err != nil || got != want {
			t.Errorf("%q is read as %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "0", "0.0004", "-1", "1024.001", "inf", "NaN", "0x1", "1e2", "half", "1,5", "500m"} {
		got, err := core.ParseCPU(s)
		if !core.IsKind(err, core.KindInvalid) {
			t.Errorf("%q is read as %d, %v", s, got, err)
		} else if !strings.Contains(err.Error(), "from 0.01 to 1024") {
			t.Errorf("the error %q does not name the bounds", err)
		}
	}
}

func TestCPUText(t *testing.T) {
	t.Parallel()
	for c := core.CPU(1); c <= core.MaxCPU; c += 7 {
		text, err := json.Marshal(c)
		var back core.CPU
		if err != nil || json.Unmarshal(text, &back) != nil || back != c {
			t.Fatalf("%d is written %s and read as %d", int64(c), text, int64(back))
		}
	}
	for c, want := range map[core.CPU]string{500: "0.5", 1000: "1", 1: "0.001", 1500: "1.5"} {
		if got := c.String(); got != want {
			t.Errorf("%d is %s, want %s", int64(c), got, want)
		}
	}
	var c core.CPU
	if err := json.Unmarshal([]byte(`"0.25"`), &c); err != nil || c != 250 {
		t.Errorf("a string is read as %d, %v", c, err)
	}
	if err := json.Unmarshal([]byte(`"much"`), &c); err == nil {
		t.Error("much is a number of processors")
	}
}

func FuzzParseCPU(f *testing.F) {
	f.Add("0.5")
	f.Add("1024")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := core.ParseCPU(s)
		if err != nil {
			return
		}
		if back, err := core.ParseCPU(c.String()); c <= 0 || c > core.MaxCPU || err != nil || back != c {
			t.Errorf("%q is %d, which is written %s and read as %d, %v", s, int64(c), c, int64(back), err)
		}
	})
}
