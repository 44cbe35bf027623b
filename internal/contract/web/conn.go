package web

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// A conn is a connection to an instance. One exchange at a time has it.
type conn struct {
	net.Conn

	line  *line
	since time.Time // idle since then
	// abort makes every read and write of the connection fail, now and for
	// good. It is made once per connection so that watching a context does
	// not allocate it per request.
	abort func()

	// raw and look are for quiet; nil where a look is not possible.
	raw    syscall.RawConn
	look   func(fd uintptr) bool
	silent bool
	one    [1]byte
}

// past is a deadline that has always passed.
var past = time.Unix(1, 0)

func newConn(nc net.Conn, l *line) *conn {
	cn := &conn{Conn: nc, line: l}
	cn.abort = func() { _ = nc.SetDeadline(past) }
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			cn.raw, cn.look = raw, cn.probe
		}
	}
	return cn
}

// CloseWrite tells the function that nothing more comes.
func (cn *conn) CloseWrite() error {
	if w, ok := cn.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// quiet reports whether the peer has neither closed the idle connection nor
// sent anything on it.
func (cn *conn) quiet() bool {
	if cn.raw == nil {
		return false
	}
	cn.silent = false
	return cn.raw.Read(cn.look) == nil && cn.silent
}

// watch aborts the connection when ctx ends. If the stop that it gives
// reports false, the abort has begun, and the connection cannot be kept.
func (cn *conn) watch(ctx context.Context) (stop func() bool) {
	if ctx.Done() == nil {
		return unwatched
	}
	return context.AfterFunc(ctx, cn.abort)
}

func unwatched() bool { return true }

// A line holds the idle connections of an instance, the last used on top.
// Its shard's lock guards it.
type line struct {
	id   core.InstanceID
	idle []*conn
	gone bool
}

// Lines are spread over shards so that no lock is shared by all functions.
const (
	shardBits  = 6
	shardCount = 1 << shardBits
)

type shard struct {
	mu    sync.Mutex
	lines map[core.InstanceID]*line
	_     [64]byte // shards on cache lines of their own
}

func (c *Contract) shard(id core.InstanceID) *shard {
	// Ids of one millisecond differ in their low bits only: spread them by
	// Fibonacci hashing.
	const golden = 0x9e3779b97f4a7c15
	return &c.shards[uint64(id)*golden>>(64-shardBits)]
}

// dial opens a connection to the instance. The line is there before it, so
// that a Forget meanwhile is noticed when the connection is to be kept.
func (c *Contract) dial(ctx context.Context, id core.InstanceID, port int) (*conn, error) {
	l := c.line(id)
	nc, err := c.dialer.Dial(ctx, id, port)
	if err != nil {
		c.leave(l)
		return nil, &dialError{err}
	}
	return newConn(nc, l), nil
}

func (c *Contract) line(id core.InstanceID) *line {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lines[id]
	if l == nil {
		if s.lines == nil {
			s.lines = make(map[core.InstanceID]*line)
		}
		l = &line{id: id}
		s.lines[id] = l
	}
	return l
}

// leave takes away a line that is empty, since it may be that of an instance
// that is gone. Connections in use that belong to it are then not kept.
func (c *Contract) leave(l *line) {
	s := c.shard(l.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(l.idle) == 0 && s.lines[l.id] == l {
		delete(s.lines, l.id)
		l.gone = true
	}
}

// A dialError means that no connection to the function could be made.
type dialError struct{ err error }

func (e *dialError) Error() string { return "connect: " + e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// take gives the instance's connection that was used last, nil when there is
// none that may be used. It has not been looked at.
func (c *Contract) take(id core.InstanceID) *conn {
	s := c.shard(id)
	s.mu.Lock()
	l := s.lines[id]
	if l == nil || len(l.idle) == 0 {
		s.mu.Unlock()
		return nil
	}
	top := len(l.idle) - 1
	cn := l.idle[top]
	if time.Since(cn.since) <= c.opts.KeepIdle {
		l.idle[top] = nil
		l.idle = l.idle[:top]
		s.mu.Unlock()
		return cn
	}
	// Those below have been idle for longer still.
	old := l.idle
	l.idle = nil
	s.mu.Unlock()
	closeAll(old)
	return nil
}

// keep puts a connection back for the next exchange, or closes it.
func (c *Contract) keep(cn *conn) {
	if cn.raw == nil {
		_ = cn.Close() // it could not be looked at before its next use
		return
	}
	cn.since = time.Now()
	s := c.shard(cn.line.id)
	var drop *conn
	s.mu.Lock()
	l := cn.line
	switch {
	case l.gone:
		drop = cn
	case len(l.idle) > 0 && (len(l.idle) >= c.opts.MaxIdle || cn.since.Sub(l.idle[0].since) > c.opts.KeepIdle):
		// The lowest is the oldest: it makes room.
		drop = l.idle[0]
		copy(l.idle, l.idle[1:])
		l.idle[len(l.idle)-1] = cn
	default:
		l.idle = append(l.idle, cn)
	}
	s.mu.Unlock()
	if drop != nil {
		_ = drop.Close()
	}
}

func closeAll(conns []*conn) {
	for _, cn := range conns {
		_ = cn.Close()
	}
}
