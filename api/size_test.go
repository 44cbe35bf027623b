package api_test

import (
	"encoding/json"
	"testing"
	"testing/quick"
	"time"

	"github.com/dayfly-io/dayfly/api"
)

func TestSizesComeBack(t *testing.T) {
	t.Parallel()
	if err := quick.Check(func(n int64) bool {
		want := api.Bytes(n & (1<<52 - 1)) // what a float holds whole
		got, err := api.ParseBytes(want.String())
		return err == nil && got == want
	}, nil); err != nil {
		t.Error(err)
	}
}

func TestDurationsComeBack(t *testing.T) {
	t.Parallel()
	if err := quick.Check(func(n int64) bool {
		want := api.Duration(n & (1<<62 - 1))
		got, err := api.ParseDuration(want.String())
		return err == nil && got == want
	}, nil); err != nil {
		t.Error(err)
	}
}

func TestMillisecondsKeepMicroseconds(t *testing.T) {
	t.Parallel()
	if err := quick.Check(func(n int64) bool {
		d := time.Duration(n & (1<<50 - 1))
		return api.ToMilliseconds(d).Duration() == d.Truncate(time.Microsecond)
	}, nil); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNoSizeOrDuration(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "128", "-1MiB", "MiB", "1e99TiB", "NaNB", "1mib"} {
		if v, err := api.ParseBytes(s); err == nil {
			t.Errorf("%q is the size %v", s, v)
		}
	}
	for _, s := range []string{"", "30", "-1s", "1 day"} {
		if v, err := api.ParseDuration(s); err == nil {
			t.Errorf("%q is the duration %v", s, v)
		}
	}
}

func TestASpecSaysOnlyWhatIsSet(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(api.NewVersion{Spec: api.Spec{Image: "a:1", Memory: 64 * api.MiB, Timeout: api.Duration(90 * time.Second), Instances: api.InstanceBounds{Max: 2}, Concurrency: api.Concurrency{PerInstance: 8}}})
	const want = `{"image":"a:1","memory":"64MiB","timeout":"1m30s","instances":{"max":2},"concurrency":{"per_instance":8}}`
	if err != nil || string(b) != want {
		t.Errorf("got %s, %v, want %s", b, err, want)
	}
}

func TestFinalStates(t *testing.T) {
	t.Parallel()
	for s, want := range map[api.State]bool{
		api.StateScheduled: false, api.StateQueued: false, api.StateRunning: false, api.StateSucceeded: true,
		api.StateFailed: true, api.StateTimedOut: true, api.StateCancelled: true, api.StateExpired: true,
	} {
		if s.Final() != want {
			t.Errorf("%s is final: %t", s, s.Final())
		}
	}
}
