package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/client"
	"github.com/dayfly-io/dayfly/internal/core"
)

func TestFunctions(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := start(t, &backend{}, nil)
	spec := api.NewVersion{
		Description: "about", Annotations: api.Annotations{"a": []byte(`{"b":1}`)},
		Spec: api.Spec{Image: "a:1", Contract: api.ContractJob, CPU: 0.5, Timeout: api.Duration(90 * time.Second), Limits: api.Limits{Pids: 7}},
	}
	one, err := c.PutFunction(ctx, "shop", "h é/llo", spec, client.PutOptions{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	if one.Name != "h é/llo" || one.Version != 1 || one.CPU != 0.5 || one.Timeout.String() != "1m30s" || one.Memory != 128*api.MiB ||
		one.Limits.Pids != 7 || one.Limits.Wait != api.Duration(10*time.Second) || string(one.Annotations["a"]) != `{"b":1}` || one.DeployedBy != "token" {
		t.Errorf("got %+v", one)
	}
	if _, err := c.PutFunction(ctx, "shop", "h é/llo", spec, client.PutOptions{Create: true}); !client.IsCode(err, api.CodeConflict) {
		t.Errorf("made twice: %v", err)
	}
	two, err := c.PutFunction(ctx, "shop", "h é/llo", spec, client.PutOptions{IfMatch: one.ETag})
	if err != nil || two.Version != 2 {
		t.Errorf("got %+v, %v", two, err)
	}
	if _, err := c.PutFunction(ctx, "shop", "h é/llo", spec, client.PutOptions{IfMatch: one.ETag}); !client.IsCode(err, api.CodeConflict) {
		t.Errorf("an old ETag does: %v", err)
	}
	got, err := c.Function(ctx, "shop", "h é/llo")
	if err != nil || got.ETag != two.ETag {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := c.DeleteFunction(ctx, "shop", "h é/llo", one.ETag); !client.IsCode(err, api.CodeConflict) {
		t.Errorf("an old ETag does: %v", err)
	}
	if err := c.DeleteFunction(ctx, "shop", "h é/llo", two.ETag); err != nil {
		t.Error(err)
	}
	_, err = c.Function(ctx, "shop", "h é/llo")
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Status != 404 || e.Code != api.CodeNotFound || !strings.Contains(e.Detail, "h é/llo") {
		t.Errorf("got %v", err)
	}
}

func TestAllPages(t *testing.T) {
	t.Parallel()
	c := start(t, &backend{}, nil)
	var want []string
	for i := range 7 {
		name := "f" + strconv.Itoa(i)
		want = append(want, name)
		if _, err := c.PutFunction(t.Context(), "shop", name, api.NewVersion{Spec: api.Spec{Image: "a"}}, client.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	var pages int
	for f, err := range client.All(func(p client.Page) (api.List[api.Function], error) {
		pages++
		p.Limit = 3
		return c.Functions(t.Context(), "shop", p)
	}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f.Name)
	}
	if !slices.Equal(got, want) || pages != 3 {
		t.Errorf("got %q in %d pages", got, pages)
	}
	for _, err := range client.All(func(client.Page) (api.List[api.Function], error) { return api.List[api.Function]{}, io.EOF }) {
		if !errors.Is(err, io.EOF) {
			t.Errorf("got %v", err)
		}
	}
}

func TestTheOtherNouns(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := &backend{runs: []core.Run{{ID: 5, State: core.StateRunning, CreatedAt: born}, {ID: 6, State: core.StateSucceeded, CreatedAt: born}}}
	b.runs[0].Usage.CPU, b.runs[0].Samples = 7*time.Millisecond, []core.UsageSample{{At: time.Second, Memory: 9}}
	c := start(t, b, nil)
	if l, err := c.Apps(ctx, client.Page{}); err != nil || len(l.Items) != 1 || l.Items[0].Name != "shop" {
		t.Errorf("apps: %+v, %v", l, err)
	}
	if l, err := c.Images(ctx); err != nil || len(l) != 2 {
		t.Errorf("images: %+v, %v", l, err)
	}
	if l, err := c.LoadImages(ctx, bytes.NewReader(make([]byte, 1<<20))); err != nil || len(l) != 1 || l[0].Bytes != 1<<20 {
		t.Errorf("loaded images: %+v, %v", l, err)
	}
	if _, err := c.LoadImages(ctx, strings.NewReader("bad")); !client.IsCode(err, api.CodeInvalid) {
		t.Errorf("a bad tar: %v", err)
	}
	if l, err := c.Instances(ctx); err != nil || len(l) != 1 || l[0].Memory != api.MiB {
		t.Errorf("instances: %+v, %v", l, err)
	}
	if s, err := c.Server(ctx); err != nil || s.Version != "1.2.3" || s.UptimeSeconds <= 0 {
		t.Errorf("server: %+v, %v", s, err)
	}
	if err := c.Ready(ctx); err != nil {
		t.Errorf("ready: %v", err)
	}
	f := client.RunFilter{App: "shop", Function: "f", States: []api.State{api.StateFailed, api.StateTimedOut}, Until: born.Format(time.RFC3339)}
	if l, err := c.Runs(ctx, f, client.Page{Limit: 5}); err != nil || len(l.Items) != 2 ||
		!slices.Equal(b.filter.States, []core.State{"failed", "timed_out"}) || !b.filter.Until.Equal(born) {
		t.Errorf("runs: %+v, %v, %+v", l, err, b.filter)
	}
	if r, err := c.Run(ctx, core.RunID(5).String()); err != nil || r.State != api.StateRunning {
		t.Errorf("run: %+v, %v", r, err)
	}
	if u, err := c.RunUsage(ctx, core.RunID(5).String()); err != nil || u.CPUMS != 7 || len(u.Samples) != 1 || u.Samples[0].MemoryBytes != 9 {
		t.Errorf("usage: %+v, %v", u, err)
	}
	if r, err := c.CancelRun(ctx, core.RunID(5).String()); err != nil || r.State != api.StateCancelled {
		t.Errorf("cancel: %+v, %v", r, err)
	}
	if _, err := c.CancelRun(ctx, core.RunID(6).String()); !client.IsCode(err, api.CodeConflict) {
		t.Errorf("cancel an ended run: %v", err)
	}
	if _, err := c.Run(ctx, "../apps"); !client.IsCode(err, api.CodeInvalid) {
		t.Errorf("an id that is a path: %v", err)
	}
}

func TestErrorsTellAllTheServerSays(t *testing.T) {
	t.Parallel()
	run := core.Run{ID: 5, State: core.StateFailed, Message: "the line was full"}
	c := start(t, &backend{call: func(core.Principal, *core.Request, core.RunReply) (core.Run, error) {
		return run, &core.Error{Kind: core.KindExhausted, Code: core.CodeTooMany, Message: "1000 calls wait", RetryAfter: 3}
	}}, nil)
	_, err := c.Invoke(t.Context(), "shop", "f", nil, client.InvokeOptions{})
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Status != 429 || e.Code != api.CodeTooMany || e.Detail != "1000 calls wait" || e.RunID != run.ID.String() ||
		e.RetryAfter != 3*time.Second || e.Explain != run.Message {
		t.Errorf("got %+v", err)
	}
	_, err = c.PutFunction(t.Context(), "shop", "f", api.NewVersion{Spec: api.Spec{Image: "a", Port: 70000}}, client.PutOptions{})
	if e, ok := errors.AsType[*client.Error](err); !ok || len(e.Faults) != 1 || !strings.Contains(err.Error(), "body.port") {
		t.Errorf("got %v", err)
	}
	_, err = c.Invoke(t.Context(), "shop", "missing", nil, client.InvokeOptions{})
	if !client.IsCode(err, api.CodeNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestTheTokenIsNeeded(t *testing.T) {
	t.Parallel()
	c := start(t, &backend{}, nil)
	if _, err := dial(t, c.URL(), "").Apps(t.Context(), client.Page{}); !client.IsCode(err, api.CodeUnauthenticated) {
		t.Errorf("without a token: %v", err)
	}
}

func TestNoServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	_, err = dial(t, addr, "").Apps(t.Context(), client.Page{})
	if !errors.Is(err, client.ErrUnreachable) || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "dayfly server") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dial(t, addr, "").Apps(ctx, client.Page{}); errors.Is(err, client.ErrUnreachable) || !errors.Is(err, context.Canceled) {
		t.Errorf("what the caller ended is the server's fault: %v", err)
	}
}

func TestAnotherServer(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"not found": http.NotFound,
		"a page": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<h1>Welcome</h1>")
		},
		"json error": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusTeapot)
		},
		"elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://evil.invalid/", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(answer)
			t.Cleanup(s.Close)
			c := dial(t, s.URL, token)
			if _, err := c.Server(t.Context()); !errors.Is(err, client.ErrNotDayfly) || !strings.Contains(err.Error(), s.URL) {
				t.Errorf("server: %v", err)
			}
			if _, err := c.Invoke(t.Context(), "a", "b", nil, client.InvokeOptions{}); !errors.Is(err, client.ErrNotDayfly) {
				t.Errorf("invoke: %v", err)
			}
			for _, err := range c.FollowLogs("run_1", 0).Lines(t.Context()) {
				if !errors.Is(err, client.ErrNotDayfly) {
					t.Errorf("follow: %v", err)
				}
			}
		})
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                         client.DefaultURL,
		"localhost:8080":           "http://localhost:8080",
		"https://x.example/":       "https://x.example",
		"https://x.example/proxy/": "https://x.example/proxy",
	} {
		c, err := client.New(in, "", client.Options{})
		if err != nil || c.URL() != want {
			t.Errorf("New(%q) gives %v, %v, want %s", in, c, err, want)
			continue
		}
		if got := c.FunctionURL("a b", "c/d"); got != want+"/f/a%20b/c%2Fd" {
			t.Errorf("the function's URL is %s", got)
		}
	}
	for _, in := range []string{"ftp://x", "http://", "http://x?y=1", "http://user:pass@x", "http://[::1", "unix:///run/x"} {
		if _, err := client.New(in, "", client.Options{}); err == nil {
			t.Errorf("New(%q) is taken", in)
		}
	}
}

