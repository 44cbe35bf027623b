package core_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

func TestIDRoundTrip(t *testing.T) {
	t.Parallel()
	same := func(n int64) bool {
		n &= math.MaxInt64
		run, err1 := core.ParseRunID(core.RunID(n).String())
		fn, err2 := core.ParseFunctionID(core.FunctionID(n).String())
		ins, err3 := core.ParseInstanceID(core.InstanceID(n).String())
		return err1 == nil && err2 == nil && err3 == nil && int64(run) == n && int64(fn) == n && int64(ins) == n
	}
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
	for n, want := range map[core.RunID]string{
		0: "run_0000000000000", 31: "run_000000000000z", 32: "run_0000000000010", math.MaxInt64: "run_7zzzzzzzzzzzz",
	} {
		if n.String() != want || !same(int64(n)) {
			t.Errorf("%d is %s, want %s", int64(n), n, want)
		}
	}
	if got := core.AppID(1).String(); got != "app_0000000000001" {
		t.Errorf("the id of an app is %s", got)
	}
}

func TestIDTextHasTheOrderOfNumbers(t *testing.T) {
	t.Parallel()
	ordered := func(a, b int64) bool {
		a, b = a&math.MaxInt64, b&math.MaxInt64
		return (a < b) == (core.RunID(a).String() < core.RunID(b).String())
	}
	if err := quick.Check(ordered, nil); err != nil {
		t.Error(err)
	}
}

func TestParseIDRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "run_", "0000000000001", "run_000000000001", "run_00000000000001", "fn_0000000000001", "Run_0000000000001",
		"run_000000000000A", "run_000000000000i", "run_000000000000l", "run_000000000000o", "run_000000000000u", "run_000000000000-",
		"run_8000000000000", "run_zzzzzzzzzzzzz", "run_00000000000é", " run_0000000000001",
	} {
		if id, err := core.ParseRunID(s); !core.IsKind(err, core.KindInvalid) || id != 0 {
			t.Errorf("%q is read as %d, %v", s, id, err)
		} else if !strings.Contains(err.Error(), "id of a run") {
			t.Errorf("the error %q does not say what it should be", err)
		}
	}
}

func FuzzParseRunID(f *testing.F) {
	f.Add("run_0000000000001")
	f.Add("run_8zzzzzzzzzzzz")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := core.ParseRunID(s); err == nil && (id.String() != s || id < 0) {
			t.Errorf("%q is read as %d, which is %s", s, id, id)
		}
	})
}

// Whatever the clock does, ids rise, and tell time and node.
func TestNextID(t *testing.T) {
	t.Parallel()
	for range 100 {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		now := core.Epoch.Add(time.Duration(r.Int64N(int64(60 * 365 * 24 * time.Hour))))
		node := r.IntN(core.MaxNode + 1)
		last, latest := int64(0), time.Time{}
		for range 300 {
			switch r.IntN(4) {
			case 0:
				now = now.Add(time.Duration(r.Int64N(int64(10 * time.Millisecond))))
			case 1:
				now = now.Add(-time.Duration(r.Int64N(int64(time.Hour))))
			}
			burst := 1
			if r.IntN(50) == 0 {
				burst = 5000 // more than a millisecond holds
			}
			for range burst {
				id := core.NextID(last, now, node)
				if id <= last {
					t.Fatalf("seed %d: %d follows %d", seed, id, last)
				}
				if got := int(id >> 12 & core.MaxNode); got != node {
					t.Fatalf("seed %d: the id is of node %d, not %d", seed, got, node)
				}
				last = id
			}
			if now.After(latest) {
				latest = now
			}
			if at := core.IDTime(last); at.Before(latest.Truncate(time.Millisecond).Add(-time.Millisecond)) {
				t.Fatalf("seed %d: an id made at %s says %s", seed, latest, at)
			}
		}
	}
	first := core.NextID(0, core.Epoch.Add(time.Hour), 3)
	if at := core.IDTime(first); !at.Equal(core.Epoch.Add(time.Hour)) {
		t.Errorf("the id says %s", at)
	}
	if before := core.NextID(5, core.Epoch.Add(-time.Hour), 0); before != 6 {
		t.Errorf("before the epoch %d follows 5", before)
	}
}

func TestFirstIDAt(t *testing.T) {
	t.Parallel()
	bounds := func(ms uint32, node uint16, later uint16) bool {
		at := core.Epoch.Add(time.Duration(ms) * time.Millisecond)
		id := core.NextID(0, at, int(node))
		return core.FirstIDAt(at) <= id && id < core.FirstIDAt(at.Add(time.Duration(later)*time.Millisecond+time.Millisecond))
	}
	if err := quick.Check(bounds, nil); err != nil {
		t.Error(err)
	}
	if got := core.FirstIDAt(core.Epoch.Add(-time.Hour)); got != 0 {
		t.Errorf("before the epoch it is %d", got)
	}
}
