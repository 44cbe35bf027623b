package contracttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Behaviour is what the process does with a call.
type Behaviour int

// The behaviours.
const (
	// Answers reads the body, answers with [Answer] and status 200, or exits
	// with 0.
	Answers Behaviour = iota
	// Fails reads the body and answers with status 500, or exits with 3.
	Fails
	// Hangs reads the body and does nothing until it is ended.
	Hangs
	// BreaksOff sends the first part of an answer and ends.
	BreaksOff
	// Trickles sends the first part of an answer and does nothing more until
	// it is ended.
	Trickles
)

// Answer is what a process answers.
const Answer = "the answer"

// Serve is one attempt by a contract.
type Serve func(ctx context.Context, call *core.Call, reply core.Reply) core.Outcome

// Subject is a contract.
type Subject struct {
	// New makes an instance, or the way to one, that behaves so.
	New func(t *testing.T, b Behaviour) Serve
	// Spec is what the functions are made of; its defaults are filled in.
	Spec core.Spec
}

// patience is how long the end of a call is waited for. It is far more than a
// contract needs, since it says only that one hangs.
const patience = 20 * time.Second

// Run runs the suite.
func Run(t *testing.T, s Subject) {
	t.Helper()
	user := core.Errorf(core.KindConflict, core.ReasonCancelledByUser, "the run was cancelled by somebody")
	server := core.Unavailable(core.ReasonServerRestarted, nil, "the server is stopping")
	cases := []struct {
		name    string
		does    Behaviour
		end     error         // cancels the call's context with this cause once it goes on
		timeout time.Duration // of the call; 0 is long
		body    string        // "" for a short one, else broken or silent
		refuse  bool          // the caller takes no answer
		state   core.State
		reason  core.Reason
		check   func(t *testing.T, o core.Outcome, r *reply)
	}{
		{name: "success", does: Answers, state: core.StateSucceeded, check: func(t *testing.T, o core.Outcome, r *reply) {
			if o.Status != 200 || r.body.String() != Answer || o.Cut || !o.Answered || o.BytesIn != core.Bytes(len(question)) {
				t.Errorf("got %+v with %q", o, r.body.String())
			}
		}},
		{name: "failure", does: Fails, state: core.StateFailed, check: func(t *testing.T, o core.Outcome, _ *reply) {
			if o.BytesIn != core.Bytes(len(question)) || o.Cut {
				t.Errorf("got %+v", o)
			}
		}},
		{name: "broken off", does: BreaksOff, state: core.StateFailed, check: wantCut},
		{name: "timeout", does: Hangs, timeout: 100 * time.Millisecond, state: core.StateTimedOut, reason: core.ReasonTimeout, check: wantSilence},
		{name: "timeout in the middle", does: Trickles, timeout: 200 * time.Millisecond, state: core.StateTimedOut, reason: core.ReasonTimeout, check: wantCut},
		{name: "cancelled by a user", does: Hangs, end: user, state: core.StateCancelled, reason: core.ReasonCancelledByUser, check: wantSilence},
		{name: "cancelled in the middle", does: Trickles, end: user, state: core.StateCancelled, reason: core.ReasonCancelledByUser, check: wantCut},
		{name: "caller gone", does: Hangs, end: context.Canceled, state: core.StateCancelled, reason: core.ReasonClientGone, check: wantSilence},
		{name: "server stops", does: Hangs, end: server, state: core.StateFailed, reason: core.ReasonServerRestarted, check: wantSilence},
		{name: "answer not taken", does: Answers, refuse: true, state: core.StateCancelled, reason: core.ReasonClientGone},
		{name: "body breaks off", does: Hangs, body: "broken", state: core.StateCancelled, reason: core.ReasonClientGone, check: wantSilence},
		{name: "body does not come", does: Hangs, body: "silent", timeout: 100 * time.Millisecond, state: core.StateTimedOut, reason: core.ReasonTimeout, check: wantSilence},
		{name: "cancelled while the body comes", does: Hangs, body: "silent", end: user, state: core.StateCancelled, reason: core.ReasonCancelledByUser, check: wantSilence},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			serve := s.New(t, tc.does)
			call := newCall(s.Spec, tc.timeout)
			b := newBody(t, tc.body)
			call.Request.Body, call.Request.Length = b, b.length
			r := &reply{t: t, header: core.Header{}, wrote: make(chan struct{}, 1)}
			if tc.refuse {
				r.refuse = errors.New("broken pipe")
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if tc.end != nil {
				go func() {
					if tc.does == Trickles {
						<-r.wrote
					} else {
						<-b.used
					}
					cancel(tc.end)
				}()
			}
			o := within(t, func() core.Outcome { return serve(ctx, call, r) })
			b.over.Store(true)
			r.over.Store(true)
			_ = b.far.Close()
			if o.State != tc.state || tc.reason != "" && o.Reason != tc.reason {
				t.Errorf("the run is %s, %s (%s); want %s, %s", o.State, o.Reason, o.Message, tc.state, tc.reason)
			}
			consistent(t, o, r)
			if tc.check != nil {
				tc.check(t, o, r)
			}
		})
	}
}

