package web_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/contract/web"
	"github.com/dayfly-io/dayfly/internal/core"
)

// dialFunc is a dialer that is a function.
type dialFunc func(ctx context.Context, id core.InstanceID, port int) (net.Conn, error)

func (f dialFunc) Dial(ctx context.Context, id core.InstanceID, port int) (net.Conn, error) {
	return f(ctx, id, port)
}

func dialTo(addr string) dialFunc {
	return func(ctx context.Context, _ core.InstanceID, _ int) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
}

func testDefinition() *core.Definition {
	return &core.Definition{
		App:      core.App{Name: "shop"},
		Function: core.Function{Name: "resize"},
		Version:  core.Version{Number: 3, Spec: core.Spec{Timeout: 30 * time.Second}.WithDefaults()},
	}
}

// newCall makes a call that has time until long after the test's end.
func newCall(method, path, body string) *core.Call {
	r := &core.Request{
		Method: method, Path: path, Host: "shop.example", Scheme: "https", Remote: "192.0.2.7:4711",
		Header: core.Header{}, Length: int64(len(body)),
	}
	if body != "" {
		r.Body = strings.NewReader(body)
	}
	return &core.Call{
		Run:        &core.Run{ID: 1 << 40, Attempt: 2, Trigger: core.TriggerHTTP},
		Definition: testDefinition(), Instance: 7, Request: r, Deadline: time.Now().Add(time.Minute),
	}
}

// A recorder is a reply that remembers. It may be looked at while it is used.
type recorder struct {
	mu      sync.Mutex
	header  core.Header
	status  int
	body    bytes.Buffer
	trailer core.Header
	interim []string    // status and fields of interim answers
	flushed chan string // what had been written at each flush, when it is not nil
	refuse  error
}

func newRecorder() *recorder { return &recorder{header: core.Header{}} }

func (r *recorder) Header() core.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if status < 200 && status != http.StatusSwitchingProtocols {
		r.interim = append(r.interim, fmt.Sprint(status, " ", headerText(r.header)))
		return
	}
	r.status = status
}

func (r *recorder) SetTrailer(fields core.Header) error {
	r.trailer = fields
	return nil
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil {
		return 0, r.refuse
	}
	return r.body.Write(p)
}

func (r *recorder) Flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flushed != nil {
		r.flushed <- r.body.String()
	}
	return nil
}

// A function is a web server whose every byte a test decides. Its handler
// gets each connection with its number, from 1, and may use nothing of it
// after its return.
type function struct {
	contract *web.Contract
	dial     dialFunc // counts
	dials    atomic.Int64
}

