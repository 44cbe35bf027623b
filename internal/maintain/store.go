package maintain

import (
	"context"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Store forgets old runs. Each call does a bounded slice of the work, so that
// it never holds others up.
type Store interface {
	// EndOrphans ends every run that a former server left unfinished: failed,
	// with the reason server_restarted. It tells how many there were.
	EndOrphans(ctx context.Context, at time.Time) (int, error)
	// TrimRuns drops runs that are beyond the newest keep, or were made before
	// the instant before, a slice at a time; it reports whether there is more
	// to drop.
	TrimRuns(ctx context.Context, keep int, before time.Time) (more bool, err error)
}

// LogStore forgets old logs.
type LogStore interface {
	// TrimLogs drops log lines made before the instant before, and the oldest
	// of what is beyond keep bytes on disk, a slice at a time.
	TrimLogs(ctx context.Context, keep int64, before time.Time) (more bool, err error)
}

// ImageStore forgets images.
type ImageStore interface {
	// TrimImages removes images that nothing has used since the instant
	// before, and the least recently used of what is beyond space bytes; none
	// that is in use, or that a function has and cannot be had again. It
	// returns soon: the files go in the background.
	TrimImages(ctx context.Context, space core.Bytes, before time.Time) (core.Pruned, error)
}
