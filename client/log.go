package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/dayfly-io/dayfly/api"
)

// Logs gives up to limit lines of a run whose sequence is over after, in
// order; limit 0 means the server's default.
func (c *Client) Logs(ctx context.Context, run string, after int64, limit int) ([]api.LogLine, error) {
	q := url.Values{}
	if after > 0 {
		q.Set("after", strconv.FormatInt(after, 10))
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	var out api.Logs
	err := c.call(ctx, request{method: http.MethodGet, path: logPath(run), query: q}, nil, &out)
	return out.Lines, err
}

func logPath(run string) string { return path("v1", "runs", run) + "/logs" }

// Following a log goes on after the connection was lost, at the line that
// came last.
const (
	resumeTries = 8
	resumeFirst = 100 * time.Millisecond
	resumeMost  = 5 * time.Second
	// silence is how long a followed log may send nothing, not even one of
	// the heartbeats that come every 15 seconds, before it is taken for lost.
	silence = 50 * time.Second
	maxLine = 4 << 20
)

// LogStream is the log of a run that is followed.
type LogStream struct {
	client *Client
	run    string
	after  int64
	end    api.Run
}

// FollowLogs makes a stream of the lines of a run whose sequence is over
// after. Nothing is asked for before Lines is ranged over.
func (c *Client) FollowLogs(run string, after int64) *LogStream {
	return &LogStream{client: c, run: run, after: after}
}

// Run gives the run in its final state, once Lines has come to its end
// without an error.
func (s *LogStream) Run() api.Run { return s.end }

// Lines gives the lines as they come, until the run has ended. A connection
// that is lost is made anew and no line comes twice; only when several tries
// in a row came to nothing is the error given, as the last thing.
func (s *LogStream) Lines(ctx context.Context) iter.Seq2[api.LogLine, error] {
	return func(yield func(api.LogLine, error) bool) {
		for tries, wait := 0, resumeFirst; ; {
			before := s.after
			done, err := s.read(ctx, yield)
			if done {
				return
			}
			if s.after > before {
				tries, wait = 0, resumeFirst
			}
			tries++
			if refused, ok := errors.AsType[*Error](err); ok && refused.Status < http.StatusInternalServerError ||
				errors.Is(err, ErrNotDayfly) || tries >= resumeTries || ctx.Err() != nil {
				yield(api.LogLine{}, err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
			wait = min(2*wait, resumeMost)
		}
	}
}

// read makes one connection and gives what comes over it. done says that
// there is nothing more to give or nobody to give it to.
func (s *LogStream) read(ctx context.Context, yield func(api.LogLine, error) bool) (done bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	lost := time.AfterFunc(silence, func() { cancel(fmt.Errorf("the log of run %s sent nothing for %s", s.run, silence)) })
	defer lost.Stop()
	h := http.Header{"Accept": {"text/event-stream, " + api.ProblemType}}
	if s.after > 0 {
		h.Set("Last-Event-ID", strconv.FormatInt(s.after, 10))
	}
	answer, err := s.client.send(ctx, request{
		method: http.MethodGet, path: logPath(s.run), query: url.Values{"follow": {"true"}}, header: h,
	})
	if err != nil {
		return false, err
	}
	defer answer.Body.Close() //nolint:errcheck // nothing more is read from it
	if answer.StatusCode != http.StatusOK {
		return false, s.client.refusal(answer)
	}
	if !isType(answer, "text/event-stream") {
		return false, s.client.notDayfly(answer)
	}
	err = readEvents(answer.Body, func() { lost.Reset(silence) }, func(e event) error {
		return s.take(e, yield)
	})
	switch {
	case errors.Is(err, errDone):
		return true, nil
	case context.Cause(ctx) != nil:
		return false, context.Cause(ctx)
	case err == nil:
		return false, fmt.Errorf("follow the log of run %s: the server closed the connection before the run's end: %w", s.run, io.ErrUnexpectedEOF)
	}
	return false, fmt.Errorf("follow the log of run %s: %w", s.run, err)
}

// errDone ends the reading of a stream that is at its end.
var errDone = errors.New("done")

// take deals with one event.
func (s *LogStream) take(e event, yield func(api.LogLine, error) bool) error {
	switch e.name {
	case api.EventLog:
		var line api.LogLine
		if err := json.Unmarshal(e.data, &line); err != nil {
			return fmt.Errorf("read a line: %w", err)
		}
		if line.Sequence <= s.after {
			return nil
		}
		s.after = line.Sequence
		if !yield(line, nil) {
			return errDone
		}
	case api.EventEnd:
		if err := json.Unmarshal(e.data, &s.end); err != nil {
			return fmt.Errorf("read the run's end: %w", err)
		}
		return errDone
	case api.EventError:
		var p api.Problem
		if err := json.Unmarshal(e.data, &p); err != nil {
			return fmt.Errorf("read an error document: %w", err)
		}
		return problemError(p, p.Status, nil)
	}
	return nil
}

// event is a server-sent event.
type event struct {
	name string
	data []byte
}

// readEvents reads server-sent events (WHATWG HTML, section 9.2) and calls
// alive for every line of them, comments too. The ids are not looked at: the
// sequence is in the data.
func readEvents(r io.Reader, alive func(), take func(event) error) error {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 0, 16<<10), maxLine)
	var e event
	for in.Scan() {
		alive()
		line := in.Bytes()
		if len(line) == 0 {
			if e.data != nil {
				if err := take(e); err != nil {
					return err
				}
			}
			e = event{}
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			e.name = string(value)
		case "data":
			if e.data != nil {
				e.data = append(e.data, '\n')
			}
			e.data = append(e.data, value...)
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	return nil
}
