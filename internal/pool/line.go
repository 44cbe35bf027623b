package pool

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// line is a version of a function: its instances, and who waits for one.
type line struct {
	pool *Pool
	def  *core.Definition
	key  lineKey

	mu        sync.Mutex
	idle      []*member // that serve nobody, most recently used last
	open      []*member // that serve somebody and have room for more
	members   []*member // all that were started and have not gone
	active    int       // members, starts under way and permits
	starting  int       // starts under way
	preparing int       // of these, the ones that the host prepares
	waiting   []*waiter // oldest first
	arrivals  int64     // callers that have waited so far
	starved   bool      // it is short of memory
	retired   bool      // its version is called no more
	left      bool      // it holds nothing and is out of the pool
}

// member is an instance of a line.
type member struct {
	id      core.InstanceID
	driver  string
	start   core.StartPhases
	began   time.Time
	used    time.Time // when it was last given back
	served  int64
	state   core.InstanceState
	load    int  // runs it has now
	leaving bool // it takes no more runs, and ends when it has none
	stopped bool // somebody ends it
}

// grant is what a waiter gets: an instance, or for a job the right to one.
type grant struct {
	member *member
	cold   bool
	err    error
}

type waiter struct {
	number int64      // rises with each that joins a line
	got    chan grant // of size 1; the grant is made under line.mu, once
}

func (l *line) spec() *core.Spec { return &l.def.Version.Spec }

func (l *line) isJob() bool { return l.spec().Contract == core.ContractJob }

// errLeft is told to who comes to a line that is out of the pool.
var errLeft = errors.New("the line is out of the pool")

// capacity is how many runs an instance takes at a time.
func (l *line) capacity() int { return max(l.spec().Concurrency.PerInstance, 1) }

// free takes an instance out that has room: one that is at work anyhow, else
// the idle one that was used last. Its memory is the warmest, and the others
// can grow old. mu is held.
func (l *line) free() *member {
	for _, list := range []*[]*member{&l.open, &l.idle} {
		if last := len(*list) - 1; last >= 0 {
			m := (*list)[last]
			*list = (*list)[:last]
			return m
		}
	}
	return nil
}

// enter takes an instance with room, or a place in the line.
func (l *line) enter() (*member, *waiter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left {
		return nil, nil, errLeft
	}
	if m := l.free(); m != nil {
		m.load++
		m.state = core.InstanceBusy
		if m.load < l.capacity() {
			l.open = append(l.open, m)
		}
		return m, nil, nil
	}
	if err := l.refusal(); err != nil {
		l.leaveIfEmpty()
		return nil, nil, err
	}
	l.arrivals++
	w := &waiter{number: l.arrivals, got: make(chan grant, 1)}
	l.waiting = append(l.waiting, w)
	l.startMore()
	return nil, w, nil
}

// refusal says why nobody may join the line, if so. mu is held.
func (l *line) refusal() error {
	select {
	case <-l.pool.closing:
		return errClosing
	default:
	}
	if _, total := l.pool.memory.state(); l.spec().Memory > total {
		return core.Unavailable(core.CodeUnavailable, nil,
			"%s needs %s of memory and this node has %s for all instances: lower its memory or give the server more",
			l.name(), l.spec().Memory, total)
	}
	if len(l.waiting) >= l.spec().Limits.Waiting {
		return &core.Error{
			Kind: core.KindExhausted, Code: core.CodeTooMany, RetryAfter: 1,
			Message: l.name() + " has its line full of waiting calls (limits.waiting): try again, or raise instances.max",
		}
	}
	return nil
}

// await waits for a waiter's turn. The wait is for an instance that is there;
// a start that is under way for the waiter has its own time, and while it is
// prepared the waiter may wait as long as its run may take.
func (l *line) await(ctx context.Context, w *waiter) (grant, error) {
	limits := &l.spec().Limits
	timer := time.NewTimer(limits.Wait)
	defer timer.Stop()
	last := time.Now().Add(l.spec().Timeout)
	for more := limits.Start; ; {
		select {
		case g := <-w.got:
			return g, g.err
		case <-ctx.Done():
			return l.withdraw(ctx, w, context.Cause(ctx))
		case <-timer.C:
		}
		starts, prepares := l.startsFor(w)
		switch left := time.Until(last); {
		case prepares && left > 0:
			timer.Reset(min(limits.Start, left))
		case starts && !prepares && more > 0:
			timer.Reset(more)
			more = 0
		default:
			return l.withdraw(ctx, w, l.tooLong())
		}
	}
}

// startsFor reports whether one of the starts under way is for the waiter, and
// whether they are being prepared.
func (l *line) startsFor(w *waiter) (starts, prepares bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	starts = slices.Index(l.waiting, w) < l.starting*l.capacity()
	return starts, starts && l.preparing > 0
}

