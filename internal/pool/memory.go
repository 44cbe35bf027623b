package pool

import (
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
	starved []*line    // that want to start an instance and could not, oldest first
	// hungry is the number of starved lines, for who holds no mu.
	hungry atomic.Int64
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
		b.hungry.Store(int64(len(b.starved)))
	}
	return false
}

// sated says that the line is not short of memory any more.
func (b *budget) sated(l *line) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.starved = slices.DeleteFunc(b.starved, func(o *line) bool { return o == l })
	b.hungry.Store(int64(len(b.starved)))
}

// leave says that memory will be given back soon.
func (b *budget) leave(n core.Bytes) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leaving += n
}

// give frees memory, of which left had been said to leave, and gives the
// lines that are short of it.
func (b *budget) give(n, left core.Bytes) []*line {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	b.leaving -= left
	return slices.Clone(b.starved)
}

// short gives the lines that are short of memory, and what is free or will be
// soon.
func (b *budget) short() (starved []*line, coming core.Bytes) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.starved), b.total - b.used + b.leaving
}

func (b *budget) state() (used, total core.Bytes) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.total
}

// freeMemory gives memory back, and to the lines that wait for some.
func (p *Pool) freeMemory(n, left core.Bytes) {
	for _, l := range p.memory.give(n, left) {
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

// evict ends idle instances of any line, least recently used first, until
// what is free and what they give back is what the starved lines want. The
// memory of an instance is free when it is gone.
func (p *Pool) evict() {
	p.evicting.Lock()
	defer p.evicting.Unlock()
	starved, coming := p.memory.short()
	need := -coming
	for _, l := range starved {
		need += l.wants()
	}
	if need <= 0 {
		return
	}
	type candidate struct {
		line   *line
		member *member
		used   time.Time
	}
	var idle []candidate
	p.each(func(l *line) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, m := range l.idle {
			idle = append(idle, candidate{l, m, m.used})
		}
	})
	slices.SortFunc(idle, func(a, b candidate) int { return a.used.Compare(b.used) })
	for _, c := range idle {
		if need <= 0 {
			return
		}
		if c.line.endIdle(c.member) {
			need -= c.line.spec().Memory
		}
	}
}
