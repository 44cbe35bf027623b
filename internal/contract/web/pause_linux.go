package web

import (
	"context"
	"syscall"
	"time"
)

// pause waits for d, or a little less. Go's timers wait a whole millisecond
// at least while the process is idle, because epoll counts in milliseconds;
// most functions listen sooner. So short pauses are slept in the kernel, at
// the price of a thread for that time.
func pause(ctx context.Context, d time.Duration) {
	if d >= time.Millisecond {
		pauseTimer(ctx, d)
		return
	}
	spec := syscall.NsecToTimespec(int64(d))
	// A signal that cuts the sleep short makes for one more look, no harm.
	_ = syscall.Nanosleep(&spec, nil)
}
