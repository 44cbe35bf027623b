package invoke

import (
	"context"
	"sync"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// live is a run from its making until it is on disk.
type live struct {
	cancel context.CancelCauseFunc
	log    runLog
	// fetched is how long the run waited for its image; the goroutine of its
	// call has it.
	fetched time.Duration

	mu    sync.Mutex
	run   core.Run
	saved bool // a row of it has been written while it ran
	// base is what the instance had used when the run began, if that is known.
	// It is written before the run is one that goes on, or under mu.
	base  core.Usage
	based bool

	queued bool // it is handed over to be written; recorder.mu guards this
}

// now gives the run as it is.
func (l *live) now() core.Run {
	l.mu.Lock()
	defer l.mu.Unlock()
	run := l.run
	run.LogBytes = l.log.size()
	run.Progress, run.ProgressText = l.log.progress()
	return run
}

func (l *live) change(f func(*core.Run)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.run)
}

// registry finds live runs by id, and knows of calls under way.
type registry struct {
	shards [16]shard
}

type shard struct {
	mu     sync.Mutex
	runs   map[core.RunID]*live
	closed bool
	calls  sync.WaitGroup // each is added under mu, and not when closed
}

// of spreads ids, which count up, evenly.
func (r *registry) of(id core.RunID) *shard { return &r.shards[uint64(id)%uint64(len(r.shards))] }

// add takes in a run whose call begins; false when no call may begin any more.
func (r *registry) add(id core.RunID, l *live) bool {
	s := r.of(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.runs == nil {
		s.runs = map[core.RunID]*live{}
	}
	s.runs[id] = l
	s.calls.Add(1)
	return true
}

// returned says that the call of a run is over.
func (r *registry) returned(id core.RunID) { r.of(id).calls.Done() }

// close lets no more calls begin.
func (r *registry) close() {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
	}
}

// wait waits until all calls are over; close comes before it.
func (r *registry) wait() {
	for i := range r.shards {
		r.shards[i].calls.Wait()
	}
}

func (r *registry) find(id core.RunID) *live {
	s := r.of(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs[id]
}

// remove forgets a run that is on disk.
func (r *registry) remove(id core.RunID) {
	s := r.of(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.runs, id)
}

func (r *registry) all() []*live {
	var out []*live
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for _, l := range s.runs {
			out = append(out, l)
		}
		s.mu.Unlock()
	}
	return out
}
