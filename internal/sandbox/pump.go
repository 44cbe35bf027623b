package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// pump moves what a process prints from its pipe to a writer. Reading and
// writing are one step under mu, so that drain can tell when all has arrived.
// It ends with run, or with drop if run never came.
type pump struct {
	file *os.File
	raw  syscall.RawConn
	to   io.Writer
	done chan struct{} // closed when the pipe has ended

	running bool // run was called

	mu    sync.Mutex
	ended bool
	moved int64 // bytes so far
}

// pumpBuffer is as large as a pipe is by default (pipe(7)).
const pumpBuffer = 64 << 10

var pumpBuffers = sync.Pool{New: func() any { b := make([]byte, pumpBuffer); return &b }}

// newPump makes a pipe, a pump on its reading end, and gives the writing end,
// which is the caller's to close.
func newPump(to io.Writer) (*pump, *os.File, error) {
	if to == nil {
		to = io.Discard
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make a pipe: %w", err)
	}
	w := os.NewFile(uintptr(fds[1]), "pipe")
	if err := unix.SetNonblock(fds[0], true); err != nil {
		_, _ = unix.Close(fds[0]), w.Close()
		return nil, nil, fmt.Errorf("set up a pipe: %w", err)
	}
	p := &pump{file: os.NewFile(uintptr(fds[0]), "pipe"), to: to, done: make(chan struct{})}
	raw, err := p.file.SyscallConn()
	if err != nil {
		_, _ = p.file.Close(), w.Close()
		return nil, nil, fmt.Errorf("set up a pipe: %w", err)
	}
	p.raw = raw
	return p, w, nil
}

// run moves output until every writer of the pipe is gone.
func (p *pump) run() {
	defer close(p.done)
	_ = p.raw.Read(func(fd uintptr) bool {
		for {
			if more, ended := p.step(int(fd)); !more {
				return ended
			}
		}
	})
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	_ = p.file.Close()
}

// drop ends a pump that will not run.
func (p *pump) drop() {
	close(p.done)
	_ = p.file.Close()
}

// step moves one piece. more tells that there may be another, ended that the
// pipe has ended.
func (p *pump) step(fd int) (more, ended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.move(fd)
}

// move is step for one who holds mu.
func (p *pump) move(fd int) (more, ended bool) {
	if p.ended {
		return false, true
	}
	buf := pumpBuffers.Get().(*[]byte) //nolint:errcheck // nothing else is in it
	defer pumpBuffers.Put(buf)
	n, err := unix.Read(fd, *buf)
	switch {
	case errors.Is(err, unix.EINTR):
		return true, false
	case errors.Is(err, unix.EAGAIN):
		return false, false
	case err != nil || n == 0:
		p.ended = true
		return false, true
	}
	// A writer that takes no more must not stop the process: what it refuses
	// is dropped.
	_, _ = p.to.Write((*buf)[:n])
	p.moved += int64(n)
	return true, false
}

// drain returns when all that is in the pipe now has been written on. What a
// process prints meanwhile does not keep it: one that never stops printing
// would keep it for ever.
func (p *pump) drain() {
	_ = p.raw.Control(func(fd uintptr) {
		until := p.pending(int(fd))
		for more := true; more; {
			p.mu.Lock()
			if p.moved >= until {
				p.mu.Unlock()
				return
			}
			more, _ = p.move(int(fd))
			p.mu.Unlock()
		}
	})
}

// pending gives how many bytes will have been moved when all that is in the
// pipe now has been.
func (p *pump) pending(fd int) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		n = 0
	}
	return p.moved + int64(n)
}

// feed writes stdin to the process through a pipe whose reading end it gives.
// A goroutine does so until stdin ends, or a write meets that the pipe has no
// reader any more; wg counts it.
func feed(stdin io.Reader, wg *sync.WaitGroup) (*os.File, error) {
	if stdin == nil {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return nil, fmt.Errorf("open an empty stdin: %w", err)
		}
		return f, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	wg.Go(func() {
		defer func() { _ = w.Close() }()
		_, _ = io.Copy(w, stdin) // a process that reads no further is its own affair
	})
	return r, nil
}
