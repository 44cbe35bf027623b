package docker

import (
	"errors"
	"io"
	"sync"
)

// channel is one stream through a [link]: a standard stream of the function, or
// a connection into its container. Each side sends what the other has room for.
type channel struct {
	id   uint32
	link *link

	mu     sync.Mutex
	change sync.Cond // of everything below

	credit int  // bytes that may be sent to init
	closed bool // init takes no more, or has gone

	pumped chan struct{} // closed when pump has returned

	queue    []piece // from init, not written yet
	queueEnd bool    // no more comes from init
	written  int     // bytes written that init has not been given credit for
}

// piece is data from init, or a mark that is closed when all before it is
// written.
type piece struct {
	data []byte
	mark chan struct{}
}

func newChannel(l *link, id uint32) *channel {
	c := &channel{id: id, link: l, credit: window, pumped: make(chan struct{})}
	c.change.L = &c.mu
	return c
}

var errChannelClosed = errors.New("the other side takes no more")

// Write sends to init, as it has room.
func (c *channel) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		n, err := c.take(min(len(p)-sent, maxPiece))
		if err != nil {
			return sent, err
		}
		if err := c.link.send(frameData, c.id, p[sent:sent+n]); err != nil {
			return sent, err
		}
		sent += n
	}
	return sent, nil
}

func (c *channel) take(want int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.credit == 0 && !c.closed {
		c.change.Wait()
	}
	if c.closed {
		return 0, errChannelClosed
	}
	n := min(want, c.credit)
	c.credit -= n
	return n, nil
}

// ReadFrom sends all that a reader gives. io.Copy uses it, so that nothing is
// read before there is room for it.
func (c *channel) ReadFrom(r io.Reader) (int64, error) {
	var all int64
	buf := make([]byte, maxPiece)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			sent, werr := c.Write(buf[:n])
			all += int64(sent)
			if werr != nil {
				return all, werr
			}
		}
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

// deliver puts what init has sent in the queue. It never waits: init sends no
// more than a window.
func (c *channel) deliver(data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, piece{data: data})
	c.change.Broadcast()
}

// ended notes that init sends no more.
func (c *channel) ended() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queueEnd = true
	c.change.Broadcast()
}

// broke notes that init has closed the channel, or has gone.
func (c *channel) broke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queueEnd, c.closed = true, true
	c.change.Broadcast()
}

func (c *channel) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

func (c *channel) credited(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.credit += n
	c.change.Broadcast()
}

// drain returns when all that is in the queue now has been written.
func (c *channel) drain() {
	m := make(chan struct{})
	c.mu.Lock()
	c.queue = append(c.queue, piece{mark: m})
	c.change.Broadcast()
	c.mu.Unlock()
	select {
	case <-m:
	case <-c.pumped:
	}
}

// pump writes what init sends to w until it sends no more. A w that fails takes
// no more, and what comes after is dropped: nothing stops the function's process.
func (c *channel) pump(w io.Writer) error {
	defer close(c.pumped)
	var failed error
	for {
		p, ok := c.next()
		if !ok {
			return failed
		}
		if p.mark != nil {
			close(p.mark)
			continue
		}
		if failed == nil {
			_, failed = w.Write(p.data)
		}
		c.give(len(p.data))
	}
}

func (c *channel) next() (piece, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) == 0 {
		if c.queueEnd {
			return piece{}, false
		}
		c.change.Wait()
	}
	p := c.queue[0]
	c.queue[0] = piece{}
	c.queue = c.queue[1:]
	return p, true
}

// give gives init credit for what has been written, a quarter of a window at a
// time.
func (c *channel) give(n int) {
	if c.written += n; c.written < window/4 {
		return
	}
	_ = c.link.send(frameCredit, c.id, number(c.written))
	c.written = 0
}
