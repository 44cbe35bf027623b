package pool

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/keepalive"
)

// handOn gives the place of a caller who does not want it to the next.
func (l *line) handOn(m *member, cold bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m.load--
	l.place(m, cold)
}

// place gives the room of an instance to the oldest waiters, and what is left
// of it to those who will come. mu is held.
func (l *line) place(m *member, cold bool) {
	if m.stopped {
		return
	}
	l.open = slices.DeleteFunc(l.open, func(o *member) bool { return o == m })
	granted := false
	for len(l.waiting) > 0 && m.load < l.capacity() && !m.leaving {
		m.load++
		l.grantFirst(grant{member: m, cold: cold})
		granted = true
	}
	switch {
	case m.load > 0:
		m.state = core.InstanceBusy
		if m.load < l.capacity() && !m.leaving {
			l.open = append(l.open, m)
		}
	case m.leaving:
		l.end(m, 0)
	case l.retired:
		l.end(m, l.pool.Grace)
	default:
		l.rest(m, time.Now())
	}
	if granted {
		l.startMore() // it may want less now
	}
}

// rest makes an instance an idle one. mu is held.
func (l *line) rest(m *member, now time.Time) {
	m.state, m.since, m.ice.stiff = core.InstanceHot, now, false
	m.uses, m.counted = m.uses.Add(m.served-m.counted, now), m.served
	m.priority = l.pool.rank.load() + keepalive.Worth(m.uses.At(now), l.cost, l.spec().Memory)
	l.idle = append(l.idle, m)
	l.soon(now.Add(l.patience()))
	l.pool.makeRoom()
}

// release takes a run off an instance. One that is to be killed takes no more
// runs, and ends when those it has have ended.
func (l *line) release(m *member, kill bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m.served++
	m.load--
	m.leaving = m.leaving || kill
	l.place(m, false)
}

// end ends an instance in the background; watch sees it go. One that has some
// grace is thawed, so that it can use it. mu is held.
func (l *line) end(m *member, grace time.Duration) {
	if !l.stopping(m) {
		return
	}
	if grace == 0 {
		l.pool.work.Go(func() { l.pool.stop(m.id, 0) })
		return
	}
	e := entry{line: l, member: m}
	e.thaw, e.melted = m.melt()
	l.pool.work.Go(func() {
		e.await(nil)
		l.pool.stop(m.id, grace)
	})
}

// stopping notes that the instance ends; false when that was known. mu is
// held.
func (l *line) stopping(m *member) bool {
	if m.stopped {
		return false
	}
	m.stopped, m.state = true, core.InstanceStopping
	l.pool.memory.leave(l.spec().Memory)
	return true
}

func (p *Pool) stop(id core.InstanceID, grace time.Duration) {
	if err := p.Driver.Stop(context.WithoutCancel(p.ctx), id, grace); err != nil && !errors.Is(err, core.ErrGone) {
		p.Log.Error("stopping an instance did not work", slog.String("instance", id.String()), slog.Any("error", err))
	}
}

// watch waits for the end of an instance, whatever the cause, and frees what
// it held.
func (l *line) watch(m *member) {
	p := l.pool
	exit, err := p.Driver.Wait(context.WithoutCancel(p.ctx), m.id)
	l.mu.Lock()
	if now := time.Now(); !m.stopped && now.Sub(m.began) < keepalive.Steady {
		l.fail(now, "the last one ended by itself after "+now.Sub(m.began).Round(time.Millisecond).String()+": "+exit.String())
	}
	l.stopping(m)
	l.idle = slices.DeleteFunc(l.idle, func(o *member) bool { return o == m })
	l.open = slices.DeleteFunc(l.open, func(o *member) bool { return o == m })
	l.mu.Unlock()
	p.stop(m.id, 0) // returns when nothing is left of it
	p.Host.Ended(m.id, exit, err)
	l.mu.Lock()
	l.members = slices.DeleteFunc(l.members, func(o *member) bool { return o == m })
	l.mu.Unlock()
	l.drop(l.spec().Memory)
}

// drop frees the place and the memory of an instance that is gone. left is
// what had been said to leave of it.
func (l *line) drop(left core.Bytes) {
	l.mu.Lock()
	l.active--
	l.mu.Unlock()
	l.pool.freeMemory(l.spec().Memory, left)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.startMore()
	l.plan(time.Now())
	l.leaveIfEmpty()
}

// retire ends the instances, each when it has nobody to serve.
func (l *line) retire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retired, l.kept = true, kept{}
	for _, m := range l.idle {
		l.end(m, l.pool.Grace)
	}
	l.idle = nil
	l.leaveIfEmpty()
}

// close ends the instances and refuses who waits.
func (l *line) close() {
	l.retire()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.members {
		l.end(m, 0)
	}
	for len(l.waiting) > 0 {
		l.grantFirst(grant{err: errClosing})
	}
	l.leaveIfEmpty()
}

// endOld ends the instances that have been idle for the function's time, but
// for those that are kept. mu is held.
func (l *line) endOld(now time.Time) {
	limit := l.spec().Instances.Idle
	n := 0
	for spare := l.spare(); n < min(spare, len(l.idle)) && now.Sub(l.idle[n].since) >= limit; n++ {
		l.end(l.idle[n], l.pool.Grace)
	}
	l.idle = slices.Delete(l.idle, 0, n)
}

// endIdle ends a certain instance at once; false when it is not idle any more,
// or is to be kept.
func (l *line) endIdle(m *member) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.idle, m)
	if i < 0 || l.spare() <= 0 {
		return false
	}
	l.idle = slices.Delete(l.idle, i, i+1)
	l.end(m, 0)
	return true
}

func (l *line) describe(out []core.Instance) []core.Instance {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.members {
		in := core.Instance{
			ID: m.id, App: l.def.App.Name, Function: l.def.Function.Name, Version: l.key.version,
			Driver: m.driver, State: m.state, Memory: l.spec().Memory, Served: m.served, StartedAt: m.began,
			Thaws: m.ice.thaws, Start: m.start,
		}
		if m.served > 0 {
			in.UsedAt = m.since
		}
		if m.state == core.InstanceHot && m.ice.state == frozen {
			in.State, in.FrozenAt = core.InstanceFrozen, m.ice.at
		}
		out = append(out, in)
	}
	return out
}

// look does what is due in the line.
func (l *line) look(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.due = time.Time{}
	if l.left {
		return
	}
	l.endOld(now)
	l.freezeOld(now)
	l.startMore()
	if l.starved {
		l.pool.work.Go(l.pool.feed) // it may be another one's turn
	}
	l.plan(now)
}

// plan has the line looked at when something of it is due. mu is held.
func (l *line) plan(now time.Time) {
	if len(l.idle) > 0 && l.spare() > 0 {
		l.soon(l.idle[0].since.Add(l.spec().Instances.Idle))
	}
	if at, ok := l.nextFreeze(); ok {
		l.soon(at)
	}
	if next := l.kept.backoff.Next(); l.kept.want > 0 && next.After(now) {
		l.soon(next)
	}
	if l.starved {
		l.soon(nextTurn(l.hungry, now))
	}
}

// soon has the line looked at when something is due. mu is held.
func (l *line) soon(due time.Time) {
	if !l.due.IsZero() && !due.Before(l.due) {
		return
	}
	l.due = due
	l.pool.clock.set(l, due)
}
