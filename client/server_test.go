package client_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/client"
	"github.com/dayfly-io/dayfly/internal/access"
	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/httpapi"
)

var born = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

const token = "dfp_0123456789abcdefghij"

// backend is a server's ports with as much behind them as the client needs.
type backend struct {
	mu        sync.Mutex
	functions []core.Definition // of the app shop
	runs      []core.Run
	lines     []core.LogLine
	filter    core.RunFilter
	call      func(p core.Principal, req *core.Request, reply core.RunReply) (core.Run, error)
}

func (b *backend) find(app, name string) (int, error) {
	for i, d := range b.functions {
		if d.App.Name == app && d.Function.Name == name {
			return i, nil
		}
	}
	return 0, core.NotFound("there is no function %s in the app %s", name, app)
}

func (b *backend) Save(_ context.Context, p core.Principal, n core.NewVersion) (core.Definition, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, err := b.find(n.App, n.Function)
	switch {
	case err != nil && n.IfMatch != "":
		return core.Definition{}, err
	case err != nil:
		i = len(b.functions)
		b.functions = append(b.functions, core.Definition{})
	case n.Create, n.IfMatch != "" && n.IfMatch != "*" && n.IfMatch != b.functions[i].Function.ETag():
		return core.Definition{}, core.Conflict("the function %s has changed", n.Function)
	}
	d := &b.functions[i]
	number := d.Function.Version + 1
	d.App = core.App{ID: 1, Name: n.App, CreatedAt: born, UpdatedAt: born}
	d.Function = core.Function{
		ID: core.FunctionID(i + 1), AppID: 1, Name: n.Function, Version: number, Revision: int64(number),
		CreatedAt: born, UpdatedAt: born, Description: n.Description, Annotations: n.Annotations,
	}
	d.Version = core.Version{Number: number, Spec: n.Spec.WithDefaults(), Digest: "sha256:abc", CreatedAt: born, CreatedBy: p.Name}
	return *d, d.Version.Spec.Validate()
}

func (b *backend) Function(_ context.Context, _ core.Principal, app, name string) (core.Definition, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, err := b.find(app, name)
	if err != nil {
		return core.Definition{}, err
	}
	return b.functions[i], nil
}

// Functions gives pages of the size asked for; a cursor is the name that comes
// next.
func (b *backend) Functions(_ context.Context, _ core.Principal, app string, page core.Page) ([]core.Definition, string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []core.Definition
	for _, d := range b.functions {
		if app != "" && d.App.Name != app || d.Function.Name < page.Cursor {
			continue
		}
		if len(out) == page.Size() {
			return out, d.Function.Name, nil
		}
		out = append(out, d)
	}
	return out, "", nil
}

func (b *backend) Delete(_ context.Context, _ core.Principal, app, name, ifMatch string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, err := b.find(app, name)
	if err != nil {
		return err
	}
	if ifMatch != "" && ifMatch != b.functions[i].Function.ETag() {
		return core.Conflict("the function %s has changed", name)
	}
	b.functions = append(b.functions[:i], b.functions[i+1:]...)
	return nil
}

func (b *backend) Apps(context.Context, core.Principal, core.Page) ([]core.App, string, error) {
	return []core.App{{ID: 1, Name: "shop", CreatedAt: born, UpdatedAt: born}}, "", nil
}

func (b *backend) LoadImages(_ context.Context, _ core.Principal, tar io.Reader) ([]core.Image, error) {
	text, err := io.ReadAll(tar)
	if err != nil {
		return nil, err
	}
	if string(text) == "bad" {
		return nil, core.Invalid("this is not a tar of images")
	}
	return []core.Image{{Names: []string{"a:1"}, Digest: "sha256:abc", Size: core.Bytes(len(text))}}, nil
}

func (b *backend) Images(context.Context, core.Principal) ([]core.Image, error) {
	return []core.Image{{Names: []string{"a:1"}}, {Names: []string{"b:1"}}}, nil
}

func (b *backend) Image(_ context.Context, _ core.Principal, ref string) (core.Image, error) {
	if ref != "registry.example/a:1" {
		return core.Image{}, core.Errorf(core.KindNotFound, core.ReasonImageNotFound, "there is no image %s", ref)
	}
	return core.Image{Names: []string{ref}, Digest: "sha256:abc"}, nil
}

func (b *backend) PullImage(ctx context.Context, p core.Principal, ref string, report func(core.PullProgress)) (core.Image, error) {
	report(core.PullProgress{Image: ref, Phase: core.PullDownloading, Done: 50, Total: 200})
	return b.Image(ctx, p, ref)
}

