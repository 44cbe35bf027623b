package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// inlineBody is the largest body that goes out with the head in one write.
// It fits into a socket's buffers, so that the write cannot wait for a
// function that answers without reading.
const inlineBody = 16 << 10

// maxKeptOut is the largest buffer for heads that is kept for later.
const maxKeptOut = 64 << 10

// An exchange is one request and its answer. It is pooled: nothing in it
// survives Serve but the buffers.
type exchange struct {
	c     *Contract
	call  *core.Call
	reply core.Reply

	out     []byte // request's head, with an inline body behind it
	framing framing
	upgrade string // the protocols that the caller offers to switch to
	expects bool   // the caller waits for a 100 before it sends its body
	bytesIn int64

	cn       *conn
	reused   bool // cn had served before
	wrote    int  // bytes of out that went into cn
	uploaded bool // an upload has been started
	// broken is set when the answer failed while the caller was there. What
	// ends its context after that is our own making an end of its body: net/http
	// takes a read that gives up for a caller that left.
	broken   bool
	reusable bool // cn may serve again

	in        []byte // what came of the answer: in[r:w] has not been used yet
	r, w      int
	got       bool   // something came
	limit     int    // bytes of the answer's heads
	cleared   func() // lets the upload begin; nil when it has
	head      head
	fields    []field
	stream    bool // flush before waiting
	unflushed bool
	whole     bool // the answer has come to its end
	switched  bool // the connection speaks another protocol
	answered  bool
	bytesOut  int64
}

var exchanges = sync.Pool{New: func() any { return &exchange{in: make([]byte, inBuffer)} }}

// Serve passes the call's request to the web server in the instance and its
// answer to the reply. It returns when nothing of the call, its body or the
// reply is used any more. When ctx is cancelled with a [core.Error] as its
// cause, that gives the outcome its reason and message.
//
// Kill is set wherever the request was in the function's hands and did not
// come to its end: there is no other way to stop it for certain. Who lets an
// instance serve several requests decides what that means for the others.
func (c *Contract) Serve(ctx context.Context, call *core.Call, reply core.Reply) core.Outcome {
	x, _ := exchanges.Get().(*exchange)
	x.c, x.call, x.reply = c, call, reply
	x.limit = int(call.Definition.Version.Spec.Limits.Headers)
	if x.limit <= 0 {
		x.limit = int(core.DefaultLimits.Headers)
	}
	err := x.run(ctx)
	outcome := x.outcome(ctx, err)
	x.release()
	return outcome
}

// release forgets everything that belongs to the call, and puts the buffers
// back.
func (x *exchange) release() {
	clear(x.fields[:cap(x.fields)])
	fresh := exchange{out: x.out[:0], in: x.in, fields: x.fields[:0]}
	if cap(fresh.out) > maxKeptOut {
		fresh.out = nil
	}
	if len(fresh.in) != inBuffer {
		fresh.in = make([]byte, inBuffer)
	}
	*x = fresh
	exchanges.Put(x)
}

func (x *exchange) run(ctx context.Context) error {
	if err := x.prepare(); err != nil {
		return err
	}
	err := x.once(ctx, false)
	if err != nil && x.again(ctx, err) {
		err = x.once(ctx, true)
	}
	return err
}

// prepare writes the request's head, and a small body, into the buffer.
func (x *exchange) prepare() error {
	r := x.call.Request
	x.framing = framingOf(r, x.c.opts.Chunked)
	if x.framing == noBody {
		if r.Header["Upgrade"] != nil {
			x.upgrade = x.offered(r)
		}
	} else {
		x.expects = expects(r)
	}
	var err error
	if x.out, err = x.appendHead(x.out[:0]); err != nil {
		return err
	}
	if x.framing == inlined {
		return x.inline(r.Body, int(r.Length))
	}
	if x.framing == wrapped {
		x.out = append(strconv.AppendInt(x.out, r.Length, 16), "\r\n"...)
		if err := x.inline(r.Body, int(r.Length)); err != nil {
			return err
		}
		x.out = appendEnd(append(x.out, "\r\n"...), r)
	}
	return nil
}

