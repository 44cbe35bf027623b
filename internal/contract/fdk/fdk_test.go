package fdk_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/contract/fdk"
	"github.com/dayfly-io/dayfly/internal/core"
)

func TestPrepare(t *testing.T) {
	t.Parallel()
	f := newFunction(t, func(*peer) {})
	def := call(core.TriggerAPI, "POST", "", nil).Definition
	spec := core.InstanceSpec{Env: []string{"OWN=1"}}
	f.contract.Prepare(def, &spec)
	want := []string{
		"OWN=1",
		"DAYFLY_APP=shop", "DAYFLY_FUNCTION=resize", "DAYFLY_VERSION=4", "DAYFLY_MEMORY=134217728", "DAYFLY_CPU=1", "DAYFLY_NODE=n1",
		"FN_LISTENER=unix:/tmp/iofs/lsnr.sock", "FN_FORMAT=http-stream", "FN_TYPE=sync",
		"FN_APP_ID=" + core.AppID(3).String(), "FN_FN_ID=" + core.FunctionID(1).String(),
		"FN_APP_NAME=shop", "FN_FN_NAME=resize", "FN_MEMORY=128",
		"FN_LOGFRAME_NAME=DAYFLY_RUN_ID", "FN_LOGFRAME_HDR=Fn-Call-Id",
	}
	if !slices.Equal(spec.Env, want) {
		t.Errorf("the environment is %q,\nwant %q", spec.Env, want)
	}
	if spec.User != "1000:1000" || spec.SocketDir != "/tmp/iofs" {
		t.Errorf("it runs as %s with its sockets in %s", spec.User, spec.SocketDir)
	}
}

// Every field that the process gets, apart from those of package web.
func fields(g *got) core.Header {
	h := core.Header(maps.Clone(g.Header))
	for _, own := range []string{"Dayfly-Run-Id", "Dayfly-Attempt", "Dayfly-Deadline", "Dayfly-Trigger", "Forwarded"} {
		if h[own] == nil {
			h["Missing"] = append(h["Missing"], own)
		}
		delete(h, own)
	}
	return h
}

func TestRequestOfATrigger(t *testing.T) {
	t.Parallel()
	f, last := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	c := call(core.TriggerHTTP, "PUT", "a body", core.Header{
		"Content-Type": {"text/plain"}, "X-One": {"1", "2"}, "Fn-Call-Id": {"mine"}, "Fn-Intent": {"cloudevent"},
		"Connection": {"keep-alive, X-Hop"}, "X-Hop": {"h"}, "Te": {"trailers"}, "Upgrade": {"websocket"}, "Content-Length": {"6"},
		"Dayfly-Run-Id": {"forged"},
	})
	if o := f.contract.Serve(t.Context(), c, newReply()); o.State != core.StateSucceeded || o.BytesIn != 6 {
		t.Fatalf("the outcome is %+v", o)
	}
	g := last.Load()
	if g.Method != http.MethodPost || g.RequestURI != "/call" || g.Host != "localhost" || g.Proto != "HTTP/1.1" || g.body != "a body" {
		t.Errorf("the request is %s %s %s for %s with %q", g.Method, g.RequestURI, g.Proto, g.Host, g.body)
	}
	if !slices.Equal(g.TransferEncoding, []string{"chunked"}) {
		t.Errorf("its encoding is %q", g.TransferEncoding)
	}
	want := core.Header{
		"Fn-Call-Id": {c.Run.ID.String()}, "Fn-Deadline": {c.Deadline.UTC().Format("2006-01-02T15:04:05Z")},
		"Fn-Intent": {"httprequest"}, "Fn-Http-Method": {"PUT"},
		"Fn-Http-Request-Url": {"https://shop.example:8080/f/shop/resize/a%20b?x=1"},
		"Content-Type":        {"text/plain"}, "Fn-Http-H-X-One": {"1", "2"}, "Fn-Http-H-Fn-Call-Id": {"mine"},
		"Fn-Http-H-Fn-Intent": {"cloudevent"}, "Fn-Http-H-Content-Length": {"6"}, "Fn-Http-H-Dayfly-Run-Id": {"forged"},
		"Traceparent": {c.Traceparent},
	}
	if got := fields(g); !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("the fields are\n%v, want\n%v", got, want)
	}
}

