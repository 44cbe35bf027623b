package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/httpapi"
)

// seen is what a function was called with.
type seen struct {
	app, function string
	req           core.Request
	body          string
}

// recording gives ports whose Invoker answers 200 and tells what it saw.
func recording(got *seen) *ports {
	return &ports{call: func(_ context.Context, _ core.Principal, app, function string, req *core.Request, reply core.RunReply) (core.Run, error) {
		*got = seen{app: app, function: function, req: *req}
		if req.Body != nil {
			b, err := io.ReadAll(req.Body)
			if err != nil {
				return core.Run{}, err
			}
			got.body = string(b)
		}
		reply.Begin(&someRun)
		reply.WriteHeader(http.StatusOK)
		return someRun, nil
	}}
}

func TestTheURLOfAFunction(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ target, app, function, path, query string }{
		{"/f/shop/resize", "shop", "resize", "/", ""},
		{"/f/shop/resize/", "shop", "resize", "/", ""},
		{"/f/shop/resize?a=b&c", "shop", "resize", "/", "a=b&c"},
		{"/f/shop/resize/x/y", "shop", "resize", "/x/y", ""},
		{"/f/shop/resize//x//", "shop", "resize", "//x//", ""},
		{"/f/shop/resize/a%2Fb%20c?q=%20", "shop", "resize", "/a%2Fb%20c", "q=%20"},
		{"/f/shop/resize/../../v1", "shop", "resize", "/../../v1", ""},
		{"/f/h%C3%A9/l%20o/%C3%A9", "hé", "l o", "/%C3%A9", ""},
		{"/f/a%2Fb/c", "a/b", "c", "/", ""},
	} {
		t.Run(tt.target, func(t *testing.T) {
			t.Parallel()
			var got seen
			h, _ := handler(recording(&got))
			if w := ask(t, h, "GET", tt.target, ""); w.Code != 200 {
				t.Fatalf("got %d %s", w.Code, w.Body)
			}
			if got.app != tt.app || got.function != tt.function || got.req.Path != tt.path || got.req.RawQuery != tt.query {
				t.Errorf("got %q %q %q %q", got.app, got.function, got.req.Path, got.req.RawQuery)
			}
		})
	}
}

