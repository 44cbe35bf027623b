package web_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/contract/web"
	"github.com/dayfly-io/dayfly/internal/core"
)

// A function that closes a kept connection when the next request comes: the
// rule of when to send it again.
func TestSentAgain(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		method, body string
		again        bool
	}{
		{"GET", "", true},
		{"HEAD", "", true},
		{"PUT", "body", true},
		{"DELETE", "", true},
		{"POST", "", false},
		{"POST", "body", false},
		{"PATCH", "body", false},
		{"PUT", strings.Repeat("x", 64<<10), false}, // streamed, so that it is gone
	} {
		t.Run(fmt.Sprintf("%s %d", tc.method, len(tc.body)), func(t *testing.T) {
			t.Parallel()
			f := newFunction(t, func(n int64, p *peer) {
				for i := 1; ; i++ {
					req := p.request()
					if req == nil || n == 1 && i == 2 {
						return
					}
					body, _ := io.ReadAll(req.Body)
					if n == 2 && string(body) != tc.body {
						p.say("HTTP/1.1 500 Other body\r\nContent-Length: 0\r\n\r\n")
						return
					}
					p.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
			wantOutcome(t, f.contract.Serve(t.Context(), newCall("GET", "/", ""), newRecorder()), core.StateSucceeded, "", "")
			o := f.contract.Serve(t.Context(), newCall(tc.method, "/", tc.body), newRecorder())
			if !tc.again {
				wantOutcome(t, o, core.StateFailed, core.ReasonFunctionError, "without an answer")
				if n := f.dials.Load(); n != 1 || !o.Kill || o.Answered {
					t.Errorf("%d connections, %+v; want 1, the instance killed, nothing answered", n, o)
				}
				return
			}
			wantOutcome(t, o, core.StateSucceeded, "", "")
			if n := f.dials.Load(); n != 2 {
				t.Errorf("%d connections were made, want 2", n)
			}
		})
	}
}

// A fresh connection that breaks is never tried again.
func TestNotSentAgainOnFresh(t *testing.T) {
	t.Parallel()
	f := newFunction(t, func(_ int64, p *peer) { p.request() })
	wantOutcome(t, f.contract.Serve(t.Context(), newCall("GET", "/", ""), newRecorder()),
		core.StateFailed, core.ReasonFunctionError, "without an answer")
	if n := f.dials.Load(); n != 1 {
		t.Errorf("%d connections were made, want 1", n)
	}
}

// What comes, or ends, on an idle connection makes it useless, for POST too.
func TestStaleConnection(t *testing.T) {
	t.Parallel()
	for _, poison := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", ""} {
		t.Run(fmt.Sprint(len(poison)), func(t *testing.T) {
			t.Parallel()
			poisoned, idle := make(chan struct{}), make(chan struct{})
			f := newFunction(t, func(n int64, p *peer) {
				p.request()
				p.say(okAnswer)
				if n == 1 {
					<-idle
					p.say(poison)
					if poison == "" {
						_ = p.Close()
					}
					close(poisoned)
				}
				p.ended()
			})
			f.contract.Serve(t.Context(), newCall("POST", "/", ""), newRecorder())
			close(idle)
			<-poisoned
			reply := newRecorder()
			wantOutcome(t, f.contract.Serve(t.Context(), newCall("POST", "/", ""), reply), core.StateSucceeded, "", "")
			if reply.body.String() != "ok" || f.dials.Load() != 2 {
				t.Errorf("got %q over %d connections, want ok over 2", reply.body.String(), f.dials.Load())
			}
		})
	}
}

// A connection that cannot be looked at before its use is not kept.
func TestUnknownKindOfConnection(t *testing.T) {
	t.Parallel()
	f := newFunction(t, always(okAnswer, false))
	c := web.New(dialFunc(func(ctx context.Context, id core.InstanceID, port int) (net.Conn, error) {
		nc, err := f.dial(ctx, id, port)
		return struct{ net.Conn }{nc}, err
	}), web.Options{})
	for range 2 {
		wantOutcome(t, c.Serve(t.Context(), newCall("GET", "/", ""), newRecorder()), core.StateSucceeded, "", "")
	}
	if n := f.dials.Load(); n != 2 {
		t.Errorf("%d connections were made, want 2", n)
	}
}

// The function answers and never reads a body that fits into no buffer.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	for _, length := range []int64{64 << 20, -1} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			t.Parallel()
			answered := make(chan struct{})
			f := newFunction(t, func(_ int64, p *peer) {
				if _, err := http.ReadRequest(p.r); err != nil {
					return
				}
				p.say("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
				<-answered // it holds the connection open, and reads nothing
			})
			call := newCall("POST", "/", "")
			call.Request.Body, call.Request.Length = io.LimitReader(zeros{}, 64<<20), length
			reply := newRecorder()
			o := f.contract.Serve(t.Context(), call, reply)
			close(answered)
			wantOutcome(t, o, core.StateSucceeded, "", "")
			if o.Status != 413 || o.Kill || reply.body.String() != "no" || o.BytesIn >= 64<<20 {
				t.Errorf("got %+v and %q, want 413, the instance alive, the body not all sent", o, reply.body.String())
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A real web server takes bodies of all lengths, known and not.
func TestBodies(t *testing.T) {
	t.Parallel()
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		fmt.Fprintf(w, "%s %d %x %v %v", r.Method, n, sum.Sum(nil), err, r.ContentLength)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	dials := 0
	c := web.New(dialFunc(func(ctx context.Context, id core.InstanceID, port int) (net.Conn, error) {
		dials++
		return dialTo(l.Addr().String())(ctx, id, port)
	}), web.Options{})
	for _, n := range []int{0, 1, 100, 16<<10 - 1, 16 << 10, 16<<10 + 1, 32 << 10, 100_000, 5 << 20} {
		for _, known := range []bool{true, false} {
			data := bytes.Repeat([]byte("dayfly!"), n/7+1)[:n]
			call := newCall("POST", "/", "")
			call.Request.Body, call.Request.Length = io.NopCloser(bytes.NewReader(data)), int64(n)
			if !known {
				call.Request.Length = -1
			}
			reply := newRecorder()
			o := c.Serve(t.Context(), call, reply)
			wantOutcome(t, o, core.StateSucceeded, "", "")
			want := fmt.Sprintf("POST %d %x <nil> %d", n, sha256.Sum256(data), call.Request.Length)
			if got := reply.body.String(); got != want || o.BytesIn != core.Bytes(n) || o.BytesOut != core.Bytes(len(want)) {
				t.Errorf("%d bytes: got %q and %+v, want %q", n, got, o, want)
			}
		}
	}
	if dials != 1 {
		t.Errorf("%d connections were made, want 1", dials)
	}
}

// Both directions go on at once: each part goes there and back before the
// next is made.
func TestStreamsBothWays(t *testing.T) {
	t.Parallel()
	f := newFunction(t, func(_ int64, p *peer) {
		req, err := http.ReadRequest(p.r)
		if err != nil {
			return
		}
		p.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		buf := make([]byte, 100)
		for {
			n, err := req.Body.Read(buf)
			if n > 0 {
				p.say(fmt.Sprintf("%x\r\n%s\r\n", n, buf[:n]))
			}
			if err != nil {
				p.say("0\r\n\r\n")
				return
			}
		}
	})
	body, feed := io.Pipe()
	call := newCall("POST", "/", "")
	call.Request.Body, call.Request.Length = body, -1
	reply := newRecorder()
	reply.flushed = make(chan string)
	done := make(chan core.Outcome)
	go func() { done <- f.contract.Serve(t.Context(), call, reply) }()
	all := ""
	if got := <-reply.flushed; got != "" {
		t.Errorf("first flush: %q, want the head alone", got)
	}
	for i := range 10 {
		part := fmt.Sprintf("part %d;", i)
		all += part
		_, _ = io.WriteString(feed, part)
		for got := ""; got != all; {
			got = <-reply.flushed
		}
	}
	_ = feed.Close()
	for {
		select {
		case <-reply.flushed:
			continue
		case o := <-done:
			wantOutcome(t, o, core.StateSucceeded, "", "")
			if reply.body.String() != all {
				t.Errorf("got %q, want %q", reply.body.String(), all)
			}
		}
		return
	}
}

// Events are passed on when the function pauses, with and without a length.
func TestEventsAreFlushed(t *testing.T) {
	t.Parallel()
	for name, framing := range map[string]string{"until close": "", "length": "Content-Length: 20\r\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := make(chan struct{})
			f := newFunction(t, func(_ int64, p *peer) {
				p.request()
				p.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing + "\r\ndata: one\n")
				<-seen
				p.say("data: two\n")
			})
			reply := newRecorder()
			reply.flushed = make(chan string, 100)
			var serving sync.WaitGroup
			serving.Go(func() {
				wantOutcome(t, f.contract.Serve(t.Context(), newCall("GET", "/", ""), reply), core.StateSucceeded, "", "")
			})
			for got := ""; got != "data: one\n"; {
				got = <-reply.flushed
			}
			close(seen)
			serving.Wait()
			if got := reply.body.String(); got != "data: one\ndata: two\n" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestCallersBodyBreaksOff(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		body   io.Reader
		length int64
		begun  bool
	}{
		{"small, short", strings.NewReader("hello"), 10, false},
		{"large, short", strings.NewReader("hello"), 1 << 20, true},
		{"chunked", io.MultiReader(strings.NewReader("hello"), broken{}), -1, true},
		{"small, broken", io.MultiReader(strings.NewReader("hello"), broken{}), 10, false},
		{"gives nothing", lazy{}, 10, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFunction(t, func(_ int64, p *peer) {
				if p.request() != nil {
					t.Error("the function got a whole request")
				}
			})
			call := newCall("POST", "/", "")
			call.Request.Body, call.Request.Length = tc.body, tc.length
			o := f.contract.Serve(t.Context(), call, newRecorder())
			wantOutcome(t, o, core.StateCancelled, core.ReasonClientGone, "the caller's body")
			if o.Kill != tc.begun || o.Answered {
				t.Errorf("got %+v, want kill %v", o, tc.begun)
			}
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the line is cut") }

type lazy struct{}

func (lazy) Read([]byte) (int, error) { return 0, nil }

// A body longer than it was said to be is cut there.
func TestLongBody(t *testing.T) {
	t.Parallel()
	for _, n := range []int{5, 100_000} {
		got := make(chan int, 1)
		f := newFunction(t, func(_ int64, p *peer) {
			for req := p.request(); req != nil; req = p.request() {
				body, _ := io.ReadAll(req.Body)
				got <- len(body)
				p.say(okAnswer)
			}
		})
		call := newCall("POST", "/", strings.Repeat("x", n+10))
		call.Request.Length = int64(n)
		wantOutcome(t, f.contract.Serve(t.Context(), call, newRecorder()), core.StateSucceeded, "", "")
		if m := <-got; m != n {
			t.Errorf("the function got %d bytes, want %d", m, n)
		}
	}
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	for name, part := range map[string]string{"silent": "", "in the head": "HTTP/1.1 200 OK\r\n", "in the body": "HTTP/1.1 200 OK\r\n\r\nhello"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFunction(t, func(_ int64, p *peer) {
				p.request()
				p.say(part)
				p.ended()
			})
			call := newCall("GET", "/", "")
			call.Deadline = time.Now().Add(30 * time.Millisecond)
			o := f.contract.Serve(t.Context(), call, newRecorder())
			wantOutcome(t, o, core.StateTimedOut, core.ReasonTimeout, "shop/resize did not finish its answer within its timeout of 30s")
			if !o.Kill || o.Answered != (name == "in the body") {
				t.Errorf("got %+v", o)
			}
		})
	}
}

// A caller that stops sending is cut off with the deadline, where its body
// can be told to give up.
func TestDeadlineWhileCallerIsSilent(t *testing.T) {
	t.Parallel()
	for _, length := range []int64{10, 1 << 20, -1} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			t.Parallel()
			f := newFunction(t, func(_ int64, p *peer) { p.request() })
			ours, theirs := net.Pipe()
			defer theirs.Close()
			call := newCall("POST", "/", "")
			call.Request.Body, call.Request.Length = ours, length
			call.Deadline = time.Now().Add(30 * time.Millisecond)
			o := f.contract.Serve(t.Context(), call, newRecorder())
			wantOutcome(t, o, core.StateTimedOut, core.ReasonTimeout, "within")
			if sent := length > 16<<10 || length < 0; o.Kill != sent {
				t.Errorf("kill is %v, want %v", o.Kill, sent)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		cause  error
		state  core.State
		reason core.Reason
	}{
		{"gone", nil, core.StateCancelled, core.ReasonClientGone},
		{"by user", core.Errorf(core.KindConflict, core.ReasonCancelledByUser, "cancelled"), core.StateCancelled, core.ReasonCancelledByUser},
		{"out of memory", core.Errorf(core.KindFunction, core.ReasonOOMKilled, "too much"), core.StateFailed, core.ReasonOOMKilled},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			ended := make(chan struct{})
			f := newFunction(t, func(_ int64, p *peer) {
				p.request()
				cancel(tc.cause)
				p.ended()
				close(ended)
			})
			o := f.contract.Serve(ctx, newCall("GET", "/", ""), newRecorder())
			wantOutcome(t, o, tc.state, tc.reason, "")
			if !o.Kill || o.Answered || o.Message == "" {
				t.Errorf("got %+v, want a kill and a message", o)
			}
			<-ended
		})
	}
}

func TestCancelledBefore(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := newFunction(t, always(okAnswer, false))
	o := f.contract.Serve(ctx, newCall("GET", "/", ""), newRecorder())
	wantOutcome(t, o, core.StateCancelled, core.ReasonClientGone, "")
	if o.Kill {
		t.Error("an instance that got nothing is killed")
	}
}

func TestCallerDoesNotTakeTheAnswer(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		answer string
		kill   bool
	}{{okAnswer, false}, {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", true}} {
		f := newFunction(t, always(tc.answer, false))
		reply := newRecorder()
		reply.refuse = errors.New("broken pipe")
		o := f.contract.Serve(t.Context(), newCall("GET", "/", ""), reply)
		wantOutcome(t, o, core.StateCancelled, core.ReasonClientGone, "the caller closed")
		if o.Kill != tc.kill || !o.Answered {
			t.Errorf("got %+v, want kill %v", o, tc.kill)
		}
	}
}

func TestNoConnection(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err    error
		reason core.Reason
		says   string
	}{
		{syscall.ECONNREFUSED, core.ReasonFunctionError, "listens no more on port 8080"},
		{fmt.Errorf("dial: %w", core.ErrGone), core.ReasonFunctionError, "has ended"},
		{syscall.EMFILE, core.ReasonInternal, "too many open files"},
	} {
		c := web.New(dialFunc(func(context.Context, core.InstanceID, int) (net.Conn, error) { return nil, tc.err }), web.Options{})
		o := c.Serve(t.Context(), newCall("GET", "/", ""), newRecorder())
		wantOutcome(t, o, core.StateFailed, tc.reason, tc.says)
		if !o.Kill || o.Answered {
			t.Errorf("got %+v", o)
		}
	}
}

// Reset in the middle of an answer, as a crash with unread data does it.
func TestReset(t *testing.T) {
	t.Parallel()
	flushed := make(chan string, 10)
	f := newFunction(t, func(_ int64, p *peer) {
		p.request()
		p.say("HTTP/1.1 200 OK\r\n\r\nhello")
		for got := ""; got != "hello"; {
			got = <-flushed
		}
		if tcp, ok := p.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	})
	reply := newRecorder()
	reply.flushed = flushed
	o := f.contract.Serve(t.Context(), newCall("GET", "/", ""), reply)
	wantOutcome(t, o, core.StateFailed, core.ReasonFunctionError, "after 5 bytes of its answer (connection reset by peer)")
	if !o.Answered || !o.Kill {
		t.Errorf("got %+v", o)
	}
}

// Many callers of many instances at once, each gets its own answer.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	f := newFunction(t, func(_ int64, p *peer) {
		for req := p.request(); req != nil; req = p.request() {
			p.say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(req.URL.Path), req.URL.Path))
		}
	})
	var callers sync.WaitGroup
	for i := range 16 {
		callers.Go(func() {
			call := newCall("GET", fmt.Sprintf("/caller/%d", i), "")
			call.Instance = core.InstanceID(100 + i%4)
			for range 50 {
				reply := newRecorder()
				o := f.contract.Serve(t.Context(), call, reply)
				if o.State != core.StateSucceeded || reply.body.String() != call.Request.Path {
					t.Errorf("got %+v and %q, want %q", o, reply.body.String(), call.Request.Path)
				}
			}
		})
	}
	callers.Wait()
	for i := range 4 {
		f.contract.Forget(core.InstanceID(100 + i))
	}
}
