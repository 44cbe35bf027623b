package pool

import (
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/keepalive"
)

// kept is what a line knows of the instances that it keeps without being
// called (instances.min). Its line's mu guards it.
type kept struct {
	want    int
	backoff keepalive.Backoff
	problem string  // of what the backoff counts, the last
	older   []*line // other versions, which end when those of this one are up
}

// live gives the number of instances that take runs. mu is held.
func (l *line) live() int {
	n := 0
	for _, m := range l.members {
		if !m.stopped && !m.leaving {
			n++
		}
	}
	return n
}

// missing gives how many instances are to be started now so that enough are
// kept. mu is held.
func (l *line) missing() int {
	if l.kept.want == 0 || l.tooLarge() {
		return 0
	}
	n := l.kept.want - l.live() - l.starting
	if n > 0 && time.Now().Before(l.kept.backoff.Next()) {
		return 0
	}
	return n
}

// spare gives how many idle instances may end. mu is held.
func (l *line) spare() int {
	if l.kept.want == 0 {
		return len(l.idle)
	}
	return min(len(l.idle), l.live()-l.kept.want)
}

// fail notes that an instance of those that are kept did not live. mu is held.
func (l *line) fail(now time.Time, problem string) {
	if l.kept.want == 0 {
		return
	}
	l.kept.backoff, l.kept.problem = l.kept.backoff.Fail(now), problem
	l.soon(l.kept.backoff.Next())
	l.replace()
}

// keep makes the line that of the version that is called; false when the line
// is out of the pool. older are the lines of other versions.
func (l *line) keep(older []*line) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left {
		return false
	}
	select {
	case <-l.pool.closing:
		return true
	default:
	}
	l.retired = false
	l.kept = kept{want: l.spec().Instances.Min, older: older}
	l.startMore()
	l.replace()
	return true
}

// replace has the older versions ended when the line has what it keeps, or it
// is plain that waiting for that is of no use. mu is held.
func (l *line) replace() {
	k := &l.kept
	if len(k.older) == 0 || l.live() < k.want && !l.starved && !k.backoff.Recent(time.Now()) {
		return
	}
	older := k.older
	k.older = nil
	l.pool.work.Go(func() {
		for _, o := range older {
			o.retire()
		}
	})
}

// unkeep lets go of what the line keeps, since another version is called now.
func (l *line) unkeep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = kept{}
	l.plan(time.Now())
	l.leaveIfEmpty()
}

// state tells how many of the kept instances there are, and why not more.
func (l *line) state(now time.Time) core.Kept {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := core.Kept{Want: l.kept.want, Ready: min(l.live(), l.kept.want)}
	switch next := l.kept.backoff.Next(); {
	case l.tooLarge():
		k.Problem = core.AsError(l.refusal()).Message
	case k.Ready < k.Want && l.starved:
		used, total := l.pool.memory.state()
		k.Problem = "they wait for memory: " + l.name() + " needs " + l.spec().Memory.String() + " for each, and " +
			used.String() + " of the node's " + total.String() + " are taken"
	case l.kept.backoff.Recent(now):
		k.Problem = l.kept.problem
		if next.After(now) && k.Ready < k.Want {
			k.RetryAt = next
		}
	}
	return k
}

// Promote makes a version the one that is called. As many of its instances as
// are to be kept are started; those of other versions end, each when it has
// finished what it is doing, when the kept ones are up. They do not wait for
// such as do not start, or have no memory besides the older ones.
func (p *Pool) Promote(def *core.Definition) {
	var older []*line
	p.each(func(l *line) {
		switch {
		case l.key.function != def.Function.ID:
		case l.key.version != def.Version.Number:
			older = append(older, l)
		default:
			l.mu.Lock()
			l.retired = false
			l.mu.Unlock()
		}
	})
	if def.Version.Spec.Instances.Min == 0 {
		for _, l := range older {
			l.retire()
		}
		return
	}
	for _, l := range older {
		l.unkeep()
	}
	for !p.line(def).keep(older) {
	}
}

// Kept tells about the instances of a version that are kept without being
// called.
func (p *Pool) Kept(def *core.Definition) core.Kept {
	v, ok := p.lines.Load(lineKey{def.Function.ID, def.Version.Number})
	if l, isLine := v.(*line); ok && isLine {
		return l.state(time.Now())
	}
	return core.Kept{Want: def.Version.Spec.Instances.Min}
}