func TestTheRequestGoesToTheFunctionWhole(t *testing.T) {
	t.Parallel()
	var got seen
	base := serve(t, recording(&got))
	r, err := http.NewRequestWithContext(t.Context(), "BREW", base+"/f/shop/resize/pot", strings.NewReader("tea"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Own", "1")
	r.Header.Set("Authorization", "Basic bWU6bWU=")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	q := got.req
	if q.Method != "BREW" || q.Host != r.URL.Host || q.Scheme != "http" || q.Length != 3 || got.body != "tea" || q.Header.Get("X-Own") != "1" {
		t.Errorf("got %+v", got)
	}
	if _, _, err := net.SplitHostPort(q.Remote); err != nil {
		t.Errorf("the caller's address is %q", q.Remote)
	}
	// On the open door the header is the function's.
	if q.Header.Get("Authorization") == "" {
		t.Error("the function does not get the Authorization")
	}
}

func TestTheTokenStaysAtTheDoor(t *testing.T) {
	t.Parallel()
	var got seen
	f := recording(&got)
	f.enter = func(core.Visit) (core.Principal, error) { return core.Principal{Name: "token"}, nil }
	h, _ := handler(f)
	ask(t, h, "GET", "/f/shop/resize", "", "Authorization: Bearer secret")
	if got.function != "resize" || got.req.Header.Get("Authorization") != "" {
		t.Errorf("the function got %v", got.req.Header)
	}
}

func TestTheAnswerTellsOfTheRun(t *testing.T) {
	t.Parallel()
	h, _ := handler(&ports{call: func(_ context.Context, _ core.Principal, _, _ string, _ *core.Request, reply core.RunReply) (core.Run, error) {
		run := someRun
		run.StartedAt = time.Now()
		run.CreatedAt = run.StartedAt.Add(-5 * time.Millisecond)
		reply.Begin(&run)
		header := reply.Header()
		header["Content-Security-Policy"] = []string{"img-src 'none'"}
		header["Server-Timing"] = []string{"db;dur=5"}
		header[api.HeaderError] = []string{"forged"}
		header[api.HeaderRunID] = []string{"forged"}
		reply.WriteHeader(http.StatusTeapot)
		_, err := io.WriteString(reply, "short and stout")
		return run, err
	}})
	w := ask(t, h, "GET", "/f/shop/resize", "")
	if w.Code != http.StatusTeapot || w.Body.String() != "short and stout" {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
	if got := w.Header().Values("Content-Security-Policy"); len(got) != 2 || got[0] != "img-src 'none'" || got[1] != "sandbox" {
		t.Errorf("the policies are %q", got)
	}
	if got := w.Header().Values(api.HeaderRunID); len(got) != 1 || got[0] != someRun.ID.String() {
		t.Errorf("the run id is %q", got)
	}
	if got := w.Header().Values(api.HeaderError); len(got) != 0 {
		t.Errorf("a function made itself a problem of Dayfly's: %q", got)
	}
	got := w.Header().Values("Server-Timing")
	if len(got) != 2 || got[0] != "db;dur=5" || !strings.HasPrefix(got[1], "queue;dur=1.500, start;dur=3.500;desc=cold, run;dur=") {
		t.Errorf("the timings are %q", got)
	}
}

func TestAHotRunSaysSo(t *testing.T) {
	t.Parallel()
	h, _ := handler(&ports{call: func(_ context.Context, _ core.Principal, _, _ string, _ *core.Request, reply core.RunReply) (core.Run, error) {
		run := core.Run{ID: 5, CreatedAt: born, StartedAt: born.Add(12 * time.Microsecond)}
		reply.Begin(&run)
		return run, nil
	}})
	w := ask(t, h, "GET", "/f/shop/resize", "")
	if got := w.Header().Get("Server-Timing"); w.Code != 200 || !strings.HasPrefix(got, "queue;dur=0.012, start;dur=0;desc=hot, run;dur=") {
		t.Errorf("got %d, %q", w.Code, got)
	}
}

func TestARunOnAThawedInstanceSaysSo(t *testing.T) {
	t.Parallel()
	h, _ := handler(&ports{call: func(_ context.Context, _ core.Principal, _, _ string, _ *core.Request, reply core.RunReply) (core.Run, error) {
		run := core.Run{ID: 5, CreatedAt: born, StartedAt: born.Add(250 * time.Microsecond), Start: core.StartPhases{Thaw: 200 * time.Microsecond}}
		reply.Begin(&run)
		return run, nil
	}})
	w := ask(t, h, "GET", "/f/shop/resize", "")
	if got := w.Header().Get("Server-Timing"); !strings.HasPrefix(got, "queue;dur=0.050, start;dur=0;desc=hot, thaw;dur=0.200, run;dur=") {
		t.Errorf("got %q", got)
	}
}

func TestAFailedCallIsAProblem(t *testing.T) {
	t.Parallel()
	failed := someRun
	failed.State, failed.Reason, failed.Message = core.StateFailed, core.ReasonExitCode, "it exited with code 3: no such file"
	for _, tt := range []struct {
		name    string
		run     core.Run
		begin   bool
		err     error
		status  int
		code    core.Code
		explain string
	}{
		{
			"exit code", failed, true,
			core.Errorf(core.KindFunction, core.ReasonExitCode, "the function exited with code 3"), 502, core.ReasonExitCode, failed.Message,
		},
		{
			"said already", failed, true,
			core.Errorf(core.KindFunction, core.ReasonExitCode, "%s", failed.Message), 502, core.ReasonExitCode, "",
		},
		{"timeout", failed, true, core.Errorf(core.KindTimeout, core.ReasonTimeout, "no answer within 30s"), 504, core.ReasonTimeout, failed.Message},
		{
			"line full",
			core.Run{ID: someRun.ID, State: core.StateFailed},
			false,
			&core.Error{Kind: core.KindExhausted, Code: core.CodeTooMany, Message: "1000 calls wait", RetryAfter: 2}, 429, core.CodeTooMany, "",
		},
		{"no function", core.Run{}, false, core.NotFound("there is no function x"), 404, core.CodeNotFound, ""},
		{"ours", failed, true, errors.New("the table is broken"), 500, core.CodeInternal, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, _ := handler(&ports{call: func(_ context.Context, _ core.Principal, _, _ string, _ *core.Request, reply core.RunReply) (core.Run, error) {
				if tt.begin {
					reply.Begin(&tt.run)
				}
				reply.Header()["Content-Length"] = []string{"5"}
				reply.Header()["X-Leftover"] = []string{"x"}
				return tt.run, tt.err
			}})
			w := ask(t, h, "GET", "/f/shop/resize", "")
			p := wantProblem(t, w, tt.status, tt.code)
			id := ""
			if tt.run.ID != 0 {
				id = tt.run.ID.String()
			}
			if p.RunID != id || w.Header().Get(api.HeaderRunID) != id || p.Explain != tt.explain {
				t.Errorf("got %+v and %v", p, w.Header())
			}
			if w.Header().Get("X-Leftover") != "" || w.Header().Get("Content-Length") != "" {
				t.Errorf("what the function had in its header goes out: %v", w.Header())
			}
			if w.Header().Get("Content-Security-Policy") != "sandbox" {
				t.Errorf("the policy is %q", w.Header().Get("Content-Security-Policy"))
			}
			if tt.status == 429 && w.Header().Get("Retry-After") != "2" {
				t.Errorf("Retry-After is %q", w.Header().Get("Retry-After"))
			}
		})
	}
}

func TestACallThatPanicsIsAProblem(t *testing.T) {
	t.Parallel()
	h, log := handler(&ports{call: func(context.Context, core.Principal, string, string, *core.Request, core.RunReply) (core.Run, error) {
		panic("lost my head")
	}})
	p := wantProblem(t, ask(t, h, "GET", "/f/shop/resize", ""), 500, core.CodeInternal)
	if !strings.Contains(log.String(), p.RequestID) || !strings.Contains(log.String(), "lost my head") {
		t.Errorf("the log does not tell the cause: %s", log)
	}
}

// breaking begins an answer and fails.
func breaking(length string) *ports {
	return &ports{call: func(_ context.Context, _ core.Principal, _, _ string, _ *core.Request, reply core.RunReply) (core.Run, error) {
		run := someRun
		run.State = core.StateTimedOut
		reply.Begin(&run)
		if length != "" {
			reply.Header()["Content-Length"] = []string{length}
		}
		if _, err := io.WriteString(reply, "the first part"); err != nil {
			return run, err
		}
		return run, core.Errorf(core.KindTimeout, core.ReasonTimeout, "too late")
	}}
}

func TestABrokenAnswerIsNeverTakenForWhole(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, te, length string
		trailer          bool
	}{
		{"chunked", "", "", false},
		{"chunked, reads trailers", "trailers", "", true},
		{"chunked, reads trailers and gzip", "gzip, Trailers", "", true},
		{"with a length", "", "100", false},
		{"with a length, reads trailers", "trailers", "100", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, err := http.NewRequestWithContext(t.Context(), "GET", serve(t, breaking(tt.length))+"/f/shop/resize", nil)
			if err != nil {
				t.Fatal(err)
			}
			if tt.te != "" {
				r.Header.Set("Te", tt.te)
			}
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			if string(b) != "the first part" {
				t.Errorf("the body is %q", b)
			}
			if tt.trailer {
				if err != nil || res.Trailer.Get(api.HeaderRunState) != "timed_out" {
					t.Errorf("got %v and the trailer %v", err, res.Trailer)
				}
			} else if err == nil {
				t.Error("the body seems to be whole")
			}
		})
	}
}

