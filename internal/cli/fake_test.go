package cli_test

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/api"
)

// fake is a server with the routes that the command line uses. It keeps what
// it is told in memory, and what its functions do is in their names.
type fake struct {
	*httptest.Server
	mu        sync.Mutex
	functions map[string]api.Function
	versions  map[string][]api.Version // by function, oldest first
	images    []api.Image
	runs      []api.Run // oldest first
	logs      map[string][]api.LogLine
	token     string
	// called has a value when a function that never answers was called, gone
	// when its caller has gone away.
	called, gone chan struct{}
}

func newFake(t testing.TB) *fake {
	t.Helper()
	f := &fake{
		functions: map[string]api.Function{}, versions: map[string][]api.Version{}, logs: map[string][]api.LogLine{},
		called: make(chan struct{}, 1), gone: make(chan struct{}, 1),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/apps", f.listApps)
	mux.HandleFunc("GET /v1/functions", f.listFunctions)
	mux.HandleFunc("PUT /v1/apps/{app}/functions/{function}", f.putFunction)
	mux.HandleFunc("GET /v1/apps/{app}/functions/{function}", f.getFunction)
	mux.HandleFunc("DELETE /v1/apps/{app}/functions/{function}", f.deleteFunction)
	mux.HandleFunc("GET /v1/apps/{app}/functions/{function}/versions", func(w http.ResponseWriter, r *http.Request) {
		newest := slices.Clone(f.versions[key(r)])
		slices.Reverse(newest)
		reply(w, page(r, newest))
	})
	mux.HandleFunc("GET /v1/apps/{app}/functions/{function}/versions/{version}", f.getVersion)
	mux.HandleFunc("POST /v1/apps/{app}/functions/{function}/rollback", f.rollBack)
	mux.HandleFunc("POST /v1/images", f.loadImages)
	mux.HandleFunc("GET /v1/images", func(w http.ResponseWriter, _ *http.Request) { reply(w, api.List[api.Image]{Items: f.images}) })
	mux.HandleFunc("POST /v1/images/pull", f.pullImage)
	mux.HandleFunc("POST /v1/images/prune", f.pruneImages)
	mux.HandleFunc("GET /v1/images/{image}", f.getImage)
	mux.HandleFunc("DELETE /v1/images/{image}", f.removeImage)
	mux.HandleFunc("GET /v1/runs", f.listRuns)
	mux.HandleFunc("GET /v1/runs/{run}", f.getRun)
	mux.HandleFunc("POST /v1/runs/{run}/cancel", f.cancelRun)
	mux.HandleFunc("GET /v1/runs/{run}/usage", f.getRunUsage)
	mux.HandleFunc("GET /v1/runs/{run}/logs", f.getLogs)
	mux.HandleFunc("GET /v1/instances", f.listInstances)
	mux.HandleFunc("/f/{app}/{function}", f.invoke)
	mux.HandleFunc("/f/{app}/{function}/{path...}", f.invoke)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.token != "" && r.Header.Get("Authorization") != "Bearer "+f.token {
			refuse(w, 401, api.Problem{Code: api.CodeUnauthenticated, Detail: "a token is needed here"})
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, p api.Problem) {
	p.Title, p.Status = http.StatusText(status), status
	w.Header().Set("Content-Type", api.ProblemType)
	w.Header().Set(api.HeaderError, p.Code)
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(p)
}

func notFound(w http.ResponseWriter, what string) {
	refuse(w, 404, api.Problem{Code: api.CodeNotFound, Detail: "there is no " + what})
}

// page gives the part of a list that a request wants.
func page[T any](r *http.Request, items []T) api.List[T] {
	from, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	if limit == 0 {
		limit = 2
	}
	to := min(from+limit, len(items))
	l := api.List[T]{Items: append([]T{}, items[from:to]...)}
	if to < len(items) {
		l.NextCursor = strconv.Itoa(to)
	}
	return l
}

func key(r *http.Request) string { return r.PathValue("app") + "/" + r.PathValue("function") }

func (f *fake) listApps(w http.ResponseWriter, r *http.Request) {
	var apps []api.App
	for _, fn := range f.sorted("") {
		if !slices.ContainsFunc(apps, func(a api.App) bool { return a.Name == fn.App }) {
			apps = append(apps, api.App{Name: fn.App, CreatedAt: fn.CreatedAt})
		}
	}
	reply(w, page(r, apps))
}

func (f *fake) sorted(app string) []api.Function {
	var list []api.Function
	for _, fn := range f.functions {
		if app == "" || app == fn.App {
			list = append(list, fn)
		}
	}
	slices.SortFunc(list, func(a, b api.Function) int { return strings.Compare(a.App+"/"+a.Name, b.App+"/"+b.Name) })
	return list
}

func (f *fake) listFunctions(w http.ResponseWriter, r *http.Request) {
	reply(w, page(r, f.sorted(r.URL.Query().Get("app"))))
}

func (f *fake) putFunction(w http.ResponseWriter, r *http.Request) {
	var v api.NewVersion
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		refuse(w, 400, api.Problem{Code: api.CodeInvalid, Detail: err.Error()})
		return
	}
	old, exists := f.functions[key(r)]
	switch {
	case exists && r.Header.Get("If-Match") != "" && r.Header.Get("If-Match") != old.ETag:
		refuse(w, 412, api.Problem{Code: api.CodeConflict, Detail: "the function " + key(r) + " is at " + old.ETag})
		return
	case exists && r.Header.Get("If-None-Match") == "*":
		refuse(w, 412, api.Problem{Code: api.CodeConflict, Detail: "the function " + key(r) + " exists already"})
		return
	case v.Image == "missing":
		refuse(w, 404, api.Problem{Code: api.ReasonImageNotFound, Detail: "there is no image missing: load it first"})
		return
	}
	at := time.Now().Add(-3 * time.Hour)
	fn := api.Function{
		App: r.PathValue("app"), Name: r.PathValue("function"), Path: "/f/" + key(r), Description: v.Description,
		Annotations: v.Annotations, Version: old.Version + 1, Digest: "sha256:" + strings.Repeat("ab", 32), Spec: v.Spec,
		CreatedAt: at, UpdatedAt: at, DeployedAt: at,
	}
	if r.URL.Query().Get("pull") == "lazy" {
		fn.Digest, fn.Unresolved = "", true
	}
	fn.Contract = or(fn.Contract, api.ContractHTTP)
	fn.Memory = or(fn.Memory, 128*api.MiB)
	fn.CPU = or(fn.CPU, 1)
	fn.Timeout = or(fn.Timeout, api.Duration(30*time.Second))
	if exists && old.Image == fn.Image && old.Memory == fn.Memory {
		fn.Version = old.Version
	}
	f.keep(key(r), fn, 0)
	reply(w, f.functions[key(r)])
}

// keep makes a function the one that is called.
func (f *fake) keep(key string, fn api.Function, restores int) {
	fn.ETag = `"` + strconv.Itoa(fn.Version) + `"`
	if fn.Version > len(f.versions[key]) {
		f.versions[key] = append(f.versions[key], api.Version{
			Version: fn.Version, Digest: fn.Digest, Restores: restores, Spec: fn.Spec, CreatedAt: fn.DeployedAt, CreatedBy: "local",
		})
	}
	f.functions[key] = fn
}

func (f *fake) getVersion(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.PathValue("version"))
	if n < 1 || n > len(f.versions[key(r)]) {
		notFound(w, "version "+r.PathValue("version")+" of "+key(r))
		return
	}
	reply(w, f.versions[key(r)][n-1])
}

