package pool

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/keepalive"
)

// startMore starts as many instances, or hands out as many permits, as there
// are callers without one under way, and as many as are to be kept. mu is
// held.
func (l *line) startMore() {
	for l.wanted() > 0 && l.pool.ctx.Err() == nil {
		if !l.pool.memory.take(l, l.spec().Memory, len(l.waiting) > 0) {
			l.starve(time.Now())
			return
		}
		l.active++
		if l.isJob() {
			l.grantFirst(grant{})
			continue
		}
		l.starting++
		l.preparing++
		newest := l.arrivals
		l.pool.work.Go(func() { l.start(newest) })
	}
	if l.starved {
		l.starved = false
		if l.pool.memory.sated(l) {
			l.pool.work.Go(l.pool.feed)
		}
	}
}

// starve notes that the line is short of memory. mu is held.
func (l *line) starve(now time.Time) {
	if !l.starved {
		l.starved, l.hungry = true, now
	}
	l.pool.work.Go(l.pool.evict)
	l.replace()
	l.soon(nextTurn(l.hungry, now))
}

// wanted gives how many more instances are to be started. mu is held.
func (l *line) wanted() int {
	room := l.capacity()
	n := max((len(l.waiting)+room-1)/room-l.starting, l.missing())
	if most := l.spec().Instances.Max; most > 0 {
		n = min(n, most-l.active)
	}
	return n
}

// wants gives the memory of the instances that are to be started. could is
// what there may be at once. For a caller more is got ready, since others may
// end what they do meanwhile; for what is only to be kept it is not worth it.
func (l *line) wants(could core.Bytes) core.Bytes {
	l.mu.Lock()
	defer l.mu.Unlock()
	each, n := l.spec().Memory, core.Bytes(max(l.wanted(), 0))
	if len(l.waiting) == 0 {
		n = min(n, max(could, 0)/each)
	}
	return n * each
}

// grantFirst makes a grant to the oldest waiter. mu is held.
func (l *line) grantFirst(g grant) {
	w := l.waiting[0]
	l.waiting = slices.Delete(l.waiting, 0, 1)
	w.got <- g
}

// start starts one instance and gives it to the line. newest is the number of
// the last caller that had come when it was decided.
func (l *line) start(newest int64) {
	p := l.pool
	spec, stdio, err := p.Host.Prepare(p.ctx, l.def)
	l.mu.Lock()
	l.preparing--
	l.mu.Unlock()
	if err != nil {
		l.startFailed(newest, err)
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, l.spec().Limits.Start)
	defer cancel()
	in, err := p.Driver.Start(ctx, spec, stdio)
	if err != nil {
		p.Host.Ended(spec.ID, core.Exit{}, err)
		l.startFailed(newest, l.startError(ctx, err))
		return
	}
	booting := time.Now()
	if err := p.Host.Ready(ctx, in.ID, l.def); err != nil {
		p.stop(in.ID, 0)
		p.Host.Ended(spec.ID, core.Exit{}, err)
		l.startFailed(newest, l.startError(ctx, err))
		return
	}
	in.Start.Boot = time.Since(booting)
	m := &member{id: in.ID, driver: in.Driver, start: in.Start, began: in.StartedAt, state: core.InstanceBusy}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.starting--
	l.cost = keepalive.Cost(l.cost, in.Start.Total())
	l.members = append(l.members, m)
	p.work.Go(func() { l.watch(m) })
	l.place(m, true)
	l.replace()
}

// startError names the limit that a start met which does not say so itself.
func (l *line) startError(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*core.Error](err); ok || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return err
	}
	return &core.Error{
		Kind: core.KindTimeout, Code: core.ReasonStartTimeout, Err: err,
		Message: "no instance of " + l.name() + " was ready within " + l.spec().Limits.Start.String() + " (limits.start)",
	}
}

// startFailed tells those who were waiting when the start was decided, and
// lets the line go on for the others.
func (l *line) startFailed(newest int64, err error) {
	l.mu.Lock()
	l.starting--
	l.fail(time.Now(), "the last start did not work: "+core.AsError(err).Message)
	for len(l.waiting) > 0 && l.waiting[0].number <= newest {
		l.grantFirst(grant{err: err})
	}
	l.mu.Unlock()
	l.drop(0)
}
