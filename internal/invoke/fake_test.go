package invoke_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-io/dayfly/internal/contract/job"
	"github.com/dayfly-io/dayfly/internal/contract/web"
	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/invoke"
	"github.com/dayfly-io/dayfly/internal/memory"
	"github.com/dayfly-io/dayfly/internal/sequence"
)

// driver runs Go functions as instances: a program by the function's name.
type driver struct {
	programs  map[string]program
	peaksStay bool // they cannot be reset

	mu        sync.Mutex
	instances map[core.InstanceID]*instance
	work      sync.WaitGroup
}

// program is what an instance does: one of the fields is set.
type program struct {
	start func(ctx context.Context) error             // in place of a start that works
	serve func(in *instance, w writer, r *request)    // a web server
	main  func(ctx context.Context, in *instance) int // anything else; ctx ends with the instance; gives the exit code
}

type (
	writer  = http.ResponseWriter
	request = http.Request
)

type instance struct {
	spec   core.InstanceSpec
	stdio  core.Stdio
	conns  chan net.Conn
	stop   context.CancelFunc
	killed bool
	exit   core.Exit
	once   sync.Once
	ended  chan struct{}
	deaf   sync.Once
	closed chan struct{} // it does not listen any more

	mu   sync.Mutex
	used core.Usage
}

func (d *driver) Start(ctx context.Context, spec core.InstanceSpec, stdio core.Stdio) (core.Instance, error) {
	p := d.programs[spec.Function]
	if p.start != nil {
		if err := p.start(ctx); err != nil {
			return core.Instance{}, err
		}
	}
	in := &instance{spec: spec, stdio: stdio, used: core.Usage{Memory: core.MiB, PeakMemory: core.MiB}, conns: make(chan net.Conn), ended: make(chan struct{}), closed: make(chan struct{})}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	in.stop = stop
	d.mu.Lock()
	d.instances[spec.ID] = in
	d.mu.Unlock()
	d.work.Go(func() {
		defer stop()
		code := 0
		switch {
		case p.serve != nil:
			in.serve(life, p.serve)
		case p.main != nil:
			code = p.main(life, in)
		default:
			<-life.Done()
		}
		in.end(core.Exit{Code: code})
	})
	return core.Instance{ID: spec.ID, StartedAt: time.Now()}, nil
}

// serve serves until life ends.
func (in *instance) serve(life context.Context, handler func(*instance, writer, *request)) {
	server := &http.Server{
		Handler:  http.HandlerFunc(func(w writer, r *request) { handler(in, w, r) }),
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(in) })
	<-life.Done()
	_ = server.Close()
	serving.Wait()
}

func (in *instance) Accept() (net.Conn, error) {
	select {
	case c := <-in.conns:
		return c, nil
	case <-in.closed:
		return nil, net.ErrClosed
	}
}

// Close closes the listener that the instance is.
func (in *instance) Close() error {
	in.deaf.Do(func() { close(in.closed) })
	return nil
}

func (in *instance) Addr() net.Addr { return &net.TCPAddr{} }

// end ends the instance, with a signal when it was killed.
func (in *instance) end(e core.Exit) {
	in.once.Do(func() {
		if in.killed && e == (core.Exit{}) {
			e = core.Exit{Code: 137, Signal: 9}
		}
		in.mu.Lock()
		e.Usage = in.used
		in.mu.Unlock()
		in.exit = e
		close(in.ended)
	})
}

// crash ends the instance as if its process had.
func (in *instance) crash(e core.Exit) {
	in.end(e)
	in.stop()
}

// print prints to stdout (1) or stderr (2).
func (in *instance) print(stream int, text string) {
	w := in.stdio.Stdout
	if stream == 2 {
		w = in.stdio.Stderr
	}
	_, _ = io.WriteString(w, text)
}

func (d *driver) find(id core.InstanceID) (*instance, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if in := d.instances[id]; in != nil {
		return in, nil
	}
	return nil, core.ErrGone
}

func (d *driver) Wait(ctx context.Context, id core.InstanceID) (core.Exit, error) {
	in, err := d.find(id)
	if err != nil {
		return core.Exit{}, err
	}
	select {
	case <-in.ended:
		return in.exit, nil
	default:
	}
	select {
	case <-in.ended:
		return in.exit, nil
	case <-ctx.Done():
		return core.Exit{}, ctx.Err()
	}
}

func (d *driver) Stop(_ context.Context, id core.InstanceID, _ time.Duration) error {
	in, err := d.find(id)
	if err != nil {
		return err
	}
	d.mu.Lock()
	in.killed = true
	d.mu.Unlock()
	in.stop()
	<-in.ended
	return nil
}

func (d *driver) Drain(id core.InstanceID) error {
	_, err := d.find(id)
	return err
}

