package memory

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// counterKey is what a counter counts.
type counterKey struct {
	function core.FunctionID
	state    core.State
}

// SaveRuns writes runs as they are now. One that has ended goes on no more.
func (s *Store) SaveRuns(_ context.Context, runs []core.Run) error {
	for _, r := range runs {
		if _, err := core.ParseState(string(r.State)); err != nil {
			return err
		}
		if r.ID <= 0 {
			return core.Invalid("a run with the id %d cannot be saved: ids are over 0", int64(r.ID))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range runs {
		s.saveRun(r)
	}
	return nil
}

func (s *Store) saveRun(r core.Run) {
	old, known := s.runs[r.ID]
	ended := known && old.State.Final()
	if ended && !r.State.Final() {
		return
	}
	if ended {
		s.count(old, -1)
	}
	if r.State.Final() {
		s.count(r, 1)
	}
	r.CreatedAt = instant(r.CreatedAt)
	for _, t := range []*time.Time{&r.StartedAt, &r.FinishedAt} {
		if !t.IsZero() {
			*t = instant(*t)
		}
	}
	s.runs[r.ID] = r
}

func (s *Store) count(r core.Run, n int64) {
	key := counterKey{r.FunctionID, r.State}
	c, ok := s.counters[key]
	if !ok {
		c = core.RunCounter{AppID: r.AppID, FunctionID: r.FunctionID, App: r.App, Function: r.Function, State: r.State}
	}
	c.Count += n
	s.counters[key] = c
}

// Run gives one run.
func (s *Store) Run(_ context.Context, id core.RunID) (core.Run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.runs[id]
	if !ok {
		return core.Run{}, core.NotFound("there is no run %s: it never was, or it is older than what is kept", id)
	}
	return r, nil
}

// newest gives the ids of all runs, newest first.
func (s *Store) newest() []core.RunID {
	ids := slices.Sorted(maps.Keys(s.runs))
	slices.Reverse(ids)
	return ids
}

// Runs lists runs that pass the filter, newest first.
func (s *Store) Runs(_ context.Context, filter core.RunFilter, page core.Page) (result core.RunPage, err error) {
	after, err := page.AfterRun()
	if err != nil {
		return result, err
	}
	for _, state := range filter.States {
		if _, err := core.ParseState(string(state)); err != nil {
			return result, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	looked := 0
	for _, id := range s.newest() {
		if after != 0 && id >= after {
			continue
		}
		if looked == s.search && len(result.Runs) < page.Size() {
			result.Next = core.Cursor((id + 1).String())
			result.SearchedTo = core.IDTime(int64(id) + 1).Add(time.Millisecond)
			return result, nil
		}
		looked++
		if !filter.Match(s.runs[id]) {
			continue
		}
		if len(result.Runs) == page.Size() {
			result.Next = core.Cursor(result.Runs[page.Size()-1].ID.String())
			return result, nil
		}
		result.Runs = append(result.Runs, s.runs[id])
	}
	return result, nil
}

// EndOrphans ends every run that goes on, as failed because the server
// restarted.
func (s *Store) EndOrphans(_ context.Context, at time.Time) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.runs {
		if !r.State.Final() {
			s.saveRun(r.Orphaned(at))
			n++
		}
	}
	return n, nil
}

// TrimRuns drops runs that have ended and are beyond the newest keep, or were
// made before before. It does all there is to do at once.
func (s *Store) TrimRuns(_ context.Context, keep int, before time.Time) (more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := 0
	for _, id := range s.newest() {
		if !s.runs[id].State.Final() {
			continue
		}
		if seen >= keep || int64(id) < core.FirstIDAt(before) {
			delete(s.runs, id)
		}
		seen++
	}
	return false, nil
}

// Counters tells how many runs of each function have ended in which state
// since the store began, also runs that have been forgotten.
func (s *Store) Counters(context.Context) ([]core.RunCounter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	counters := slices.Collect(maps.Values(s.counters))
	counters = slices.DeleteFunc(counters, func(c core.RunCounter) bool { return c.Count == 0 })
	slices.SortFunc(counters, func(a, b core.RunCounter) int {
		return cmp.Or(cmp.Compare(a.FunctionID, b.FunctionID), slices.Index(core.States, a.State)-slices.Index(core.States, b.State))
	})
	return counters, nil
}