// inline reads a small body behind the head.
func (x *exchange) inline(body io.Reader, n int) error {
	if d, ok := body.(readDeadliner); ok && !x.call.Deadline.IsZero() {
		_ = d.SetReadDeadline(x.call.Deadline)
		defer func() { _ = d.SetReadDeadline(time.Time{}) }()
	}
	headLen := len(x.out)
	for len(x.out)-headLen < n {
		have := len(x.out)
		x.out = append(x.out, make([]byte, n-(have-headLen))...)
		m, err := read(body, x.out[have:])
		x.out = x.out[:have+m]
		x.bytesIn += int64(m)
		if err != nil && x.bytesIn < int64(n) {
			return bodyError(err, x.bytesIn, int64(n))
		}
	}
	return nil
}

// once makes one exchange on a connection.
func (x *exchange) once(ctx context.Context, fresh bool) error {
	if err := x.connect(ctx, fresh); err != nil {
		return err
	}
	stop := x.cn.watch(ctx)
	err := x.exchange(ctx)
	if stop() && err == nil && x.reusable && x.r == x.w {
		x.c.keep(x.cn)
	} else {
		_ = x.cn.Close()
	}
	x.cn = nil
	return err
}

// connect gives x a connection with the call's deadline: a kept one that is
// quiet, or a new one.
func (x *exchange) connect(ctx context.Context, fresh bool) error {
	id := x.call.Instance
	x.reused, x.reusable, x.wrote = false, false, 0
	for !fresh {
		cn := x.c.take(id)
		if cn == nil {
			break
		}
		if cn.SetDeadline(x.call.Deadline) == nil && cn.quiet() {
			x.cn, x.reused = cn, true
			return nil
		}
		_ = cn.Close()
	}
	if !x.call.Deadline.IsZero() {
		limited, cancel := context.WithDeadline(ctx, x.call.Deadline)
		defer cancel()
		ctx = limited
	}
	cn, err := x.c.dial(ctx, id, portOf(x.call.Definition))
	if err != nil {
		return err
	}
	if err := cn.SetDeadline(x.call.Deadline); err != nil {
		_ = cn.Close()
		return &dialError{err}
	}
	x.cn = cn
	return nil
}

// exchange sends the request and passes the answer on.
func (x *exchange) exchange(ctx context.Context) error {
	n, err := x.cn.Write(x.out)
	x.wrote = n
	if err != nil {
		return fmt.Errorf("send the request: %w", err)
	}
	if !x.framing.streamed() {
		return x.readAnswer(ctx)
	}
	x.uploaded = true
	u := startUpload(x.cn, x.call.Request, x.framing, x.expects)
	x.cleared = u.clear
	err = x.readAnswer(ctx)
	if err == nil && x.unflushed {
		// The end of the body may have to be waited for; the answer need not.
		if flushErr := x.reply.Flush(); flushErr != nil {
			err = &replyError{flushErr}
		}
	}
	x.cleared = nil
	x.broken = err != nil && ctx.Err() == nil
	sendErr := u.stop(err == nil)
	x.bytesIn = u.sent
	if sendErr == nil {
		return err
	}
	x.reusable = false
	if _, ok := errors.AsType[*callerError](sendErr); ok && err != nil && !u.cut {
		return sendErr // why there is no answer
	}
	// The function answered without taking the whole body, which it may; or
	// reading failed as well, and says more than that writing did.
	return err
}

// again reports whether the request may be sent once more, by the rule in the
// package's comment.
func (x *exchange) again(ctx context.Context, err error) bool {
	switch {
	case !x.reused || x.got || x.uploaded || ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded):
		return false
	case x.wrote == 0:
		return true
	}
	return idempotent(x.call.Request.Method)
}

