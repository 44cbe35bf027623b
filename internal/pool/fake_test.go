package pool_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/pool"
)

// driver is a driver and a host whose processes are entries in a map.
type driver struct {
	prepareTime, startTime, bootTime, stopTime time.Duration
	failPrepare, failStart, failReady          error
	freezeTime, thawTime                       time.Duration
	failFreeze, failThaw                       error
	called                                     map[core.FunctionID]int // 0 for whatever comes

	mu                        sync.Mutex
	last                      core.InstanceID
	live                      map[core.InstanceID]*process
	used                      core.Bytes // of what is there, from the begin of Start to the end of Stop
	peak                      core.Bytes
	started                   int
	freezes, freezing         int // done, and begun
	nowFreezing, mostFreezing int
	graces                    map[core.InstanceID]time.Duration // by which ended instances were stopped
	ended                     map[core.InstanceID]int           // how often Ended was told
}

type process struct {
	spec   core.InstanceSpec
	ended  chan struct{}
	gone   bool
	frozen bool
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func newDriver() *driver {
	return &driver{
		startTime: 10 * time.Millisecond, bootTime: 5 * time.Millisecond, stopTime: 20 * time.Millisecond,
		live: map[core.InstanceID]*process{}, called: map[core.FunctionID]int{}, graces: map[core.InstanceID]time.Duration{}, ended: map[core.InstanceID]int{},
	}
}

func (d *driver) Prepare(ctx context.Context, def *core.Definition) (core.InstanceSpec, core.Stdio, error) {
	d.mu.Lock()
	wait, fail := d.prepareTime, d.failPrepare
	d.mu.Unlock()
	if err := errors.Join(pause(ctx, wait), fail); err != nil {
		return core.InstanceSpec{}, core.Stdio{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last++
	return core.InstanceSpec{ID: d.last, Function: def.Function.Name, Memory: def.Version.Spec.Memory}, core.Stdio{}, nil
}

func (d *driver) Start(ctx context.Context, spec core.InstanceSpec, _ core.Stdio) (core.Instance, error) {
	d.mu.Lock()
	d.started++
	d.used += spec.Memory
	d.peak = max(d.peak, d.used)
	wait := d.startTime
	d.mu.Unlock()
	err := pause(ctx, wait)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err = errors.Join(err, d.failStart); err != nil {
		d.used -= spec.Memory
		return core.Instance{}, fmt.Errorf("start %d: %w", spec.ID, err)
	}
	d.live[spec.ID] = &process{spec: spec, ended: make(chan struct{})}
	return core.Instance{ID: spec.ID, StartedAt: time.Now(), Start: core.StartPhases{Sandbox: wait}}, nil
}

func (d *driver) Ready(ctx context.Context, _ core.InstanceID, _ *core.Definition) error {
	d.mu.Lock()
	wait, fail := d.bootTime, d.failReady
	d.mu.Unlock()
	return errors.Join(pause(ctx, wait), fail)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *driver) Ended(id core.InstanceID, _ core.Exit, _ error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended[id]++
}

func (d *driver) find(id core.InstanceID) *process {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.live[id]
}

func (d *driver) Wait(ctx context.Context, id core.InstanceID) (core.Exit, error) {
	p := d.find(id)
	if p == nil {
		return core.Exit{}, core.ErrGone
	}
	select {
	case <-p.ended:
		return core.Exit{}, nil
	case <-ctx.Done():
		return core.Exit{}, ctx.Err()
	}
}

// die ends the process of an instance.
func (d *driver) die(id core.InstanceID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.live[id]; p != nil {
		p.end()
	}
}

func (p *process) end() {
	select {
	case <-p.ended:
	default:
		close(p.ended)
	}
}

func (d *driver) Stop(ctx context.Context, id core.InstanceID, grace time.Duration) error {
	p := d.find(id)
	if p == nil {
		return core.ErrGone
	}
	d.mu.Lock()
	if _, ok := d.graces[id]; !ok {
		d.graces[id] = grace
	}
	d.mu.Unlock()
	d.die(id)
	if err := pause(ctx, d.stopTime); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !p.gone {
		p.gone = true
		d.used -= p.spec.Memory
	}
	return nil
}

func (d *driver) Drain(core.InstanceID) error               { return nil }
func (d *driver) Usage(core.InstanceID) (core.Usage, error) { return core.Usage{}, nil }

// Freeze takes a while, in which the process is neither.
func (d *driver) Freeze(ctx context.Context, id core.InstanceID) error {
	p := d.find(id)
	if p == nil || p.hasEnded() {
		return core.ErrGone
	}
	d.mu.Lock()
	wait, fail := d.freezeTime, d.failFreeze
	d.nowFreezing++
	d.mostFreezing = max(d.mostFreezing, d.nowFreezing)
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.nowFreezing--
	}()
	if err := errors.Join(pause(ctx, wait), fail); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.hasEnded() {
		return core.ErrGone
	}
	p.frozen = true
	d.freezes++
	return nil
}

func (d *driver) Thaw(_ context.Context, id core.InstanceID) error {
	p := d.find(id)
	d.mu.Lock()
	wait, fail := d.thawTime, d.failThaw
	d.mu.Unlock()
	if wait > 0 {
		time.Sleep(wait) // of the bubble
	}
	if p == nil || p.hasEnded() {
		return core.ErrGone
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if fail != nil {
		return fail
	}
	p.frozen = false
	return nil
}

// Freezing counts what is told before an instance is frozen.
func (d *driver) Freezing(core.InstanceID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.freezing++
}

// Called says that a version is called, unless the test says otherwise.
func (d *driver) Called(def *core.Definition) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	called := d.called[def.Function.ID]
	return called == 0 || called == def.Version.Number
}

func (d *driver) isFrozen(id core.InstanceID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.live[id]
	return p != nil && p.frozen
}

// count gives the number of processes that run.
func (d *driver) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, p := range d.live {
		select {
		case <-p.ended:
		default:
			n++
		}
	}
	return n
}

func (d *driver) starts() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.started
}

