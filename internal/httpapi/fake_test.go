package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/httpapi"
)

var born = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

var someRun = core.Run{
	ID: 0x1234567890abcde, App: "shop", Function: "resize", Version: 3, State: core.StateSucceeded,
	Trigger: core.TriggerHTTP, Principal: "local", Attempt: 1, Method: "POST", Path: "/", Status: 200, Cold: true,
	CreatedAt: born, StartedAt: born.Add(5 * time.Millisecond), FinishedAt: born.Add(7500 * time.Microsecond),
	Start: core.StartPhases{Image: time.Millisecond, Sandbox: 2 * time.Millisecond, Boot: 500 * time.Microsecond}, Progress: -1,
}

var someFunction = core.Definition{
	App: core.App{ID: 1, Name: "shop", CreatedAt: born, UpdatedAt: born},
	Function: core.Function{
		ID: 2, AppID: 1, Name: "resize", Version: 3, Revision: 77, CreatedAt: born, UpdatedAt: born,
		Annotations: core.Annotations{"team": json.RawMessage(`{"name":"images"}`)},
	},
	Version: core.Version{
		FunctionID: 2, Number: 3, Digest: "sha256:abc", CreatedAt: born, CreatedBy: "local",
		Spec: core.Spec{
			Image: "shop/resize:1.2", CPU: 500, Env: map[string]string{"Q": "85"}, Concurrency: core.Concurrency{PerInstance: 80},
		}.WithDefaults(),
	},
}

// ports answers for every port; a nil func answers with what is usual.
type ports struct {
	enter  func(core.Visit) (core.Principal, error)
	call   func(ctx context.Context, p core.Principal, app, function string, req *core.Request, reply core.RunReply) (core.Run, error)
	run    func(core.RunID) (core.Run, error)
	runs   func(core.RunFilter, core.Page) (core.RunPage, error)
	logs   func(after int64, limit int) ([]core.LogLine, error)
	follow func(ctx context.Context, after int64, emit func([]core.LogLine) error) (core.Run, error)
	save   func(core.NewVersion) (core.Definition, error)
	delete func(app, name, ifMatch string) error
	list   func(app string, page core.Page) ([]core.Definition, string, error)
	load   func(io.Reader) ([]core.Image, error)
	pull   func(ctx context.Context, ref string, report func(core.PullProgress)) (core.Image, error)
	remove func(ref string) error
	prune  func(all bool) (core.Pruned, error)
}

func (f *ports) Enter(_ context.Context, v core.Visit) (core.Principal, error) {
	if f.enter != nil {
		return f.enter(v)
	}
	return core.Principal{Name: "local", Local: true}, nil
}

func (f *ports) Call(ctx context.Context, p core.Principal, app, function, _ string, req *core.Request, reply core.RunReply) (core.Run, error) {
	return f.call(ctx, p, app, function, req, reply)
}

func (f *ports) Run(_ context.Context, _ core.Principal, id core.RunID) (core.Run, error) {
	if f.run != nil {
		return f.run(id)
	}
	return someRun, nil
}

func (f *ports) Cancel(ctx context.Context, p core.Principal, id core.RunID) (core.Run, error) {
	return f.Run(ctx, p, id)
}

func (f *ports) Runs(_ context.Context, _ core.Principal, filter core.RunFilter, page core.Page) (core.RunPage, error) {
	return f.runs(filter, page)
}

func (f *ports) Logs(_ context.Context, _ core.Principal, _ core.RunID, after int64, limit int) ([]core.LogLine, error) {
	return f.logs(after, limit)
}

func (f *ports) Follow(ctx context.Context, _ core.Principal, _ core.RunID, after int64, emit func([]core.LogLine) error) (core.Run, error) {
	return f.follow(ctx, after, emit)
}

func (f *ports) Save(_ context.Context, _ core.Principal, n core.NewVersion) (core.Definition, error) {
	if f.save != nil {
		return f.save(n)
	}
	return someFunction, nil
}

func (f *ports) Function(_ context.Context, _ core.Principal, app, name string) (core.Definition, error) {
	if app != "shop" || name != "resize" {
		return core.Definition{}, core.NotFound("there is no function %s in the app %s", name, app)
	}
	return someFunction, nil
}

func (f *ports) Functions(_ context.Context, _ core.Principal, app string, page core.Page) ([]core.Definition, string, error) {
	return f.list(app, page)
}

func (f *ports) Version(_ context.Context, _ core.Principal, app, name string, number int) (core.Definition, error) {
	if app != "shop" || name != "resize" || number > 3 {
		return core.Definition{}, core.NotFound("there is no version %d of %s/%s", number, app, name)
	}
	d := someFunction
	d.Version.Number = number
	return d, nil
}

func (f *ports) Versions(_ context.Context, _ core.Principal, _, _ string, page core.Page) ([]core.Version, string, error) {
	return []core.Version{someFunction.Version}, page.Cursor + "more", nil
}