func TestRequestOfAPlainInvocation(t *testing.T) {
	t.Parallel()
	f, last := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	c := call(core.TriggerAPI, "POST", "", core.Header{
		"Content-Type": {"text/plain"}, "X-One": {"1"}, "Fn-Foo": {"bar"}, "Fn-Intent": {"cloudevent"},
		"Fn-Call-Id": {"mine"}, "Fn_call-id": {"mine"}, "Fn_Deadline": {"never"}, "Keep-Alive": {"1"},
	})
	if o := f.contract.Serve(t.Context(), c, newReply()); o.State != core.StateSucceeded {
		t.Fatalf("the outcome is %+v", o)
	}
	g := last.Load()
	want := core.Header{
		"Fn-Call-Id": {c.Run.ID.String()}, "Fn-Deadline": {c.Deadline.UTC().Format("2006-01-02T15:04:05Z")},
		"Content-Type": {"text/plain"}, "X-One": {"1"}, "Fn-Foo": {"bar"}, "Fn-Intent": {"cloudevent"},
		"Traceparent": {c.Traceparent}, "Content-Length": {"0"},
	}
	if got := fields(g); !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("the fields are\n%v, want\n%v", got, want)
	}
	if g.RequestURI != "/call" || g.TransferEncoding != nil || g.body != "" {
		t.Errorf("the request is for %s with %q, %q", g.RequestURI, g.TransferEncoding, g.body)
	}
}

// A function of little time is not told that it has none.
func TestDeadlineHasWholeSeconds(t *testing.T) {
	t.Parallel()
	f, last := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	for _, timeout := range []time.Duration{100 * time.Millisecond, time.Second, 9 * time.Second, 10 * time.Second, time.Minute} {
		c := call(core.TriggerAPI, "POST", "", nil)
		c.Definition.Version.Spec.Timeout = timeout
		c.Deadline = time.Date(2200, 1, 2, 3, 4, 5, 600e6, time.FixedZone("", 3600))
		if o := f.contract.Serve(t.Context(), c, newReply()); o.State != core.StateSucceeded {
			t.Fatalf("the outcome is %+v", o)
		}
		want := "2200-01-02T02:04:05Z"
		if timeout < 10*time.Second {
			want = "2200-01-02T02:04:06Z"
		}
		if got := last.Load().Header.Get("Fn-Deadline"); got != want {
			t.Errorf("with a timeout of %s the deadline is %s, want %s", timeout, got, want)
		}
	}
}

func TestAnswerToATrigger(t *testing.T) {
	t.Parallel()
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nfn-fdk-version: fdk-go/0.0.66\r\nFn-Fdk-Runtime: go\r\nDate: now\r\nX-Inner: 1\r\n" +
		"fn-http-h-x-one: 1\r\nFn-Http-H-X-One: 2\r\nFn-Http-H-Connection: close\r\nFn-Http-H-Content-Length: 99\r\n" +
		"Fn-Http-H-Transfer-Encoding: gzip\r\nFn-Http-H-Dayfly-Run-Id: forged\r\nFn-Http-H-: empty\r\n"
	for _, tc := range []struct {
		status string // field
		sent   int
		state  core.State
		body   string
	}{
		{"", 200, core.StateSucceeded, "hello"},
		{"Fn-Http-Status: 201\r\n", 201, core.StateSucceeded, "hello"},
		{"Fn-Http-Status: 404\r\n", 404, core.StateSucceeded, "hello"},
		{"Fn-Http-Status: 500\r\n", 500, core.StateFailed, "hello"},
		{"Fn-Http-Status: 204\r\n", 204, core.StateSucceeded, ""},
		{"Fn-Http-Status: 304\r\n", 304, core.StateSucceeded, ""},
		{"Fn-Http-Status: 101\r\n", 0, core.StateFailed, ""},
		{"Fn-Http-Status: 99\r\n", 0, core.StateFailed, ""},
		{"Fn-Http-Status: 1000\r\n", 0, core.StateFailed, ""},
		{"Fn-Http-Status: -200\r\n", 0, core.StateFailed, ""},
		{"Fn-Http-Status: ok\r\n", 0, core.StateFailed, ""},
	} {
		f, _ := answering(t, head+tc.status+"Content-Length: 5\r\n\r\nhello")
		for range 2 { // the second time on the same connection
			r := newReply()
			o := f.contract.Serve(t.Context(), call(core.TriggerHTTP, "GET", "", nil), r)
			if o.State != tc.state || o.Status != tc.sent || r.status != tc.sent || r.body.String() != tc.body || o.Kill || o.Cut {
				t.Errorf("%q: the outcome is %+v, the answer %d %q", tc.status, o, r.status, r.body.String())
			}
			if (o.Reason == core.ReasonFunctionError) != (tc.state == core.StateFailed) {
				t.Errorf("%q: the reason is %q", tc.status, o.Reason)
			}
			if tc.sent == 0 {
				continue
			}
			want := core.Header{"Content-Type": {"text/plain"}, "X-One": {"1", "2"}, "Content-Length": {"5"}}
			if tc.body == "" {
				delete(want, "Content-Length")
			}
			if !maps.EqualFunc(r.header, want, func(a, b []string) bool { slices.Sort(a); return slices.Equal(a, b) }) {
				t.Errorf("%q: the fields are %v, want %v", tc.status, r.header, want)
			}
		}
		if n := f.dials.Load(); n != 1 {
			t.Errorf("%q: %d connections were made", tc.status, n)
		}
	}
}

