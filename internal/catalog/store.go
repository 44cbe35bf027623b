package catalog

import (
	"context"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Store tells what has changed.
type Store interface {
	// Changes gives up to limit changes of functions whose revision is over
	// after, in order of revision. A function that changed several times
	// stands there once, as it is now; one deleted since stands there as
	// deleted.
	Changes(ctx context.Context, after int64, limit int) ([]core.Change, error)
}
