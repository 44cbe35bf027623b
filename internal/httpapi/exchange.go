package httpapi

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/core"
)

// serverTiming is a header of W3C Server Timing.
const serverTiming = "Server-Timing"

// sandboxed takes its origin from a page that a function answers, so that a
// script in it is a stranger to this server.
var sandboxed = []string{"sandbox"}

// exchange is a request to a function and its reply. It is used again and
// again.
type exchange struct {
	w     http.ResponseWriter
	req   core.Request
	body  *incoming // nil for none
	minor int       // of HTTP/1, -1 for others
	begun bool
	wrote bool
	timed bool // writes have a deadline

	switched net.Conn // the caller's connection, once it speaks another protocol

	// What is known of the run once it has begun.
	id      core.RunID
	cold    bool
	queue   time.Duration
	start   time.Duration
	thaw    time.Duration
	started time.Time
	scratch [128]byte
}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

func takeExchange(w http.ResponseWriter) *exchange {
	x := exchanges.Get().(*exchange) //nolint:errcheck,forcetypeassert // the pool has nothing else
	x.w = w
	return x
}

func giveExchange(x *exchange) {
	*x = exchange{}
	exchanges.Put(x)
}

// request fills in the request as the function is to see it.
func (x *exchange) request(r *http.Request, full, path string) {
	x.req = core.Request{
		Method: r.Method, FullPath: full, Path: path, RawQuery: r.URL.RawQuery, Host: r.Host, Scheme: "http",
		Remote: r.RemoteAddr, Header: core.Header(r.Header), Length: r.ContentLength,
	}
	if r.TLS != nil {
		x.req.Scheme = "https"
	}
	x.minor = -1
	if r.ProtoMajor == 1 {
		x.minor = r.ProtoMinor
	}
	if r.Header["Upgrade"] != nil && x.minor < 1 {
		delete(r.Header, "Upgrade") // HTTP/1.0 and HTTP/2 do not have it
	}
	if r.Body != nil && r.Body != http.NoBody {
		x.body = &incoming{body: r.Body}
		x.body.conn, _ = x.w.(readDeadliner)
		x.body.left.Store(r.ContentLength)
		x.req.Body = x.body
		if r.ContentLength < 0 || r.Trailer != nil {
			x.req.Trailer = func() core.Header { return core.Header(r.Trailer) }
		}
	}
}

// Begin takes over what goes out about the run.
func (x *exchange) Begin(run *core.Run) {
	x.begun = true
	x.id, x.cold, x.started = run.ID, run.Cold, run.StartedAt
	x.queue, x.start, x.thaw = run.Queue(), run.Start.Total()-run.Start.Thaw, run.Start.Thaw
}

// Header gives the header of the answer.
func (x *exchange) Header() core.Header { return core.Header(x.w.Header()) }

// WriteHeader sends the header. Only the first final status counts.
func (x *exchange) WriteHeader(status int) {
	switch {
	case x.wrote || status < 200 && x.minor == 0: // HTTP/1.0 has no interim answers
		return
	case status >= 200:
		x.wrote = true
		x.stamp()
		x.duplex()
	}
	x.w.WriteHeader(status)
}

// Write sends a part of the body.
func (x *exchange) Write(p []byte) (int, error) {
	if !x.wrote {
		x.WriteHeader(http.StatusOK)
	}
	return x.w.Write(p) //nolint:wrapcheck // it stands in for the writer
}

// Flush sends what has been written so far.
func (x *exchange) Flush() error {
	if !x.wrote {
		x.WriteHeader(http.StatusOK)
	}
	switch f := x.w.(type) {
	case interface{ FlushError() error }:
		return f.FlushError()
	case http.Flusher:
		f.Flush()
	}
	return nil
}

// SetWriteDeadline bounds how long the caller may take to read the answer.
func (x *exchange) SetWriteDeadline(t time.Time) error {
	w, ok := x.w.(interface{ SetWriteDeadline(t time.Time) error })
	if !ok {
		return errors.ErrUnsupported
	}
	x.timed = !t.IsZero()
	return w.SetWriteDeadline(t)
}

// SetTrailer sends fields behind the body.
func (x *exchange) SetTrailer(fields core.Header) error {
	// An answer that ends before it has been flushed is sent with a length,
	// which leaves no place for them.
	if err := x.Flush(); err != nil {
		return err
	}
	header := x.w.Header()
	for name, values := range fields {
		delete(header, name) // else an announced one takes its values from here
		header[http.TrailerPrefix+name] = values
	}
	return nil
}

// Switch answers with status 101 and gives the caller's connection, which is
// closed with the exchange.
func (x *exchange) Switch() (net.Conn, error) {
	if x.wrote {
		return nil, errors.New("switch protocols: the answer has begun")
	}
	h, ok := x.w.(http.Hijacker)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	c, buf, err := h.Hijack()
	if err != nil {
		return nil, fmt.Errorf("switch protocols: %w", err)
	}
	x.switched, x.wrote = c, true
	x.stamp()
	_, _ = buf.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = http.Header(x.Header()).Write(buf) // as any error before it, Flush tells of it
	_, _ = buf.WriteString("\r\n")
	if err := buf.Flush(); err != nil {
		return nil, fmt.Errorf("switch protocols: %w", err)
	}
	return &switched{Conn: c, early: buf.Reader}, nil
}

// switched is a connection of whose bytes some have been read already.
type switched struct {
	net.Conn
	early *bufio.Reader
}

func (c *switched) Read(p []byte) (int, error) {
	if n := c.early.Buffered(); n > 0 {
		return c.early.Read(p[:min(len(p), n)]) //nolint:wrapcheck // it stands in for the connection
	}
	return c.Conn.Read(p)
}

