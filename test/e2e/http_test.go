package e2e_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/api"
)

// answer is an answer that has come to its end.
type answer struct {
	status int
	header http.Header
	body   string
	err    error // why the body is not whole
}

// web is a client that keeps nothing back: no redirect, no decompression.
var web = &http.Client{
	Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// request makes a request to the server; target begins with /.
func (s *server) request(ctx context.Context, t *testing.T, method, target string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, s.url+target, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// call makes a request and reads the answer.
func (s *server) call(t *testing.T, method, target, body string) answer {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	return send(t, s.request(t.Context(), t, method, target, r))
}

// get makes a GET request.
func (s *server) get(t *testing.T, target string) answer {
	t.Helper()
	return s.call(t, http.MethodGet, target, "")
}

// send sends a request and reads the answer.
func send(t *testing.T, r *http.Request) answer {
	t.Helper()
	a := try(r)
	if a.status == 0 {
		t.Fatalf("%s %s: %v", r.Method, r.URL, a.err)
	}
	return a
}

// try is send for what may fail, and for use beside the test's goroutine.
func try(r *http.Request) answer {
	got, err := web.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = got.Body.Close() }()
	b, err := io.ReadAll(got.Body)
	return answer{status: got.StatusCode, header: got.Header, body: string(b), err: err}
}

// later sends a request in the background.
func later(r *http.Request) <-chan answer {
	c := make(chan answer, 1)
	go func() { c <- try(r) }()
	return c
}

// want fails the test unless the answer is whole and has the status.
func (a answer) want(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status || a.err != nil {
		t.Fatalf("the answer should be %d: it is %d, %v: %.2000s", status, a.status, a.err, a.body)
	}
	return a
}

// problem fails the test unless the answer is a problem document with the
// status and code and the words in its detail.
func (a answer) problem(t *testing.T, status int, code string, words ...string) api.Problem {
	t.Helper()
	a.want(t, status)
	var p api.Problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("this should be a problem document: %v: %s", err, a.body)
	}
	if got := a.header.Get("Content-Type"); got != api.ProblemType {
		t.Errorf("Content-Type is %q, want %q", got, api.ProblemType)
	}
	if p.Code != code || p.Status != status || a.header.Get(api.HeaderError) != code || p.Title != http.StatusText(status) || p.Type == "" {
		t.Errorf("the problem should have code %s and status %d: %s, %v", code, status, a.body, a.header)
	}
	text := p.Detail + "\n" + p.Explain
	for _, fault := range p.Errors {
		text += "\n" + fault.Location + ": " + fault.Message
	}
	wantWords(t, text, words...)
	return p
}

// run gives the id of the run that was answered.
func (a answer) run(t *testing.T) string {
	t.Helper()
	id := a.header.Get(api.HeaderRunID)
	if !strings.HasPrefix(id, "run_") || len(id) != len("run_")+13 {
		t.Fatalf("%s is %q, which is not the id of a run", api.HeaderRunID, id)
	}
	return id
}

// decode reads JSON.
func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("read %T: %v: %.2000s", v, err, text)
	}
	return v
}

// runOf gives a run.
func (s *server) runOf(t *testing.T, id string) api.Run {
	t.Helper()
	return decode[api.Run](t, s.get(t, "/v1/runs/"+id).want(t, http.StatusOK).body)
}

// wantRun fails the test unless the run ends in the state, for the reason.
func (s *server) wantRun(t *testing.T, id string, state api.State, reason string) api.Run {
	t.Helper()
	r := until(t, "the run "+id+" has ended", patience, func() (api.Run, bool) {
		r := s.runOf(t, id)
		return r, r.State.Final()
	})
	if r.State != state || r.Reason != reason {
		t.Errorf("the run should be %s (%s): it is %s (%s): %s", state, reason, r.State, r.Reason, r.Message)
	}
	if r.FinishedAt.Before(r.StartedAt) || r.FinishedAt.Before(r.CreatedAt) {
		t.Errorf("the run ended before it began: %+v", r)
	}
	return r
}

// runs lists runs.
func (s *server) runs(t *testing.T, query string) []api.Run {
	t.Helper()
	return decode[api.List[api.Run]](t, s.get(t, "/v1/runs?"+query).want(t, http.StatusOK).body).Items
}

// lines gives the log of a run.
func (s *server) lines(t *testing.T, id string) []api.LogLine {
	t.Helper()
	return decode[api.Logs](t, s.get(t, "/v1/runs/"+id+"/logs?limit=10000").want(t, http.StatusOK).body).Lines
}

// running gives the run of the function that goes on, when it does.
func (s *server) running(t *testing.T, app, function string) string {
	t.Helper()
	q := url.Values{"app": {app}, "function": {function}, "state": {"running"}}.Encode()
	return until(t, "a run of "+app+"/"+function+" goes on", patience, func() (string, bool) {
		if list := s.runs(t, q); len(list) > 0 {
			return list[0].ID, true
		}
		return "", false
	})
}

// instances lists the instances of an app.
func (s *server) instances(t *testing.T, app string) []api.Instance {
	t.Helper()
	var out []api.Instance
	for _, i := range decode[api.List[api.Instance]](t, s.get(t, "/v1/instances").want(t, http.StatusOK).body).Items {
		if i.App == app {
			out = append(out, i)
		}
	}
	return out
}

// noInstance waits until an app has no instance.
func (s *server) noInstance(t *testing.T, app string, limit time.Duration) {
	t.Helper()
	until(t, "no instance of "+app+" is left", limit, func() ([]api.Instance, bool) {
		list := s.instances(t, app)
		return list, len(list) == 0
	})
}
