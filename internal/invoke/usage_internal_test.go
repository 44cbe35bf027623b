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
	m.start(cpu(5), true, at(0))
	for i := range meterBurst {
		if !m.due(at(1)) {
			t.Fatalf("reading %d of the burst is refused", i+1)
		}
		got, ofInstance := m.end(cpu(6 + i))
		if want := (core.Usage{CPU: time.Millisecond, PeakMemory: core.MiB}); got != want || ofInstance != (i > 0) {
			t.Errorf("run %d is given %v, %v, want %v", i+1, got, ofInstance, want)
		}
	}
	if m.due(at(2)) {
		t.Fatal("read again after the burst")
	}
	if !m.due(at(30)) {
		t.Fatal("not read after 30 ms")
	}
	if got, ofInstance := m.end(cpu(40)); got != (core.Usage{}) || ofInstance {
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
	m.fresh = true
	if got, ofInstance := m.end(cpu(44)); got != (core.Usage{CPU: 3 * time.Millisecond, PeakMemory: core.MiB}) || ofInstance {
		t.Errorf("a run between two readings is given %v, %v", got, ofInstance)
	}
	killed := cpu(45)
	killed.OOMKills = 1
	if got, _ := m.end(killed); got.OOMKills != 1 {
		t.Errorf("a run in which a process was killed for memory is given %v", got)
	}
	if got, _ := m.end(killed); got.OOMKills != 0 {
		t.Errorf("the run after it is given %v", got)
	}
}