// consistent checks what every outcome keeps to.
func consistent(t *testing.T, o core.Outcome, r *reply) {
	t.Helper()
	if !o.State.Final() {
		t.Errorf("the state %q is not final", o.State)
	}
	if (o.State == core.StateSucceeded) != (o.Reason == "") || (o.Reason == "") != (o.Message == "") {
		t.Errorf("the state %s has the reason %q and the message %q", o.State, o.Reason, o.Message)
	}
	if o.Answered != (r.status != 0) || o.Status != r.status {
		t.Errorf("answered %v with %d, and the reply has the status %d", o.Answered, o.Status, r.status)
	}
	if o.Cut && !o.Answered {
		t.Error("an answer that has not begun is cut")
	}
	if o.BytesOut != core.Bytes(r.body.Len()) {
		t.Errorf("%d bytes are counted, and the reply has %d", o.BytesOut, r.body.Len())
	}
	if o.Answered && o.Status == 200 && !o.Cut && o.State != core.StateSucceeded {
		t.Errorf("a caller whose answer is whole was told of no failure: %+v", o)
	}
}

func wantCut(t *testing.T, o core.Outcome, r *reply) {
	t.Helper()
	if !o.Answered || !o.Cut || r.body.Len() == 0 || strings.Contains(r.body.String(), Answer) {
		t.Errorf("got %+v with %q, want a part of an answer", o, r.body.String())
	}
}

func wantSilence(t *testing.T, o core.Outcome, r *reply) {
	t.Helper()
	if o.Answered || o.Cut || r.status != 0 || r.body.Len() != 0 {
		t.Errorf("got %+v with %q, want nothing answered", o, r.body.String())
	}
}

func within(t *testing.T, f func() core.Outcome) core.Outcome {
	t.Helper()
	done := make(chan core.Outcome, 1)
	go func() { done <- f() }()
	select {
	case o := <-done:
		return o
	case <-time.After(patience):
		t.Fatalf("the call has not ended within %s", patience)
		return core.Outcome{}
	}
}

const question = "the question"

func newCall(spec core.Spec, timeout time.Duration) *core.Call {
	if timeout == 0 {
		timeout = time.Hour
	}
	spec.Image, spec.Timeout = "i", timeout
	spec = spec.WithDefaults()
	return &core.Call{
		Run: &core.Run{ID: 1 << 40, Attempt: 1, Trigger: core.TriggerHTTP},
		Definition: &core.Definition{
			App: core.App{Name: "shop"}, Function: core.Function{ID: 1, Name: "resize"}, Version: core.Version{Number: 1, Spec: spec},
		},
		Instance: 7, Deadline: time.Now().Add(timeout), Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Request: &core.Request{Method: "POST", Path: "/", Host: "shop.example", Scheme: "http", Remote: "192.0.2.7:4711", Header: core.Header{}},
	}
}

// newBody makes the body that a caller sends: a short one, one that breaks
// off, or one that does not come.
func newBody(t *testing.T, kind string) *body {
	t.Helper()
	near, far := net.Pipe()
	b := &body{t: t, near: near, far: far, length: int64(len(question)), used: make(chan struct{})}
	switch kind {
	case "":
		go func() { _, _ = far.Write([]byte(question)) }()
	case "broken":
		go func() {
			_, _ = far.Write([]byte(question[:3]))
			_ = far.Close()
		}()
	case "silent":
		b.length = -1
	}
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
	})
	return b
}

// Read reads what the caller sends.
func (b *body) Read(p []byte) (int, error) {
	if b.over.Load() {
		b.t.Error("the body was read after the call had ended")
	}
	b.once.Do(func() { close(b.used) })
	if b.length >= 0 && b.read == b.length {
		return 0, io.EOF
	}
	n, err := b.near.Read(p)
	b.read += int64(n)
	return n, err
}

// SetReadDeadline makes a Read give up.
func (b *body) SetReadDeadline(at time.Time) error {
	return b.near.SetReadDeadline(at)
}

// Header gives the header of the answer.
func (r *reply) Header() core.Header {
	r.use()
	return r.header
}

// WriteHeader takes the status.
func (r *reply) WriteHeader(status int) {
	r.use()
	if r.status != 0 {
		r.t.Errorf("the status %d was written after %d", status, r.status)
	}
	r.status = status
}

// Write takes a part of the answer.
func (r *reply) Write(p []byte) (int, error) {
	r.use()
	if r.refuse != nil {
		return 0, r.refuse
	}
	if r.status == 0 {
		r.t.Error("a body was written before a status")
	}
	select {
	case r.wrote <- struct{}{}:
	default:
	}
	return r.body.Write(p)
}

// Flush does nothing.
func (r *reply) Flush() error {
	r.use()
	return r.refuse
}

func (r *reply) use() {
	if r.over.Load() {
		r.t.Error("the reply was used after the call had ended")
	}
}

// reply is where the answer goes. It is looked at when the call has ended.
type reply struct {
	t      *testing.T
	header core.Header
	status int
	body   bytes.Buffer
	refuse error
	wrote  chan struct{}
	over   atomic.Bool
}

type body struct {
	t         *testing.T
	near, far net.Conn
	length    int64 // -1 when it is not told
	read      int64
	used      chan struct{} // closed at the first Read
	once      sync.Once
	over      atomic.Bool
}
