package netns

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// OnThread calls fn on a thread that ends when fn returns, so that fn may move
// it into namespaces for good; with it ends the goroutine, which is to be one of
// its own (go OnThread). The thread is never the process's first thread: that one
// does not end, and is what others take for the process.
func OnThread(fn func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		fn()
		runtime.Goexit() // locked: the thread ends with the goroutine
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		OnThread(fn) // this one's thread is not the first: that is held here
	}()
	<-done
	runtime.UnlockOSThread()
}
