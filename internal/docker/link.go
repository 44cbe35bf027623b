package docker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/moby/moby/client"
)

// link is the talk with the init of one container. One goroutine reads and
// never waits for anybody but init; whoever sends waits only for init to read,
// which it always does.
type link struct {
	conn  io.Closer
	write io.Writer
	in    *demux

	std [firstConnection]*channel // of the standard streams

	writing sync.Mutex

	hello   chan struct{}
	started chan error
	exit    chan report
	done    chan struct{} // closed when init is heard no more
	err     error         // why, set before

	mu       sync.Mutex
	channels map[uint32]*channel
	opening  map[uint32]chan syscall.Errno
	asked    map[uint32]chan []byte // drains and usages
	token    uint32
	used     uint32   // slots of connections that were used so far
	free     []uint32 // numbers for connections, of slots that are free again
	over     bool
}

// join begins the talk on a stream that is attached to a container.
func join(stream client.HijackedResponse) *link {
	l := &link{
		conn: stream.Conn, write: stream.Conn, in: &demux{r: stream.Reader},
		hello: make(chan struct{}, 1), started: make(chan error, 1), exit: make(chan report, 1), done: make(chan struct{}),
		channels: map[uint32]*channel{}, opening: map[uint32]chan syscall.Errno{}, asked: map[uint32]chan []byte{},
	}
	for id := range l.std {
		l.std[id] = newChannel(l, uint32(id))
		l.channels[uint32(id)] = l.std[id]
	}
	return l
}

var errLinkLost = errors.New("the container's init has gone")

func (l *link) send(kind, id uint32, data []byte) error {
	b := encode(kind, id, data)
	l.writing.Lock()
	defer l.writing.Unlock()
	if _, err := l.write.Write(b); err != nil {
		return fmt.Errorf("tell the container's init: %w", err)
	}
	return nil
}

// run hears init until it has gone.
func (l *link) run() {
	r := bufio.NewReaderSize(l.in, maxPiece+frameHeader)
	var err error
	for err == nil {
		var f frame
		if f, err = readFrame(r); err == nil {
			err = l.hear(f)
		}
	}
	l.mu.Lock()
	l.over = true
	all := l.channels
	l.channels = map[uint32]*channel{}
	l.mu.Unlock()
	for _, c := range all {
		c.broke()
	}
	if len(l.in.said) > 0 {
		err = fmt.Errorf("%w; the engine says %q", err, l.in.said)
	}
	l.err = err
	close(l.done)
}

func (l *link) hear(f frame) error {
	switch f.kind {
	case frameHello:
		if got := numberOf(f.data); got != protocol {
			return fmt.Errorf("the container's init speaks version %d, not %d", got, protocol)
		}
		tell(l.hello, struct{}{})
	case frameStarted:
		tell(l.started, nil)
	case frameFailed:
		tell[error](l.started, &stepError{step: string(f.data), err: syscall.Errno(f.id)})
	case frameExit:
		r, err := decodeReport(f.data)
		if err != nil {
			return err
		}
		tell(l.exit, r)
	case frameDrain, frameUsage:
		l.answer(f)
	case frameOpen:
		l.opened(f)
	default:
		return l.hearChannel(f)
	}
	return nil
}

// tell passes on what is told once.
func tell[T any](to chan T, what T) {
	select {
	case to <- what:
	default:
	}
}

func (l *link) hearChannel(f frame) error {
	c := l.channel(f.id)
	if c == nil {
		return nil // it was closed on this side meanwhile
	}
	switch f.kind {
	case frameData:
		c.deliver(f.data)
	case frameEnd:
		c.ended()
	case frameClose:
		l.release(f.id)
		c.broke()
	case frameCredit:
		c.credited(numberOf(f.data))
	default:
		return fmt.Errorf("the container's init sends a frame of the kind %q", rune(f.kind))
	}
	return nil
}

