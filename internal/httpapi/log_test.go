package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/httpapi"
)

func line(n int64) core.LogLine {
	return core.LogLine{Run: someRun.ID, Stream: core.StreamStderr, Sequence: n, Time: born, Text: "line\r\n \u2028 " + string(rune('0'+n))}
}

// event is a server-sent event as it was sent.
type event struct{ id, name, data string }

// events reads an event stream until its end; comments are counted.
func events(t *testing.T, body io.Reader) (out []event, comments int) {
	t.Helper()
	var e event
	in := bufio.NewScanner(body)
	for in.Scan() {
		name, value, _ := strings.Cut(in.Text(), ": ")
		switch name {
		case "":
			if in.Text() != "" {
				comments++
			} else if e.name != "" {
				out = append(out, e)
				e = event{}
			}
		case "id":
			e.id = value
		case "event":
			e.name = value
		case "data":
			e.data += value
		default:
			t.Errorf("the stream has the line %q", in.Text())
		}
	}
	return out, comments
}

func get(t *testing.T, url string, headers ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range headers {
		name, value, _ := strings.Cut(field, ": ")
		r.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

var logPath = "/v1/runs/" + someRun.ID.String() + "/logs"

func TestLogsAsAList(t *testing.T) {
	t.Parallel()
	var after int64
	var limit int
	h, _ := handler(&ports{logs: func(a int64, l int) ([]core.LogLine, error) {
		after, limit = a, l
		return []core.LogLine{line(4), line(5)}, nil
	}})
	w := ask(t, h, "GET", logPath, "")
	if l := decode[api.Logs](t, w.Body); w.Code != 200 || len(l.Lines) != 2 || l.Lines[1].Sequence != 5 || l.Lines[1].Text != line(5).Text || l.Lines[0].Stream != "stderr" {
		t.Errorf("got %d %+v", w.Code, l)
	}
	if after != 0 || limit != 1000 {
		t.Errorf("asked for %d lines after %d", limit, after)
	}
	ask(t, h, "GET", logPath+"?after=3&limit=2", "")
	if after != 3 || limit != 2 {
		t.Errorf("asked for %d lines after %d", limit, after)
	}
}

func TestFollowALog(t *testing.T) {
	t.Parallel()
	url := serve(t, &ports{follow: func(_ context.Context, after int64, emit func([]core.LogLine) error) (core.Run, error) {
		for n := after + 1; n <= 3; n++ {
			if err := emit([]core.LogLine{line(n)}); err != nil {
				return core.Run{}, err
			}
		}
		return someRun, nil
	}})
	for _, tt := range []struct {
		name, query string
		headers     []string
		first       int64
	}{
		{"by parameter", "?follow=true", nil, 1},
		{"by Accept", "", []string{"Accept: text/event-stream"}, 1},
		{"after a line", "?follow=true&after=1", nil, 2},
		{"coming back", "?follow=true&after=1", []string{"Last-Event-ID: 2"}, 3},
		{"coming back at the end", "", []string{"Accept: text/event-stream", "Last-Event-ID: 3"}, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			res := get(t, url+logPath+tt.query, tt.headers...)
			if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
				t.Fatalf("got %d %v", res.StatusCode, res.Header)
			}
			got, _ := events(t, res.Body)
			if len(got) != int(3-tt.first+1)+1 {
				t.Fatalf("got %+v", got)
			}
			for i, e := range got[:len(got)-1] {
				var l api.LogLine
				if err := json.Unmarshal([]byte(e.data), &l); err != nil {
					t.Fatal(err)
				}
				if n := tt.first + int64(i); e.name != "log" || e.id != string(rune('0'+n)) || l.Sequence != n || l.Text != line(n).Text {
					t.Errorf("got %+v", e)
				}
			}
			var run api.Run
			end := got[len(got)-1]
			if err := json.Unmarshal([]byte(end.data), &run); err != nil {
				t.Fatal(err)
			}
			if end.name != "end" || end.id != "" || run.ID != someRun.ID.String() || run.State != api.StateSucceeded {
				t.Errorf("got %+v", end)
			}
		})
	}
}

func TestFollowTheLogOfNoRun(t *testing.T) {
	t.Parallel()
	h, _ := handler(&ports{run: func(core.RunID) (core.Run, error) { return core.Run{}, core.NotFound("there is no such run") }})
	wantProblem(t, ask(t, h, "GET", logPath+"?follow=true", ""), 404, core.CodeNotFound)
}

func TestAFollowedLogThatFailsSaysSo(t *testing.T) {
	t.Parallel()
	url := serve(t, &ports{follow: func(context.Context, int64, func([]core.LogLine) error) (core.Run, error) {
		return core.Run{}, errors.New("the table is broken")
	}})
	got, _ := events(t, get(t, url+logPath+"?follow=true").Body)
	if len(got) != 1 || got[0].name != "error" || !strings.Contains(got[0].data, `"code":"internal"`) || strings.Contains(got[0].data, "table") {
		t.Errorf("got %+v", got)
	}
}

func TestASilentLogShowsSignsOfLife(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	url := serve(t, &ports{follow: func(ctx context.Context, _ int64, _ func([]core.LogLine) error) (core.Run, error) {
		select {
		case <-end:
			return someRun, nil
		case <-ctx.Done():
			return core.Run{}, ctx.Err()
		}
	}}, func(c *httpapi.Config) { c.Heartbeat = time.Millisecond })
	in := bufio.NewScanner(get(t, url+logPath+"?follow=true").Body)
	for beats := 0; beats < 3 && in.Scan(); {
		if strings.HasPrefix(in.Text(), ": still here") {
			beats++
		}
	}
	close(end)
	if got, _ := events(t, lineReader{in}); len(got) != 1 || got[0].name != "end" {
		t.Errorf("got %+v", got)
	}
}

// lineReader goes on reading where a scanner is.
type lineReader struct{ in *bufio.Scanner }

func (r lineReader) Read(p []byte) (int, error) {
	if !r.in.Scan() {
		return 0, io.EOF
	}
	return copy(p, r.in.Text()+"\n"), nil
}

func TestAFollowerThatLeavesEndsTheFollowing(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	url := serve(t, &ports{follow: func(ctx context.Context, _ int64, emit func([]core.LogLine) error) (core.Run, error) {
		if err := emit([]core.LogLine{line(1)}); err != nil {
			ended <- err
			return core.Run{}, err
		}
		<-ctx.Done()
		ended <- ctx.Err()
		return core.Run{}, ctx.Err()
	}})
	res := get(t, url+logPath+"?follow=true")
	if _, err := res.Body.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("following ended with %v", err)
	}
}

func TestCloseEndsFollowing(t *testing.T) {
	t.Parallel()
	began := make(chan struct{})
	f := &ports{follow: func(ctx context.Context, _ int64, emit func([]core.LogLine) error) (core.Run, error) {
		if err := emit([]core.LogLine{line(1)}); err != nil {
			return core.Run{}, err
		}
		close(began)
		<-ctx.Done()
		return core.Run{}, ctx.Err()
	}}
	h, _ := handler(f)
	go func() {
		<-began
		h.Close()
		h.Close()
	}()
	w := ask(t, h, "GET", logPath+"?follow=true", "")
	got, _ := events(t, w.Body)
	// No end and no error: the follower comes back after the restart.
	if len(got) != 1 || got[0].name != "log" {
		t.Errorf("got %+v", got)
	}
}