func (d *driver) Usage(id core.InstanceID) (core.Usage, error) {
	in, err := d.find(id)
	if err != nil {
		return core.Usage{}, err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.used, nil
}

// ResetPeak makes the peak what there is.
func (d *driver) ResetPeak(id core.InstanceID) error {
	in, err := d.find(id)
	if err != nil || d.peaksStay {
		return errors.Join(err, errors.ErrUnsupported)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.used.PeakMemory = in.used.Memory
	return nil
}

// use adds to what the instance has used.
func (in *instance) use(cpu time.Duration, memory core.Bytes) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.used.CPU += cpu
	in.used.Memory, in.used.PeakMemory = memory, max(in.used.PeakMemory, memory)
}

func (in *instance) killChild() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.used.OOMKills++
}

func (d *driver) Freeze(context.Context, core.InstanceID) error { return nil }
func (d *driver) Thaw(context.Context, core.InstanceID) error   { return nil }

// Dial connects to a web server; to anything else it takes until ctx ends.
func (d *driver) Dial(ctx context.Context, id core.InstanceID, _ int) (net.Conn, error) {
	in, err := d.find(id)
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	select {
	case in.conns <- far:
		return near, nil
	case <-in.ended:
		return nil, core.ErrGone
	case <-in.closed:
		return nil, core.ErrGone
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// alive gives the number of processes that run.
func (d *driver) alive() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, in := range d.instances {
		select {
		case <-in.ended:
		default:
			n++
		}
	}
	return n
}

// store is a store that can fail, and remembers what it was given.
type store struct {
	*memory.Store
	logs *memory.Logs

	mu     sync.Mutex
	fails  error
	saved  map[core.RunID][]core.State
	logged int // lines
}

func (s *store) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails = err
}

func (s *store) SaveRuns(ctx context.Context, runs []core.Run) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails != nil {
		return s.fails
	}
	for _, r := range runs {
		s.saved[r.ID] = append(s.saved[r.ID], r.State)
	}
	return s.Store.SaveRuns(ctx, runs)
}

func (s *store) AppendLogs(ctx context.Context, chunks []core.LogChunk) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails != nil {
		return s.fails
	}
	for _, c := range chunks {
		s.logged += len(c.Lines)
	}
	return s.logs.AppendLogs(ctx, chunks)
}

func (s *store) Logs(ctx context.Context, run core.RunID, after int64, limit int) ([]core.LogLine, error) {
	return s.logs.Logs(ctx, run, after, limit)
}

func (s *store) states(id core.RunID) []core.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]core.State(nil), s.saved[id]...)
}

// world is a service with functions, in a bubble of time.
type world struct {
	*testing.T
	*invoke.Service
	d      *driver
	store  *store
	images *images
	defs   map[string]*core.Definition
	close  func()
}

// inWorld runs a test with the programs as functions of the app shop; those
// with a name that begins with job are jobs.
func inWorld(t *testing.T, programs map[string]program, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			T: t, defs: map[string]*core.Definition{},
			d:      &driver{programs: programs, instances: map[core.InstanceID]*instance{}},
			images: &images{},
			store:  &store{Store: memory.New(), logs: memory.NewLogs(), saved: map[core.RunID][]core.State{}},
		}
		for name := range programs {
			spec := core.Spec{Image: "i"}
			if strings.HasPrefix(name, "job") {
				spec.Contract = core.ContractJob
			}
			w.defs[name] = &core.Definition{
				App:      core.App{ID: 1, Name: "shop"},
				Function: core.Function{ID: core.FunctionID(len(w.defs) + 1), Name: name},
				Version:  core.Version{Number: 1, Spec: spec.WithDefaults()},
			}
		}
		w.Service = invoke.New(t.Context(), invoke.Config{
			Catalog: w, Store: w.store, Logs: w.store, Images: w.images, Driver: w.d, Peaks: w.d, Memory: core.GiB, Log: slog.New(slog.DiscardHandler),
			IDs: sequence.New(0, func() time.Time { return time.Now().AddDate(40, 0, 0) }),
			Web: web.New(w.d, web.Options{}), FDK: web.New(w.d, web.Options{}), Job: job.New(w.d, job.Options{Grace: time.Second}),
		})
		w.close = sync.OnceFunc(w.Close)
		defer func() {
			w.close()
			w.d.work.Wait()
			if n := w.d.alive(); n != 0 {
				t.Errorf("after Close %d instances are there", n)
			}
		}()
		f(w)
	})
}

// Find implements the catalog.
func (w *world) Find(app, function string) (*core.Definition, error) {
	if def := w.defs[function]; def != nil && app == "shop" {
		return def, nil
	}
	return nil, core.NotFound("there is no function %q in the app %q", function, app)
}

// spec changes the spec of a function that has not been called.
func (w *world) spec(name string, change func(*core.Spec)) { change(&w.defs[name].Version.Spec) }

// call is one that goes on, or has ended; run and err are there when done is
// closed.
type call struct {
	run    core.Run
	err    error
	reply  *reply
	cancel context.CancelFunc
	done   chan struct{}
}

