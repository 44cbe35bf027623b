package invoke

import (
	"slices"
	"strconv"
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

// The kits of the Fn Project mark where the log of a call begins, in both
// streams: an empty line, and a line with the call's id.
func TestMarksOfRuns(t *testing.T) {
	t.Parallel()
	s := &source{id: 7, framed: true}
	runs := map[core.RunID]*live{1: {}, 2: {}}
	for _, l := range runs {
		l.log.limit = core.MiB
		l.log.held = new(atomic.Int64)
	}
	out, err := stream{s, core.StreamStdout}, stream{s, core.StreamStderr}
	say := func(w stream, text string) { _, _ = w.Write([]byte(text)) }
	mark := func(id core.RunID) string { return "\n" + core.LogFrame + "=" + id.String() + "\n" }
	say(out, "boot\n\n")
	s.begin(runs[1], 1)
	say(out, mark(1))
	say(err, mark(1)+"\n") // as the kit for Python
	say(out, "one\n\n\ntwo\n"+core.LogFrame+"=other\n\n")
	say(out, "no end")
	say(err, "\n"+core.LogFrame+"="+core.RunID(2).String()+"\nlast\n\n")
	s.end(1)
	say(out, "nobody's\n")
	s.begin(runs[2], 2)
	say(out, "late\n")
	say(out, "unfinished")
	say(out, mark(2))
	say(err, "late as well\n")
	say(err, mark(2)[:9])
	say(err, mark(2)[9:])
	say(out, "three\n")
	s.end(2)
	late := "[of " + core.RunID(1).String() + ", which has ended] "
	want := map[core.RunID][]string{
		1: {
			"1 one", "1 ", "1 ", "1 two", "1 " + core.LogFrame + "=other",
			"2 ", "2 " + core.LogFrame + "=" + core.RunID(2).String(), "2 last", // the id of a run that is not there
			"1 ", "1 no end", "2 ",
		},
		2: {"1 " + late + "late", "1 " + late + "unfinished", "2 " + late + "late as well", "1 three"},
	}
	for id, l := range runs {
		var got []string
		for _, line := range l.log.take() {
			got = append(got, strconv.Itoa(int(line.Stream))+" "+line.Text)
		}
		if !slices.Equal(got, want[id]) {
			t.Errorf("run %d has the lines %q, want %q", id, got, want[id])
		}
	}
}
