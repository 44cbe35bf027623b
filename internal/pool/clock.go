package pool

import (
	"container/heap"
	"sync"
	"time"
)

// clock has lines looked at when something of theirs is due. There is one for
// all, with one goroutine and one timer: what waits costs a place in a heap,
// and a line that is called all the time asks for it once per look, not once
// per call.
type clock struct {
	mu     sync.Mutex
	lines  agenda
	sooner chan struct{} // of size 1: the first of the agenda is another one
}

// agenda are lines by the instant at which they are looked at.
type agenda []*line

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].dueAt.Before(a[j].dueAt) }
func (a agenda) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].slot, a[j].slot = i+1, j+1
}

// Push and Pop are for package heap.
func (a *agenda) Push(v any) {
	l := v.(*line) //nolint:errcheck,forcetypeassert // nothing else is in it
	*a = append(*a, l)
	l.slot = len(*a)
}

// Pop gives the last.
func (a *agenda) Pop() any {
	last := len(*a) - 1
	l := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	l.slot = 0
	return l
}

// set has the line looked at when it is due, or earlier.
func (c *clock) set(l *line, due time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case l.slot == 0:
		l.dueAt = due
		heap.Push(&c.lines, l)
	case due.Before(l.dueAt):
		l.dueAt = due
		heap.Fix(&c.lines, l.slot-1)
	}
	if c.lines[0] == l {
		select {
		case c.sooner <- struct{}{}:
		default:
		}
	}
}

// remove takes the line off.
func (c *clock) remove(l *line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.slot > 0 {
		heap.Remove(&c.lines, l.slot-1)
	}
}

// take gives a line that is due, nil for none; then the time until the first
// one is, negative when there is none.
func (c *clock) take(now time.Time) (*line, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.lines) == 0 {
		return nil, -1
	}
	if wait := c.lines[0].dueAt.Sub(now); wait > 0 {
		return nil, wait
	}
	l, _ := heap.Pop(&c.lines).(*line)
	return l, 0
}

// run looks at lines until closing.
func (c *clock) run(closing <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		l, wait := c.take(now)
		if l != nil {
			l.look(now)
			continue
		}
		var ring <-chan time.Time
		if wait >= 0 {
			timer.Reset(wait)
			ring = timer.C
		}
		select {
		case <-closing:
			return
		case <-c.sooner:
		case <-ring:
		}
	}
}
