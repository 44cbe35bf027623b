package front

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// tick is how often connections are looked over, and so how late what depends
// on time may be.
const tick = 50 * time.Millisecond

// The limits that http.Server has no field for, and those of its fields that
// are not set.
const (
	writeTimeout      = time.Minute
	bodyPatience      = time.Second
	defaultReadHeader = 10 * time.Second
	defaultIdle       = 2 * time.Minute
)

// Server answers plain requests itself and hands others to net/http. New
// makes one.
type Server struct {
	behind   *http.Server
	prefix   string
	readHead int64 // ticks
	idle     int64 // ticks

	now      atomic.Int64 // ticks; it stands still while there are no connections
	date     atomic.Pointer[string]
	draining atomic.Bool
	handed   chan net.Conn
	done     chan struct{} // closed when nothing is handed over any more
	work     sync.WaitGroup

	mu       sync.Mutex
	conns    map[*conn]struct{}
	ticking  bool
	closed   bool
	listener net.Listener
}

// New makes a server that hands what is not plain, or has another path than
// one below the prefix, to another.
func New(behind *http.Server, prefix string) *Server {
	ticks := func(d, otherwise time.Duration) int64 {
		if d <= 0 {
			d = otherwise
		}
		return max(int64(d/tick), 1)
	}
	return &Server{
		behind: behind, prefix: prefix,
		readHead: ticks(behind.ReadHeaderTimeout, defaultReadHeader), idle: ticks(behind.IdleTimeout, defaultIdle),
		handed: make(chan net.Conn), done: make(chan struct{}), conns: map[*conn]struct{}{},
	}
}

// Serve accepts connections until Shutdown or Close, and then gives
// http.ErrServerClosed. It is called once.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listener = l
	closed := s.closed
	s.mu.Unlock()
	if closed {
		_ = l.Close()
		return http.ErrServerClosed
	}
	failed := make(chan error, 1)
	s.work.Go(func() { failed <- s.behind.Serve(handedListener{s, l.Addr()}) })
	err := s.accept(l)
	s.mu.Lock()
	closed = s.closed
	s.mu.Unlock()
	if closed {
		return http.ErrServerClosed
	}
	_ = s.Close()
	return errors.Join(err, <-failed)
}

// accept takes connections in. A machine that has no descriptor left is waited
// for, as net/http does.
func (s *Server) accept(l net.Listener) error {
	pause := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err == nil {
			pause = 0
			s.take(nc)
			continue
		}
		if temporary, ok := errors.AsType[interface {
			error
			Temporary() bool
		}](err); !ok || !temporary.Temporary() {
			return fmt.Errorf("accept a connection: %w", err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(pause):
		case <-s.done:
			return http.ErrServerClosed
		}
	}
}

// take begins to serve a connection.
func (s *Server) take(nc net.Conn) {
	c := newConn(s, nc)
	if c == nil {
		s.work.Go(func() { s.hand(nc) })
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	if !s.ticking {
		s.ticking = true
		s.work.Go(s.tick)
	}
	s.work.Go(c.serve)
}

// drop forgets a connection.
func (s *Server) drop(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// hand gives a connection to net/http.
func (s *Server) hand(nc net.Conn) {
	select {
	case s.handed <- nc:
	case <-s.done:
		_ = nc.Close()
	}
}

// tick looks connections over until there are none.
func (s *Server) tick() {
	t := time.NewTicker(tick)
	defer t.Stop()
	for at := range t.C {
		now := s.now.Add(1)
		date := at.UTC().Format(http.TimeFormat)
		s.date.Store(&date)
		s.mu.Lock()
		if len(s.conns) == 0 {
			s.ticking = false
			s.date.Store(nil)
			s.mu.Unlock()
			return
		}
		for c := range s.conns {
			c.look(now)
		}
		s.mu.Unlock()
	}
}

// today gives the value of Date, to the second.
func (s *Server) today() string {
	if d := s.date.Load(); d != nil {
		return *d
	}
	return time.Now().UTC().Format(http.TimeFormat)
}

// stop lets no more connections in, and ends those that are idle.
func (s *Server) stop() {
	s.draining.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.done)
		if s.listener != nil {
			_ = s.listener.Close()
		}
	}
	for c := range s.conns {
		c.endIdle()
	}
}

// Shutdown lets no more connections in, and waits until the requests under way
// have been answered, or ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	err := s.behind.Shutdown(ctx)
	for pause := time.Millisecond; err == nil; pause = min(2*pause, 100*time.Millisecond) {
		s.mu.Lock()
		n := len(s.conns)
		s.mu.Unlock()
		if n == 0 {
			s.work.Wait()
			return nil
		}
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(pause):
		}
	}
	return err
}

// Close ends everything at once, but does not wait for handlers.
func (s *Server) Close() error {
	s.stop()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.nc.Close()
	}
	s.mu.Unlock()
	return s.behind.Close() //nolint:wrapcheck // it stands in for it
}

// handedListener gives net/http the connections that are handed over.
type handedListener struct {
	s    *Server
	addr net.Addr
}

func (l handedListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.s.handed:
		return c, nil
	case <-l.s.done:
		return nil, net.ErrClosed
	}
}

// Close is called by net/http when it stops; accepting ends with the front.
func (l handedListener) Close() error   { return nil }
func (l handedListener) Addr() net.Addr { return l.addr }
