package pool

import (
	"context"
	"errors"
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
	idle      []*member     // that serve nobody, least recently used first
	open      []*member     // that serve somebody and have room for more
	members   []*member     // all that were started and have not gone
	active    int           // members, starts under way and permits
	starting  int           // starts under way
	preparing int           // of these, the ones that the host prepares
	waiting   []*waiter     // oldest first
	arrivals  int64         // callers that have waited so far
	starved   bool          // it is short of memory
	retired   bool          // its version is called no more
	left      bool          // it holds nothing and is out of the pool
	kept      kept          // of the version that is called
	cost      time.Duration // of a start, the running average
	due       time.Time     // when the clock looks at it at the latest, zero for never
	hungry    time.Time     // starved since then

	// The clock's mu guards these.
	dueAt time.Time
	slot  int // its place in the agenda, from 1; 0 for none
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

// entry is what who comes to a line gets: a member, or a place as a waiter.
type entry struct {
	line   *line
	member *member
	// melted is nil for a member that runs; for another it is closed when it
	// does. thaw tells that who got the entry is to see to that.
	melted <-chan struct{}
	thaw   bool
	waiter *waiter
}

// enter takes an instance with room, or a place in the line.
func (l *line) enter() (entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left {
		return entry{}, errLeft
	}
	if m := l.free(); m != nil {
		m.load++
		m.state = core.InstanceBusy
		if m.load < l.capacity() {
			l.open = append(l.open, m)
		}
		e := entry{line: l, member: m}
		e.thaw, e.melted = m.melt()
		return e, nil
	}
	if err := l.refusal(); err != nil {
		l.leaveIfEmpty()
		return entry{}, err
	}
	l.arrivals++
	w := &waiter{number: l.arrivals, got: make(chan grant, 1)}
	l.waiting = append(l.waiting, w)
	l.startMore()
	return entry{line: l, waiter: w}, nil
}

// refusal says why nobody may join the line, if so. mu is held.
func (l *line) refusal() error {
	select {
	case <-l.pool.closing:
		return errClosing
	default:
	}
	if _, total := l.pool.memory.state(); l.tooLarge() {
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

// tooLarge reports whether an instance never fits into the node's memory.
func (l *line) tooLarge() bool {
	_, total := l.pool.memory.state()
	return l.spec().Memory > total
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
	if l.active == 0 && len(l.waiting) == 0 && l.kept.want == 0 {
		l.left = true
		l.pool.clock.remove(l)
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
