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
	for i := range meterBurst {
		if !m.due(at(1)) {
			t.Fatalf("reading %d of the burst is refused", i+1)
		}
		if got, want := m.end(cpu(6+i)), (core.Usage{CPU: time.Millisecond}); got != want {
			t.Errorf("run %d is given %v, want %v", i+1, got, want)
		}
	}
	if m.due(at(2)) {
		t.Fatal("read again after the burst")
	}
	if !m.due(at(30)) {
		t.Fatal("not read after 30 ms")
	}
	if got := m.end(cpu(40)); got != (core.Usage{}) {
		t.Errorf("two runs ended since the last reading; one is given %v", got)
	}
	if m.due(at(31)) {
		t.Fatal("read again 1 ms later")
	}
	if !m.due(at(45)) {
		t.Fatal("not read after another 15 ms")
	}
	m.end(cpu(41))
	if !m.due(at(1000)) {
		t.Fatal("not read after a rest")
	}
	if got, want := m.end(cpu(44)), (core.Usage{CPU: 3 * time.Millisecond}); got != want {
		t.Errorf("a run between two readings is given %v, want %v", got, want)
	}
}