func newFunction(t *testing.T, handler func(n int64, c *peer)) *function {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &function{}
	dial := dialTo(l.Addr().String())
	f.dial = func(ctx context.Context, id core.InstanceID, port int) (net.Conn, error) {
		f.dials.Add(1)
		return dial(ctx, id, port)
	}
	f.contract = web.New(f.dial, web.Options{Node: "n1", KeepIdle: time.Hour})
	var handlers sync.WaitGroup
	handlers.Go(func() {
		for n := int64(1); ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			handlers.Go(func() {
				defer c.Close()
				handler(n, &peer{Conn: c, r: bufio.NewReader(c)})
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		f.contract.Forget(7)
		handlers.Wait()
	})
	return f
}

// A peer is the function's end of a connection.
type peer struct {
	net.Conn
	r *bufio.Reader
}

// request reads one request with its body; nil when the connection has ended.
func (p *peer) request() *http.Request {
	req, err := http.ReadRequest(p.r)
	if err != nil {
		return nil
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	return req
}

func (p *peer) say(s string) { _, _ = io.WriteString(p, s) }

// ended waits until the other end has closed the connection.
func (p *peer) ended() { _, _ = io.Copy(io.Discard, p.r) }

// always answers every request with the same bytes, then closes if told so.
func always(answer string, closes bool) func(int64, *peer) {
	return func(_ int64, p *peer) {
		for p.request() != nil {
			p.say(answer)
			if closes {
				return
			}
		}
	}
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func wantOutcome(t *testing.T, got core.Outcome, state core.State, reason core.Reason, says string) {
	t.Helper()
	if got.State != state || got.Reason != reason || !strings.Contains(got.Message, says) {
		t.Errorf("got %s, %q, message %q; want %s, %q, message with %q", got.State, got.Reason, got.Message, state, reason, says)
	}
}

func TestEnv(t *testing.T) {
	t.Parallel()
	c := web.New(nil, web.Options{Node: "n1"})
	def := testDefinition()
	got := c.Env(def)
	for _, want := range []string{
		"DAYFLY_APP=shop", "DAYFLY_NODE=n1", "PORT=8080",
		"K_SERVICE=resize", "K_REVISION=resize-00003", "K_CONFIGURATION=resize",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not in %q", want, got)
		}
	}
	def.Version.Spec.Port = 3000
	if got := c.Env(def); !slices.Contains(got, "PORT=3000") {
		t.Errorf("the function's own port is not in %q", got)
	}
}

func TestReadyKeepsTheConnection(t *testing.T) {
	t.Parallel()
	f := newFunction(t, always(okAnswer, false))
	if err := f.contract.Ready(t.Context(), 7, 8080); err != nil {
		t.Fatal(err)
	}
	if o := f.contract.Serve(t.Context(), newCall("GET", "/", ""), newRecorder()); o.State != core.StateSucceeded {
		t.Error(o.Message)
	}
	if n := f.dials.Load(); n != 1 {
		t.Errorf("%d connections were made, want 1", n)
	}
}

func TestReadyWaits(t *testing.T) {
	t.Parallel()
	tries := 0
	ours, theirs := net.Pipe()
	defer theirs.Close()
	c := web.New(dialFunc(func(context.Context, core.InstanceID, int) (net.Conn, error) {
		if tries++; tries < 20 {
			return nil, syscall.ECONNREFUSED
		}
		return ours, nil
	}), web.Options{})
	if err := c.Ready(t.Context(), 7, 8080); err != nil || tries != 20 {
		t.Errorf("got %v after %d tries, want none after 20", err, tries)
	}
}

func TestReadyEnds(t *testing.T) {
	t.Parallel()
	c := web.New(dialFunc(func(_ context.Context, id core.InstanceID, _ int) (net.Conn, error) {
		if id == 8 {
			return nil, core.ErrGone
		}
		return nil, syscall.ECONNREFUSED
	}), web.Options{})

	if err := c.Ready(t.Context(), 8, 8080); !errors.Is(err, core.ErrGone) {
		t.Errorf("of an instance that is gone: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := c.Ready(ctx, 7, 8080)
	if e := core.AsError(err); e.Code != core.ReasonStartTimeout || !strings.Contains(e.Message, "8080") {
		t.Errorf("after the deadline: %v", err)
	}
	cause := errors.New("told to stop")
	stopped, stop := context.WithCancelCause(t.Context())
	stop(cause)
	if err := c.Ready(stopped, 7, 8080); !errors.Is(err, cause) {
		t.Errorf("after cancel: %v", err)
	}
}

func TestForgetClosesIdleConnections(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	f := newFunction(t, func(_ int64, p *peer) {
		p.request()
		p.say(okAnswer)
		p.ended()
		close(ended)
	})
	f.contract.Serve(t.Context(), newCall("GET", "/", ""), newRecorder())
	f.contract.Forget(7)
	<-ended
}

// Disconnect closes what is idle, and the instance goes on to serve.
func TestDisconnect(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{}, 2)
	f := newFunction(t, func(_ int64, p *peer) {
		for p.request() != nil {
			p.say(okAnswer)
		}
		ended <- struct{}{}
	})
	for range 2 {
		// A POST: on a connection that was closed it would not be sent again.
		if o := f.contract.Serve(t.Context(), newCall("POST", "/", "x"), newRecorder()); o.State != core.StateSucceeded {
			t.Error(o.Message)
		}
		f.contract.Disconnect(7)
		<-ended
	}
	if n := f.dials.Load(); n != 2 {
		t.Errorf("%d connections were made, want one for each call", n)
	}
	f.contract.Disconnect(9) // nobody knows it
}

// While an exchange goes on its instance is forgotten: the connection ends
// with the exchange and is not kept for an instance that is no more.
func TestForgetWhileServing(t *testing.T) {
	t.Parallel()
	asked, forgotten, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	f := newFunction(t, func(_ int64, p *peer) {
		p.request()
		close(asked)
		<-forgotten
		p.say(okAnswer)
		p.ended()
		close(ended)
	})
	go func() {
		<-asked
		f.contract.Forget(7)
		close(forgotten)
	}()
	if o := f.contract.Serve(t.Context(), newCall("GET", "/", ""), newRecorder()); o.State != core.StateSucceeded {
		t.Error(o.Message)
	}
	<-ended
}

func TestIdleLimits(t *testing.T) {
	t.Parallel()
	f := newFunction(t, always(okAnswer, false))
	c := web.New(f.dial, web.Options{KeepIdle: time.Nanosecond})
	for range 3 {
		c.Serve(t.Context(), newCall("GET", "/", ""), newRecorder())
	}
	c.Forget(7)
	if n := f.dials.Load(); n != 3 {
		t.Errorf("%d connections for 3 calls far apart, want 3", n)
	}
}