var me = core.Principal{Name: "me"}

func (w *world) send(function, body string) *call {
	ctx, cancel := context.WithCancel(w.Context())
	c := &call{reply: &reply{header: core.Header{}}, cancel: cancel, done: make(chan struct{})}
	req := &core.Request{
		Method: "POST", Path: "/p", Host: "h", Scheme: "http", Remote: "192.0.2.7:4711",
		Header: core.Header{}, Body: strings.NewReader(body), Length: int64(len(body)),
	}
	go func() {
		defer close(c.done)
		c.run, c.err = w.Call(ctx, me, "shop", function, core.TriggerHTTP, req, c.reply)
	}()
	return c
}

// call calls a function and waits for the end.
func (w *world) call(function, body string) *call {
	c := w.send(function, body)
	<-c.done
	return c
}

// going sends a call, and lets happen what happens at once; it gives the run.
func (w *world) going(function, body string) (*call, core.Run) {
	w.Helper()
	before := map[core.RunID]bool{}
	for _, r := range w.list(core.RunFilter{}) {
		before[r.ID] = true
	}
	c := w.send(function, body)
	synctest.Wait()
	for _, r := range w.list(core.RunFilter{}) {
		if !before[r.ID] {
			return c, r
		}
	}
	w.Fatalf("the call made no run: %v", c.err)
	return nil, core.Run{}
}

func (w *world) list(filter core.RunFilter) []core.Run {
	w.Helper()
	page, err := w.Runs(w.Context(), me, filter, core.Page{Limit: core.MaxPageSize})
	if err != nil {
		w.Fatal(err)
	}
	return page.Runs
}

// after lets time pass, and everything that happens meanwhile.
func (w *world) after(d time.Duration) {
	time.Sleep(d) // of the bubble
	synctest.Wait()
}

// flushed lets pass what it takes until all is written.
func (w *world) flushed() { w.after(2 * time.Second) }

// log gives the log of a run, line by line, from Logs.
func (w *world) log(id core.RunID) []string {
	w.Helper()
	lines, err := w.Logs(w.Context(), me, id, 0, 100_000)
	if err != nil {
		w.Fatal(err)
	}
	return texts(lines)
}

func texts(lines []core.LogLine) []string {
	out := make([]string, 0, len(lines))
	for _, l := range lines {
		out = append(out, l.Text)
	}
	return out
}

// failed fails unless the call ended so.
func (w *world) failed(c *call, kind core.Kind, state core.State, reason core.Reason, text ...string) {
	w.Helper()
	<-c.done
	e := core.AsError(c.err)
	if c.err == nil || e.Kind != kind || e.Code != reason || c.run.State != state || c.run.Reason != reason {
		w.Errorf("the call ended with %v (%s %s), the run is %s, %s; want %s, %s, %s", c.err, e.Kind, e.Code, c.run.State, c.run.Reason, kind, state, reason)
	}
	for _, s := range text {
		if !strings.Contains(e.Message, s) {
			w.Errorf("the message %q does not have %q", e.Message, s)
		}
	}
	if got, err := w.Service.Run(w.Context(), me, c.run.ID); err != nil || got.State != state || got.FinishedAt.IsZero() {
		w.Errorf("the run is read as %+v, %v", got, err)
	}
}

// reply remembers.
type reply struct {
	header core.Header
	status int
	body   bytes.Buffer
	begun  core.Run
}

func (r *reply) Begin(run *core.Run)         { r.begun = *run }
func (r *reply) Header() core.Header         { return r.header }
func (r *reply) WriteHeader(status int)      { r.status = status }
func (r *reply) Write(p []byte) (int, error) { return r.body.Write(p) }
func (r *reply) Flush() error                { return nil }

var errDisk = core.Unavailable(core.ReasonDiskFull, errors.New("no space left on device"), "the disk is full")

// echo answers with what it was asked, and says so in its log.
func echo(in *instance, w writer, r *request) {
	body, _ := io.ReadAll(r.Body)
	in.print(1, fmt.Sprintf("asked %s\n", body))
	_, _ = w.Write(body)
}

// hang does nothing until it is ended.
func hang(ctx context.Context, _ *instance) int {
	<-ctx.Done()
	return 0
}

// hangUp does nothing until the caller goes away.
func hangUp(in *instance, _ writer, r *request) {
	_, _ = io.ReadAll(r.Body)
	in.print(2, "working\n")
	<-r.Context().Done()
}

// images are there, unless fetch is set.
type images struct {
	fetch func(ctx context.Context, def *core.Definition, report func(core.PullProgress)) (*core.Definition, error)
}

func (i *images) Ready(*core.Definition) bool { return i.fetch == nil }

func (i *images) Fetch(ctx context.Context, def *core.Definition, report func(core.PullProgress)) (*core.Definition, error) {
	if i.fetch != nil && report != nil { // the pool's own look finds what the call has fetched
		return i.fetch(ctx, def, report)
	}
	return def, nil
}