func (f *fake) rollBack(w http.ResponseWriter, r *http.Request) {
	var want api.Rollback
	json.NewDecoder(r.Body).Decode(&want)
	fn := f.functions[key(r)]
	if r.Header.Get("If-Match") != fn.ETag {
		refuse(w, 412, api.Problem{Code: api.CodeConflict, Detail: "the function " + key(r) + " is at " + fn.ETag})
		return
	}
	to := or(want.To, fn.Version-1)
	if to < 1 || to > len(f.versions[key(r)]) {
		notFound(w, "version "+strconv.Itoa(to)+" of "+key(r))
		return
	}
	if to != fn.Version {
		fn.Spec, fn.Version = f.versions[key(r)][to-1].Spec, fn.Version+1
	}
	f.keep(key(r), fn, to)
	reply(w, f.functions[key(r)])
}

func or[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

func (f *fake) getFunction(w http.ResponseWriter, r *http.Request) {
	fn, ok := f.functions[key(r)]
	if !ok {
		notFound(w, "function "+key(r))
		return
	}
	reply(w, fn)
	if fn.Name == "raced" { // somebody else deploys it whenever one has looked
		fn.Version++
		f.keep(key(r), fn, 0)
	}
}

func (f *fake) deleteFunction(w http.ResponseWriter, r *http.Request) {
	if _, ok := f.functions[key(r)]; !ok {
		notFound(w, "function "+key(r))
		return
	}
	delete(f.functions, key(r))
	delete(f.versions, key(r))
	w.WriteHeader(http.StatusNoContent)
}

// loadImages takes the digest and the name of the first image from the index
// of an OCI layout.
func (f *fake) loadImages(w http.ResponseWriter, r *http.Request) {
	counted := &counter{r: r.Body}
	var index struct {
		Manifests []struct {
			Digest      string            `json:"digest"`
			Annotations map[string]string `json:"annotations"`
		} `json:"manifests"`
	}
	in := tar.NewReader(counted)
	for {
		h, err := in.Next()
		if err != nil {
			break
		}
		if h.Name == "index.json" {
			json.NewDecoder(in).Decode(&index)
		}
	}
	if len(index.Manifests) != 1 {
		refuse(w, 400, api.Problem{Code: api.CodeInvalid, Detail: "the tar has no image in it"})
		return
	}
	image := api.Image{
		Digest: index.Manifests[0].Digest, Bytes: counted.n, LoadedAt: time.Now(), Names: []string{},
		Config: api.ImageConfig{OS: "linux", Architecture: "amd64"},
	}
	if name := index.Manifests[0].Annotations["org.opencontainers.image.ref.name"]; name != "" {
		image.Names = append(image.Names, name)
	}
	f.images = append(f.images, image)
	reply(w, api.List[api.Image]{Items: []api.Image{image}})
}

// pullImage tells what a pull of two layers would; one named "halfway" breaks
// off.
func (f *fake) pullImage(w http.ResponseWriter, r *http.Request) {
	var q api.PullImage
	json.NewDecoder(r.Body).Decode(&q)
	if q.Image == "missing" {
		refuse(w, 404, api.Problem{Code: api.ReasonImageNotFound, Detail: "the registry has no image missing"})
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := json.NewEncoder(w)
	p := api.PullProgress{Image: q.Image, Phase: api.PullResolving}
	lines.Encode(api.PullEvent{Progress: &p})
	p = api.PullProgress{Image: q.Image, Phase: api.PullDownloading, BytesTotal: 10 << 20, Layers: 2, Rate: 2 << 20}
	for p.Percent = range 100 {
		p.BytesDone = p.BytesTotal * int64(p.Percent) / 100
		lines.Encode(api.PullEvent{Progress: &p})
	}
	if q.Image == "halfway" {
		lines.Encode(api.PullEvent{Problem: &api.Problem{Status: 503, Code: api.ReasonImagePullFailed, Detail: "the registry is gone"}})
		return
	}
	p.Phase, p.LayersDone = api.PullUnpacking, 1
	lines.Encode(api.PullEvent{Progress: &p})
	image := api.Image{
		Digest: "sha256:" + strings.Repeat("cd", 32), Bytes: 20 << 20, LoadedAt: time.Now(), UsedAt: time.Now().Add(-2 * time.Hour), Names: []string{q.Image},
		Source: "registry.example/x", Config: api.ImageConfig{OS: "linux", Architecture: "amd64", Entrypoint: []string{"/app", "x"}, User: "app"},
	}
	f.images = append(f.images, image)
	lines.Encode(api.PullEvent{Image: &image})
}

func (f *fake) imageAt(ref string) int {
	return slices.IndexFunc(f.images, func(i api.Image) bool { return slices.Contains(i.Names, ref) })
}

func (f *fake) getImage(w http.ResponseWriter, r *http.Request) {
	if i := f.imageAt(r.PathValue("image")); i >= 0 {
		reply(w, f.images[i])
		return
	}
	refuse(w, 404, api.Problem{Code: api.ReasonImageNotFound, Detail: "there is no image " + r.PathValue("image")})
}

func (f *fake) removeImage(w http.ResponseWriter, r *http.Request) {
	i := f.imageAt(r.PathValue("image"))
	if i < 0 {
		refuse(w, 404, api.Problem{Code: api.ReasonImageNotFound, Detail: "there is no image " + r.PathValue("image")})
		return
	}
	f.images = slices.Delete(f.images, i, i+1)
	w.WriteHeader(http.StatusNoContent)
}

func (f *fake) pruneImages(w http.ResponseWriter, r *http.Request) {
	var q api.PruneImages
	json.NewDecoder(r.Body).Decode(&q)
	out := api.PrunedImages{Images: []api.Image{}}
	if q.All {
		out = api.PrunedImages{Images: f.images, Layers: 3, Bytes: 5 << 20}
		f.images = nil
	}
	reply(w, out)
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (f *fake) listRuns(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var runs []api.Run
	for _, run := range slices.Backward(f.runs) {
		if (q.Get("app") == "" || q.Get("app") == run.App) && (q.Get("function") == "" || q.Get("function") == run.Function) &&
			(len(q["state"]) == 0 || slices.Contains(q["state"], string(run.State))) {
			runs = append(runs, run)
		}
	}
	reply(w, page(r, runs))
}

func (f *fake) find(id string) *api.Run {
	for i := range f.runs {
		if f.runs[i].ID == id {
			return &f.runs[i]
		}
	}
	return nil
}

func (f *fake) getRun(w http.ResponseWriter, r *http.Request) {
	if run := f.find(r.PathValue("run")); run != nil {
		reply(w, run)
		return
	}
	notFound(w, "run "+r.PathValue("run"))
}

func (f *fake) getRunUsage(w http.ResponseWriter, r *http.Request) {
	run := f.find(r.PathValue("run"))
	if run == nil {
		notFound(w, "run "+r.PathValue("run"))
		return
	}
	u := api.RunUsage{Usage: run.Usage}
	for i := range 8 {
		u.Samples = append(u.Samples, api.UsageSample{
			AtMS: api.Milliseconds(1000 * (i + 1)), CPUMS: api.Milliseconds(250 * min(i+1, 4)), MemoryBytes: int64(i+1) << 20,
		})
	}
	reply(w, u)
}

func (f *fake) cancelRun(w http.ResponseWriter, r *http.Request) {
	run := f.find(r.PathValue("run"))
	switch {
	case run == nil:
		notFound(w, "run "+r.PathValue("run"))
	case run.State.Final():
		refuse(w, 409, api.Problem{Code: api.CodeConflict, Detail: "the run has ended already: it " + string(run.State)})
	default:
		run.State, run.Reason = api.StateCancelled, api.ReasonCancelledByUser
		reply(w, run)
	}
}

func (f *fake) getLogs(w http.ResponseWriter, r *http.Request) {
	run := f.find(r.PathValue("run"))
	if run == nil {
		notFound(w, "run "+r.PathValue("run"))
		return
	}
	after, _ := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	lines := f.logs[run.ID]
	if r.URL.Query().Get("follow") == "" {
		out := []api.LogLine{}
		for _, l := range lines {
			if l.Sequence > after && len(out) < 7 { // a page that is soon full
				out = append(out, l)
			}
		}
		reply(w, api.Logs{Lines: out})
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for _, l := range lines {
		b, _ := json.Marshal(l)
		fmt.Fprintf(w, "event: log\nid: %d\ndata: %s\n\n", l.Sequence, b)
	}
	b, _ := json.Marshal(run)
	fmt.Fprintf(w, "event: end\ndata: %s\n\n", b)
}

func (f *fake) listInstances(w http.ResponseWriter, _ *http.Request) {
	reply(w, api.List[api.Instance]{Items: []api.Instance{{
		ID: "ins_0000000000001", App: "default", Function: "echo", Version: 3, State: "hot", Memory: 64 * api.MiB, Served: 12,
		StartedAt: time.Now().Add(-90 * time.Second), Start: api.Start{ImageMS: 0.1, SandboxMS: 2.5, BootMS: 1.25},
	}}})
}

// newRun records a run.
func (f *fake) newRun(r *http.Request, state api.State, reason string, log ...string) *api.Run {
	at := time.Now().Add(-5 * time.Minute)
	run := api.Run{
		ID: fmt.Sprintf("run_%013d", len(f.runs)+1), App: r.PathValue("app"), Function: r.PathValue("function"), Version: 1,
		State: state, Reason: reason, Trigger: "http", Attempt: 1, Method: r.Method, Path: "/" + r.PathValue("path"),
		CreatedAt: at, StartedAt: at, FinishedAt: at, Cold: len(f.runs) == 0, QueueMS: 0.012, DurationMS: 1.5,
		BytesIn: 2, BytesOut: 1536, Usage: api.Usage{CPUMS: 0.75, PeakMemoryBytes: 5 << 20},
	}
	if run.Function == "long" {
		run.DurationMS = 8500
		run.Usage = api.Usage{CPUMS: 1000, ThrottledMS: 200, MemoryBytes: 6 << 20, PeakMemoryBytes: 8 << 20, PeakOfInstance: true, OOMKills: 2}
	}
	if run.Cold {
		run.Start = &api.Start{ImageMS: 0.1, SandboxMS: 2.5, BootMS: 1.25}
	}
	for i, text := range log {
		f.logs[run.ID] = append(f.logs[run.ID], api.LogLine{Sequence: int64(i + 1), Time: at, Stream: api.StreamStderr, Text: text})
	}
	f.runs = append(f.runs, run)
	return &f.runs[len(f.runs)-1]
}

// invoke does what the function's name says.
func (f *fake) invoke(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("function")
	problem := func(status int, code, detail string) {
		run := f.newRun(r, api.StateFailed, code, slices.Repeat([]string{"a line"}, 12)...)
		f.logs[run.ID][11].Text = "panic: \x1b[31mboom"
		w.Header().Set(api.HeaderRunID, run.ID)
		refuse(w, status, api.Problem{Code: code, Detail: detail, RunID: run.ID})
	}
	answer := func(status int) {
		run := f.newRun(r, api.StateSucceeded, "", "hello from "+name)
		w.Header().Set(api.HeaderRunID, run.ID)
		w.Header().Set("Server-Timing", "queue;dur=0.012, start;dur=3.85;desc=cold, run;dur=1.5")
		w.WriteHeader(status)
	}
	switch name {
	case "echo":
		body, _ := io.ReadAll(r.Body)
		query, _ := url.QueryUnescape(r.URL.RawQuery)
		answer(200)
		fmt.Fprintf(w, "%s %s ?%s type=%s x=%s length=%d\n%s\n", r.Method, r.URL.Path, query, r.Header.Get("Content-Type"), r.Header.Get("X-Test"), r.ContentLength, body)
	case "exits":
		problem(502, api.ReasonExitCode, "the function exited with code 3")
	case "late":
		problem(504, api.ReasonTimeout, "the function did not answer within 30s")
	case "breaks":
		answer(500)
		fmt.Fprint(w, "it broke\n")
	case "misses":
		answer(404)
		fmt.Fprint(w, "no such thing\n")
	case "stops":
		answer(200)
		fmt.Fprint(w, "the first part\n")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	case "busy":
		w.Header().Set("Retry-After", "3")
		refuse(w, 429, api.Problem{Code: api.CodeTooMany, Detail: "1000 calls are waiting already"})
	case "never":
		f.mu.Unlock()
		f.called <- struct{}{}
		<-r.Context().Done()
		f.gone <- struct{}{}
		f.mu.Lock()
	default:
		notFound(w, "function "+key(r))
	}
}

// addRun records a run of a function in a state.
func (f *fake) addRun(function, state string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.SetPathValue("app", "default")
	r.SetPathValue("function", function)
	reason := map[string]string{"failed": api.ReasonExitCode, "timed_out": api.ReasonTimeout}[state]
	f.newRun(r, api.State(state), reason, "first", "second", "::progress 50 half", "fourth", "fifth", "sixth", "seventh", "eighth")
}
