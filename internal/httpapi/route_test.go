package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/httpapi"
)

func decode[T any](t *testing.T, body io.Reader) T {
	t.Helper()
	var v T
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestEveryKindOfErrorHasItsStatus(t *testing.T) {
	t.Parallel()
	for kind, status := range map[core.Kind]int{
		core.KindInvalid: 400, core.KindNotFound: 404, core.KindConflict: 409, core.KindUnauthenticated: 401,
		core.KindForbidden: 403, core.KindTooLarge: 413, core.KindExhausted: 429, core.KindTimeout: 504,
		core.KindUnavailable: 503, core.KindFunction: 502, core.KindNotImplemented: 501,
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			h, _ := handler(&ports{run: func(core.RunID) (core.Run, error) {
				return core.Run{}, &core.Error{Kind: kind, Code: "some_code", Message: "what to do", Err: errors.New("the cause"), RetryAfter: 7}
			}})
			w := ask(t, h, "GET", "/v1/runs/"+someRun.ID.String(), "")
			p := wantProblem(t, w, status, "some_code")
			if p.Detail != "what to do" || p.RequestID != "" {
				t.Errorf("got %+v", p)
			}
			if got := w.Header().Get("Retry-After"); got != "7" {
				t.Errorf("Retry-After is %q", got)
			}
			if got := w.Header().Get("WWW-Authenticate"); (got != "") != (status == 401) {
				t.Errorf("WWW-Authenticate is %q", got)
			}
		})
	}
}

func TestAFaultOfOursShowsOnlyARequestID(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"plain":      errors.New("the table is broken"),
		"internal":   &core.Error{Kind: core.KindInternal, Code: core.CodeInternal, Message: "secret", Err: errors.New("the table is broken")},
		"no message": &core.Error{Kind: core.KindInvalid, Err: errors.New("the table is broken")},
		"new kind":   &core.Error{Kind: "new", Message: "secret", Err: errors.New("the table is broken")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, log := handler(&ports{run: func(core.RunID) (core.Run, error) { return core.Run{}, err }})
			p := wantProblem(t, ask(t, h, "GET", "/v1/runs/"+someRun.ID.String(), ""), 500, core.CodeInternal)
			if p.Detail != "internal error" || !strings.HasPrefix(p.RequestID, "req_") {
				t.Errorf("got %+v", p)
			}
			if !strings.Contains(log.String(), p.RequestID) || !strings.Contains(log.String(), "the table is broken") {
				t.Errorf("the log does not tell the cause: %s", log)
			}
		})
	}
}

func TestAPanicIsAnsweredAndLogged(t *testing.T) {
	t.Parallel()
	h, log := handler(&ports{run: func(core.RunID) (core.Run, error) { panic("lost my head") }})
	p := wantProblem(t, ask(t, h, "GET", "/v1/runs/"+someRun.ID.String(), ""), 500, core.CodeInternal)
	if !strings.Contains(log.String(), p.RequestID) || !strings.Contains(log.String(), "lost my head") {
		t.Errorf("the log does not tell the cause: %s", log)
	}
}