func (b *backend) RemoveImage(ctx context.Context, p core.Principal, ref string) error {
	_, err := b.Image(ctx, p, ref)
	return err
}

func (b *backend) PruneImages(_ context.Context, _ core.Principal, all bool) (core.Pruned, error) {
	if !all {
		return core.Pruned{}, nil
	}
	return core.Pruned{Images: []core.Image{{Digest: "sha256:abc"}}, Layers: 1, Bytes: core.MiB}, nil
}

func (b *backend) Version(_ context.Context, _ core.Principal, app, name string, number int) (core.Definition, error) {
	if number > 3 {
		return core.Definition{}, core.NotFound("%s/%s has no version %d", app, name, number)
	}
	return core.Definition{Version: core.Version{Number: number, Digest: "sha256:abc"}}, nil
}

func (b *backend) Versions(_ context.Context, _ core.Principal, _, _ string, page core.Page) ([]core.Version, string, error) {
	return []core.Version{{Number: 3, Restores: 1}, {Number: 2}}, page.Cursor + "more", nil
}

func (b *backend) Rollback(_ context.Context, _ core.Principal, r core.Rollback) (core.Definition, error) {
	if r.IfMatch == `"old"` {
		return core.Definition{}, core.Conflict("%s/%s has changed", r.App, r.Function)
	}
	return core.Definition{Function: core.Function{Version: 4}, Version: core.Version{Number: 4, Restores: r.To}}, nil
}

func (b *backend) Instances(context.Context, core.Principal) ([]core.Instance, error) {
	return []core.Instance{{ID: 9, State: core.InstanceHot, Memory: core.MiB}}, nil
}

func (b *backend) Kept(context.Context, core.Principal, *core.Definition) (core.Kept, error) {
	return core.Kept{}, nil
}

func (b *backend) Run(_ context.Context, _ core.Principal, id core.RunID) (core.Run, error) {
	for _, r := range b.runs {
		if r.ID == id {
			return r, nil
		}
	}
	return core.Run{}, core.NotFound("there is no run %s", id)
}

func (b *backend) Runs(_ context.Context, _ core.Principal, filter core.RunFilter, _ core.Page) (core.RunPage, error) {
	b.filter = filter
	return core.RunPage{Runs: b.runs}, nil
}

func (b *backend) Cancel(ctx context.Context, p core.Principal, id core.RunID) (core.Run, error) {
	r, err := b.Run(ctx, p, id)
	if err == nil && r.State.Final() {
		return core.Run{}, core.Conflict("the run %s has ended", id)
	}
	r.State = core.StateCancelled
	return r, err
}

func (b *backend) Logs(_ context.Context, _ core.Principal, _ core.RunID, after int64, limit int) ([]core.LogLine, error) {
	out := b.lines[after:]
	return out[:min(limit, len(out))], nil
}

func (b *backend) Follow(ctx context.Context, p core.Principal, id core.RunID, after int64, emit func([]core.LogLine) error) (core.Run, error) {
	for _, l := range b.lines[after:] {
		if err := emit([]core.LogLine{l}); err != nil {
			return core.Run{}, err
		}
	}
	return b.Run(ctx, p, id)
}

func (b *backend) Call(_ context.Context, p core.Principal, app, function, _ string, req *core.Request, reply core.RunReply) (core.Run, error) {
	if function == "missing" {
		return core.Run{}, core.NotFound("there is no function %s in the app %s", function, app)
	}
	return b.call(p, req, reply)
}

// start starts a server of the backend, behind a door, and a client of it.
// through may stand between them.
func start(t *testing.T, b *backend, through func(http.Handler) http.Handler) *client.Client {
	t.Helper()
	door, err := access.New(access.Config{Token: token})
	if err != nil {
		t.Fatal(err)
	}
	h := httpapi.New(httpapi.Config{
		Door: door, Invoker: b, Runs: b, Deployer: b, Images: b, Versions: b, Instances: b,
		Server: httpapi.Server{Version: "1.2.3", Capabilities: core.Capabilities{Driver: "sandbox"}, StartedAt: born},
	})
	var outer http.Handler = h
	if through != nil {
		outer = through(h)
	}
	s := httptest.NewServer(outer)
	t.Cleanup(s.Close)
	t.Cleanup(h.Close)
	return dial(t, s.URL, token)
}

func dial(t *testing.T, url, token string) *client.Client {
	t.Helper()
	c, err := client.New(strings.TrimPrefix(url, "http://"), token, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
