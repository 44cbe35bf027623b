package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/dayfly-io/dayfly/api"
)

// ErrUnreachable is in the chain of the error of a call that got no answer.
var ErrUnreachable = errors.New("the server cannot be reached")

// ErrNotDayfly is in the chain of the error of a call that got an answer
// which no Dayfly server gives: the URL is that of something else.
var ErrNotDayfly = errors.New("this is not a Dayfly server")

// Error is what the server answers in place of what was asked for.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Code is the stable name of what went wrong: one of the codes of package
	// api, or the reason of a run.
	Code string
	// Title is the name of the status.
	Title string
	// Detail says what happened, to what, and what to do.
	Detail string
	// RunID names the run it happened to, "" for none.
	RunID string
	// Explain is what is recorded about the run's end, where Detail does not
	// say it.
	Explain string
	// RequestID is under what the server's log tells more, "" for nothing.
	RequestID string
	// RetryAfter is how long to wait before trying again, 0 when the server
	// names no time.
	RetryAfter time.Duration
	// Faults are the parts of the request that are wrong, where there are
	// several or their place is known.
	Faults []api.Fault
}

// Error gives the detail, with the faults' places.
func (e *Error) Error() string {
	text := e.Detail
	if text == "" {
		text = fmt.Sprintf("the server answered %d %s", e.Status, e.Title)
	}
	for _, f := range e.Faults {
		text += "\n  " + f.Location + ": " + f.Message
	}
	if e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// IsCode reports whether err carries an [*Error] with the code.
func IsCode(err error, code string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

// problemError makes an error of a problem document.
func problemError(p api.Problem, status int, header http.Header) *Error {
	e := &Error{
		Status: status, Code: p.Code, Title: p.Title, Detail: p.Detail, RunID: p.RunID,
		Explain: p.Explain, RequestID: p.RequestID, Faults: p.Errors,
	}
	if s, err := strconv.Atoi(header.Get("Retry-After")); err == nil && s > 0 {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	return e
}

// refusal reads the problem document of an answer.
func (c *Client) refusal(answer *http.Response) error {
	if !isType(answer, api.ProblemType) {
		return c.notDayfly(answer)
	}
	var p api.Problem
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxDocument)).Decode(&p); err != nil {
		return fmt.Errorf("read the error document of a %d answer: %w", answer.StatusCode, err)
	}
	return problemError(p, answer.StatusCode, answer.Header)
}

// notDayfly tells that something else than Dayfly answers at the URL.
func (c *Client) notDayfly(answer *http.Response) error {
	kind := answer.Header.Get("Content-Type")
	if kind == "" {
		kind = "a body without a type"
	}
	return fmt.Errorf("%s answered %s with %s: %w; check the URL", c.base, answer.Status, kind, ErrNotDayfly)
}

// transportError tells why there is no answer. What the caller's own context
// ended is not the server's fault.
func (c *Client) transportError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("call %s: %w", c.base, context.Cause(ctx))
	}
	return fmt.Errorf("%w at %s: is dayfly server running there? %w", ErrUnreachable, c.base, err)
}
