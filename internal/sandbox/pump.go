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
type pump struct {
	file *os.File
	raw  syscall.RawConn
	to   io.Writer
	done chan struct{} // closed when the pipe has ended

	mu    sync.Mutex
	ended bool
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
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.move(int(fd))
	})
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	_ = p.file.Close()
}

// move empties the pipe and reports whether it has ended. mu is held.
func (p *pump) move(fd int) (ended bool) {
	if p.ended {
		return true
	}
	buf := pumpBuffers.Get().(*[]byte)
	defer pumpBuffers.Put(buf)
	for {
		n, err := unix.Read(fd, *buf)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return false
		case err != nil || n == 0:
			p.ended = true
			return true
		default:
			// A writer that takes no more must not stop the process: what it
			// refuses is dropped.
			_, _ = p.to.Write((*buf)[:n])
		}
	}
}

// drain returns when all that is in the pipe has been written on.
func (p *pump) drain() {
	_ = p.raw.Control(func(fd uintptr) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.move(int(fd))
	})
}

// feed writes stdin to the process through a pipe whose reading end it gives.
// What fits into the pipe goes at once; the rest goes in a goroutine that ends
// with the pipe's reader, or with stdin.
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
