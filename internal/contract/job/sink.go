package job

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// sink takes what the process prints to stdout: it keeps it for the answer,
// or passes it on.
type sink struct {
	reply core.Reply
	spec  *core.Spec
	end   context.CancelCauseFunc // ends the process
	slow  writeDeadliner          // reply, when its Write can wait
	quit  func() bool             // ends the watch over ctx

	mu       sync.Mutex
	buf      bytes.Buffer
	begun    bool // the caller can be told which run it is
	full     bool // more came than may be kept
	closed   bool // what comes is not wanted
	answered bool
	broken   bool // the caller did not take it all
	sent     core.Bytes
}

// A writeDeadliner is a reply whose Write can be made to give up.
type writeDeadliner interface {
	SetWriteDeadline(t time.Time) error
}

var errCallerGone = core.Errorf(core.KindTimeout, core.ReasonClientGone, "the caller closed the connection before it had the whole answer")

func newSink(ctx context.Context, call *core.Call, reply core.Reply, end context.CancelCauseFunc) *sink {
	s := &sink{reply: reply, spec: &call.Definition.Version.Spec, end: end, quit: func() bool { return true }}
	s.slow, _ = reply.(writeDeadliner)
	if s.spec.Stream && s.slow != nil {
		// The driver waits until what was printed has been written here.
		_ = s.slow.SetWriteDeadline(call.Deadline)
		s.quit = context.AfterFunc(ctx, func() { _ = s.slow.SetWriteDeadline(past) })
	}
	return s
}

// Write keeps, or passes on, one piece of output. It takes all of it always:
// a process is not to fail because nobody listens.
func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.full || s.broken:
	case s.spec.Stream && s.begun:
		s.pass(p)
	case s.buf.Len()+len(p) > int(s.spec.Limits.Result):
		s.full = true
		s.end(errTooLarge)
	default:
		s.buf.Write(p)
	}
	return len(p), nil
}

// begin lets a stream go out; what came before, from a process that was
// quicker than the word of its start, goes first.
func (s *sink) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = true
	if s.spec.Stream && s.buf.Len() > 0 && !s.full {
		s.pass(s.buf.Bytes())
		s.buf.Reset()
	}
}

// overflown reports whether the process printed more than may be kept.
func (s *sink) overflown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full
}

// pass sends a piece of the answer. mu is held.
func (s *sink) pass(p []byte) {
	if !s.answered {
		s.head(p)
	}
	n, err := s.reply.Write(p)
	s.sent += core.Bytes(n)
	if err == nil {
		err = s.reply.Flush()
	}
	if s.broken = err != nil; s.broken {
		s.end(errCallerGone)
	}
}

func (s *sink) head(first []byte) {
	s.answered = true
	s.reply.Header()["Content-Type"] = []string{s.contentType(first)}
	s.reply.WriteHeader(http.StatusOK)
}

// contentType gives the type that the function declares, else that of a text,
// else that of bytes (contracts: "job").
func (s *sink) contentType(first []byte) string {
	if s.spec.ContentType != "" {
		return s.spec.ContentType
	}
	if kind := http.DetectContentType(first); strings.HasPrefix(kind, "text/") {
		return kind
	}
	return "application/octet-stream"
}

// finish sends the answer of a run that succeeded, says in the outcome what
// has gone out, and takes nothing more.
func (s *sink) finish(out *core.Outcome) {
	s.quit()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.slow != nil && !s.answered {
		// The caller may take as long to read as the function to write.
		_ = s.slow.SetWriteDeadline(time.Now().Add(s.spec.Timeout))
	}
	if out.State == core.StateSucceeded && !s.answered {
		s.reply.Header()["Content-Length"] = []string{strconv.Itoa(s.buf.Len())}
		s.head(s.buf.Bytes())
		n, err := s.reply.Write(s.buf.Bytes())
		s.sent, s.broken = core.Bytes(n), err != nil
	}
	if s.slow != nil && !s.broken {
		_ = s.slow.SetWriteDeadline(time.Time{})
	}
	if s.broken && out.State == core.StateSucceeded {
		out.State, out.Reason, out.Message = core.StateCancelled, errCallerGone.Code, errCallerGone.Message
	}
	out.BytesOut, out.Answered = s.sent, s.answered
	if s.answered {
		out.Status = http.StatusOK
		out.Cut = s.broken || out.State != core.StateSucceeded
	}
}
