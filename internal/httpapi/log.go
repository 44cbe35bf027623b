package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/core"
)

const (
	eventStreamType = "text/event-stream"
	defaultLogLines = 1000
	// writeWait is how long a follower may take to receive what was written
	// before it is taken for gone.
	writeWait = 30 * time.Second
)

type logQuery struct {
	RunName
	After       int64  `query:"after" minimum:"0" doc:"lines whose sequence is over this"`
	Limit       int    `query:"limit" minimum:"1" maximum:"10000" doc:"how many lines at most; 1000 unless set; not when following"`
	Follow      bool   `query:"follow" doc:"send the lines as server-sent events until the run has ended"`
	Accept      string `header:"Accept" doc:"text/event-stream means the same as follow"`
	LastEventID string `header:"Last-Event-ID" doc:"sequence of the last line that came, when a follower comes back"`
}

// logAnswers describes the two forms in which a log is answered.
func logAnswers(op *huma.Operation, schemas huma.Registry) {
	op.Description = "With follow=true, or Accept: text/event-stream, the lines come as server-sent events: `log` with a line and " +
		"its sequence as id, at last `end` with the run in its final state, or `error` with a problem. " +
		"Last-Event-ID goes on where a connection was lost."
	op.Responses = map[string]*huma.Response{"200": {
		Description: "OK",
		Content: map[string]*huma.MediaType{
			"application/json": {Schema: schemas.Schema(reflect.TypeFor[api.Logs](), true, "")},
			eventStreamType:    {Schema: &huma.Schema{Type: huma.TypeString}},
		},
	}}
}

// stream is an answer that is written by hand.
type stream struct{ Body func(huma.Context) }

func (h *Handler) getLogs(ctx context.Context, p core.Principal, in *logQuery) (*stream, error) {
	id, err := core.ParseRunID(in.Run)
	if err != nil {
		return nil, err
	}
	if in.Follow || strings.Contains(in.Accept, eventStreamType) {
		return h.followLogs(ctx, p, id, in)
	}
	limit := in.Limit
	if limit == 0 {
		limit = defaultLogLines
	}
	lines, err := h.cfg.Runs.Logs(ctx, p, id, in.After, limit)
	if err != nil {
		return nil, err
	}
	out := api.Logs{Lines: make([]api.LogLine, len(lines))}
	for i, l := range lines {
		out.Lines[i] = wireLine(l)
	}
	return &stream{func(c huma.Context) {
		c.SetHeader("Content-Type", "application/json")
		_ = json.NewEncoder(c.BodyWriter()).Encode(out) // who cannot be written to has left
	}}, nil
}

func (h *Handler) followLogs(ctx context.Context, p core.Principal, id core.RunID, in *logQuery) (*stream, error) {
	after := in.After
	if in.LastEventID != "" {
		last, err := strconv.ParseInt(in.LastEventID, 10, 64)
		if err != nil || last < 0 {
			return nil, core.Invalid("Last-Event-ID is %q: it is the sequence of a line", in.LastEventID)
		}
		after = max(after, last)
	}
	// A run that does not exist is answered as such, not in a stream.
	if _, err := h.cfg.Runs.Run(ctx, p, id); err != nil {
		return nil, err
	}
	return &stream{func(c huma.Context) {
		r, w := humago.Unwrap(c)
		h.follow(w, r, p, id, after)
	}}, nil
}

// follow sends a run's log as server-sent events.
func (h *Handler) follow(w http.ResponseWriter, r *http.Request, p core.Principal, id core.RunID, after int64) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	w.Header()["Content-Type"] = []string{eventStreamType}
	w.Header()["X-Accel-Buffering"] = []string{"no"} // nginx holds answers back otherwise
	s := &eventStream{w: w, control: http.NewResponseController(w)}
	if s.comment("dayfly") != nil {
		return
	}
	var beat sync.WaitGroup
	beat.Go(func() {
		defer cancel()
		s.beat(ctx, h.closing, h.cfg.Heartbeat)
	})
	run, err := h.cfg.Runs.Follow(ctx, p, id, after, s.lines)
	left := ctx.Err() != nil
	cancel()
	beat.Wait()
	switch {
	case err == nil:
		_ = s.event(api.EventEnd, 0, wireRun(run, time.Now()))
	case !left && !s.broken:
		_ = s.event(api.EventError, 0, h.failure(r.Context(), r.Method, r.URL.Path, core.Run{ID: id}, err).Problem)
	}
	_ = s.control.SetWriteDeadline(time.Time{})
}

// eventStream writes server-sent events (WHATWG HTML, section 9.2). Events
// and heartbeats come from two goroutines.
type eventStream struct {
	mu      sync.Mutex
	w       http.ResponseWriter
	control *http.ResponseController
	buf     []byte
	broken  bool // the follower cannot be written to
}

// lines sends log lines.
func (s *eventStream) lines(lines []core.LogLine) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range lines {
		if err := s.put(api.EventLog, l.Sequence, wireLine(l)); err != nil {
			return err
		}
	}
	return s.send()
}

// event sends one event. id 0 leaves it without one.
func (s *eventStream) event(name string, id int64, data any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.put(name, id, data); err != nil {
		return err
	}
	return s.send()
}

// comment sends a line that clients pass over.
func (s *eventStream) comment(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = append(append(append(s.buf, ": "...), text...), "\n\n"...)
	return s.send()
}

// put adds an event to what is to be sent. JSON has no line end in it.
func (s *eventStream) put(name string, id int64, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err //nolint:wrapcheck // it cannot be: our own types encode
	}
	if id > 0 {
		s.buf = append(strconv.AppendInt(append(s.buf, "id: "...), id, 10), '\n')
	}
	s.buf = append(append(append(s.buf, "event: "...), name...), "\ndata: "...)
	s.buf = append(append(s.buf, text...), "\n\n"...)
	return nil
}

// send writes what has gathered.
func (s *eventStream) send() error {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeWait)) // a writer without deadlines has none to miss
	_, err := s.w.Write(s.buf)
	s.buf = s.buf[:0]
	if err == nil {
		err = s.control.Flush()
	}
	s.broken = err != nil
	return err //nolint:wrapcheck // it ends the stream and is shown to nobody
}

// beat sends signs of life until ctx ends, the server closes, or the follower
// cannot be written to.
func (s *eventStream) beat(ctx context.Context, closing <-chan struct{}, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-closing:
			return
		case <-tick.C:
			if s.comment("still here") != nil {
				return
			}
		}
	}
}

func wireLine(l core.LogLine) api.LogLine {
	return api.LogLine{Sequence: l.Sequence, Time: l.Time.UTC(), Stream: l.Stream.String(), Text: l.Text}
}
