package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/dayfly-io/dayfly/internal/sqlite"
	"github.com/dayfly-io/dayfly/internal/storetest"
)

// open opens an empty store that is closed when the test ends.
func open(t testing.TB, o sqlite.Options) *sqlite.Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "a ?#%20ö.db"), o)
}

func openAt(t testing.TB, path string, o sqlite.Options) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return s
}

func TestDefinitions(t *testing.T) {
	t.Parallel()
	storetest.Definitions(t, func(t *testing.T) storetest.DefinitionStore { return open(t, sqlite.Options{}) })
}

func TestRuns(t *testing.T) {
	t.Parallel()
	storetest.Runs(t, func(t *testing.T) storetest.RunStore {
		return open(t, sqlite.Options{PeriodRuns: storetest.Period, SearchRuns: storetest.Search})
	})
}