// withdraw takes a waiter out of the line because of err, unless its turn came
// at the same moment.
func (l *line) withdraw(ctx context.Context, w *waiter, err error) (grant, error) {
	if l.leave(w) {
		return grant{}, err
	}
	g := <-w.got
	if g.err != nil || ctx.Err() == nil {
		return g, g.err
	}
	if g.member == nil {
		l.drop(0)
	} else {
		l.handOn(g.member, g.cold)
	}
	return grant{}, err
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
	l.startMore()
	l.leaveIfEmpty()
	return true
}

// leaveIfEmpty takes a line out of the pool that holds nothing. mu is held.
func (l *line) leaveIfEmpty() {
	if l.active == 0 && len(l.waiting) == 0 {
		l.left = true
		l.pool.lines.CompareAndDelete(l.key, l)
	}
}

// tooLong says why the wait came to nothing: the function's own bound, or the
// node's memory.
func (l *line) tooLong() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	why := l.name() + " had no free instance within " + l.spec().Limits.Wait.String() + " (limits.wait): "
	if most := l.spec().Instances.Max; most > 0 && l.active >= most {
		return &core.Error{
			Kind: core.KindExhausted, Code: core.CodeTooMany, RetryAfter: 1,
			Message: why + "all of instances.max, " + strconv.Itoa(most) + ", are busy",
		}
	}
	if !l.starved {
		return &core.Error{
			Kind: core.KindTimeout, Code: core.ReasonStartTimeout, RetryAfter: 1,
			Message: why + "the start of another one takes long",
		}
	}
	used, total := l.pool.memory.state()
	return &core.Error{
		Kind: core.KindUnavailable, Code: core.CodeUnavailable, RetryAfter: 5,
		Message: why + "it needs " + l.spec().Memory.String() + " of memory, and " + used.String() + " of the node's " + total.String() + " are taken",
	}
}

func (l *line) name() string { return l.def.App.Name + "/" + l.def.Function.Name }

// startMore starts as many instances, or hands out as many permits, as there
// are callers without one under way. mu is held.
func (l *line) startMore() {
	for l.wanted() > 0 && l.pool.ctx.Err() == nil {
		if !l.pool.memory.take(l, l.spec().Memory) {
			l.starved = true
			l.pool.work.Go(l.pool.evict)
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
		l.pool.memory.sated(l)
	}
}

// wanted gives how many more instances are to be started. mu is held.
func (l *line) wanted() int {
	room := l.capacity()
	n := (len(l.waiting)+room-1)/room - l.starting
	if most := l.spec().Instances.Max; most > 0 {
		n = min(n, most-l.active)
	}
	return n
}

// wants gives the memory of the instances that are to be started.
func (l *line) wants() core.Bytes {
	l.mu.Lock()
	defer l.mu.Unlock()
	return core.Bytes(max(l.wanted(), 0)) * l.spec().Memory
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
	l.members = append(l.members, m)
	p.work.Go(func() { l.watch(m) })
	l.place(m, true)
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
	for len(l.waiting) > 0 && l.waiting[0].number <= newest {
		l.grantFirst(grant{err: err})
	}
	l.mu.Unlock()
	l.drop(0)
}

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
		m.state, m.used = core.InstanceHot, time.Now()
		l.idle = append(l.idle, m)
		l.pool.makeRoom()
	}
	if granted {
		l.startMore() // it may want less now
	}
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

// end ends an instance in the background; watch sees it go. mu is held.
func (l *line) end(m *member, grace time.Duration) {
	if l.stopping(m) {
		l.pool.work.Go(func() { l.pool.stop(m.id, grace) })
	}
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
	l.leaveIfEmpty()
}

// retire ends the instances, each when it has nobody to serve.
func (l *line) retire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retired = true
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

// endOld ends the instances that have been idle for the function's time.
func (l *line) endOld(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := l.spec().Instances.Idle
	l.idle = slices.DeleteFunc(l.idle, func(m *member) bool {
		if now.Sub(m.used) < limit {
			return false
		}
		l.end(m, l.pool.Grace)
		return true
	})
}

// endIdle ends a certain instance at once; false when it is not idle any more.
func (l *line) endIdle(m *member) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.idle, m)
	if i < 0 {
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
		out = append(out, core.Instance{
			ID: m.id, App: l.def.App.Name, Function: l.def.Function.Name, Version: l.key.version,
			Driver: m.driver, State: m.state, Memory: l.spec().Memory, Served: m.served, StartedAt: m.began, UsedAt: m.used, Start: m.start,
		})
	}
	return out
}
