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
	// where what it prints goes.
	Prepare(def *core.Definition) (core.InstanceSpec, core.Stdio)
	// Ready returns when the started instance can take a run; ctx bounds it.
	Ready(ctx context.Context, id core.InstanceID, def *core.Definition) error
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
	// Grace is how long an instance has between SIGTERM and SIGKILL when it is
	// ended without hurry; 0 means 5 s.
	Grace time.Duration
	Log   *slog.Logger
}

// Pool keeps instances. New makes one; Close ends it.
type Pool struct {
	Config
	lines   sync.Map // lineKey to *line
	work    sync.WaitGroup
	ctx     context.Context //nolint:containedctx // the life of what the pool starts, ended by Close
	cancel  context.CancelFunc
	memory  budget
	closing chan struct{}
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
	p := &Pool{Config: c, closing: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.memory.total = c.Memory
	p.work.Go(p.tidy)
	return p
}

// Lease is the use of an instance for one run.
type Lease struct {
	ID core.InstanceID
	// Cold is set when the instance was started for this lease; Start says
	// what that took.
	Cold  bool
	Start core.StartPhases

	line   *line
	member *member
}

// Acquire gives an instance that is ready to take a run, and waits for one if
// it must. Each Lease is given back with Release.
func (p *Pool) Acquire(ctx context.Context, def *core.Definition) (Lease, error) {
	l := p.line(def)
	if m := l.takeIdle(); m != nil {
		return Lease{ID: m.id, line: l, member: m}, nil
	}
	g, err := l.await(ctx)
	if err != nil {
		return Lease{}, err
	}
	return Lease{ID: g.member.id, Cold: g.cold, Start: g.member.start, line: l, member: g.member}, nil
}

// Release gives an instance back. One that is to be killed, or whose version
// is no longer called, is ended.
func (p *Pool) Release(lease Lease, kill bool) { lease.line.release(lease.member, kill) }

// Permit is the right to run one instance of a job.
type Permit struct{ line *line }

// Admit waits until a job may start an instance of its own. Each Permit is
// given back with Done when nothing of the instance is left.
func (p *Pool) Admit(ctx context.Context, def *core.Definition) (Permit, error) {
	l := p.line(def)
	if _, err := l.await(ctx); err != nil {
		return Permit{}, err
	}
	return Permit{line: l}, nil
}

// Done gives a permit back.
func (t Permit) Done() { t.line.drop() }

func (p *Pool) line(def *core.Definition) *line {
	key := lineKey{def.Function.ID, def.Version.Number}
	if v, ok := p.lines.Load(key); ok {
		if l, ok := v.(*line); ok {
			return l
		}
	}
	l := &line{pool: p, def: def, key: key}
	v, _ := p.lines.LoadOrStore(key, l)
	found, ok := v.(*line)
	if !ok {
		return l
	}
	return found
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

// Close refuses new callers, ends every instance and waits for that.
func (p *Pool) Close() {
	close(p.closing)
	p.each(func(l *line) {
		l.retire()
		l.refuse(errClosing)
	})
	p.cancel()
	p.work.Wait()
}

var errClosing = core.Unavailable(core.CodeUnavailable, nil, "the server is stopping")

// tidyEvery is how often idle instances are looked over.
const tidyEvery = time.Second

// tidy ends instances that have been idle for too long.
func (p *Pool) tidy() {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.closing:
			return
		case now := <-tick.C:
			p.each(func(l *line) { l.endIdle(now) })
		}
	}
}

// budget is the memory that instances may have. What waits for it is a line.
type budget struct {
	mu      sync.Mutex
	total   core.Bytes
	used    core.Bytes
	starved []*line // that want to start an instance and could not, oldest first
}

// take reserves memory for the line, or notes that it is short of it.
func (b *budget) take(l *line, n core.Bytes) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n <= b.total {
		b.used += n
		return true
	}
	if !slices.Contains(b.starved, l) {
		b.starved = append(b.starved, l)
	}
	return false
}

// give frees memory, and gives the lines that are short of it.
func (b *budget) give(n core.Bytes) []*line {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	starved := b.starved
	b.starved = nil
	return starved
}

// wanted gives the memory that the oldest line without it needs, 0 when none
// is short of it.
func (b *budget) wanted() core.Bytes {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.starved) == 0 {
		return 0
	}
	return b.starved[0].spec().Memory
}

func (b *budget) state() (used, total core.Bytes) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.total
}

func (p *Pool) freeMemory(n core.Bytes) {
	for _, l := range p.memory.give(n) {
		l.mu.Lock()
		l.startMore()
		l.mu.Unlock()
	}
}

// evict ends idle instances of any line, least recently used first, until
// their memory comes to need. What it ends frees its memory when it is gone.
func (p *Pool) evict(need core.Bytes) {
	type candidate struct {
		line *line
		id   core.InstanceID
		used time.Time
		size core.Bytes
	}
	var idle []candidate
	p.each(func(l *line) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, m := range l.idle {
			idle = append(idle, candidate{l, m.id, m.used, l.def.Version.Spec.Memory})
		}
	})
	slices.SortFunc(idle, func(a, b candidate) int { return a.used.Compare(b.used) })
	for _, c := range idle {
		if need <= 0 {
			return
		}
		if c.line.endOne(c.id) {
			need -= c.size
		}
	}
}

// MemoryInUse tells how much of the memory for instances is reserved.
func (p *Pool) MemoryInUse() (used, total core.Bytes) { return p.memory.state() }

func isGone(err error) bool { return errors.Is(err, core.ErrGone) }