func TestInvoke(t *testing.T) {
	t.Parallel()
	var got core.Request
	var body string
	c := start(t, &backend{call: func(p core.Principal, req *core.Request, reply core.RunReply) (core.Run, error) {
		got = *req
		got.Header = core.Header(http.Header(req.Header).Clone())
		b, err := io.ReadAll(req.Body)
		if err != nil {
			return core.Run{}, err
		}
		body = string(b)
		run := core.Run{ID: 5, Cold: true, CreatedAt: born, StartedAt: born.Add(6 * time.Millisecond), Start: core.StartPhases{Boot: 4500 * time.Microsecond}}
		reply.Begin(&run)
		reply.Header()["Content-Type"] = []string{api.ProblemType} // its own
		reply.WriteHeader(http.StatusInternalServerError)
		_, err = io.WriteString(reply, p.Name)
		return run, err
	}}, nil)
	a, err := c.Invoke(t.Context(), "sh op", "f", strings.NewReader("in"), client.InvokeOptions{
		Method: "PUT", Path: "a/b%2Fc", Query: url.Values{"q": {"1 2"}}, Header: http.Header{"X-Own": {"x"}}, Length: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil || string(b) != "token" || a.Status != 500 || a.RunID != core.RunID(5).String() || a.Header.Get("Content-Type") != api.ProblemType {
		t.Errorf("got %+v, %q, %v", a, b, err)
	}
	if a.Timings.Queue != 1500*time.Microsecond || a.Timings.Start != 4500*time.Microsecond || !a.Timings.Cold || a.Timings.Run <= 0 {
		t.Errorf("the timings are %+v", a.Timings)
	}
	if got.Method != "PUT" || got.Path != "/a/b%2Fc" || got.RawQuery != "q=1+2" || got.Header.Get("X-Own") != "x" || got.Length != 2 || body != "in" {
		t.Errorf("the function got %+v and %q", got, body)
	}
}

func TestInvokeTellsABrokenAnswer(t *testing.T) {
	t.Parallel()
	for name, length := range map[string]string{"chunked": "", "with a length": "100"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t, &backend{call: func(_ core.Principal, _ *core.Request, reply core.RunReply) (core.Run, error) {
				run := core.Run{ID: 5, State: core.StateFailed}
				reply.Begin(&run)
				if length != "" {
					reply.Header()["Content-Length"] = []string{length}
				}
				_, _ = io.WriteString(reply, "the first part")
				return run, core.Errorf(core.KindFunction, core.ReasonExitCode, "it exited with code 1")
			}}, nil)
			a, err := c.Invoke(t.Context(), "shop", "f", nil, client.InvokeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer a.Body.Close()
			b, err := io.ReadAll(a.Body)
			if string(b) != "the first part" || !errors.Is(err, client.ErrIncomplete) || !strings.Contains(err.Error(), a.RunID) {
				t.Errorf("got %q, %v", b, err)
			}
		})
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	c := start(t, &backend{lines: manyLines(5)}, nil)
	l, err := c.Logs(t.Context(), core.RunID(5).String(), 2, 2)
	if err != nil || len(l) != 2 || l[0].Sequence != 3 || l[1].Text != "line 4" || l[0].Stream != api.StreamStdout {
		t.Errorf("got %+v, %v", l, err)
	}
}

func manyLines(n int) []core.LogLine {
	out := make([]core.LogLine, n)
	for i := range out {
		out[i] = core.LogLine{Run: 5, Sequence: int64(i + 1), Stream: core.StreamStdout, Time: born, Text: "line " + strconv.Itoa(i+1)}
	}
	return out
}

// cutting cuts off each of the first answers after so many bytes.
func cutting(cuts *atomic.Int32, after int) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if cuts.Add(-1) >= 0 {
				w = &cutWriter{ResponseWriter: w, left: after}
			}
			h.ServeHTTP(w, r)
		})
	}
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *cutWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p[:min(len(p), w.left)])
	if w.left -= n; w.left == 0 && err == nil {
		_ = http.NewResponseController(w.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

func TestFollowLogsComesBack(t *testing.T) {
	t.Parallel()
	var cuts atomic.Int32
	cuts.Store(3)
	b := &backend{lines: manyLines(30), runs: []core.Run{{ID: 5, State: core.StateFailed, Reason: core.ReasonExitCode, CreatedAt: born}}}
	s := start(t, b, cutting(&cuts, 1000)).FollowLogs(core.RunID(5).String(), 2)
	want := int64(3)
	for l, err := range s.Lines(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if l.Sequence != want || l.Text != "line "+strconv.FormatInt(want, 10) {
			t.Fatalf("got %+v, want line %d", l, want)
		}
		want++
	}
	if want != 31 || cuts.Load() >= 0 {
		t.Errorf("ended at line %d with %d cuts left", want, cuts.Load())
	}
	if r := s.Run(); r.State != api.StateFailed || r.Reason != api.ReasonExitCode {
		t.Errorf("the run is %+v", r)
	}
}

func TestFollowLogsStops(t *testing.T) {
	t.Parallel()
	b := &backend{lines: manyLines(30), runs: []core.Run{{ID: 5}}}
	c := start(t, b, nil)
	n := 0
	for range c.FollowLogs(core.RunID(5).String(), 0).Lines(t.Context()) {
		if n++; n == 4 {
			break
		}
	}
	if n != 4 {
		t.Errorf("got %d lines", n)
	}
	for _, err := range c.FollowLogs(core.RunID(6).String(), 0).Lines(t.Context()) {
		if !client.IsCode(err, api.CodeNotFound) {
			t.Errorf("a run that is not there: %v", err)
		}
	}
}

func TestARefusalComesThroughALargeBody(t *testing.T) {
	t.Parallel()
	c := start(t, &backend{}, nil)
	for _, size := range []int{1 << 10, 300 << 10, 8 << 20} {
		_, err := c.Invoke(t.Context(), "shop", "missing", bytes.NewReader(make([]byte, size)), client.InvokeOptions{})
		if !client.IsCode(err, api.CodeNotFound) {
			t.Errorf("with a body of %d bytes: %v", size, err)
		}
	}
}

func TestAFunctionMayAnswerWithoutReading(t *testing.T) {
	t.Parallel()
	c := start(t, &backend{call: func(_ core.Principal, _ *core.Request, reply core.RunReply) (core.Run, error) {
		run := core.Run{ID: 5}
		reply.Begin(&run)
		_, err := io.WriteString(reply, "no thanks")
		return run, err
	}}, nil)
	never, hold := io.Pipe()
	t.Cleanup(func() { _ = hold.Close() })
	for name, body := range map[string]io.Reader{
		"none":            nil,
		"short":           strings.NewReader("x"),
		"long":            bytes.NewReader(make([]byte, 8<<20)),
		"of no length":    io.MultiReader(bytes.NewReader(make([]byte, 1<<20))),
		"that never ends": never,
	} {
		a, err := c.Invoke(t.Context(), "shop", "f", body, client.InvokeOptions{})
		if err != nil {
			t.Errorf("a body %s: %v", name, err)
			continue
		}
		b, err := io.ReadAll(a.Body)
		if err != nil || string(b) != "no thanks" {
			t.Errorf("a body %s: got %q, %v", name, b, err)
		}
		_ = a.Body.Close()
	}
}