// ask sends a question and gives the answer.
func (l *link) ask(ctx context.Context, kind uint32) ([]byte, error) {
	answer := make(chan []byte, 1)
	l.mu.Lock()
	l.token++
	token := l.token
	l.asked[token] = answer
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.asked, token)
		l.mu.Unlock()
	}()
	if err := l.send(kind, token, nil); err != nil {
		return nil, errLinkLost
	}
	select {
	case data := <-answer:
		return data, nil
	case <-l.done:
		return nil, errLinkLost
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (l *link) answer(f frame) {
	l.mu.Lock()
	answer := l.asked[f.id]
	delete(l.asked, f.id)
	l.mu.Unlock()
	if answer != nil {
		answer <- f.data
	}
}

func (l *link) channel(id uint32) *channel {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.channels[id]
}

// open opens a connection from inside the container, to a port, or to a Unix
// socket's path when port is 0.
func (l *link) open(ctx context.Context, port int, path string) (*channel, error) {
	opened := make(chan syscall.Errno, 1)
	c, err := l.claim(opened)
	if err != nil {
		return nil, err
	}
	if err := l.send(frameOpen, c.id, append(number(port), path...)); err != nil {
		return nil, errLinkLost
	}
	select {
	case errno := <-opened:
		if errno != 0 {
			l.release(c.id)
			return nil, errno
		}
		return c, nil
	case <-l.done:
		return nil, errLinkLost
	case <-ctx.Done():
		// Init hears of it after it has answered, whatever that is.
		l.shut(c)
		return nil, context.Cause(ctx)
	}
}

// claim takes a slot for a connection.
func (l *link) claim(opened chan syscall.Errno) (*channel, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var id uint32
	switch {
	case l.over:
		return nil, errLinkLost
	case len(l.free) > 0:
		id = l.free[0]
		l.free = l.free[1:]
	case l.used < slots-firstConnection:
		id = firstConnection + l.used
		l.used++
	default:
		return nil, syscall.EMFILE
	}
	c := newChannel(l, id)
	l.channels[id] = c
	l.opening[id] = opened
	return c, nil
}

// release gives a slot back, for a connection with another number. Init has
// closed the channel, or was told to.
func (l *link) release(id uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.channels[id] == nil || id < firstConnection {
		return
	}
	delete(l.channels, id)
	delete(l.opening, id)
	l.free = append(l.free, id+slots)
}

// shut closes a connection's channel from this side.
func (l *link) shut(c *channel) {
	_ = l.send(frameClose, c.id, nil)
	c.broke()
	l.release(c.id)
}

func (l *link) opened(f frame) {
	l.mu.Lock()
	opened := l.opening[f.id]
	delete(l.opening, f.id)
	l.mu.Unlock()
	if opened != nil {
		opened <- syscall.Errno(numberOf(f.data))
	}
}

// carry joins a connection of this machine to a channel and returns when both
// directions have ended.
func (l *link) carry(c *channel, local *net.UnixConn) {
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.ReadFrom(local); err != nil {
			l.shut(c)
			return
		}
		_ = l.send(frameEnd, c.id, nil)
	})
	_ = c.pump(shutting{l, c, local})
	if c.isClosed() {
		_ = local.Close() // neither direction goes on
	} else {
		_ = local.CloseWrite()
	}
	wg.Wait()
	_ = local.Close()
}

// shutting is the end of a connection to which what comes through the channel
// is written. Who does not take it any more is not waited for.
type shutting struct {
	l  *link
	c  *channel
	to *net.UnixConn
}

func (s shutting) Write(p []byte) (int, error) {
	n, err := s.to.Write(p)
	if err != nil {
		s.l.shut(s.c)
	}
	return n, err //nolint:wrapcheck // a writer's
}

func (l *link) close() { _ = l.conn.Close() }

// stepError is what init could not do.
type stepError struct {
	step string
	err  syscall.Errno
}

func (e *stepError) Error() string { return e.step + ": " + e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }
