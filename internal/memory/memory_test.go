package memory_test

import (
	"testing"

	"github.com/dayfly-io/dayfly/internal/memory"
	"github.com/dayfly-io/dayfly/internal/storetest"
)

func TestDefinitions(t *testing.T) {
	t.Parallel()
	storetest.Definitions(t, func(*testing.T) storetest.DefinitionStore { return memory.New() })
}

func TestRuns(t *testing.T) {
	t.Parallel()
	storetest.Runs(t, func(*testing.T) storetest.RunStore { return memory.New().Search(storetest.Search) })
}

func TestLogs(t *testing.T) {
	t.Parallel()
	storetest.Logs(t, func(*testing.T) storetest.LogStore { return memory.NewLogs() })
}