// CloseWrite tells the caller that nothing more comes.
func (c *switched) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// close takes the deadlines of a call off the connection, which the next
// request may come by, or ends one that was switched.
func (x *exchange) close() {
	if x.switched != nil {
		_ = x.switched.Close()
		return
	}
	// That of writes goes when net/http has sent what it still holds.
	if x.timed && x.minor < 0 {
		_ = x.SetWriteDeadline(time.Time{})
	}
	if x.body != nil {
		x.body.close()
	}
}

// A readDeadliner is a connection whose reads can be bounded, as that of
// net/http's response writers.
type readDeadliner interface {
	SetReadDeadline(t time.Time) error
}

// incoming is the body of a request to a function, and how much of it there
// is still to come. It is no part of the exchange that is used again: who
// sends it on may read it for a moment after the call has ended.
type incoming struct {
	body io.Reader
	left atomic.Int64 // -1 for what is not known, 0 at the end

	mu    sync.Mutex
	conn  readDeadliner // nil when it has none, or the call has ended
	timed bool          // reads have a deadline
}

// SetReadDeadline bounds how long the caller may take to send the body.
func (b *incoming) SetReadDeadline(t time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn == nil {
		return errors.ErrUnsupported
	}
	b.timed = !t.IsZero()
	return b.conn.SetReadDeadline(t)
}

// close takes the deadline off the connection, and lets nobody set another.
func (b *incoming) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timed {
		_ = b.conn.SetReadDeadline(time.Time{})
	}
	b.conn = nil
}

func (b *incoming) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if left := b.left.Load(); left > 0 {
		b.left.Store(max(left-int64(n), 0))
	}
	if errors.Is(err, io.EOF) {
		b.left.Store(0)
	}
	return n, err
}

// takenIn is how much of a body that nobody has read net/http reads away
// before an answer begins, to use the connection again
// (maxPostHandlerReadBytes in its source).
const takenIn = 256 << 10

// duplex lets a function answer while it still reads: a server of HTTP/1
// takes in the body before it lets the answer begin otherwise. Such a
// connection is not used again, since the server may find the end of the body
// too late for that. A short rest of known length is left to be taken in.
func (x *exchange) duplex() {
	if x.body == nil || x.minor < 0 {
		return
	}
	if left := x.body.left.Load(); left >= 0 && left <= takenIn {
		return
	}
	if d, ok := x.w.(interface{ EnableFullDuplex() error }); ok && d.EnableFullDuplex() == nil {
		x.w.Header()["Connection"] = closing
	}
}

// stamp puts our own fields into the header. A policy of the function's own
// holds beside ours.
func (x *exchange) stamp() {
	header := x.w.Header()
	delete(header, api.HeaderError)
	const policy = "Content-Security-Policy"
	if own := header[policy]; len(own) > 0 {
		header[policy] = append(own, sandboxed...)
	} else {
		header[policy] = sandboxed
	}
	if !x.begun {
		return
	}
	// One array holds both values.
	values := []string{x.id.String(), x.timing()}
	header[api.HeaderRunID] = values[0:1:1]
	if own := header[serverTiming]; len(own) > 0 {
		header[serverTiming] = append(own, values[1])
	} else {
		header[serverTiming] = values[1:2:2]
	}
}

// timing gives the value of Server-Timing: milliseconds with microseconds
// after the point. run is the time until the header of the answer.
func (x *exchange) timing() string {
	b := append(x.scratch[:0], "queue;dur="...)
	b = appendMillis(b, x.queue)
	if x.started.IsZero() {
		return string(b) // it never had an instance, hot or cold
	}
	b = append(b, ", start;dur="...)
	b = appendMillis(b, x.start)
	if x.cold {
		b = append(b, ";desc=cold"...)
	} else {
		b = append(b, ";desc=hot"...)
	}
	if x.thaw > 0 {
		b = append(b, ", thaw;dur="...)
		b = appendMillis(b, x.thaw)
	}
	b = append(b, ", run;dur="...)
	b = appendMillis(b, max(time.Since(x.started), 0))
	return string(b)
}

func appendMillis(b []byte, d time.Duration) []byte {
	us := d.Microseconds()
	b = strconv.AppendInt(b, us/1000, 10)
	if us %= 1000; us != 0 {
		b = append(b, '.', byte('0'+us/100), byte('0'+us/10%10), byte('0'+us%10))
	}
	return b
}

// fail answers with a problem document in the function's place. What the
// function had put into the header is dropped.
func (x *exchange) fail(p problem) {
	header := x.w.Header()
	connection := header["Connection"]
	clear(header)
	if connection != nil {
		header["Connection"] = connection
	}
	x.wrote = true
	x.stamp()
	writeProblem(x.w, p)
}

// cutGrace is how long the end of an answer that was cut may take to be sent.
const cutGrace = 5 * time.Second

// cut ends an answer that will never be whole. Callers that can read a
// trailer get the state there; for others the body ends in the middle, which
// is all that tells them.
func (x *exchange) cut(r *http.Request, state core.State) {
	header := x.w.Header()
	if x.timed {
		_ = x.SetWriteDeadline(time.Now().Add(cutGrace)) // that of the call may have passed
	}
	if err := x.Flush(); err == nil && header["Content-Length"] == nil && r.ProtoAtLeast(1, 1) && wantsTrailers(r) {
		if state == "" {
			state = core.StateFailed
		}
		header.Set(http.TrailerPrefix+api.HeaderRunState, string(state))
		return
	}
	panic(http.ErrAbortHandler)
}

// wantsTrailers reports whether the caller says that it reads trailers
// (RFC 9110, 10.1.4).
func wantsTrailers(r *http.Request) bool {
	for _, v := range r.Header["Te"] {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(part), "trailers") {
				return true
			}
		}
	}
	return false
}
