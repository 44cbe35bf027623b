package pool

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// budget is the memory that instances may have. What waits for it is a line.
type budget struct {
	mu      sync.Mutex
	total   core.Bytes
	used    core.Bytes
	leaving core.Bytes // part of used, of instances that are being ended
	starved []shortage // oldest first
	// hungry is the number of starved lines, for who holds no mu.
	hungry atomic.Int64
}

// shortage is a line that wants to start an instance and cannot.
type shortage struct {
	line    *line
	memory  core.Bytes // of one instance
	callers bool       // somebody waits for it
	since   time.Time
}

// turn is how long memory is kept for a line that is short of it, and then for
// how long not. Were it kept for ever, a line that wants more than ever becomes
// free would keep all others from it; were it not, a large one would never get
// it, since small ones fit first. It is half of what a caller waits by default
// (core.DefaultLimits).
const turn = 5 * time.Second

// reserves reports whether memory that becomes free is kept for it now.
func (s *shortage) reserves(now time.Time) bool {
	return s.callers && now.Sub(s.since)/turn%2 == 0
}

// nextTurn gives when memory begins or ceases to be kept next.
func nextTurn(since, now time.Time) time.Time {
	return since.Add(now.Sub(since).Truncate(turn) + turn)
}

// take reserves memory for the line, or notes that it is short of it. What is
// kept for lines that came before it is not for it.
func (b *budget) take(l *line, n core.Bytes, callers bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := slices.IndexFunc(b.starved, func(s shortage) bool { return s.line == l })
	now := time.Time{}
	if len(b.starved) > 0 || b.used+n > b.total {
		now = time.Now()
	}
	ahead := b.starved
	if at >= 0 {
		ahead = b.starved[:at]
	}
	wants := b.used + n
	for i := range ahead {
		if ahead[i].reserves(now) {
			wants += ahead[i].memory
		}
	}
	switch {
	case wants <= b.total:
		b.used += n
		if at >= 0 {
			// If it wants another one, that is for after the others.
			b.remove(at)
		}
		return true
	case at < 0:
		b.starved = append(b.starved, shortage{line: l, memory: n, callers: callers, since: now})
		b.hungry.Store(int64(len(b.starved)))
	case callers && !b.starved[at].callers:
		b.starved[at].callers, b.starved[at].since = true, now
	default:
		b.starved[at].callers = callers
	}
	return false
}

func (b *budget) remove(i int) {
	b.starved = slices.Delete(b.starved, i, i+1)
	b.hungry.Store(int64(len(b.starved)))
}

// sated says that the line is not short of memory any more. It reports whether
// others are, which may take what was kept for it.
func (b *budget) sated(l *line) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.starved, func(s shortage) bool { return s.line == l })
	if i < 0 {
		return false
	}
	b.remove(i)
	return len(b.starved) > 0
}

// leave says that memory will be given back soon.
func (b *budget) leave(n core.Bytes) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leaving += n
}

// give frees memory, of which left had been said to leave.
func (b *budget) give(n, left core.Bytes) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	b.leaving -= left
}

// short gives the lines that are short of memory, oldest first, and what is
// free or will be soon.
func (b *budget) short() (starved []*line, coming core.Bytes) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.starved {
		starved = append(starved, s.line)
	}
	return starved, b.total - b.used + b.leaving
}

func (b *budget) state() (used, total core.Bytes) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.total
}

// freeMemory gives memory back, and to the lines that wait for some.
func (p *Pool) freeMemory(n, left core.Bytes) {
	p.memory.give(n, left)
	p.feed()
}

// feed lets the lines that are short of memory take what there is.
func (p *Pool) feed() {
	starved, _ := p.memory.short()
	for _, l := range starved {
		l.mu.Lock()
		l.startMore()
		l.mu.Unlock()
	}
}

// makeRoom ends idle instances in the background if a line is short of
// memory.
func (p *Pool) makeRoom() {
	if p.memory.hungry.Load() > 0 {
		p.work.Go(p.evict)
	}
}

// rank is the clock of the priorities of idle instances (internal/keepalive).
type rank struct{ bits atomic.Uint64 }

func (r *rank) load() float64 { return math.Float64frombits(r.bits.Load()) }

// raise moves the clock on; one at a time does so.
func (r *rank) raise(to float64) {
	if to > r.load() {
		r.bits.Store(math.Float64bits(to))
	}
}

// candidate is an idle instance that may be ended for others.
type candidate struct {
	line     *line
	member   *member
	priority float64
	since    time.Time
}

// evict ends idle instances of any line, those that are worth least first,
// until what is free and what they give back is what the starved lines want.
// The memory of an instance is free when it is gone.
func (p *Pool) evict() {
	p.evicting.Lock()
	defer p.evicting.Unlock()
	starved, coming := p.memory.short()
	idle := p.candidates()
	could := coming
	for _, c := range idle {
		could += c.line.spec().Memory
	}
	need := -coming
	for _, l := range starved {
		n := l.wants(could)
		need, could = need+n, could-n
	}
	for _, c := range idle {
		if need <= 0 {
			return
		}
		if c.line.endIdle(c.member) {
			need -= c.line.spec().Memory
			p.rank.raise(c.priority)
		}
	}
}

// candidates gives the idle instances that need not be kept, that which is
// worth least first.
func (p *Pool) candidates() []candidate {
	var idle []candidate
	p.each(func(l *line) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.spare() <= 0 {
			return
		}
		for _, m := range l.idle {
			idle = append(idle, candidate{l, m, m.priority, m.since})
		}
	})
	slices.SortFunc(idle, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), a.since.Compare(b.since))
	})
	return idle
}