func TestAnswerToAPlainInvocation(t *testing.T) {
	t.Parallel()
	f, _ := answering(t, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nFn-Fdk-Version: v\r\nFn-Http-Status: 500\r\nFn-Http-H-X: 1\r\nContent-Length: 5\r\n\r\nhello")
	r := newReply()
	o := f.contract.Serve(t.Context(), call(core.TriggerAPI, "POST", "x", nil), r)
	want := core.Header{
		"Content-Type": {"text/plain"}, "Fn-Fdk-Version": {"v"}, "Fn-Http-Status": {"500"}, "Fn-Http-H-X": {"1"}, "Content-Length": {"5"},
	}
	if o.State != core.StateSucceeded || r.status != 200 || r.body.String() != "hello" || !maps.EqualFunc(r.header, want, slices.Equal) {
		t.Errorf("the outcome is %+v, the answer %d %v %q", o, r.status, r.header, r.body.String())
	}
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		status int
		state  core.State
		reason core.Reason
		kill   bool
		says   string
	}{
		{502, core.StateFailed, core.ReasonFunctionError, false, "the function shop/resize failed"},
		{504, core.StateTimedOut, core.ReasonTimeout, false, "ran out of time"},
		{500, core.StateFailed, core.ReasonFunctionError, true, "its process answered 500"},
		{201, core.StateFailed, core.ReasonFunctionError, true, "its process answered 201"},
		{404, core.StateFailed, core.ReasonFunctionError, true, "its process answered 404"},
		{204, core.StateFailed, core.ReasonFunctionError, true, "its process answered 204"},
	} {
		for _, body := range []string{
			"Content-Length: 5\r\n\r\noh no",
			"Transfer-Encoding: chunked\r\n\r\n5\r\noh no\r\n0\r\n\r\n",
		} {
			if tc.status == 204 {
				body = "\r\n"
			}
			f, _ := answering(t, fmt.Sprintf("HTTP/1.1 %d Some\r\nX: y\r\n%s", tc.status, body))
			for _, trigger := range []string{core.TriggerAPI, core.TriggerHTTP} {
				r := newReply()
				o := f.contract.Serve(t.Context(), call(trigger, "POST", "x", nil), r)
				if o.State != tc.state || o.Reason != tc.reason || o.Kill != tc.kill || !strings.Contains(o.Message, tc.says) {
					t.Errorf("%d: the outcome is %+v", tc.status, o)
				}
				if o.Answered || o.Status != 0 || o.BytesOut != 0 || o.Cut || r.status != 0 || len(r.header) != 0 || r.body.Len() != 0 {
					t.Errorf("%d: it reached the caller: %+v, %d %v %q", tc.status, o, r.status, r.header, r.body.String())
				}
			}
			if n := f.dials.Load(); !tc.kill && n != 1 {
				t.Errorf("%d: %d connections were made, and one was good", tc.status, n)
			}
		}
	}
}

