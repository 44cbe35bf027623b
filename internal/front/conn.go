package front

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

// phase is what a connection is doing.
type phase int

const (
	waiting phase = iota // for the first byte of a request
	reading              // the rest of it
	serving              // the handler works
	writing              // the end of an answer
)

// inBuffer is the size of the buffer through which requests come. It grows
// for larger ones, and is as small again when they are gone.
const inBuffer = 4 << 10

// A conn is a connection whose requests have all been plain so far.
type conn struct {
	server *Server
	nc     net.Conn
	raw    syscall.RawConn
	ctx    context.Context //nolint:containedctx // the life of the connection, which is that of its requests
	cancel context.CancelFunc

	in    []byte // what came: in[r:w] has not been used
	r, w  int
	head  head
	req   *http.Request
	url   url.URL
	body  body
	reply reply
	one   [1]byte

	mu      sync.Mutex
	phase   phase
	fresh   bool          // nothing has come yet
	since   int64         // tick of the phase's beginning
	watcher chan struct{} // closed when nobody watches for the caller's leaving; nil when nobody has
}

// newConn makes a conn; nil for connections that cannot be watched.
func newConn(s *Server, nc net.Conn) *conn {
	sc, ok := nc.(syscall.Conn)
	if !ok || !canPeek {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	c := &conn{server: s, nc: nc, raw: raw, in: make([]byte, inBuffer), since: s.now.Load(), phase: reading, fresh: true}
	ctx := context.WithValue(context.Background(), http.ServerContextKey, s.behind) //nolint:forbidigo // a connection begins nothing else
	ctx = context.WithValue(ctx, http.LocalAddrContextKey, nc.LocalAddr())
	c.ctx, c.cancel = context.WithCancel(ctx)
	c.head.header = http.Header{}
	c.reply = reply{c: c, header: http.Header{}}
	c.req = (&http.Request{}).WithContext(c.ctx)
	c.req.RemoteAddr = nc.RemoteAddr().String()
	return c
}

// enter begins a phase.
func (c *conn) enter(p phase) {
	now := c.server.now.Load()
	c.mu.Lock()
	c.phase, c.since, c.fresh = p, now, false
	c.mu.Unlock()
}

// look ends a connection that takes too long, and has one watched whose
// request does. It is called on each tick.
func (c *conn) look(now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	took := now - c.since
	switch c.phase {
	case waiting:
		if took > c.server.idle {
			_ = c.nc.Close()
		}
	case reading:
		if took > c.server.readHead {
			_ = c.nc.Close()
		}
	case writing:
		if took > int64(writeTimeout/tick) {
			_ = c.nc.Close()
		}
	case serving:
		if took > 1 && c.watcher == nil {
			c.watcher = make(chan struct{})
			go c.watch(c.watcher)
		}
	}
}

// endIdle ends the connection if no request of it is under way.
func (c *conn) endIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == waiting || c.fresh {
		_ = c.nc.Close()
	}
}

// watch ends the context when the caller closes the connection. What the
// caller sends ahead is left where it is, and ends the watch.
func (c *conn) watch(done chan struct{}) {
	defer close(done)
	gone := false
	err := c.raw.Read(func(fd uintptr) bool {
		var wait bool
		gone, wait = peek(fd, c.one[:])
		return !wait
	})
	if gone && err == nil {
		c.cancel()
	}
}

// served ends a request's handling; nobody else reads when it returns.
func (c *conn) served() {
	now := c.server.now.Load()
	c.mu.Lock()
	c.phase, c.since = writing, now
	w := c.watcher
	c.watcher = nil
	c.mu.Unlock()
	if w != nil {
		_ = c.nc.SetReadDeadline(time.Unix(1, 0))
		<-w
		_ = c.nc.SetReadDeadline(time.Time{})
	}
}

// serve answers requests until the connection ends or is handed over.
func (c *conn) serve() {
	defer c.cancel()
	for {
		plain, err := c.read()
		switch {
		case err != nil:
			c.end()
			return
		case !plain:
			c.server.drop(c)
			c.server.hand(&begun{Conn: c.nc, early: c.in[c.r:c.w]})
			return
		case !c.answer():
			c.end()
			return
		}
		if c.r == c.w {
			c.r, c.w = 0, 0
			if len(c.in) > 2*inBuffer {
				c.in = make([]byte, inBuffer)
			}
			c.enter(waiting)
			if c.server.draining.Load() { // endIdle may have come too early
				c.end()
				return
			}
		} else {
			c.enter(reading)
		}
	}
}

