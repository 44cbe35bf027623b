package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dayfly-io/dayfly/api"
)

// InvokeOptions say how a function is called. The zero value is a POST to
// its URL.
type InvokeOptions struct {
	// Method is the HTTP method; "" means POST.
	Method string
	// Path is below the function's URL, as it is to be escaped; "" means /.
	Path  string
	Query url.Values
	// Header is sent with the request.
	Header http.Header
	// Length is the number of bytes in the body, 0 when it is not known.
	Length int64
}

// Answer is what a function answered.
type Answer struct {
	// Status and Header are the function's own.
	Status int
	Header http.Header
	// Body must be closed. Reading it ends in [ErrIncomplete] when the run
	// failed after its answer had begun.
	Body io.ReadCloser
	// RunID names the run.
	RunID   string
	Timings Timings
}

// Timings tell where the time before the first byte of an answer went, as
// far as the server measured it.
type Timings struct {
	Queue time.Duration // waiting for an instance
	Start time.Duration // starting one for this run
	Thaw  time.Duration // thawing one for this run
	Run   time.Duration // the function's work until the header of its answer
	// Cold is set when an instance was started for the run.
	Cold bool
}

// ErrIncomplete is in the chain of the error of a body that ends too early,
// because the run failed after its answer had begun.
var ErrIncomplete = errors.New("the run failed after its answer had begun")

// Invoke calls a function by its URL and gives its answer as soon as the
// header is there. The body is streamed; it may be nil. What Dayfly answers
// in the function's place, such as that it does not exist or that the run
// failed, is an [*Error]; an answer of the function itself is none, whatever
// its status.
func (c *Client) Invoke(ctx context.Context, app, function string, body io.Reader, opt InvokeOptions) (*Answer, error) {
	q := request{
		method: opt.Method, path: path("f", app, function), query: opt.Query,
		header: opt.Header.Clone(), body: body, length: opt.Length,
	}
	if q.method == "" {
		q.method = http.MethodPost
	}
	if p := strings.TrimPrefix(opt.Path, "/"); p != "" {
		q.path += "/" + p
	}
	if q.header == nil {
		q.header = http.Header{}
	}
	q.header.Set("Te", "trailers")
	answer, err := c.send(ctx, q)
	if err != nil {
		return nil, err
	}
	if answer.Header.Get(api.HeaderError) != "" {
		defer answer.Body.Close() //nolint:errcheck // it was read to its end or is of no more use
		return nil, c.refusal(answer)
	}
	id := answer.Header.Get(api.HeaderRunID)
	if id == "" {
		defer answer.Body.Close() //nolint:errcheck // nothing is read from it
		return nil, c.notDayfly(answer)
	}
	return &Answer{
		Status: answer.StatusCode, Header: answer.Header, RunID: id,
		Body:    &answerBody{body: answer.Body, answer: answer, run: id},
		Timings: parseTimings(answer.Header.Get("Server-Timing")),
	}, nil
}

// answerBody is the body of a function's answer; its end says whether the
// answer is whole.
type answerBody struct {
	body   io.ReadCloser
	answer *http.Response
	run    string
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	switch {
	case err == nil:
	case errors.Is(err, io.ErrUnexpectedEOF):
		return n, fmt.Errorf("%w: see the log of %s", ErrIncomplete, b.run)
	case errors.Is(err, io.EOF):
		if state := b.answer.Trailer.Get(api.HeaderRunState); state != "" && state != string(api.StateSucceeded) {
			return n, fmt.Errorf("%w (%s): see the log of %s", ErrIncomplete, state, b.run)
		}
	}
	return n, err
}

func (b *answerBody) Close() error { return b.body.Close() }

// parseTimings reads the header that function URLs answer with, such as
//
//	queue;dur=0.012, start;dur=4.1;desc=cold, run;dur=1.3
//
// What it does not know it passes over: a function may add its own.
func parseTimings(header string) Timings {
	var t Timings
	for metric := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(metric), ";")
		var d time.Duration
		var desc string
		for p := range strings.SplitSeq(params, ";") {
			key, value, _ := strings.Cut(strings.TrimSpace(p), "=")
			switch key {
			case "dur":
				if ms, err := strconv.ParseFloat(value, 64); err == nil && ms >= 0 {
					d = api.Milliseconds(ms).Duration()
				}
			case "desc":
				desc = strings.Trim(value, `"`)
			}
		}
		switch name {
		case "queue":
			t.Queue = d
		case "start":
			t.Start, t.Cold = d, desc == "cold"
		case "thaw":
			t.Thaw = d
		case "run":
			t.Run = d
		}
	}
	return t
}