func TestWhatIsWrongWithARequest(t *testing.T) {
	t.Parallel()
	const function = "/v1/apps/shop/functions/resize"
	id := someRun.ID.String()
	for _, tt := range []struct {
		name, method, target, body string
		header                     string
		status                     int
		code                       core.Code
		tells                      string
	}{
		{"nothing there", "GET", "/v1/nothing", "", "", 404, "not_found", "/v1/nothing"},
		{"nothing at all", "GET", "/nothing", "", "", 404, "not_found", "/nothing"},
		{"method", "POST", function, "", "", 405, "invalid", "GET"},
		{"no function", "GET", "/v1/apps/shop/functions/nope", "", "", 404, "not_found", "nope"},
		{"id of a run's usage", "GET", "/v1/runs/42/usage", "", "", 400, "invalid", "run_"},
		{"id of a run", "GET", "/v1/runs/42", "", "", 400, "invalid", "run_"},
		{"not JSON", "PUT", function, "{", "", 400, "invalid", "JSON"},
		{"no body", "PUT", function, "", "", 400, "invalid", "body"},
		{"wrong type", "PUT", function, `{"image":7}`, "", 422, "invalid", "body.image"},
		{"no image", "PUT", function, `{}`, "", 422, "invalid", "image"},
		{"unknown key", "PUT", function, `{"image":"a","imagee":"b"}`, "", 422, "invalid", "imagee"},
		{"unknown limit", "PUT", function, `{"image":"a","limits":{"pid":1}}`, "", 422, "invalid", "limits.pid"},
		{"unknown concurrency", "PUT", function, `{"image":"a","concurrency":{"per_instnce":1}}`, "", 422, "invalid", "concurrency.per_instnce"},
		{"unknown mount key", "PUT", function, `{"image":"a","mounts":[{"name":"a","path":"/a","source":"/b"}]}`, "", 422, "invalid", "mounts[0].source"},
		{"mount without a path", "PUT", function, `{"image":"a","mounts":[{"name":"a"}]}`, "", 422, "invalid", "path"},
		{"root", "PUT", function, `{"image":"a","root":"writable"}`, "", 422, "invalid", "body.root"},
		{"root without a unit", "PUT", function, `{"image":"a","root":"writable(64)"}`, "", 422, "invalid", "body.root"},
		{"root of nothing", "PUT", function, `{"image":"a","root":"writable(0B)"}`, "", 400, "invalid", "read_only"},
		{"gpus", "PUT", function, `{"image":"a","gpus":1}`, "", 501, "not_implemented", "leave gpus out"},
		{"devices", "PUT", function, `{"image":"a","devices":["/dev/kvm"]}`, "", 501, "not_implemented", "leave devices out"},
		{"size", "PUT", function, `{"image":"a","memory":"128"}`, "", 422, "invalid", "128MiB"},
		{"duration", "PUT", function, `{"image":"a","timeout":"30"}`, "", 422, "invalid", "1m30s"},
		{"port", "PUT", function, `{"image":"a","port":70000}`, "", 422, "invalid", "body.port"},
		{"media type", "PUT", function, `image: a`, "Content-Type: application/yaml", 415, "invalid", "application/yaml"},
		{"If-None-Match", "PUT", function, `{"image":"a"}`, `If-None-Match: "x"`, 400, "invalid", "*"},
		{"too large", "PUT", function, `{"image":"` + strings.Repeat("a", 2<<20) + `"}`, "", 413, "too_large", ""},
		{"tar without type", "POST", "/v1/images", "x", "", 415, "invalid", "application/x-tar"},
		{"limit of a page", "GET", "/v1/runs?limit=5000", "", "", 422, "invalid", "query.limit"},
		{"state", "GET", "/v1/runs?state=lost", "", "", 422, "invalid", "query.state"},
		{"since", "GET", "/v1/runs?since=yesterday", "", "", 400, "invalid", "since"},
		{"unknown parameter", "GET", "/v1/runs?stat=failed", "", "", 422, "invalid", "stat"},
		{"after", "GET", "/v1/runs/" + id + "/logs?after=-1", "", "", 422, "invalid", "query.after"},
		{"Last-Event-ID", "GET", "/v1/runs/" + id + "/logs?follow=true", "", "Last-Event-ID: x", 400, "invalid", "Last-Event-ID"},
		{"function URL without function", "GET", "/f/shop", "", "", 404, "not_found", "/f/"},
		{"function URL without name", "GET", "/f/shop//x", "", "", 404, "not_found", "/f/"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, _ := handler(&ports{})
			headers := []string{"Content-Type: application/json"}
			if tt.header != "" {
				headers = append(headers, tt.header)
			}
			w := ask(t, h, tt.method, tt.target, tt.body, headers...)
			text := w.Body.String()
			p := wantProblem(t, w, tt.status, tt.code)
			if p.Detail == "" || !strings.Contains(text, tt.tells) {
				t.Errorf("%q does not tell of %q", text, tt.tells)
			}
		})
	}
}