func (f *ports) Rollback(_ context.Context, _ core.Principal, r core.Rollback) (core.Definition, error) {
	if r.IfMatch != "" && r.IfMatch != someFunction.Function.ETag() {
		return core.Definition{}, core.Conflict("it is not at %s", r.IfMatch)
	}
	d := someFunction
	d.Function.Version, d.Version.Number, d.Version.Restores = 4, 4, r.To
	return d, nil
}

func (f *ports) Delete(_ context.Context, _ core.Principal, app, name, ifMatch string) error {
	return f.delete(app, name, ifMatch)
}

func (f *ports) Apps(context.Context, core.Principal, core.Page) ([]core.App, string, error) {
	return []core.App{someFunction.App}, "more", nil
}

func (f *ports) LoadImages(_ context.Context, _ core.Principal, tar io.Reader) ([]core.Image, error) {
	return f.load(tar)
}

func (f *ports) Images(context.Context, core.Principal) ([]core.Image, error) {
	return []core.Image{{Digest: "sha256:abc", Size: 5, LoadedAt: born, Config: core.ImageConfig{Env: []string{"SECRET=1"}}}}, nil
}

func (f *ports) Image(ctx context.Context, p core.Principal, ref string) (core.Image, error) {
	images, err := f.Images(ctx, p)
	if ref != "shop/resize:1.2" {
		return core.Image{}, core.Errorf(core.KindNotFound, core.ReasonImageNotFound, "there is no image %s", ref)
	}
	return images[0], err
}

func (f *ports) PullImage(ctx context.Context, _ core.Principal, ref string, report func(core.PullProgress)) (core.Image, error) {
	return f.pull(ctx, ref, report)
}

func (f *ports) RemoveImage(_ context.Context, _ core.Principal, ref string) error {
	return f.remove(ref)
}

func (f *ports) PruneImages(_ context.Context, _ core.Principal, all bool) (core.Pruned, error) {
	return f.prune(all)
}

func (f *ports) Instances(context.Context, core.Principal) ([]core.Instance, error) {
	return []core.Instance{{ID: 9, App: "shop", Function: "resize", State: core.InstanceFrozen, Memory: core.MiB, StartedAt: born, FrozenAt: born, Thaws: 3}}, nil
}

func (f *ports) Kept(_ context.Context, _ core.Principal, def *core.Definition) (core.Kept, error) {
	return core.Kept{Want: def.Version.Spec.Instances.Min, Ready: 1, Problem: "boom", RetryAt: born}, nil
}

// logBuffer takes a log from several goroutines.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

var can = core.Capabilities{
	Driver: "sandbox", Networks: []core.Network{core.NetworkNone}, Freeze: true,
	Missing: []core.Shortcoming{{Name: "network", Why: "pasta is not installed", Remedy: "install the package passt"}},
}

func handler(f *ports, change ...func(*httpapi.Config)) (*httpapi.Handler, *logBuffer) {
	log := &logBuffer{}
	cfg := httpapi.Config{
		Door: f, Invoker: f, Runs: f, Deployer: f, Versions: f, Images: f, Instances: f,
		Server: httpapi.Server{Version: "1.2.3", Capabilities: can, Node: 7, StartedAt: born},
		Logger: slog.New(slog.NewJSONHandler(log, nil)),
	}
	for _, c := range change {
		c(&cfg)
	}
	return httpapi.New(cfg), log
}

// serve starts a server of the handler.
func serve(t *testing.T, f *ports, change ...func(*httpapi.Config)) string {
	t.Helper()
	h, _ := handler(f, change...)
	s := httptest.NewUnstartedServer(h)
	s.Config = httpapi.NewServer(h)
	s.Start()
	t.Cleanup(s.Close)
	t.Cleanup(h.Close)
	return s.URL
}

// ask sends a request to the handler itself. headers are "Name: value".
func ask(t *testing.T, h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	for _, field := range headers {
		name, value, _ := strings.Cut(field, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// wantProblem checks that the answer is a problem document that holds
// together, and gives it.
func wantProblem(t *testing.T, w *httptest.ResponseRecorder, status int, code core.Code) api.Problem {
	t.Helper()
	var p api.Problem
	d := json.NewDecoder(w.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		t.Fatalf("status %d: %v in %q", w.Code, err, w.Body)
	}
	if w.Code != status || p.Status != status || p.Code != string(code) || p.Title != http.StatusText(status) || p.Type != "about:blank" {
		t.Errorf("got status %d and %+v, want status %d and code %s", w.Code, p, status, code)
	}
	if got := w.Header().Get("Content-Type"); got != api.ProblemType {
		t.Errorf("the content type is %q", got)
	}
	if got := w.Header().Get(api.HeaderError); got != string(code) {
		t.Errorf("%s is %q, want %q", api.HeaderError, got, code)
	}
	return p
}
