package pool

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// line is a version of a function: its instances, and who waits for one.
type line struct {
	pool *Pool
	def  *core.Definition
	key  lineKey

	mu       sync.Mutex
	idle     []*member // most recently used last
	members  []*member // all that were started and have not gone
	active   int       // members, starts under way and permits
	starting int       // starts under way
	waiting  []*waiter // oldest first
	retired  bool
}

// member is an instance of a line.
type member struct {
	id      core.InstanceID
	start   core.StartPhases
	began   time.Time
	used    time.Time // when it was last given back
	served  int64
	state   core.InstanceState
	stopped bool // somebody ends it
}

// grant is what a waiter gets: an instance, or for a job the right to one.
type grant struct {
	member *member
	cold   bool
	err    error
}

type waiter struct {
	since time.Time
	got   chan grant // of size 1; the grant is made under line.mu, once
}

func (l *line) spec() *core.Spec { return &l.def.Version.Spec }

func (l *line) isJob() bool { return l.spec().Contract == core.ContractJob }

// takeIdle gives the most recently used idle instance: its memory is the
// warmest, and the others can grow old.
func (l *line) takeIdle() *member {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.idle) == 0 || len(l.waiting) > 0 {
		return nil
	}
	m := l.idle[len(l.idle)-1]
	l.idle = l.idle[:len(l.idle)-1]
	m.state = core.InstanceBusy
	return m
}

// await joins the line and waits for its turn.
func (l *line) await(ctx context.Context) (grant, error) {
	w, err := l.join()
	if err != nil {
		return grant{}, err
	}
	limit := l.spec().Limits.Wait
	if !l.isJob() {
		// The wait is for an instance that is there; a start has its own time.
		limit += l.spec().Limits.Start
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case g := <-w.got:
		return g, g.err
	case <-timer.C:
		err = l.tooLong(limit)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if l.leave(w) {
		return grant{}, err
	}
	// The turn came at the same moment.
	g := <-w.got
	if g.err == nil && ctx.Err() != nil {
		l.giveBack(g)
		return grant{}, err
	}
	return g, g.err
}

func (l *line) giveBack(g grant) {
	if g.member == nil {
		l.drop()
		return
	}
	l.release(g.member, false)
}

func (l *line) join() (*waiter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.pool.closing:
		return nil, errClosing
	default:
	}
	_, total := l.pool.memory.state()
	if l.spec().Memory > total {
		return nil, core.Unavailable(core.CodeUnavailable, nil,
			"%s needs %s of memory and this node has %s for all instances: lower its memory or give the server more",
			l.name(), l.spec().Memory, total)
	}
	if most := l.spec().Limits.Waiting; len(l.waiting) >= most {
		return nil, &core.Error{
			Kind: core.KindExhausted, Code: core.CodeTooMany, RetryAfter: 1,
			Message: l.name() + " has its line full of waiting calls (limits.waiting): try again, or raise instances.max",
		}
	}
	w := &waiter{since: time.Now(), got: make(chan grant, 1)}
	l.waiting = append(l.waiting, w)
	l.startMore()
	return w, nil
}

// leave takes a waiter out of the line; false when its grant has been made.
func (l *line) leave(w *waiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.waiting, w)
	if i < 0 {
		return false
	}
	l.waiting = slices.Delete(l.waiting, i, i+1)
	return true
}

// tooLong says why the wait came to nothing: the function's own bound, or the
// node's memory.
func (l *line) tooLong(limit time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if most := l.spec().Instances.Max; most > 0 && l.active >= most {
		return &core.Error{
			Kind: core.KindExhausted, Code: core.CodeTooMany, RetryAfter: 1,
			Message: l.name() + " had no free instance within " + limit.String() + ": all of instances.max are busy",
		}
	}
	used, total := l.pool.memory.state()
	return &core.Error{
		Kind: core.KindUnavailable, Code: core.CodeUnavailable, RetryAfter: 5,
		Message: l.name() + " had no free instance within " + limit.String() + ": it needs " + l.spec().Memory.String() +
			" and " + used.String() + " of the node's " + total.String() + " are taken",
	}
}

func (l *line) name() string { return l.def.App.Name + "/" + l.def.Function.Name }

// startMore starts as many instances, or hands out as many permits, as there
// are callers without one under way. mu is held.
func (l *line) startMore() {
	for len(l.waiting) > l.starting && l.pool.ctx.Err() == nil {
		if most := l.spec().Instances.Max; most > 0 && l.active >= most {
			return
		}
		if !l.pool.memory.take(l, l.spec().Memory) {
			need := l.spec().Memory
			l.pool.work.Go(func() { l.pool.evict(need) })
			return
		}
		l.active++
		if l.isJob() {
			l.grantFirst(grant{})
			continue
		}
		l.starting++
		l.pool.work.Go(l.start)
	}
}

// grantFirst makes a grant to the oldest waiter. mu is held.
func (l *line) grantFirst(g grant) {
	w := l.waiting[0]
	l.waiting = slices.Delete(l.waiting, 0, 1)
	w.got <- g
}