func TestPutFunctionReadsEveryKey(t *testing.T) {
	t.Parallel()
	var got core.NewVersion
	h, _ := handler(&ports{save: func(n core.NewVersion) (core.Definition, error) {
		got = n
		return someFunction, nil
	}})
	w := ask(t, h, "PUT", "/v1/apps/shop/functions/h%C3%A9llo", `{
		"image": "shop/resize:1.2", "contract": "job", "command": ["/bin/x", "-v"], "args": "body", "content_type": "text/plain",
		"stream": true, "port": 9000, "memory": "256MiB", "cpu": 0.25, "timeout": "1m30s",
		"cpu_weight": 50, "root": "writable(8MiB)", "mounts": [{"name": "models", "path": "/models", "read_only": true}], "network": "none", "env": {"K": "V"},
		"instances": {"max": 3, "idle": "5s"}, "concurrency": {"per_instance": 7}, "description": "about", "annotations": {"a": [1]},
		"limits": {"start": "1s", "body": "2MiB", "result": "3MiB", "log": "4KiB", "headers": "5KiB", "tmp": "6MiB",
			"pids": 7, "files": 8, "waiting": 9, "wait": "10ms"}}`, `If-Match: "25"`, "Content-Type: application/json")
	if w.Code != 200 || w.Header().Get("ETag") != someFunction.Function.ETag() {
		t.Fatalf("got %d, %v, %s", w.Code, w.Header(), w.Body)
	}
	want := core.NewVersion{
		App: "shop", Function: "héllo", Description: "about", Annotations: core.Annotations{"a": json.RawMessage("[1]")},
		By: "local", IfMatch: `"25"`,
		Spec: core.Spec{
			Image: "shop/resize:1.2", Contract: core.ContractJob, Command: []string{"/bin/x", "-v"}, Args: "body", ContentType: "text/plain",
			Stream: true, Port: 9000, Memory: 256 * core.MiB, CPU: 250, CPUWeight: 50, Timeout: 90 * time.Second,
			Root: core.Root{Writable: 8 * core.MiB}, Mounts: []core.Mount{{Name: "models", Path: "/models", ReadOnly: true}},
			Network: core.NetworkNone,
			Env:     map[string]string{"K": "V"}, Instances: core.Instances{Max: 3, Idle: 5 * time.Second},
			Concurrency: core.Concurrency{PerInstance: 7},
			Limits: core.Limits{
				Start: time.Second, Body: 2 * core.MiB, Result: 3 * core.MiB, Log: 4 * core.KiB, Headers: 5 * core.KiB,
				Tmp: 6 * core.MiB, Pids: 7, Files: 8, Waiting: 9, Wait: 10 * time.Millisecond,
			},
		},
	}
	if a, b := show(t, got), show(t, want); a != b {
		t.Errorf("got  %s\nwant %s", a, b)
	}
	f := decode[api.Function](t, w.Body)
	if f.ID != "fn_0000000000002" || f.Path != "/f/shop/resize" || f.Memory != 128*api.MiB || f.CPU != 0.5 || f.Timeout != api.Duration(30*time.Second) ||
		f.Concurrency.PerInstance != 80 ||
		f.Version != 3 || f.Env["Q"] != "85" || string(f.Annotations["team"]) != `{"name":"images"}` || !f.CreatedAt.Equal(born) {
		t.Errorf("got %+v", f)
	}
}

