package invoke

import (
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

func TestMeterGivesARunItsOwnAndNothingElse(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return core.Epoch.Add(time.Duration(ms) * time.Millisecond) }
	cpu := func(ms int) core.Usage {
		return core.Usage{CPU: time.Duration(ms) * time.Millisecond, PeakMemory: core.MiB}
	}
	var m meter
	m.start(cpu(5), at(0))
	if m.due(at(1)) {
		t.Fatal("read again after 1 ms")
	}
	if !m.due(at(30)) {
		t.Fatal("not read after 30 ms")
	}
	if got := m.end(cpu(9), at(30)); got != (core.Usage{}) {
		t.Errorf("two runs ended since the last reading; one is given %v", got)
	}
	if !m.due(at(60)) {
		t.Fatal("not read after another 30 ms")
	}
	if got, want := m.end(cpu(12), at(60)), (core.Usage{CPU: 3 * time.Millisecond}); got != want {
		t.Errorf("a run between two readings is given %v, want %v", got, want)
	}
}