// fails makes starts fail from now on; nil makes them work.
func (d *driver) fails(start, ready error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failStart, d.failReady = start, ready
}

// grace tells how an instance was stopped, -1 for one that was not.
func (d *driver) grace(id core.InstanceID) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if g, ok := d.graces[id]; ok {
		return g
	}
	return -1
}

const graceTime = 3 * time.Second

// world is a pool over a driver, in a bubble of time.
type world struct {
	*testing.T
	d *driver
	p *pool.Pool
	// permits is the memory of the jobs that outlast the pool.
	permits core.Bytes
	closed  bool // the test has closed the pool
}

// inWorld runs a test in a world; afterwards nothing of it may be left.
func inWorld(t *testing.T, memory core.Bytes, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, d: newDriver()}
		w.p = pool.New(t.Context(), pool.Config{
			Driver: w.d, Host: w.d, Memory: memory, Freeze: true, Grace: graceTime, Log: slog.New(slog.DiscardHandler),
		})
		defer w.nothingLeft()
		defer func() {
			if !w.closed {
				w.p.Close()
			}
		}()
		f(w)
	})
}

func (w *world) nothingLeft() {
	w.Helper()
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	if used, _ := w.p.MemoryInUse(); used != w.permits || w.d.used != 0 {
		w.Errorf("after Close %s of memory are reserved and %s used", used, w.d.used)
	}
	for id, p := range w.d.live {
		if !p.gone {
			w.Errorf("after Close the instance %d is there", id)
		}
		if n := w.d.ended[id]; n != 1 {
			w.Errorf("the end of the instance %d was told %d times", id, n)
		}
	}
	if left := w.p.Instances(); len(left) != 0 {
		w.Errorf("after Close there are instances: %v", left)
	}
}

// after lets time pass, and everything that happens meanwhile.
func (w *world) after(d time.Duration) {
	time.Sleep(d) // of the bubble
	synctest.Wait()
}

// function makes a definition, with what change does to its spec.
func function(id int, change func(*core.Spec)) *core.Definition {
	spec := core.Spec{Image: "i"}
	if change != nil {
		change(&spec)
	}
	return &core.Definition{
		App:      core.App{Name: "shop"},
		Function: core.Function{ID: core.FunctionID(id), Name: fmt.Sprintf("f%d", id)},
		Version:  core.Version{FunctionID: core.FunctionID(id), Number: 1, Spec: spec.WithDefaults()},
	}
}

func version(def *core.Definition, n int) *core.Definition {
	v := *def
	v.Version.Number = n
	return &v
}

func job(s *core.Spec) { s.Contract = core.ContractJob }

// caller is one who waits, or has waited.
type caller struct {
	lease  pool.Lease
	permit pool.Permit
	err    error
	cancel context.CancelCauseFunc
	done   chan struct{}
}

// call sends a caller to the pool, and lets happen what happens at once.
func (w *world) call(def *core.Definition) *caller {
	c := w.send(def)
	synctest.Wait()
	return c
}

func (w *world) send(def *core.Definition) *caller {
	ctx, cancel := context.WithCancelCause(w.Context())
	c := &caller{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		if def.Version.Spec.Contract == core.ContractJob {
			c.permit, c.err = w.p.Admit(ctx, def)
		} else {
			c.lease, c.err = w.p.Acquire(ctx, def)
		}
	}()
	return c
}

func (c *caller) waits() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// served fails unless the caller has got what it wants, and gives its lease.
func (w *world) served(c *caller) pool.Lease {
	w.Helper()
	if c.waits() {
		w.Fatal("the caller waits, and should have been served")
	}
	if c.err != nil {
		w.Fatalf("the caller got the error %v", c.err)
	}
	return c.lease
}

func (w *world) waiting(callers ...*caller) {
	w.Helper()
	for i, c := range callers {
		if !c.waits() {
			w.Fatalf("caller %d should wait, and got %v, %v", i, c.lease, c.err)
		}
	}
}

// acquire waits for an instance.
func (w *world) acquire(def *core.Definition) pool.Lease {
	w.Helper()
	c := w.send(def)
	<-c.done
	return w.served(c)
}

// idle makes an instance that waits for its next run.
func (w *world) idle(def *core.Definition) core.InstanceID {
	w.Helper()
	lease := w.acquire(def)
	w.p.Release(lease, false)
	return lease.ID
}

// settled lets happen what takes no more than some stops and starts.
func (w *world) settled() { w.after(100 * time.Millisecond) }
