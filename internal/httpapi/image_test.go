package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/core"
)

var somePull = core.PullProgress{
	Image: "r.example/a:1", Digest: "sha256:abc", Phase: core.PullDownloading, Done: 25, Total: 100, Layers: 3, LayersDone: 1, Rate: 7, Since: born,
}

func TestPullTellsHowFarItIs(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	url := serve(t, &ports{pull: func(_ context.Context, ref string, report func(core.PullProgress)) (core.Image, error) {
		report(core.PullProgress{Image: ref, Phase: core.PullResolving})
		report(somePull)
		<-next // the line before has come
		return core.Image{Digest: "sha256:abc", Names: []string{ref}, Source: "r.example/a"}, nil
	}})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/images/pull", strings.NewReader(`{"image":"r.example/a:1"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("got %s, %s", answer.Status, answer.Header.Get("Content-Type"))
	}
	lines := bufio.NewScanner(answer.Body)
	line := func() (e api.PullEvent) {
		if !lines.Scan() {
			t.Fatalf("there is no line: %v", lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	want := api.PullProgress{
		Image: "r.example/a:1", Digest: "sha256:abc", Phase: "downloading", Percent: 25, BytesDone: 25, BytesTotal: 100,
		Layers: 3, LayersDone: 1, Rate: 7, Since: born,
	}
	if e := line(); e.Progress == nil || *e.Progress != want {
		t.Errorf("got %+v", e.Progress)
	}
	close(next)
	if e := line(); e.Image == nil || e.Image.Source != "r.example/a" {
		t.Errorf("at last it says %+v", e)
	}
	if lines.Scan() {
		t.Errorf("and then %s", lines.Bytes())
	}
}

func TestPullFails(t *testing.T) {
	t.Parallel()
	boom := core.Unavailable(core.ReasonImagePullFailed, nil, "the registry is gone")
	early, _ := handler(&ports{pull: func(_ context.Context, ref string, report func(core.PullProgress)) (core.Image, error) {
		report(core.PullProgress{Image: ref, Phase: core.PullResolving})
		return core.Image{}, boom
	}})
	w := ask(t, early, "POST", "/v1/images/pull", `{"image":"a"}`, "Content-Type: application/json")
	wantProblem(t, w, http.StatusServiceUnavailable, core.ReasonImagePullFailed)
	late, _ := handler(&ports{pull: func(_ context.Context, _ string, report func(core.PullProgress)) (core.Image, error) {
		report(somePull)
		return core.Image{}, boom
	}})
	w = ask(t, late, "POST", "/v1/images/pull", `{"image":"a"}`, "Content-Type: application/json")
	lines := strings.Split(strings.TrimSpace(w.Body.String()), "\n")
	var e api.PullEvent
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &e); err != nil || w.Code != http.StatusOK || len(lines) != 2 ||
		e.Problem == nil || e.Problem.Code != api.ReasonImagePullFailed || e.Problem.Status != http.StatusServiceUnavailable {
		t.Errorf("got %d %s (%v)", w.Code, w.Body, err)
	}
}

func TestImageRoutes(t *testing.T) {
	t.Parallel()
	var removed string
	h, _ := handler(&ports{
		remove: func(ref string) error { removed = ref; return nil },
		prune: func(all bool) (core.Pruned, error) {
			if !all {
				return core.Pruned{}, nil
			}
			return core.Pruned{Images: []core.Image{{Digest: "sha256:abc", UsedAt: born, Instances: 0}}, Layers: 2, Bytes: 9}, nil
		},
	})
	w := ask(t, h, "GET", "/v1/images/shop%2Fresize:1.2", "")
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"digest":"sha256:abc"`) || strings.Contains(w.Body.String(), "used_at") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	wantProblem(t, ask(t, h, "GET", "/v1/images/other", ""), http.StatusNotFound, core.ReasonImageNotFound)
	if w := ask(t, h, "DELETE", "/v1/images/r.example:5000%2Fshop%2Fresize@sha256:abc", ""); w.Code != http.StatusNoContent || removed != "r.example:5000/shop/resize@sha256:abc" {
		t.Errorf("got %d, removed %q", w.Code, removed)
	}
	for body, want := range map[string]string{
		`{}`:           `{"images":[],"layers":0,"bytes":0}`,
		`{"all":true}`: `"used_at":"2026-01-31T12:00:00Z"`,
	} {
		if w := ask(t, h, "POST", "/v1/images/prune", body, "Content-Type: application/json"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: got %d %s", body, w.Code, w.Body)
		}
	}
}

func TestWaitingRun(t *testing.T) {
	t.Parallel()
	run := someRun
	run.State, run.Waiting = core.StateQueued, &core.Waiting{For: core.WaitImage, Message: somePull.String(), Pull: &somePull}
	h, _ := handler(&ports{run: func(core.RunID) (core.Run, error) { return run, nil }})
	var got api.Run
	w := ask(t, h, "GET", "/v1/runs/"+run.ID.String(), "")
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Waiting == nil || got.Waiting.For != api.WaitImage ||
		got.Waiting.Message != "image pull 25 %" || got.Waiting.Pull.Percent != 25 {
		t.Errorf("got %s, %v", w.Body, err)
	}
}

func TestUnresolvedFunction(t *testing.T) {
	t.Parallel()
	d := someFunction
	d.Version.Digest = ""
	h, _ := handler(&ports{save: func(n core.NewVersion) (core.Definition, error) {
		if !n.Lazy {
			return someFunction, nil
		}
		return d, nil
	}})
	for query, unresolved := range map[string]bool{"": false, "?pull=lazy": true} {
		w := ask(t, h, "PUT", "/v1/apps/shop/functions/resize"+query, `{"image":"a"}`, "Content-Type: application/json")
		if w.Code != http.StatusOK || strings.Contains(w.Body.String(), `"unresolved":true`) != unresolved {
			t.Errorf("%q: got %d %s", query, w.Code, w.Body)
		}
	}
	if w := ask(t, h, "PUT", "/v1/apps/shop/functions/resize?pull=soon", `{"image":"a"}`, "Content-Type: application/json"); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
