package web_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-io/dayfly/internal/contract/web"
	"github.com/dayfly-io/dayfly/internal/core"
)

// switching is a reply whose caller can be talked to in another protocol: its
// other end is caller.
type switching struct {
	recorder

	ours, caller net.Conn
}

func newSwitching() *switching {
	r := &switching{recorder: recorder{header: core.Header{}}}
	r.ours, r.caller = net.Pipe()
	return r
}

func (r *switching) Switch() (net.Conn, error) {
	r.WriteHeader(101)
	return halfClosing{r.ours}, nil
}

// halfClosing is an end of a pipe, which has no half close: it says so by a
// byte.
type halfClosing struct{ net.Conn }

func (c halfClosing) CloseWrite() error {
	_, err := c.Write([]byte("."))
	return err
}

func upgradeCall(protocol string) *core.Call {
	call := newCall("GET", "/", "")
	call.Request.Header = core.Header{"Connection": {"Upgrade"}, "Upgrade": {protocol}}
	return call
}

// tunnelled serves a call whose function switches protocols. It runs in a
// bubble; function is the function's end of its connection.
func tunnelled(ctx context.Context, t *testing.T, call *core.Call) (reply *switching, function net.Conn, outcome func() core.Outcome) {
	t.Helper()
	ours, function := net.Pipe()
	c := web.New(dialFunc(func(context.Context, core.InstanceID, int) (net.Conn, error) { return halfClosing{ours}, nil }), web.Options{})
	reply = newSwitching()
	var o core.Outcome
	var serving sync.WaitGroup
	serving.Go(func() {
		o = c.Serve(ctx, call, reply)
		_ = reply.ours.Close()
	})
	in := bufio.NewReader(function)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "\r\n" {
			break
		}
	}
	if _, err := io.WriteString(function, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return reply, function, func() core.Outcome { serving.Wait(); return o }
}

func TestTunnelIsLimited(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		timeout time.Duration
		does    func(t *testing.T, caller, function net.Conn)
		after   time.Duration
		state   core.State
		reason  core.Reason
		says    string
		kill    bool
	}{
		{
			name: "silence", timeout: time.Hour, after: 10 * time.Minute,
			state: core.StateTimedOut, reason: core.ReasonTimeout, says: "10m0s",
		},
		{
			name: "timeout", timeout: time.Minute, after: time.Minute,
			state: core.StateTimedOut, reason: core.ReasonTimeout, says: "open for longer than its timeout", kill: true,
		},
		{
			name: "one side talks", timeout: time.Hour, after: time.Hour,
			does: func(t *testing.T, caller, function net.Conn) {
				t.Helper()
				for range 11 {
					time.Sleep(5 * time.Minute)
					_, _ = caller.Write([]byte("x"))
					_, _ = io.ReadFull(function, make([]byte, 1))
				}
			},
			state: core.StateTimedOut, reason: core.ReasonTimeout, says: "timeout", kill: true,
		},
		{
			name: "the caller has said all", timeout: time.Hour, after: 30 * time.Second,
			does: func(t *testing.T, caller, function net.Conn) {
				t.Helper()
				_ = caller.Close()
				if got, _ := io.ReadAll(io.LimitReader(function, 1)); string(got) != "." {
					t.Errorf("the function is not told: %q", got)
				}
			},
			state: core.StateSucceeded,
		},
		{
			name: "the function has said all", timeout: time.Hour, after: 5 * time.Second,
			does: func(t *testing.T, caller, function net.Conn) {
				t.Helper()
				_ = function.Close()
				if got, _ := io.ReadAll(io.LimitReader(caller, 1)); string(got) != "." {
					t.Errorf("the caller is not told: %q", got)
				}
			},
			state: core.StateSucceeded,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				call := upgradeCall("chat")
				call.Deadline = began.Add(tc.timeout)
				reply, function, outcome := tunnelled(t.Context(), t, call)
				synctest.Wait()
				if got := headerText(reply.header); reply.status != 101 || got != "Connection=Upgrade Upgrade=chat" {
					t.Errorf("the head is %d %s", reply.status, got)
				}
				if tc.does != nil {
					tc.does(t, reply.caller, function)
				}
				o := outcome()
				wantOutcome(t, o, tc.state, tc.reason, tc.says)
				if o.Kill != tc.kill || !o.Answered || o.Status != 101 {
					t.Errorf("got %+v, want kill %v", o, tc.kill)
				}
				if took := time.Since(began); took != tc.after {
					t.Errorf("it took %s, want %s", took, tc.after)
				}
			})
		})
	}
}

func TestTunnelIsCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		reply, function, outcome := tunnelled(ctx, t, upgradeCall("chat"))
		synctest.Wait()
		cancel(core.Errorf(core.KindConflict, core.ReasonCancelledByUser, "somebody said so"))
		wantOutcome(t, outcome(), core.StateCancelled, core.ReasonCancelledByUser, "somebody said so")
		for _, c := range []net.Conn{reply.caller, function} {
			if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
				t.Errorf("a side is still open: %d, %v", n, err)
			}
		}
	})
}

// What goes to the function of an offer to switch protocols.
func TestUpgradeIsOffered(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		connection, upgrade, body string
		plain                     bool // the reply cannot switch
		want                      string
	}{
		{connection: "keep-alive, Upgrade", upgrade: "websocket", want: "websocket"},
		{connection: "upgrade", upgrade: "a/1, h2c, HTTP/2.0, tls/1.0, b", want: "a/1, b"},
		{connection: "upgrade", upgrade: "h2c"},
		{connection: "upgrade", upgrade: "a b, @, \"x\""},
		{connection: "keep-alive", upgrade: "websocket"},
		{connection: "upgrade", upgrade: "websocket", body: "x"},
		{connection: "upgrade", upgrade: "websocket", plain: true},
	} {
		call := newCall("GET", "/", tc.body)
		call.Request.Header = core.Header{"Connection": {tc.connection}, "Upgrade": {tc.upgrade}, "Http2-Settings": {"x"}}
		s := &script{answer: []byte("HTTP/1.1 204 No Content\r\n\r\n"), piece: 100}
		c := web.New(dialFunc(func(context.Context, core.InstanceID, int) (net.Conn, error) { return s, nil }), web.Options{})
		var reply core.Reply = newRecorder()
		if !tc.plain {
			reply = newSwitching()
		}
		wantOutcome(t, c.Serve(t.Context(), call, reply), core.StateSucceeded, "", "")
		want := "Connection: Upgrade\r\nUpgrade: " + tc.want + "\r\n"
		if tc.want == "" {
			want = ""
		}
		sent := s.sent.String()
		if strings.Contains(sent, "Upgrade") != (want != "") || !strings.Contains(sent, want) {
			t.Errorf("of %q the function got %q, want %q", tc.upgrade, sent, want)
		}
	}
}

// A function may switch to what it was offered only.
func TestBadUpgrades(t *testing.T) {
	t.Parallel()
	for answer, says := range map[string]string{
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\n\r\n":                 `to "other", and was asked for "chat, talk"`,
		"HTTP/1.1 101 Switching Protocols\r\n\r\n":                                   `to "", and`,
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat, talk\r\n\r\n":            `to "chat, talk"`,
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nUpgrade: talk\r\n\r\n": "to several",
	} {
		s := &script{answer: []byte(answer), piece: 1000}
		c := web.New(dialFunc(func(context.Context, core.InstanceID, int) (net.Conn, error) { return s, nil }), web.Options{})
		reply := newSwitching()
		o := c.Serve(t.Context(), upgradeCall("chat, talk"), reply)
		wantOutcome(t, o, core.StateFailed, core.ReasonFunctionError, says)
		if reply.status != 0 || !o.Kill || o.Answered {
			t.Errorf("%q got through: %+v", answer, o)
		}
	}
}
