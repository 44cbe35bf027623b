package core_test

import (
	"slices"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// However long a run takes, its samples are few, in order, evenly apart, and
// reach to its end; who took them over before sees no change.
func TestSamplesAreBoundedAndEven(t *testing.T) {
	t.Parallel()
	for _, seconds := range []int{1, 2, core.MaxSamples, core.MaxSamples + 1, 200, 3600, 24 * 3600} {
		var r core.Run
		var early, was []core.UsageSample
		for i := 1; i <= seconds; i++ {
			jitter := time.Duration(i%7-3) * 10 * time.Millisecond
			r.Sample(core.UsageSample{At: time.Duration(i)*time.Second + jitter, CPU: time.Duration(i), Memory: core.Bytes(i)})
			if i == core.MaxSamples {
				early, was = r.Samples, slices.Clone(r.Samples)
			}
		}
		n := len(r.Samples)
		if n == 0 || n > core.MaxSamples || seconds <= core.MaxSamples && n != seconds {
			t.Fatalf("%d s give %d samples", seconds, n)
		}
		if n < min(seconds, core.MaxSamples/2) {
			t.Errorf("%d s give only %d samples", seconds, n)
		}
		if !slices.Equal(early, was) {
			t.Errorf("%d s: samples that were taken over have changed", seconds)
		}
		every := time.Duration(seconds) * time.Second
		if n > 1 {
			every = r.Samples[1].At - r.Samples[0].At
		}
		for i := 1; i < n; i++ {
			if gap := r.Samples[i].At - r.Samples[i-1].At; gap < every-time.Second/2 || gap > every+time.Second/2 {
				t.Fatalf("%d s: sample %d is %s after the one before, with %s at first", seconds, i, gap, every)
			}
		}
		if left := time.Duration(seconds)*time.Second - r.Samples[n-1].At; left > every+time.Second {
			t.Errorf("%d s: the last sample is %s before the end", seconds, left)
		}
	}
}

func TestExitByOOM(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		exit  core.Exit
		kills int
		want  bool
	}{
		{core.Exit{Code: 137, Signal: 9}, 1, true},
		{core.Exit{Code: 137, Signal: 9}, 0, false},
		{core.Exit{Code: 137}, 2, true},
		{core.Exit{Code: 137}, 0, false},
		{core.Exit{Code: 1}, 1, false},
		{core.Exit{Code: 0}, 1, false},
		{core.Exit{Code: 139, Signal: 11}, 1, false},
	} {
		if got := tc.exit.ByOOM(tc.kills); got != tc.want {
			t.Errorf("%+v with %d kills: %v", tc.exit, tc.kills, got)
		}
	}
}