func show(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAConditionThatDoesNotHoldIs412(t *testing.T) {
	t.Parallel()
	conflict := core.Conflict("the function has changed")
	h, _ := handler(&ports{
		save:   func(core.NewVersion) (core.Definition, error) { return core.Definition{}, conflict },
		delete: func(string, string, string) error { return conflict },
	})
	const target, body, kind = "/v1/apps/shop/functions/resize", `{"image":"a"}`, "Content-Type: application/json"
	wantProblem(t, ask(t, h, "PUT", target, body, kind), 409, core.CodeConflict)
	wantProblem(t, ask(t, h, "PUT", target, body, kind, `If-Match: "1"`), 412, core.CodeConflict)
	wantProblem(t, ask(t, h, "PUT", target, body, kind, `If-None-Match: *`), 412, core.CodeConflict)
	wantProblem(t, ask(t, h, "DELETE", target, ""), 409, core.CodeConflict)
	wantProblem(t, ask(t, h, "DELETE", target, "", `If-Match: "1"`), 412, core.CodeConflict)
}

func TestDeleteFunction(t *testing.T) {
	t.Parallel()
	var got []string
	h, _ := handler(&ports{delete: func(app, name, ifMatch string) error {
		got = []string{app, name, ifMatch}
		return nil
	}})
	w := ask(t, h, "DELETE", "/v1/apps/shop/functions/resize", "", `If-Match: "1"`)
	if w.Code != 204 || w.Body.Len() != 0 || !slices.Equal(got, []string{"shop", "resize", `"1"`}) {
		t.Errorf("got %d %q and %q", w.Code, w.Body, got)
	}
}

func TestListRunsReadsTheFilter(t *testing.T) {
	t.Parallel()
	var filter core.RunFilter
	var page core.Page
	h, _ := handler(&ports{runs: func(f core.RunFilter, p core.Page) (core.RunPage, error) {
		filter, page = f, p
		return core.RunPage{Runs: []core.Run{someRun}, Next: "n", SearchedTo: born}, nil
	}})
	before := time.Now()
	w := ask(t, h, "GET", "/v1/runs?app=shop&function=resize&state=failed&state=timed_out&since=1h&until=2026-01-31T12:00:00Z&cursor=c&limit=5", "")
	l := decode[api.List[api.Run]](t, w.Body)
	if w.Code != 200 || len(l.Items) != 1 || l.NextCursor != "n" || !l.SearchedTo.Equal(born) {
		t.Fatalf("got %d, %+v", w.Code, l)
	}
	if filter.App != "shop" || filter.Function != "resize" || !slices.Equal(filter.States, []core.State{"failed", "timed_out"}) ||
		!filter.Until.Equal(born) || page != (core.Page{Cursor: "c", Limit: 5}) {
		t.Errorf("got %+v, %+v", filter, page)
	}
	if ago := before.Sub(filter.Since); ago > time.Hour || ago < 59*time.Minute {
		t.Errorf("since is %s ago", ago)
	}
}

func TestARunOnTheWire(t *testing.T) {
	t.Parallel()
	h, _ := handler(&ports{})
	w := ask(t, h, "GET", "/v1/runs/"+someRun.ID.String(), "")
	raw := w.Body.Bytes()
	r := decode[api.Run](t, bytes.NewReader(raw))
	if r.ID != someRun.ID.String() || r.State != api.StateSucceeded || r.QueueMS != 1.5 || r.DurationMS != 2.5 || r.Start.Total() != 3500*time.Microsecond || r.Progress != nil {
		t.Errorf("got %s", raw)
	}
	if bytes.Contains(raw, []byte("$schema")) {
		t.Error("there is a $schema in the body")
	}
}

func TestListsAreNeverNull(t *testing.T) {
	t.Parallel()
	h, _ := handler(&ports{
		runs: func(core.RunFilter, core.Page) (core.RunPage, error) { return core.RunPage{}, nil },
		logs: func(int64, int) ([]core.LogLine, error) { return nil, nil },
		list: func(string, core.Page) ([]core.Definition, string, error) { return nil, "", nil },
	})
	for target, want := range map[string]string{
		"/v1/runs":      `{"items":[]}`,
		"/v1/functions": `{"items":[]}`,
		"/v1/runs/" + someRun.ID.String() + "/logs":  `{"lines":[]}`,
		"/v1/runs/" + someRun.ID.String() + "/usage": `{"cpu_ms":0,"peak_memory_bytes":0,"samples":[]}`,
	} {
		if w := ask(t, h, "GET", target, ""); w.Code != 200 || strings.TrimSpace(w.Body.String()) != want {
			t.Errorf("%s answers %d %s, want %s", target, w.Code, w.Body, want)
		}
	}
}

func TestRunUsageOverTime(t *testing.T) {
	t.Parallel()
	run := someRun
	run.Usage = core.Usage{CPU: 2 * time.Second, Throttled: time.Millisecond, PeakMemory: core.MiB, OOMKills: 3}
	run.PeakOfInstance = true
	run.Samples = []core.UsageSample{{At: time.Second, CPU: 900 * time.Millisecond, Memory: core.KiB}}
	h, _ := handler(&ports{run: func(core.RunID) (core.Run, error) { return run, nil }})
	want := `{"cpu_ms":2000,"throttled_ms":1,"peak_memory_bytes":1048576,"peak_of_instance":true,"oom_kills":3,` +
		`"samples":[{"at_ms":1000,"cpu_ms":900,"memory_bytes":1024}]}`
	if w := ask(t, h, "GET", "/v1/runs/"+run.ID.String()+"/usage", ""); w.Code != 200 || strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestTheOtherRoutes(t *testing.T) {
	t.Parallel()
	h, _ := handler(&ports{})
	for target, want := range map[string]string{
		"/v1/apps":                       `"next_cursor":"more"`,
		"/v1/images":                     `"names":[]`,
		"/v1/instances":                  `"id":"ins_0000000000009"`,
		"/v1/server":                     `"node":7`,
		"/v1/apps/shop/functions/resize": `"etag":"\"25\""`,
		"/v1/openapi.json":               `"openapi":"3.1.0"`,
		"/healthz":                       `"ok"`,
		"/readyz":                        `"ready"`,
		"/":                              `"hello"`,
	} {
		w := ask(t, h, "GET", target, "")
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s answers %d %q %s, want %s", target, w.Code, w.Header().Get("Content-Type"), w.Body, want)
		}
		if w.Header().Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(w.Header().Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("%s is not protected: %v", target, w.Header())
		}
		if strings.Contains(w.Body.String(), "SECRET") {
			t.Errorf("%s tells an image's environment", target)
		}
	}
	page := ask(t, h, "GET", "/", "", "Accept: text/html,*/*")
	if !strings.HasPrefix(page.Header().Get("Content-Type"), "text/html") || !strings.Contains(page.Body.String(), `href="/v1/openapi.json"`) {
		t.Errorf("a browser gets %v %s", page.Header(), page.Body)
	}
}

func TestOnlyHealthIsOpenToAll(t *testing.T) {
	t.Parallel()
	h, _ := handler(&ports{
		enter: func(core.Visit) (core.Principal, error) {
			return core.Principal{}, core.Errorf(core.KindUnauthenticated, core.CodeUnauthenticated, "a token is needed")
		},
	})
	for _, target := range []string{"/", "/v1/apps", "/v1/openapi.json", "/v1/nothing", "/nothing", "/f/shop/resize", "/f/"} {
		wantProblem(t, ask(t, h, "GET", target, ""), 401, core.CodeUnauthenticated)
	}
	for _, target := range []string{"/healthz", "/readyz"} {
		if w := ask(t, h, "GET", target, ""); w.Code != 200 {
			t.Errorf("%s answers %d", target, w.Code)
		}
	}
}

func TestTheDoorSeesTheRequest(t *testing.T) {
	t.Parallel()
	var got core.Visit
	h, _ := handler(&ports{enter: func(v core.Visit) (core.Principal, error) {
		got = v
		return core.Principal{}, core.Errorf(core.KindForbidden, core.CodeForbidden, "no")
	}})
	headers := []string{"Origin: http://o", "Sec-Fetch-Site: cross-site", "Authorization: Bearer x"}
	want := core.Visit{
		Method: "PATCH", Host: "example.com", Remote: "192.0.2.1:1234",
		Authorization: "Bearer x", Origin: "http://o", FetchSite: "cross-site",
	}
	wantProblem(t, ask(t, h, "PATCH", "/v1/x", "", headers...), 403, core.CodeForbidden)
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	want.Function = true
	wantProblem(t, ask(t, h, "PATCH", "/f/a/b", "", headers...), 403, core.CodeForbidden)
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestNotReady(t *testing.T) {
	t.Parallel()
	h, _ := handler(&ports{}, func(c *httpapi.Config) {
		c.Ready = func(context.Context) error {
			return core.Unavailable(core.CodeUnavailable, nil, "the server is stopping")
		}
	})
	wantProblem(t, ask(t, h, "GET", "/readyz", ""), http.StatusServiceUnavailable, core.CodeUnavailable)
}

func TestImagesAreReadWhileTheyCome(t *testing.T) {
	t.Parallel()
	began := make(chan struct{})
	url := serve(t, &ports{load: func(tar io.Reader) ([]core.Image, error) {
		if _, err := io.ReadFull(tar, make([]byte, 4)); err != nil {
			return nil, err
		}
		close(began)
		n, err := io.Copy(io.Discard, tar)
		return []core.Image{{Names: []string{"a:1"}, Size: core.Bytes(n + 4)}}, err
	}})
	in, out := io.Pipe()
	go func() {
		_, _ = out.Write([]byte("head"))
		<-began // the rest is sent only when the head has been read
		_, _ = out.Write([]byte("tail"))
		_ = out.Close()
	}()
	res, err := http.Post(url+"/v1/images", "application/x-tar", in)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if l := decode[api.List[api.Image]](t, res.Body); len(l.Items) != 1 || l.Items[0].Bytes != 8 {
		t.Errorf("got %+v", l)
	}
}

func TestSizesReadAlikeOnBothSides(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"128MiB", "1.5GiB", "4096B", "1kB", "1KB", "0B", "1TB", " 2 KiB ", "128", "", "-1B", "1e30TiB", "NaNB", "MiB", "1mib"} {
		a, errA := core.ParseBytes(text)
		b, errB := api.ParseBytes(text)
		if int64(a) != int64(b) || (errA == nil) != (errB == nil) || a.String() != b.String() {
			t.Errorf("%q is %v (%v) to core and %v (%v) to api", text, a, errA, b, errB)
		}
	}
}

func TestHeadersHaveALimit(t *testing.T) {
	t.Parallel()
	url := serve(t, &ports{})
	if res := get(t, url+"/v1/apps", "X-Long: "+strings.Repeat("x", 60<<10)); res.StatusCode != 200 {
		t.Errorf("60 KiB of headers get %d", res.StatusCode)
	}
	if res := get(t, url+"/v1/apps", "X-Long: "+strings.Repeat("x", 80<<10)); res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("80 KiB of headers get %d", res.StatusCode)
	}
}