func (c *conn) end() {
	_ = c.nc.Close()
	c.server.drop(c)
}

// read reads the next request as far as it is plain.
func (c *conn) read() (plain bool, err error) {
	var size int
	for searched := 0; ; {
		have := c.in[c.r:c.w]
		if i := bytes.Index(have[searched:], []byte("\r\n\r\n")); i >= 0 {
			size = searched + i + 4
			break
		}
		if len(have) > 0 && !mayBecomePlain(have) {
			return false, nil
		}
		searched = max(len(have)-3, 0)
		if err := c.fill(); err != nil {
			return false, err
		}
	}
	if size > maxHead || !c.head.parse(string(c.in[c.r:c.r+size]), c.server.prefix) {
		return false, nil
	}
	whole, err := c.readBody(size + int(c.head.length))
	if err != nil || !whole {
		return false, err
	}
	c.body.left = c.in[c.r+size : c.r+size+int(c.head.length)]
	c.r += size + int(c.head.length)
	return true, nil
}

// mayBecomePlain reports whether more bytes can make a plain head of what has
// come. Lines that end otherwise are left to net/http, which answers them.
func mayBecomePlain(have []byte) bool {
	if have[0] < 'A' || have[0] > 'Z' || len(have) >= maxHead {
		return false
	}
	for at := 0; ; {
		i := bytes.IndexByte(have[at:], '\n')
		if i < 0 {
			return true
		}
		if at += i; at == 0 || have[at-1] != '\r' {
			return false
		}
		at++
	}
}

// readBody reads on until so many bytes are there; not for long: a body that
// comes slowly is net/http's, whose handler can read it as it comes.
func (c *conn) readBody(total int) (whole bool, err error) {
	if c.w-c.r >= total {
		return true, nil
	}
	c.enter(reading) // the head came in time
	if err := c.nc.SetReadDeadline(time.Now().Add(bodyPatience)); err != nil {
		return false, fmt.Errorf("set a deadline: %w", err)
	}
	for c.w-c.r < total && err == nil {
		err = c.fill()
	}
	if deadlineErr := c.nc.SetReadDeadline(time.Time{}); deadlineErr != nil {
		return false, fmt.Errorf("set a deadline: %w", deadlineErr)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.EOF) {
		return false, nil
	}
	return err == nil, err
}

// fill reads more.
func (c *conn) fill() error {
	switch {
	case c.w < len(c.in):
	case c.r > 0:
		c.w = copy(c.in, c.in[c.r:c.w])
		c.r = 0
	default:
		c.in = append(c.in, make([]byte, len(c.in))...)
	}
	n, err := c.nc.Read(c.in[c.w:])
	if n > 0 {
		if c.r == c.w {
			c.enter(reading)
		}
		c.w += n
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// answer has the handler answer the request that was read; false when the
// connection is at its end.
func (c *conn) answer() (goOn bool) {
	h, r := &c.head, c.req
	c.url = url.URL{Path: h.path, RawQuery: h.query}
	r.Method, r.URL, r.RequestURI, r.Host, r.Header = h.method, &c.url, h.target, h.host, h.header
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	r.ContentLength, r.Close, r.Body = h.length, h.close, http.NoBody
	r.Form, r.PostForm, r.MultipartForm, r.Trailer, r.Pattern = nil, nil, nil, nil, ""
	if h.length > 0 {
		r.Body = &c.body
	}
	c.enter(serving)
	c.reply.begin(h.close, h.method == http.MethodHead)
	whole := c.handle()
	c.served()
	if !whole {
		return false
	}
	err := c.reply.finish()
	if c.reply.timed {
		_ = c.nc.SetWriteDeadline(time.Time{})
	}
	return err == nil && !c.reply.closing
}

// handle calls the handler; false when it gave the answer up.
func (c *conn) handle() (whole bool) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			return
		}
		if log := c.server.behind.ErrorLog; log != nil {
			log.Printf("panic serving %s: %v\n%s", c.req.RemoteAddr, v, debug.Stack())
		}
	}()
	c.server.behind.Handler.ServeHTTP(&c.reply, c.req)
	return true
}

// body is a request's body, which is here.
type body struct{ left []byte }

func (b *body) Read(p []byte) (int, error) {
	if len(b.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	return n, nil
}

func (b *body) Close() error { return nil }

// begun is a connection of whose bytes some have been read.
type begun struct {
	net.Conn

	early []byte
}

func (c *begun) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

// CloseWrite is what net/http, and who takes a connection over from it, uses.
func (c *begun) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}
