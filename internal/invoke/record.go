package invoke

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// linger is how long a finished run waits for others to be written with:
// nobody waits for it, and a transaction costs as much as a hundred rows.
const linger = 50 * time.Millisecond

// maxBatch is how many runs are written at once, maxPending how many may wait
// to be, and maxHeld how many bytes of their logs: past that the disk does not
// keep up, and calls are refused.
const (
	maxBatch   = 2000
	maxPending = 100_000
	maxHeld    = 256 << 20
)

// longAfter is the time after which a run is written down while it runs.
const longAfter = time.Second

// recorder writes runs and their logs, as many at once as have gathered.
type recorder struct {
	store Store
	logs  LogStore
	runs  *registry
	log   *slog.Logger
	held  atomic.Int64 // bytes of log lines that are not on disk yet

	mu         sync.Mutex
	maxPending int
	maxHeld    int64
	pending    []*live // finished, or to be written down while they run
	failing    error   // why the last write did not work

	wake chan struct{}
	stop chan struct{}
	done sync.WaitGroup
}

func newRecorder(s Store, logs LogStore, runs *registry, log *slog.Logger) *recorder {
	r := &recorder{
		store: s, logs: logs, runs: runs, log: log,
		maxPending: maxPending, maxHeld: maxHeld,
		wake: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	r.done.Go(r.keep)
	return r
}

// add hands a run over to be written.
func (r *recorder) add(l *live) {
	r.mu.Lock()
	if l.queued {
		r.mu.Unlock()
		return
	}
	l.queued = true
	r.pending = append(r.pending, l)
	n := len(r.pending)
	r.mu.Unlock()
	if n == 1 || n == maxBatch {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// ready reports whether another run can be recorded.
func (r *recorder) ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.pending) < r.maxPending && r.held.Load() < r.maxHeld {
		return nil
	}
	if r.failing != nil {
		return r.failing
	}
	return &core.Error{
		Kind: core.KindUnavailable, Code: core.CodeUnavailable, RetryAfter: 1,
		Message: "the disk does not keep up with writing the records of runs: try again",
	}
}

func (r *recorder) healthy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failing == nil
}

func (r *recorder) keep() {
	tick := time.NewTicker(longAfter / 4)
	defer tick.Stop()
	timer := time.NewTimer(linger)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-r.wake:
			if !r.full() {
				timer.Reset(linger)
				continue
			}
		case <-timer.C:
		case now := <-tick.C:
			if r.healthy() {
				r.addLong(now)
			}
		case <-r.stop:
			for r.write() {
			}
			return
		}
		for r.write() {
			if !r.full() {
				// What came during the write lingers in its turn: under load
				// the transactions would be small otherwise, and many.
				timer.Reset(linger)
				break
			}
		}
	}
}

func (r *recorder) full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pending) >= maxBatch
}

// addLong hands over the runs that go on since longAfter before now, the first
// time, and when they have printed since.
func (r *recorder) addLong(now time.Time) {
	for _, l := range r.runs.all() {
		run := l.now()
		if run.State.Final() || now.Sub(run.CreatedAt) < longAfter {
			continue
		}
		l.mu.Lock()
		saved := l.saved
		l.mu.Unlock()
		if !saved || l.log.fresh() {
			r.add(l)
		}
	}
}

// write writes what is pending, up to a batch; what could not be written stays
// pending. It reports whether there is more, and the disk takes it.
func (r *recorder) write() (more bool) {
	r.mu.Lock()
	n := min(len(r.pending), maxBatch)
	batch := r.pending[:n:n]
	for _, l := range batch {
		l.queued = false // what happens from now on is another matter
	}
	r.mu.Unlock()
	if n == 0 {
		return false
	}
	err := r.writeBatch(batch)
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := (err == nil) != (r.failing == nil)
	r.failing = err
	switch {
	case changed && err != nil:
		r.log.Error("writing the records of runs did not work; they are kept in memory and tried again", slog.Any("error", err))
	case changed:
		r.log.Info("the records of runs are written again")
	}
	if err != nil {
		r.keepPending(n)
		return false
	}
	r.pending = append([]*live(nil), r.pending[n:]...)
	return len(r.pending) > 0
}

// keepPending lets the first n stay pending; those that have been handed over
// anew meanwhile are there once. mu is held.
func (r *recorder) keepPending(n int) {
	stay := make([]*live, 0, len(r.pending))
	for i, l := range r.pending {
		if i < n && l.queued {
			continue // it stands further back
		}
		l.queued = true
		stay = append(stay, l)
	}
	r.pending = stay
}

func (r *recorder) writeBatch(batch []*live) error {
	ctx := context.Background() //nolint:forbidigo // what has happened is written, whoever goes away
	runs := make([]core.Run, 0, len(batch))
	var chunks []core.LogChunk
	taken := make([][]core.LogLine, len(batch))
	for i, l := range batch {
		run := l.now()
		runs = append(runs, run)
		lines := l.log.take()
		if len(lines) == 0 {
			continue
		}
		taken[i] = lines
		chunks = append(chunks, core.LogChunk{
			AppID: run.AppID, FunctionID: run.FunctionID, Run: run.ID, Instance: run.Instance, Lines: lines,
		})
	}
	// Logs first: a run on disk that has ended has its log.
	if len(chunks) > 0 {
		err := r.logs.AppendLogs(ctx, chunks)
		for i, lines := range taken {
			switch {
			case len(lines) == 0:
			case err != nil:
				batch[i].log.unwritten(lines[0].Sequence - 1)
			default:
				batch[i].log.wrote(lines[len(lines)-1].Sequence)
			}
		}
		if err != nil {
			return err
		}
	}
	if err := r.store.SaveRuns(ctx, runs); err != nil {
		return err
	}
	for i, l := range batch {
		l.mu.Lock()
		l.saved = true
		l.mu.Unlock()
		if runs[i].State.Final() {
			r.runs.remove(runs[i].ID)
		}
	}
	return nil
}

// close writes what is pending and ends the recorder.
func (r *recorder) close() {
	close(r.stop)
	r.done.Wait()
	if n := len(r.pending); n > 0 {
		r.log.Error("records of runs are lost", slog.Int("runs", n), slog.Any("error", r.failing))
	}
}
