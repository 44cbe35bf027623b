package pool

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// freezersAtOnce bounds how many instances are being frozen at a time: each
// takes a thread while the kernel stops its processes.
const freezersAtOnce = 4

// freezes reports whether idle instances of the line are frozen.
func (l *line) freezes() bool {
	i := &l.spec().Instances
	return l.pool.Freeze && i.Freeze > 0 && i.Freeze < i.Idle
}

// patience is how long an idle instance is left alone.
func (l *line) patience() time.Duration {
	if l.freezes() {
		return l.spec().Instances.Freeze
	}
	return l.spec().Instances.Idle
}

// unfrozen gives the idle instances that may yet be frozen, least recently
// used first. Those that are frozen stand before those that are not. mu is
// held.
func (l *line) unfrozen() []*member {
	if !l.freezes() {
		return nil
	}
	first := len(l.idle)
	for first > 0 && l.idle[first-1].ice.state == runs {
		first--
	}
	return l.idle[first:]
}

// nextFreeze gives when the next idle instance is to be frozen; false for
// none. mu is held.
func (l *line) nextFreeze() (time.Time, bool) {
	for _, m := range l.unfrozen() {
		if !m.ice.stiff {
			return m.since.Add(l.spec().Instances.Freeze), true
		}
	}
	return time.Time{}, false
}

// freezeOld has the instances frozen that have been idle for the function's
// time. mu is held.
func (l *line) freezeOld(now time.Time) {
	var old []*member
	for _, m := range l.unfrozen() {
		if now.Sub(m.since) >= l.spec().Instances.Freeze && !m.ice.stiff {
			m.ice.state = chosen
			old = append(old, m)
		}
	}
	if len(old) > 0 {
		l.pool.work.Go(func() { l.freeze(old) })
	}
}

// freeze freezes instances, one after the other.
func (l *line) freeze(list []*member) {
	p := l.pool
	for _, m := range list {
		p.freezers <- struct{}{}
		l.freezeOne(m)
		<-p.freezers
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.plan(time.Now())
}

func (l *line) freezeOne(m *member) {
	p := l.pool
	ctx, stop := context.WithCancel(p.ctx)
	defer stop()
	if !l.beginFreeze(m, stop) {
		return
	}
	p.Host.Freezing(m.id)
	err := p.Driver.Freeze(ctx, m.id)
	if err != nil && ctx.Err() == nil && !errors.Is(err, core.ErrGone) {
		p.Log.Warn("freezing an idle instance did not work; it stays as it is until its next run",
			slog.String("instance", m.id.String()), slog.String("function", l.name()), slog.Any("error", err))
	}
	if l.endFreeze(m, err) {
		l.thaw(m)
	}
}

// beginFreeze reports whether the instance is still to be frozen.
func (l *line) beginFreeze(m *member, stop context.CancelFunc) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.ice.state != chosen {
		return false // it was taken, or ends
	}
	if m.stopped || time.Since(m.since) < l.spec().Instances.Freeze {
		m.ice.state = runs // it was taken and has been given back
		return false
	}
	m.ice.state, m.ice.stop, m.ice.melted = freezing, stop, make(chan struct{})
	return true
}

// endFreeze notes what became of a freezing. It reports whether the instance
// is to be thawed, since it has been taken meanwhile.
func (l *line) endFreeze(m *member, err error) (thaw bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m.ice.stop = nil
	switch {
	case err != nil: // it is not frozen
		m.ice.state, m.ice.stiff = runs, true
		m.leaving = m.leaving || errors.Is(err, core.ErrGone)
		close(m.ice.melted)
		return false
	case m.ice.state == thawing:
		return true
	}
	m.ice.state, m.ice.at = frozen, time.Now()
	return false
}

// melt begins to make an instance run that is taken or ended. melted is nil
// for one that runs; thaw tells that the caller is to call line.thaw. The
// line's mu is held.
func (m *member) melt() (thaw bool, melted <-chan struct{}) {
	switch m.ice.state {
	case runs, chosen:
		m.ice.state = runs
		return false, nil
	case freezing:
		m.ice.state = thawing
		m.ice.stop()
	case frozen:
		m.ice.state, thaw = thawing, true
	case thawing:
	}
	return thaw, m.ice.melted
}

// thaw lets an instance go on. One that cannot takes no more runs.
func (l *line) thaw(m *member) {
	p := l.pool
	err := p.Driver.Thaw(context.WithoutCancel(p.ctx), m.id)
	if err != nil && !errors.Is(err, core.ErrGone) {
		p.Log.Error("thawing an instance did not work; it is ended",
			slog.String("instance", m.id.String()), slog.String("function", l.name()), slog.Any("error", err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	m.ice.state, m.ice.at = runs, time.Time{}
	if err != nil {
		m.leaving = true
		l.open = slices.DeleteFunc(l.open, func(o *member) bool { return o == m })
	} else {
		m.ice.thaws++
	}
	close(m.ice.melted)
}

// await returns when the member of an entry runs, or has been found unable to,
// or done is closed; false for the last.
func (e *entry) await(done <-chan struct{}) bool {
	if e.thaw {
		e.line.thaw(e.member)
		return true
	}
	if e.melted == nil {
		return true
	}
	select {
	case <-e.melted:
		return true
	case <-done:
		return false
	}
}

// usable reports whether an instance that was just thawed can take a run.
func (l *line) usable(m *member) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !m.leaving && !m.stopped
}