func idempotent(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// outcome gives the verdict.
func (x *exchange) outcome(ctx context.Context, err error) core.Outcome {
	o := core.Outcome{
		State:    core.StateSucceeded,
		BytesIn:  core.Bytes(x.bytesIn),
		BytesOut: core.Bytes(x.bytesOut),
		Answered: x.answered,
	}
	if x.answered {
		o.Status = x.head.status
	}
	if err != nil {
		o.Cut = x.answered
		x.blame(ctx, err, &o)
		return o
	}
	if o.Status >= http.StatusInternalServerError {
		o.State, o.Reason = core.StateFailed, core.ReasonFunctionError
		o.Message = fmt.Sprintf("%s answered %d; its log may say why", x.function(), o.Status)
	}
	return o
}

func (x *exchange) function() string {
	return "the function " + x.call.Definition.App.Name + "/" + x.call.Definition.Function.Name
}

// blame finds out what an error means. The deadline comes first, then the
// end of ctx: both make reads and writes fail in their turn.
func (x *exchange) blame(ctx context.Context, err error, o *core.Outcome) {
	begun := x.wrote > 0
	o.Kill = begun
	deadline := x.call.Deadline
	if !deadline.IsZero() && !time.Now().Before(deadline) || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		x.timedOut(err, o)
		return
	}
	if ctx.Err() != nil && !x.broken {
		cancelled(ctx, o)
		return
	}
	if e, ok := errors.AsType[*core.Error](err); ok && !begun {
		o.State, o.Reason, o.Message = core.StateFailed, e.Code, e.Message
		return
	}
	if e, ok := errors.AsType[*callerError](err); ok {
		o.State, o.Reason, o.Message = core.StateCancelled, core.ReasonClientGone, e.Error()
		return
	}
	if _, ok := errors.AsType[*idleError](err); ok {
		o.State, o.Reason, o.Message, o.Kill = core.StateTimedOut, core.ReasonTimeout, err.Error(), false
		return
	}
	if _, ok := errors.AsType[*replyError](err); ok {
		o.State, o.Reason, o.Message = core.StateCancelled, core.ReasonClientGone, clientGone
		// A caller that left after the function's last byte interrupted nothing.
		o.Kill = begun && !x.whole
		return
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		x.timedOut(err, o) // the wall clock was set back meanwhile
		return
	}
	o.State, o.Reason, o.Kill = core.StateFailed, core.ReasonFunctionError, true
	o.Message = x.fault(err, o)
}

func (x *exchange) timedOut(err error, o *core.Outcome) {
	o.State, o.Reason = core.StateTimedOut, core.ReasonTimeout
	timeout := x.call.Definition.Version.Spec.Timeout
	if x.switched {
		o.Kill = true
		o.Message = fmt.Sprintf("the connection to %s was open for longer than its timeout of %s; raise timeout if it needs longer", x.function(), timeout)
		return
	}
	if _, ok := errors.AsType[*callerError](err); ok {
		o.Message = fmt.Sprintf("the caller did not send its body within the timeout of %s", timeout)
		return
	}
	o.Kill = true
	o.Message = fmt.Sprintf("%s did not finish its answer within its timeout of %s; raise timeout if it needs longer", x.function(), timeout)
}

// clientGone is what a run says whose caller has left.
const clientGone = "the caller closed the connection before it had the whole answer"

// cancelled fills in the outcome of a run whose ctx was cancelled.
func cancelled(ctx context.Context, o *core.Outcome) {
	o.State, o.Reason, o.Message = core.StateCancelled, core.ReasonClientGone, clientGone
	if e, ok := errors.AsType[*core.Error](context.Cause(ctx)); ok {
		o.Reason, o.Message = e.Code, e.Message
		if e.Code != core.ReasonCancelledByUser && e.Code != core.ReasonClientGone {
			o.State = core.StateFailed
		}
	}
}

// fault says what a function did wrong, and what to do.
func (x *exchange) fault(err error, o *core.Outcome) string {
	name := x.function()
	if e, ok := errors.AsType[*badAnswerError](err); ok {
		return name + " did not answer in valid HTTP/1.1: " + e.what
	}
	if _, ok := errors.AsType[*dialError](err); ok {
		place := x.c.opts.Place
		if place == "" {
			place = fmt.Sprintf("port %d", portOf(x.call.Definition))
		}
		switch {
		case errors.Is(err, core.ErrGone):
			return name + " was called on an instance that has ended; its log may say why"
		case errors.Is(err, syscall.ECONNREFUSED):
			return name + " listens no more on " + place + ": its web server has stopped or crashed; its log may say why"
		}
		o.Reason = core.ReasonInternal
		return fmt.Sprintf("no connection to %s of %s could be made: %s", place, name, err)
	}
	switch {
	case x.answered:
		return fmt.Sprintf("%s broke the connection after %d bytes of its answer (%s); it may have crashed, see its log", name, x.bytesOut, cause(err))
	case errors.Is(err, io.EOF):
		return name + " closed the connection without an answer; it may have crashed, see its log"
	}
	return fmt.Sprintf("%s broke the connection without an answer (%s); it may have crashed, see its log", name, cause(err))
}

// cause gives the system's own words for an error, without addresses.
func cause(err error) string {
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		return no.Error()
	}
	return err.Error()
}
