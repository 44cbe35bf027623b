// Package sequence gives ids: one [Source] per node, asked by all.
//
// Ids of one source rise strictly, whatever the clock does; ids of two
// sources differ as long as their node numbers do. Nothing is written down: a
// server that starts again counts on from the clock, so ids stay unique over
// a restart as long as the clock does not start before the last id's instant.
package sequence

import (
	"sync/atomic"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Source makes ids. All its methods may be called concurrently.
type Source struct {
	node int
	now  func() time.Time
	last atomic.Int64
}

// New makes a source for the node, 0 to [core.MaxNode]; now is its clock.
func New(node int, now func() time.Time) *Source {
	return &Source{node: node, now: now}
}

// Next gives an id higher than any it gave before. It takes no lock.
func (s *Source) Next() int64 {
	for {
		last := s.last.Load()
		next := core.NextID(last, s.now(), s.node)
		if s.last.CompareAndSwap(last, next) {
			return next
		}
	}
}