// start starts one instance and gives it to the line.
func (l *line) start() {
	p, began := l.pool, time.Now()
	ctx, cancel := context.WithTimeout(p.ctx, l.spec().Limits.Start)
	defer cancel()
	spec, stdio := p.Host.Prepare(l.def)
	in, err := p.Driver.Start(ctx, spec, stdio)
	if err != nil {
		p.Host.Ended(spec.ID, core.Exit{}, err)
		l.startFailed(began, err)
		return
	}
	booting := time.Now()
	if err := p.Host.Ready(ctx, in.ID, l.def); err != nil {
		p.stop(in.ID, 0)
		p.Host.Ended(spec.ID, core.Exit{}, err)
		l.startFailed(began, err)
		return
	}
	in.Start.Boot = time.Since(booting)
	m := &member{id: in.ID, start: in.Start, began: in.StartedAt, state: core.InstanceBusy}
	p.work.Go(func() { l.watch(m) })
	l.mu.Lock()
	l.starting--
	l.members = append(l.members, m)
	l.mu.Unlock()
	l.offer(m, true)
}

// startFailed tells those who were waiting when the start began, and lets the
// line go on for the others.
func (l *line) startFailed(began time.Time, err error) {
	l.mu.Lock()
	l.starting--
	l.active--
	for len(l.waiting) > 0 && !l.waiting[0].since.After(began) {
		l.grantFirst(grant{err: err})
	}
	l.mu.Unlock()
	l.pool.freeMemory(l.spec().Memory)
	l.mu.Lock()
	l.startMore()
	l.mu.Unlock()
}

// offer gives a free instance to the oldest waiter, or lets it wait itself.
func (l *line) offer(m *member, cold bool) {
	l.mu.Lock()
	if m.stopped {
		l.mu.Unlock()
		return
	}
	if l.retired {
		l.mu.Unlock()
		l.end(m, l.pool.Grace)
		return
	}
	if len(l.waiting) > 0 {
		m.state = core.InstanceBusy
		l.grantFirst(grant{member: m, cold: cold})
	} else {
		m.state, m.used = core.InstanceHot, time.Now()
		l.idle = append(l.idle, m)
		if need := l.pool.memory.wanted(); need > 0 {
			l.pool.work.Go(func() { l.pool.evict(need) })
		}
	}
	l.mu.Unlock()
}

func (l *line) release(m *member, kill bool) {
	if kill {
		l.end(m, 0)
		return
	}
	l.mu.Lock()
	m.served++
	l.mu.Unlock()
	l.offer(m, false)
}

// end ends an instance in the background; watch sees it go.
func (l *line) end(m *member, grace time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endLocked(m, grace)
}

func (l *line) endLocked(m *member, grace time.Duration) {
	if m.stopped {
		return
	}
	m.stopped, m.state = true, core.InstanceStopping
	l.pool.work.Go(func() { l.pool.stop(m.id, grace) })
}

func (p *Pool) stop(id core.InstanceID, grace time.Duration) {
	if err := p.Driver.Stop(context.WithoutCancel(p.ctx), id, grace); err != nil && !isGone(err) {
		p.Log.Error("stopping an instance did not work", slog.String("instance", id.String()), slog.Any("error", err))
	}
}

// watch waits for the end of an instance, whatever the cause, and frees what
// it held.
func (l *line) watch(m *member) {
	p := l.pool
	exit, err := p.Driver.Wait(context.WithoutCancel(p.ctx), m.id)
	l.mu.Lock()
	m.stopped = true
	l.idle = slices.DeleteFunc(l.idle, func(o *member) bool { return o == m })
	l.mu.Unlock()
	p.stop(m.id, 0) // returns when nothing is left of it
	p.Host.Ended(m.id, exit, err)
	l.mu.Lock()
	l.members = slices.DeleteFunc(l.members, func(o *member) bool { return o == m })
	l.mu.Unlock()
	l.drop()
}

// drop frees the place and the memory of an instance that is gone.
func (l *line) drop() {
	l.mu.Lock()
	l.active--
	l.mu.Unlock()
	l.pool.freeMemory(l.spec().Memory)
	l.mu.Lock()
	l.startMore()
	empty := l.active == 0 && len(l.waiting) == 0
	l.mu.Unlock()
	if empty && l.isRetired() {
		l.pool.lines.CompareAndDelete(l.key, l)
	}
}

func (l *line) isRetired() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.retired
}

func (l *line) retire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retired = true
	for _, m := range l.idle {
		l.endLocked(m, l.pool.Grace)
	}
	l.idle = nil
	if l.active == 0 && len(l.waiting) == 0 {
		l.pool.lines.CompareAndDelete(l.key, l)
	}
}

func (l *line) refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.waiting) > 0 {
		l.grantFirst(grant{err: err})
	}
}

// endIdle ends the instances that have been idle for the function's time.
func (l *line) endIdle(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := l.spec().Instances.Idle
	l.idle = slices.DeleteFunc(l.idle, func(m *member) bool {
		if now.Sub(m.used) < limit {
			return false
		}
		l.endLocked(m, l.pool.Grace)
		return true
	})
}

// endOne ends a certain idle instance; false when it is not idle any more.
func (l *line) endOne(id core.InstanceID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.idle, func(m *member) bool { return m.id == id })
	if i < 0 {
		return false
	}
	m := l.idle[i]
	l.idle = slices.Delete(l.idle, i, i+1)
	l.endLocked(m, 0)
	return true
}

func (l *line) describe(out []core.Instance) []core.Instance {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.members {
		out = append(out, core.Instance{
			ID: m.id, App: l.def.App.Name, Function: l.def.Function.Name, Version: l.key.version,
			State: m.state, Memory: l.spec().Memory, Served: m.served, StartedAt: m.began, UsedAt: m.used, Start: m.start,
		})
	}
	return out
}
