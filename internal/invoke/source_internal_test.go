package invoke

import (
	"slices"
	"sync/atomic"
	"testing"

	"github.com/dayfly-io/dayfly/internal/core"
)

func TestLinesOfRunsThatShareAnInstance(t *testing.T) {
	t.Parallel()
	s := &source{id: 7}
	runs := map[core.RunID]*live{1: {}, 2: {}}
	for _, l := range runs {
		l.log.limit = core.MiB
		l.log.held = new(atomic.Int64)
	}
	say := func(text string) { _, _ = stream{s, core.StreamStdout}.Write([]byte(text + "\n")) }
	s.begin(runs[1], 1)
	say("one alone")
	s.begin(runs[2], 2)
	say("anybody's")
	say(`{"level":"info","run_id":"` + core.RunID(2).String() + `","msg":"two's"}`)
	say(`{"run_id": "` + core.RunID(1).String() + `"}`)
	say(`{"run_id":"` + core.RunID(3).String() + `"}`)
	if s.end(1) {
		t.Error("run 1 is said to have been alone")
	}
	say("two alone")
	if s.end(2) {
		t.Error("run 2 is said to have been alone")
	}
	s.begin(runs[1], 1)
	if !s.end(1) {
		t.Error("a run without company is said to have had some")
	}
	want := map[core.RunID][]string{
		1: {"one alone", "[shared by 2] anybody's", `{"run_id": "` + core.RunID(1).String() + `"}`, `[shared by 2] {"run_id":"` + core.RunID(3).String() + `"}`},
		2: {"[shared by 2] anybody's", `{"level":"info","run_id":"` + core.RunID(2).String() + `","msg":"two's"}`, `[shared by 2] {"run_id":"` + core.RunID(3).String() + `"}`, "two alone"},
	}
	for id, l := range runs {
		var got []string
		for _, line := range l.log.take() {
			got = append(got, line.Text)
			if line.Run != id {
				t.Errorf("a line of run %d says that it is of run %d", id, line.Run)
			}
		}
		if !slices.Equal(got, want[id]) {
			t.Errorf("run %d has the lines %q, want %q", id, got, want[id])
		}
	}
}
