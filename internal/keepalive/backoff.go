package keepalive

import "time"

// Steady is how long an instance must have lived for its end to be no sign of
// something wrong.
const Steady = time.Minute

// The bounds of the pause before another start.
const (
	firstPause = time.Second
	lastPause  = time.Minute
)

// Backoff counts the ends, in a row, of instances that died young and of
// starts that did not work.
type Backoff struct {
	failures int
	failed   time.Time
}

// Fail counts one more. Those before it are forgotten when the last is long
// past.
func (b Backoff) Fail(now time.Time) Backoff {
	if now.Sub(b.failed) > Steady+b.pause() {
		b.failures = 0
	}
	return Backoff{failures: b.failures + 1, failed: now}
}

// Next gives when the next start may be; the zero time when nothing failed.
func (b Backoff) Next() time.Time {
	if b.failures == 0 {
		return time.Time{}
	}
	return b.failed.Add(b.pause())
}

// Recent reports whether something failed not long before now.
func (b Backoff) Recent(now time.Time) bool {
	return b.failures > 0 && now.Sub(b.failed) <= Steady+b.pause()
}

func (b Backoff) pause() time.Duration {
	return min(firstPause<<min(max(b.failures-1, 0), 16), lastPause)
}
