package sequence_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sequence"
)

// clocks are ways in which a clock may behave; each is safe for concurrent use.
func clocks() map[string]func() time.Time {
	start := core.Epoch.Add(1000 * time.Hour)
	var ticks, steps atomic.Int64
	return map[string]func() time.Time{
		"runs":        time.Now,
		"stands":      func() time.Time { return start },
		"goes back":   func() time.Time { return start.Add(-time.Duration(ticks.Add(1)) * time.Millisecond) },
		"jumps about": func() time.Time { return start.Add(rand.N(2*time.Hour) - time.Hour) },
		"steps back once": func() time.Time {
			if n := steps.Add(1); n > 5000 {
				return start.Add(time.Duration(n)*time.Microsecond - time.Hour)
			}
			return start
		},
	}
}

func TestNextRisesStrictlyUnderConcurrency(t *testing.T) {
	t.Parallel()
	const callers, each = 8, 4000
	for name, clock := range clocks() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := sequence.New(17, clock)
			got := make([][]int64, callers)
			var wait sync.WaitGroup
			for c := range callers {
				wait.Go(func() {
					for range each {
						got[c] = append(got[c], source.Next())
					}
				})
			}
			wait.Wait()
			for c, ids := range got {
				if !slices.IsSorted(ids) {
					t.Fatalf("caller %d saw an id lower than one before it", c)
				}
			}
			all := slices.Concat(got...)
			slices.Sort(all)
			if n := len(slices.Compact(all)); n != callers*each {
				t.Fatalf("%d calls gave %d different ids", callers*each, n)
			}
		})
	}
}

func TestSourcesOfTwoNodesNeverMeet(t *testing.T) {
	t.Parallel()
	at := core.Epoch.Add(time.Hour)
	one := sequence.New(1, func() time.Time { return at })
	two := sequence.New(2, func() time.Time { return at })
	seen := map[int64]bool{}
	for range 10_000 {
		for _, id := range []int64{one.Next(), two.Next()} {
			if seen[id] {
				t.Fatalf("the id %d was given twice", id)
			}
			seen[id] = true
		}
	}
}

func TestNextTellsTheTime(t *testing.T) {
	t.Parallel()
	at := core.Epoch.Add(12345 * time.Millisecond)
	if got := core.IDTime(sequence.New(3, func() time.Time { return at }).Next()); !got.Equal(at) {
		t.Fatalf("an id made at %s says %s", at, got)
	}
}

func BenchmarkNext(b *testing.B) {
	source := sequence.New(1, time.Now)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			source.Next()
		}
	})
}
