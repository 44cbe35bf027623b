package memory

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// lineCost is what a line is taken to need besides its text, in bytes.
const lineCost = 64

// Logs keeps what functions print.
type Logs struct {
	mu    sync.Mutex
	lines []core.LogLine // in the order in which they came
	size  int64
}

// NewLogs makes an empty store of logs.
func NewLogs() *Logs { return &Logs{} }

// Close does nothing; it is there so that stores can be exchanged.
func (l *Logs) Close() error { return nil }

// AppendLogs writes chunks.
func (l *Logs) AppendLogs(_ context.Context, chunks []core.LogChunk) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range chunks {
		for _, line := range c.Lines {
			line.Run, line.Instance, line.Time = c.Run, c.Instance, instant(line.Time)
			l.lines = append(l.lines, line)
			l.size += int64(len(line.Text)) + lineCost
		}
	}
	return nil
}

// Logs gives up to limit lines of a run whose sequence is over after.
func (l *Logs) Logs(_ context.Context, run core.RunID, after int64, limit int) ([]core.LogLine, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []core.LogLine
	for _, line := range l.lines {
		if run != 0 && line.Run == run && line.Sequence > after {
			lines = append(lines, line)
		}
	}
	slices.SortStableFunc(lines, func(a, b core.LogLine) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return lines[:min(len(lines), max(limit, 0))], nil
}

// TrimLogs drops lines made before before, and the oldest of what is beyond
// keep bytes. It does all there is to do at once.
func (l *Logs) TrimLogs(_ context.Context, keep int64, before time.Time) (more bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var kept []core.LogLine
	for _, line := range l.lines {
		cost := int64(len(line.Text)) + lineCost
		if l.size > keep || line.Time.Before(before) {
			l.size -= cost
			continue
		}
		kept = append(kept, line)
	}
	l.lines = kept
	return false, nil
}
