package pool

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Host is what a pool asks of its user about an instance.
type Host interface {
	// Prepare says how an instance of the definition is to be started, and
	// where what it prints goes. It may take long, for instance when the image
	// has been forgotten and is fetched again: the start's own limit begins
	// when it has returned. ctx ends with the pool. After an error Ended is
	// not told of the instance.
	Prepare(ctx context.Context, def *core.Definition) (core.InstanceSpec, core.Stdio, error)
	// Ready returns when the started instance can take a run; ctx bounds it.
	Ready(ctx context.Context, id core.InstanceID, def *core.Definition) error
	// Called reports whether the definition is what a call of its function
	// meets now.
	Called(def *core.Definition) bool
	// Freezing tells that an idle instance is about to be frozen. What is kept
	// for its next run is let go that it could end by itself meanwhile, such as
	// connections.
	Freezing(id core.InstanceID)
	// Ended tells that an instance is no more. err is that of a start that
	// did not work, else exit says how it ended.
	Ended(id core.InstanceID, exit core.Exit, err error)
}

// Config says what a pool works with.
type Config struct {
	Driver Driver
	Host   Host
	// Memory bounds the sum of the memory limits of all instances.
	Memory core.Bytes
	// Freeze has instances frozen while they are idle: the driver can do it.
	Freeze bool
	// Grace is how long an instance has between SIGTERM and SIGKILL when it is
	// ended without hurry; 0 means 5 s.
	Grace time.Duration
	Log   *slog.Logger
}

// Pool keeps instances. New makes one; Close ends it.
type Pool struct {
	Config
	evicting sync.Mutex // held while idle instances are chosen to be ended
	rank     rank
	clock    clock
	freezers chan struct{} // as many as are being frozen
	lines    sync.Map      // lineKey to *line
	work     sync.WaitGroup
	ctx      context.Context //nolint:containedctx // the life of what the pool starts, ended by Close
	cancel   context.CancelFunc
	memory   budget
	closing  chan struct{}
}

type lineKey struct {
	function core.FunctionID
	version  int
}

// New makes a pool that lives until Close.
func New(ctx context.Context, c Config) *Pool {
	if c.Grace == 0 {
		c.Grace = 5 * time.Second
	}
	p := &Pool{Config: c, closing: make(chan struct{}), freezers: make(chan struct{}, freezersAtOnce)}
	p.clock.sooner = make(chan struct{}, 1)
	p.ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.memory.total = c.Memory
	p.work.Go(func() { p.clock.run(p.closing) })
	return p
}

// Lease is the use of an instance for one run.
type Lease struct {
	ID core.InstanceID
	// Cold is set when the instance was started for this lease. Start says
	// what that took, or what it took to thaw it.
	Cold  bool
	Start core.StartPhases

	line   *line
	member *member
}

// Acquire gives an instance that is ready to take a run, and waits for one if
// it must. Each Lease is given back with Release.
func (p *Pool) Acquire(ctx context.Context, def *core.Definition) (Lease, error) {
	for {
		e, err := p.enter(def)
		if err != nil {
			return Lease{}, err
		}
		if e.waiter != nil {
			return e.line.lease(ctx, e.waiter)
		}
		lease := Lease{ID: e.member.id, line: e.line, member: e.member}
		if e.melted == nil {
			return lease, nil
		}
		began := time.Now()
		if !e.await(ctx.Done()) {
			e.line.handOn(e.member, false)
			return Lease{}, context.Cause(ctx)
		}
		lease.Start.Thaw = time.Since(began)
		if e.line.usable(e.member) {
			return lease, nil
		}
		e.line.handOn(e.member, false) // it died in the cold; there are others
	}
}

// lease gives the instance that a waiter gets.
func (l *line) lease(ctx context.Context, w *waiter) (Lease, error) {
	g, err := l.await(ctx, w)
	if err != nil {
		return Lease{}, err
	}
	lease := Lease{ID: g.member.id, Cold: g.cold, line: l, member: g.member}
	if g.cold {
		lease.Start = g.member.start
	}
	return lease, nil
}

// Release gives an instance back. One that is to be killed, or whose version
// is no longer called, is ended.
func (p *Pool) Release(lease Lease, kill bool) { lease.line.release(lease.member, kill) }

// Permit is the right to run one instance of a job.
type Permit struct{ line *line }

// Admit waits until a job may start an instance of its own. Each Permit is
// given back with Done when nothing of the instance is left.
func (p *Pool) Admit(ctx context.Context, def *core.Definition) (Permit, error) {
	e, err := p.enter(def)
	if err != nil {
		return Permit{}, err
	}
	if _, err := e.line.await(ctx, e.waiter); err != nil {
		return Permit{}, err
	}
	return Permit{line: e.line}, nil
}

// Done gives a permit back.
func (t Permit) Done() { t.line.drop(0) }

// enter takes an idle instance of the definition's line, or a place in it.
func (p *Pool) enter(def *core.Definition) (entry, error) {
	for {
		e, err := p.line(def).enter()
		if !errors.Is(err, errLeft) {
			return e, err
		}
	}
}

func (p *Pool) line(def *core.Definition) *line {
	key := lineKey{def.Function.ID, def.Version.Number}
	if v, ok := p.lines.Load(key); ok {
		if l, ok := v.(*line); ok {
			return l
		}
	}
	l := &line{pool: p, def: def, key: key}
	v, loaded := p.lines.LoadOrStore(key, l)
	if found, ok := v.(*line); ok && loaded {
		return found
	}
	// Whoever comes with an old definition is served, but nothing is kept for
	// others: Promote and Retire may have looked for lines before this one.
	if !p.Host.Called(def) {
		l.mu.Lock()
		l.retired = true
		l.mu.Unlock()
	}
	return l
}

// Retire ends the instances of every version of the function but keep, each
// when it has finished what it is doing. keep 0 ends them all.
func (p *Pool) Retire(function core.FunctionID, keep int) {
	p.each(func(l *line) {
		if l.key.function == function && l.key.version != keep {
			l.retire()
		}
	})
}

// Instances lists the instances there are, oldest first.
func (p *Pool) Instances() []core.Instance {
	var out []core.Instance
	p.each(func(l *line) { out = l.describe(out) })
	slices.SortFunc(out, func(a, b core.Instance) int { return a.StartedAt.Compare(b.StartedAt) })
	return out
}

func (p *Pool) each(do func(*line)) {
	p.lines.Range(func(_, v any) bool {
		if l, ok := v.(*line); ok {
			do(l)
		}
		return true
	})
}

// Close refuses new callers and those that wait, ends every instance, also
// those that are in use, and waits until all are gone. Permits may still be
// given back afterwards.
func (p *Pool) Close() {
	close(p.closing)
	p.each((*line).close)
	p.cancel()
	p.work.Wait()
}

var errClosing = core.Unavailable(core.CodeUnavailable, nil, "the server is stopping")

// MemoryInUse tells how much of the memory for instances is reserved.
func (p *Pool) MemoryInUse() (used, total core.Bytes) { return p.memory.state() }
