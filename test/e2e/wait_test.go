package e2e_test

import (
	"context"
	"testing"
	"time"
)

// patience is how long something may take that takes milliseconds on an idle
// machine.
const patience = 30 * time.Second

// until looks again and again until done says so, and fails the test when
// that takes longer than limit. What done gives besides is shown then.
func until[T any](t *testing.T, what string, limit time.Duration, done func() (T, bool)) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		v, ok := done()
		if ok {
			return v
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited %s in vain until %s; last seen: %v", limit, what, v)
		case <-tick.C:
		}
	}
}

// within fails the test when the channel gives nothing in time.
func within[T any](t *testing.T, what string, limit time.Duration, c <-chan T) T {
	t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case v := <-c:
		return v
	case <-timer.C:
		t.Fatalf("waited %s in vain for %s", limit, what)
	}
	panic("not reached")
}
