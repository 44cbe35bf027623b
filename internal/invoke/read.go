package invoke

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Run gives one run; core.KindNotFound.
func (s *Service) Run(ctx context.Context, _ core.Principal, id core.RunID) (core.Run, error) {
	if l := s.runs.find(id); l != nil {
		return s.withUsage(l), nil
	}
	run, err := s.Store.Run(ctx, id)
	if err != nil {
		return core.Run{}, fmt.Errorf("read run %s: %w", id, err)
	}
	return run, nil
}

// withUsage gives a run as it is; one that goes on, with what it has used so
// far, if that can be told.
func (s *Service) withUsage(l *live) core.Run {
	run := l.now()
	if run.State != core.StateRunning || run.Instance == 0 || run.Usage != (core.Usage{}) {
		return run
	}
	u, err := s.Driver.Usage(run.Instance)
	if err != nil {
		return run
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	run.Usage.Memory = u.Memory
	if l.based {
		run.Usage.CPU, run.Usage.Throttled = max(u.CPU-l.base.CPU, 0), max(u.Throttled-l.base.Throttled, 0)
		run.Usage.OOMKills = max(u.OOMKills-l.base.OOMKills, 0)
	}
	if l.based && l.base == (core.Usage{}) { // an instance of its own
		run.Usage.PeakMemory = u.PeakMemory
	}
	return run
}

// Runs lists runs that pass the filter, newest first. Those that are in memory
// stand in their places as they are now, whether the store has them or not.
func (s *Service) Runs(ctx context.Context, _ core.Principal, filter core.RunFilter, page core.Page) (core.RunPage, error) {
	before, err := page.AfterRun()
	if err != nil {
		return core.RunPage{}, err
	}
	// First, so that a run which is written meanwhile is seen here or there.
	live := s.runs.all()
	out, err := s.Store.Runs(ctx, filter, page)
	if err != nil {
		return core.RunPage{}, fmt.Errorf("list runs: %w", err)
	}
	down, err := core.Page{Cursor: out.Next}.AfterRun()
	if err != nil {
		return core.RunPage{}, fmt.Errorf("list runs: %w", err)
	}
	var fresh []core.Run
	inMemory := make(map[core.RunID]bool, len(live))
	for _, l := range live {
		run := l.now()
		if before != 0 && run.ID >= before || run.ID < down {
			continue
		}
		inMemory[run.ID] = true
		if filter.Match(run) {
			fresh = append(fresh, run)
		}
	}
	out.Runs = append(slices.DeleteFunc(out.Runs, func(r core.Run) bool { return inMemory[r.ID] }), fresh...)
	slices.SortFunc(out.Runs, func(a, b core.Run) int { return cmp.Compare(b.ID, a.ID) })
	if size := page.Size(); len(out.Runs) > size {
		out.Runs = out.Runs[:size]
		out.Next, out.SearchedTo = core.Cursor(out.Runs[size-1].ID.String()), time.Time{}
	}
	return out, nil
}

// cancelPatience bounds the wait for a cancelled run to end: the grace of its
// process and some more.
const cancelPatience = 20 * time.Second

// Cancel ends a run and gives it as it is then; core.KindConflict when it has
// ended already.
func (s *Service) Cancel(ctx context.Context, p core.Principal, id core.RunID) (core.Run, error) {
	l := s.runs.find(id)
	if l == nil {
		run, err := s.Run(ctx, p, id)
		if err != nil {
			return core.Run{}, err
		}
		return run, core.Conflict("run %s has ended already: it is %s", id, run.State)
	}
	if run := l.now(); run.State.Final() {
		return run, core.Conflict("run %s has ended already: it is %s", id, run.State)
	}
	l.cancel(core.Errorf(core.KindConflict, core.ReasonCancelledByUser, "the run was cancelled by %s", p.Name))
	ctx, cancel := context.WithTimeout(ctx, cancelPatience)
	defer cancel()
	select {
	case <-l.log.done():
	case <-ctx.Done():
		return l.now(), &core.Error{
			Kind: core.KindTimeout, Code: core.ReasonTimeout,
			Message: fmt.Sprintf("run %s was told to stop and has not ended yet: look at it again", id),
		}
	}
	run := l.now()
	if run.Reason != core.ReasonCancelledByUser {
		return run, core.Conflict("run %s has ended by itself in the same moment: it is %s", id, run.State)
	}
	return run, nil
}

// Logs gives up to limit lines of a run whose sequence is over after, in
// order.
func (s *Service) Logs(ctx context.Context, p core.Principal, id core.RunID, after int64, limit int) ([]core.LogLine, error) {
	l := s.runs.find(id)
	if l == nil {
		if _, err := s.Run(ctx, p, id); err != nil {
			return nil, err
		}
		return s.stored(ctx, id, after, limit)
	}
	lines, _, err := s.lines(ctx, l, id, after, limit)
	return lines, err
}

func (s *Service) stored(ctx context.Context, id core.RunID, after int64, limit int) ([]core.LogLine, error) {
	lines, err := s.Config.Logs.Logs(ctx, id, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read the log of run %s: %w", id, err)
	}
	return lines, nil
}

// lines gives lines of a live run, from the disk or from memory. The channel
// is closed when there is more, and nil when these are the last there will be.
func (s *Service) lines(ctx context.Context, l *live, id core.RunID, after int64, limit int) ([]core.LogLine, <-chan struct{}, error) {
	memory, first, more := l.log.after(after)
	if after+1 < first {
		lines, err := s.stored(ctx, id, after, limit)
		if err != nil || len(lines) > 0 {
			again := make(chan struct{})
			close(again) // there may be more at once
			return lines, again, err
		}
	}
	if len(memory) > limit {
		again := make(chan struct{})
		close(again)
		return memory[:limit], again, nil
	}
	return memory, more, nil
}

// followPage is how many lines are given at once.
const followPage = 1000

// Follow gives emit the lines of a run whose sequence is over after, in order
// and as they come, until the run has ended and all have been given; then it
// gives the run. It stops with emit's error.
func (s *Service) Follow(ctx context.Context, p core.Principal, id core.RunID, after int64, emit func([]core.LogLine) error) (core.Run, error) {
	l := s.runs.find(id)
	for {
		var (
			lines []core.LogLine
			more  <-chan struct{}
			err   error
		)
		if l != nil {
			lines, more, err = s.lines(ctx, l, id, after, followPage)
		} else {
			lines, err = s.Logs(ctx, p, id, after, followPage)
		}
		if err != nil {
			return core.Run{}, err
		}
		if len(lines) > 0 {
			if err := emit(lines); err != nil {
				return core.Run{}, err
			}
			after = lines[len(lines)-1].Sequence
			continue
		}
		if more == nil {
			break
		}
		select {
		case <-more:
		case <-ctx.Done():
			return core.Run{}, fmt.Errorf("follow the log of run %s: %w", id, context.Cause(ctx))
		}
	}
	if l != nil {
		return l.now(), nil
	}
	return s.Run(ctx, p, id)
}

// Kept tells about the instances of a version that are kept without being
// called.
func (s *Service) Kept(_ context.Context, _ core.Principal, def *core.Definition) (core.Kept, error) {
	return s.pool.Kept(def), nil
}

// Instances lists the hot instances there are.
func (s *Service) Instances(_ context.Context, _ core.Principal) ([]core.Instance, error) {
	return s.pool.Instances(), nil
}