func TestAServerStopsWhileALogIsFollowed(t *testing.T) {
	t.Parallel()
	h, _ := handler(&ports{follow: func(ctx context.Context, _ int64, _ func([]core.LogLine) error) (core.Run, error) {
		<-ctx.Done()
		return core.Run{}, ctx.Err()
	}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := httpapi.NewServer(h)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	res := get(t, "http://"+l.Addr().String()+logPath+"?follow=true")
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("serving ended with %v", err)
	}
	if got, _ := events(t, res.Body); len(got) != 0 {
		t.Errorf("the follower got %+v", got)
	}
}

func TestTheServerTellsWhatItCanDo(t *testing.T) {
	t.Parallel()
	h, _ := handler(&ports{})
	got := ask(t, h, "GET", "/v1/server", "").Body.String()
	for _, want := range []string{
		`"driver":"sandbox"`, `"capabilities":["network_none","freeze","users"]`,
		`"missing":[{"name":"network","why":"pasta is not installed","remedy":"install the package passt"}]`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("it says %s, want %s in it", got, want)
		}
	}
	h, _ = handler(&ports{}, func(c *httpapi.Config) { c.Server.Capabilities = core.Capabilities{} })
	if got := ask(t, h, "GET", "/v1/server", "").Body.String(); !strings.Contains(got, `"capabilities":[]`) || !strings.Contains(got, `"missing":[]`) {
		t.Errorf("a server that can do nothing says %s", got)
	}
}