func TestPanicAfterTheHeaderCutsTheAnswer(t *testing.T) {
	t.Parallel()
	base := serve(t, &ports{call: func(_ context.Context, _ core.Principal, _, _ string, _ *core.Request, reply core.RunReply) (core.Run, error) {
		_, _ = io.WriteString(reply, "the first part")
		if err := reply.Flush(); err != nil {
			return core.Run{}, err
		}
		panic("lost my head")
	}})
	res, err := http.Get(base + "/f/shop/resize")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("the body %q seems to be whole", b)
	}
}

func TestAnAnswerStreams(t *testing.T) {
	t.Parallel()
	base := serve(t, &ports{call: func(_ context.Context, _ core.Principal, _, _ string, req *core.Request, reply core.RunReply) (core.Run, error) {
		reply.Begin(&someRun)
		in := bufio.NewScanner(req.Body)
		for in.Scan() {
			if _, err := reply.Write(append(in.Bytes(), '\n')); err != nil {
				return someRun, err
			}
			if err := reply.Flush(); err != nil {
				return someRun, err
			}
		}
		return someRun, in.Err()
	}})
	in, out := io.Pipe()
	defer out.Close()
	go func() { _, _ = io.WriteString(out, "one\n") }()
	r, err := http.NewRequestWithContext(t.Context(), "POST", base+"/f/shop/resize", in)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	// Each line is sent only after the answer to the one before has come.
	for _, want := range []string{"one", "two", "three"} {
		if want != "one" {
			if _, err := io.WriteString(out, want+"\n"); err != nil {
				t.Fatal(err)
			}
		}
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("got %q and %v, want %q", lines.Text(), lines.Err(), want)
		}
	}
}

func TestHintsGoBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	base := serve(t, &ports{call: func(_ context.Context, _ core.Principal, _, _ string, _ *core.Request, reply core.RunReply) (core.Run, error) {
		reply.Begin(&someRun)
		reply.WriteHeader(http.StatusEarlyHints)
		reply.WriteHeader(http.StatusAccepted)
		reply.WriteHeader(http.StatusOK) // too late
		return someRun, nil
	}})
	var hints []int
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
		hints = append(hints, code)
		return nil
	}}
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, base+"/f/shop/resize", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusAccepted || !slices.Equal(hints, []int{http.StatusEarlyHints}) || res.Header.Get(api.HeaderRunID) == "" {
		t.Errorf("got %d after %v with %v", res.StatusCode, hints, res.Header)
	}
}

// discard is a ResponseWriter that costs next to nothing.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             { clear(d.header) }

type trivial struct{}

var hello = []byte("hello\n")

func (trivial) Call(_ context.Context, _ core.Principal, _, _, _ string, _ *core.Request, reply core.RunReply) (core.Run, error) {
	run := core.Run{ID: 5, CreatedAt: born, StartedAt: born}
	reply.Begin(&run)
	reply.WriteHeader(http.StatusOK)
	_, err := reply.Write(hello)
	return run, err
}

func callOnce(f *ports) func() {
	h, _ := handler(f, func(c *httpapi.Config) { c.Invoker = trivial{} })
	r := httptest.NewRequest(http.MethodPost, "/f/default/hello/some/path?q=1", nil)
	w := &discard{header: http.Header{}}
	return func() { h.ServeHTTP(w, r) }
}

// The run escapes from the trivial Invoker into Begin: one allocation.
// The handler's own are the id, the timings and the array that holds both.
func TestACallAllocatesOnlyWhatGoesOut(t *testing.T) { //nolint:paralleltest // allocations are counted
	call := callOnce(&ports{})
	if n := testing.AllocsPerRun(1000, call); n > 4 {
		t.Errorf("a call allocates %v times", n)
	}
}

func BenchmarkCall(b *testing.B) {
	call := callOnce(&ports{})
	b.ReportAllocs()
	for b.Loop() {
		call()
	}
}

func FuzzFunctionURL(f *testing.F) {
	for _, path := range []string{"", "/", "a", "a/b", "a/b/c", "//", "a//b", "%", "a%2Fb/%63/%zz", "../v1", "\x00/\xff"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		called := false
		h, log := handler(&ports{call: func(_ context.Context, _ core.Principal, app, function string, req *core.Request, reply core.RunReply) (core.Run, error) {
			called = true
			if app == "" || function == "" || !strings.HasPrefix(req.Path, "/") {
				t.Errorf("%q calls %q %q %q", path, app, function, req.Path)
			}
			return core.Run{}, nil
		}})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/f/" + path}, Header: http.Header{}})
		if want := map[bool]int{true: 200, false: 404}[called]; w.Code != want || log.String() != "" {
			t.Errorf("%q answers %d, called: %t, log: %s", path, w.Code, called, log)
		}
	})
}
