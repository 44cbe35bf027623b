package keepalive

import (
	"math"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// HalfLife is the time in which half of the uses of an instance are forgotten.
// Played against traces (keepalive_test.go) a minute is too short to know what
// is called steadily, and half an hour too long once others become popular.
const HalfLife = 3 * time.Minute

// Uses counts how often something was used, of late. The zero value is that
// of something that never was.
type Uses struct {
	count float64
	at    time.Time
}

// Add counts n uses up to now.
func (u Uses) Add(n int64, now time.Time) Uses {
	return Uses{count: u.At(now) + float64(n), at: now}
}

// At gives what is left of the count now. A clock that was set back forgets
// nothing.
func (u Uses) At(now time.Time) float64 {
	passed := now.Sub(u.at)
	if u.count == 0 || passed <= 0 {
		return u.count
	}
	return u.count * math.Exp2(-float64(passed)/float64(HalfLife))
}

// Worth is the time of starts that keeping an instance is expected to save,
// in seconds per MiB of its memory.
func Worth(uses float64, cost time.Duration, size core.Bytes) float64 {
	// One that was never used, or whose start took no time, is worth a little
	// still: it is there.
	return max(uses, 1) * max(cost.Seconds(), 1e-6) * float64(core.MiB) / float64(max(size, 1))
}

// Cost takes one more start into the running average of what a start takes,
// which the last few starts decide. The first one is the average.
func Cost(average, start time.Duration) time.Duration {
	if average == 0 {
		return start
	}
	return average + (start-average)/4
}
