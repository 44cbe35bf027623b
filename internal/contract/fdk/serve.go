package fdk

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// An exchange is one request and its answer: what package web is given for
// those of the call. It is pooled.
type exchange struct {
	reply core.Reply
	call  core.Call
	req   core.Request
	// trigger is set when the shape is that of Fn's triggers.
	trigger bool

	header  core.Header // of the answer, as the process sent it
	status  int         // that the process sent, 0 before
	sent    int         // status that the caller got, 0 for none
	empty   bool        // an answer with the caller's status has no body
	invalid string      // what is wrong with an answer of status 200
	dropped int         // bytes of a body that nobody gets
	passed  int64       // bytes of the body that the caller got
	own     [4]string   // backing of the fields that are set for each call
}

var exchanges = sync.Pool{New: func() any {
	return &exchange{header: core.Header{}, req: core.Request{Header: core.Header{}}}
}}

// Serve passes the call to the function in the instance and its answer to the
// reply, as package web does.
func (c *Contract) Serve(ctx context.Context, call *core.Call, reply core.Reply) core.Outcome {
	x, _ := exchanges.Get().(*exchange)
	x.reply, x.call = reply, *call
	x.prepare(call)
	x.call.Request = &x.req
	out := c.web.Serve(ctx, &x.call, x)
	x.judge(&out)
	x.release()
	return out
}

// release forgets everything that belongs to the call.
func (x *exchange) release() {
	const kept = 64 // a map never shrinks
	header, fields := x.header, x.req.Header
	if len(header) > kept {
		header = core.Header{}
	}
	if len(fields) > kept {
		fields = core.Header{}
	}
	clear(header)
	clear(fields)
	*x = exchange{header: header, req: core.Request{Header: fields}}
	exchanges.Put(x)
}

// Header gives the header of the answer, as the process sends it.
func (x *exchange) Header() core.Header { return x.header }

// WriteHeader takes the status of the process, and sends the header to the
// caller if the function has answered.
func (x *exchange) WriteHeader(status int) {
	if status < http.StatusOK || x.status != 0 {
		return // there is nothing in Fn that an interim answer could be
	}
	x.status = status
	if status != http.StatusOK {
		return
	}
	into, sent := x.reply.Header(), http.StatusOK
	if x.trigger {
		if sent, x.invalid = answered(x.header); x.invalid != "" {
			return
		}
		x.empty = sent == http.StatusNoContent || sent == http.StatusNotModified
		passTrigger(into, x.header, x.empty)
	} else {
		passAll(into, x.header)
	}
	x.sent = sent
	x.reply.WriteHeader(sent)
}

// maxDropped is how much of a body is read that nobody gets. A process that
// sends more has to be interrupted.
const maxDropped = 64 << 10

var errDropped = errors.New("nobody wants this body")

// Write passes a part of the answer on, or drops it.
func (x *exchange) Write(p []byte) (int, error) {
	x.WriteHeader(http.StatusOK)
	switch {
	case x.sent == 0:
		if x.dropped += len(p); x.dropped > maxDropped || !known(x.status) {
			return 0, errDropped
		}
		return len(p), nil
	case x.empty:
		return len(p), nil
	}
	n, err := x.reply.Write(p)
	x.passed += int64(n)
	return n, err
}

// Flush sends what has been written so far.
func (x *exchange) Flush() error {
	if x.sent == 0 {
		return nil
	}
	return x.reply.Flush()
}

// SetWriteDeadline bounds how long the caller may take to read the answer.
func (x *exchange) SetWriteDeadline(t time.Time) error {
	if w, ok := x.reply.(interface{ SetWriteDeadline(t time.Time) error }); ok {
		return w.SetWriteDeadline(t)
	}
	return errors.ErrUnsupported
}

// known reports whether the status is one of the three that a kit answers.
func known(status int) bool {
	return status == http.StatusOK || status == http.StatusBadGateway || status == http.StatusGatewayTimeout
}

// judge makes of the verdict on the HTTP exchange that on the call.
func (x *exchange) judge(o *core.Outcome) {
	o.Status, o.BytesOut = x.sent, core.Bytes(x.passed)
	if x.status == 0 {
		return // no answer came
	}
	if x.sent != 0 {
		if o.State == core.StateSucceeded && x.sent >= http.StatusInternalServerError {
			x.fail(o, "answered %d; its log may say why", x.sent)
		}
		return
	}
	o.Answered, o.Cut = false, false
	if o.State == core.StateCancelled && o.Reason == core.ReasonCancelledByUser {
		return // while the body that nobody gets was read
	}
	switch {
	case x.status == http.StatusBadGateway:
		x.fail(o, "failed, as its process says (status 502 of the contract fdk); its log may say why")
	case x.status == http.StatusGatewayTimeout:
		x.fail(o, "ran out of time, as its process says (status 504 of the contract fdk)")
		o.State, o.Reason = core.StateTimedOut, core.ReasonTimeout
	case x.invalid != "":
		x.fail(o, "gave an invalid answer: %s", x.invalid)
	default:
		x.fail(o, "gave an invalid answer: its process answered %d, and 200, 502 and 504 are all that the contract fdk knows", x.status)
		o.Kill = true
	}
}

func (x *exchange) fail(o *core.Outcome, format string, args ...any) {
	def := x.call.Definition
	o.State, o.Reason = core.StateFailed, core.ReasonFunctionError
	o.Message = "the function " + def.App.Name + "/" + def.Function.Name + " " + fmt.Sprintf(format, args...)
}
