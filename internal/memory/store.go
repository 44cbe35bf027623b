package memory

import (
	"sync"

	"github.com/dayfly-io/dayfly/internal/core"
)

// searchRuns is how many runs one call of Runs looks at, at most, as in the
// other stores.
const searchRuns = 20_000

// Store keeps definitions and runs.
type Store struct {
	mu sync.Mutex
	// search bounds a call of Runs.
	search    int
	revision  int64
	apps      map[string]core.App
	functions map[core.FunctionID]*function
	gone      []core.Change // deleted functions, by revision
	runs      map[core.RunID]core.Run
	counters  map[counterKey]core.RunCounter
}

// function is a function with all its versions; number n is versions[n-1].
type function struct {
	core.Function
	app      string
	versions []core.Version
}

// New makes an empty store.
func New() *Store {
	return &Store{
		search:    searchRuns,
		apps:      map[string]core.App{},
		functions: map[core.FunctionID]*function{},
		runs:      map[core.RunID]core.Run{},
		counters:  map[counterKey]core.RunCounter{},
	}
}

// Search sets how many runs one call of Runs looks at, at most. It is called
// before any other method.
func (s *Store) Search(runs int) *Store {
	s.search = runs
	return s
}

// Close does nothing; it is there so that stores can be exchanged.
func (s *Store) Close() error { return nil }
