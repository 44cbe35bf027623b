package core

import (
	"io"
	"time"
)

// Header is a set of header fields under their canonical names. It has the
// shape of net/http's, so that one converts to the other for free.
type Header map[string][]string

// Get gives the first value of the field, whose name must be canonical.
func (h Header) Get(name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Request is what a function is called with.
type Request struct {
	Method string
	// FullPath is the path of the URL that was called, as it was escaped; ""
	// for a run that no URL has started.
	FullPath string
	Path     string // below the function's URL, as it was escaped; begins with /
	RawQuery string
	Host     string
	Scheme   string // http or https
	Remote   string // the caller's address and port
	Header   Header
	// Body is read until its end; it may be nil. One whose Read can wait for
	// the caller has a method SetReadDeadline(time.Time) error, by which a
	// contract makes such a Read give up.
	Body io.Reader
	// Length is the number of bytes in Body, -1 when it is not known.
	Length int64
	// Trailer gives the fields that came behind the body, once Body has been
	// read to its end; before that, those that are announced, without values.
	// It is nil for a request that cannot have any.
	Trailer func() Header
}

// Reply is where the answer goes. Header may be changed until WriteHeader or
// the first Write. It is used by one goroutine at a time, which may be another
// than that which reads the request's body meanwhile. One whose Write can wait
// for the caller has a method SetWriteDeadline(time.Time) error.
//
// WriteHeader takes interim statuses (1xx but 101) as well, before the final
// one. One that can send fields behind the body has a method SetTrailer(Header)
// error, which is called after the last Write. One whose caller can be talked
// to in another protocol has a method Switch() (net.Conn, error), which sends
// the header with status 101 in WriteHeader's place and gives the connection;
// closing it is left to who gave it.
type Reply interface {
	Header() Header
	WriteHeader(status int)
	Write(p []byte) (int, error)
	// Flush sends what has been written so far.
	Flush() error
}

// RunReply is the Reply of a caller who waits for a run. Neither it nor the
// Request that came with it may be used after the call has been returned from.
type RunReply interface {
	Reply
	// Begin tells which run is answered, so that its id and the time it took
	// to start can go out with the header. It is called once, when the run has
	// its instance (ID, CreatedAt, StartedAt, Cold and Start are filled in) and
	// before anything is written. What it needs of the run it copies.
	Begin(run *Run)
}

// Call is one attempt of a run, as it is handed to a contract.
type Call struct {
	Run        *Run
	Definition *Definition
	Instance   InstanceID
	// Deadline is when the attempt must have ended.
	Deadline time.Time
	Request  *Request
	// Traceparent is the W3C trace context of the call.
	Traceparent string
}

// Job is what the call of a job has beside a Call: the instance that will be
// started for it alone.
type Job struct {
	// Spec is that instance; its id, image and limits are filled in, its
	// environment holds the function's own.
	Spec InstanceSpec
	// Log takes what the process prints to stderr.
	Log io.Writer
	// Begun is told when the process has started, Ended how it ended, before
	// the answer goes out.
	Begun func(Instance)
	Ended func(Exit)
}

// Outcome is the verdict on an attempt.
type Outcome struct {
	State    State
	Reason   Reason
	Message  string
	Status   int // HTTP status of the function's answer, 0 for none
	ExitCode int
	BytesIn  Bytes
	BytesOut Bytes
	// Answered is set when the reply's header has gone out, so that an error
	// document cannot follow.
	Answered bool
	// Cut is set when an answer that has begun did not come to its end: the
	// caller must not take what it has for whole.
	Cut bool
	// Kill is set when the instance may not serve another run.
	Kill bool
}

// Stdio is what the standard streams of an instance's process are joined to.
// The driver reads Stdin until its end and writes what the process prints;
// each of the writers is used by one goroutine at a time. A nil Stdin is
// empty, a nil writer discards.
type Stdio struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}
