package logstore_test

import (
	"path/filepath"
	"testing"

	"github.com/dayfly-io/dayfly/internal/logstore"
	"github.com/dayfly-io/dayfly/internal/storetest"
)

func open(t testing.TB, o logstore.Options) *logstore.Store {
	t.Helper()
	s, err := logstore.Open(t.Context(), filepath.Join(t.TempDir(), "logs.db"), o)
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

func TestLogs(t *testing.T) {
	t.Parallel()
	storetest.Logs(t, func(t *testing.T) storetest.LogStore {
		return open(t, logstore.Options{PeriodBytes: storetest.PeriodBytes})
	})
}