// A body that nobody gets is not read for ever.
func TestEndlessErrorIsInterrupted(t *testing.T) {
	t.Parallel()
	f := newFunction(t, func(p *peer) {
		p.request()
		p.say("HTTP/1.1 502 Bad\r\n\r\n")
		for {
			if _, err := p.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	})
	o := f.contract.Serve(t.Context(), call(core.TriggerHTTP, "GET", "", nil), newReply())
	if o.State != core.StateFailed || o.Reason != core.ReasonFunctionError || !o.Kill || o.Answered || o.Cut {
		t.Errorf("the outcome is %+v", o)
	}
}

func TestAnswersAreStreamed(t *testing.T) {
	t.Parallel()
	more := make(chan struct{})
	f := newFunction(t, func(p *peer) {
		p.request()
		p.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
		<-more
		p.say("6\r\nsecond\r\n0\r\nTrailer: dropped\r\n\r\n")
		p.ended()
	})
	r := &watched{reply: newReply(), wrote: func(p []byte) {
		if string(p) == "first" {
			close(more)
		}
	}}
	o := f.contract.Serve(t.Context(), call(core.TriggerHTTP, "GET", "", nil), r)
	if o.State != core.StateSucceeded || r.body.String() != "firstsecond" || o.BytesOut != 11 || r.flushs == 0 {
		t.Errorf("the outcome is %+v with %q", o, r.body.String())
	}
}

type watched struct {
	*reply
	wrote func(p []byte)
}

func (w *watched) Write(p []byte) (int, error) {
	w.wrote(p)
	return w.reply.Write(p)
}

func TestReady(t *testing.T) {
	t.Parallel()
	f := newFunction(t, func(p *peer) { p.ended() })
	if err := f.contract.Ready(t.Context(), instance, 0); err != nil {
		t.Error(err)
	}
	if err := f.contract.Ready(t.Context(), instance+1, 0); !errors.Is(err, core.ErrGone) {
		t.Errorf("an instance that is gone gives %v", err)
	}
}

func TestReadyExplains(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		make func(t *testing.T, p *place)
		code core.Code
		says string
	}{
		{"nothing", func(*testing.T, *place) {}, core.ReasonStartTimeout, "nothing made the socket /tmp/iofs/lsnr.sock within"},
		{"bound", func(t *testing.T, p *place) { t.Helper(); bind(t, p) }, core.ReasonStartTimeout, "nothing listened on the socket"},
		{"deaf", func(t *testing.T, p *place) {
			t.Helper()
			if err := unix.Listen(bind(t, p), 0); err != nil {
				t.Fatal(err)
			}
			for { // until no more are taken
				c, err := p.dir.Dial(fdk.SocketName)
				if err != nil {
					return
				}
				t.Cleanup(func() { _ = c.Close() })
			}
		}, core.ReasonStartTimeout, "nothing accepted connections"},
		{"file", func(t *testing.T, p *place) {
			t.Helper()
			if err := os.WriteFile(p.in(fdk.SocketName), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, core.ReasonStartFailed, "lsnr.sock is a regular file, and not a socket"},
		{"link", func(t *testing.T, p *place) {
			t.Helper()
			if err := os.Symlink("/run/docker.sock", p.in(fdk.SocketName)); err != nil {
				t.Fatal(err)
			}
		}, core.ReasonStartFailed, `lsnr.sock is a symbolic link to "/run/docker.sock"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			tc.make(t, p)
			c := fdk.New(p, fdk.Options{})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			err := c.Ready(ctx, instance, 0)
			if e, ok := errors.AsType[*core.Error](err); !ok || e.Code != tc.code || !strings.Contains(e.Message, tc.says) {
				t.Errorf("the error is %v", err)
			}
			gone, leave := context.WithCancel(t.Context())
			leave()
			if err := c.Ready(gone, instance, 0); tc.code == core.ReasonStartTimeout && !errors.Is(err, context.Canceled) {
				t.Errorf("a cancelled wait gives %v", err)
			}
		})
	}
}

func bind(t *testing.T, p *place) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: p.in(fdk.SocketName)}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// A function whose socket is gone, or is something else by now, has failed.
func TestSocketThatIsGone(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(p *place) error{
		"removed": func(p *place) error { return os.Remove(p.in(fdk.SocketName)) },
		"replaced": func(p *place) error {
			return errors.Join(os.Remove(p.in(fdk.SocketName)), os.Symlink("/x", p.in(fdk.SocketName)))
		},
	} {
		f, _ := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		if o := f.contract.Serve(t.Context(), call(core.TriggerAPI, "POST", "", nil), newReply()); o.State != core.StateSucceeded {
			t.Fatalf("the outcome is %+v", o)
		}
		if err := spoil(f.place); err != nil {
			t.Fatal(err)
		}
		o := f.contract.Serve(t.Context(), call(core.TriggerAPI, "POST", "", nil), newReply())
		if o.Reason != core.ReasonFunctionError || !o.Kill || !strings.Contains(o.Message, "listens no more on the socket /tmp/iofs/lsnr.sock") {
			t.Errorf("%s: the outcome is %+v", name, o)
		}
	}
}
