package sqlitefile

import "runtime"

// WaitQueued waits until n writes stand in the queue.
func WaitQueued(f *File, n int) {
	for {
		f.mu.Lock()
		queued := len(f.queue)
		f.mu.Unlock()
		if queued >= n {
			return
		}
		runtime.Gosched()
	}
}
