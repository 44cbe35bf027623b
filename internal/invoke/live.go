package invoke

import (
	"context"
	"sync"

	"github.com/dayfly-io/dayfly/internal/core"
)

// live is a run from its making until it is on disk.
type live struct {
	cancel context.CancelCauseFunc
	log    runLog

	mu    sync.Mutex
	run   core.Run
	saved bool // a row of it has been written while it ran
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

// registry finds live runs by id.
type registry struct {
	shards [16]struct {
		mu   sync.Mutex
		runs map[core.RunID]*live
	}
}

// of spreads ids, which count up, evenly.
func (r *registry) of(id core.RunID) (mu *sync.Mutex, runs *map[core.RunID]*live) {
	s := &r.shards[uint64(id)%uint64(len(r.shards))]
	return &s.mu, &s.runs
}

func (r *registry) add(id core.RunID, l *live) {
	mu, runs := r.of(id)
	mu.Lock()
	defer mu.Unlock()
	if *runs == nil {
		*runs = map[core.RunID]*live{}
	}
	(*runs)[id] = l
}

func (r *registry) find(id core.RunID) *live {
	mu, runs := r.of(id)
	mu.Lock()
	defer mu.Unlock()
	return (*runs)[id]
}

func (r *registry) remove(id core.RunID) {
	mu, runs := r.of(id)
	mu.Lock()
	defer mu.Unlock()
	delete(*runs, id)
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
