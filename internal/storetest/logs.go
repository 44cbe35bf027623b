package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// PeriodBytes is how many bytes a store under [Logs] may at most put into one
// piece that it forgets as a whole.
const PeriodBytes = 4096

// Logs checks a store of logs; open opens an empty one that keeps to
// [PeriodBytes].
func Logs(t *testing.T, open func(*testing.T) LogStore) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, LogStore)
	}{
		{"lines come back as they were, in order", linesComeBack},
		{"lines can be read on from any of them", linesReadOn},
		{"a run without lines has none", noLines},
		{"lines of many runs do not mix", linesDoNotMix},
		{"lines of no run are taken and belong to none", linesOfNoRun},
		{"any bytes may stand in a line", anyBytes},
		{"trimming by size keeps the newest", trimLogsBySize},
		{"trimming by age lets the old go", trimLogsByAge},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, open(t))
		})
	}
}

// chunk makes n lines of a run, from the sequence on.
func chunk(run core.RunID, sequence int64, n int) core.LogChunk {
	c := core.LogChunk{AppID: 1, FunctionID: 2, Run: run, Instance: 3}
	for i := range int64(n) {
		c.Lines = append(c.Lines, core.LogLine{
			Instance: 3, Run: run, Stream: core.Stream(1 + (sequence+i)%3), Sequence: sequence + i,
			Time: start.Add(time.Duration(sequence+i) * time.Second), Text: fmt.Sprintf("line %d of %d", sequence+i, run),
		})
	}
	return c
}

func linesComeBack(t *testing.T, s LogStore) {
	var want []core.LogLine
	for sequence := int64(1); sequence < 500; {
		c := chunk(9, sequence, 1+rand.IntN(20))
		if rand.IntN(2) == 0 && len(c.Lines) > 1 { // a clock that goes back
			c.Lines[1].Time = start.Add(-time.Hour)
		}
		want = append(want, c.Lines...)
		sequence += int64(len(c.Lines))
		ok(t, s.AppendLogs(t.Context(), []core.LogChunk{c, {Run: 9}}))
	}
	equal(t, "the lines", must(s.Logs(t.Context(), 9, 0, 10_000))(t), want)
}

func linesReadOn(t *testing.T, s LogStore) {
	var chunks []core.LogChunk
	for i := range int64(60) {
		chunks = append(chunks, chunk(9, 1+7*i, 7))
	}
	ok(t, s.AppendLogs(t.Context(), chunks))
	for _, limit := range []int{1, 7, 10, 419, 420, 421} {
		after := int64(0)
		for after < 420 {
			lines := must(s.Logs(t.Context(), 9, after, limit))(t)
			equal(t, "the number of lines", int64(len(lines)), min(int64(limit), 420-after))
			for _, l := range lines {
				after++
				equal(t, "the sequence", l.Sequence, after)
			}
		}
	}
	equal(t, "the lines after the last", len(must(s.Logs(t.Context(), 9, 420, 10))(t)), 0)
	equal(t, "no lines", len(must(s.Logs(t.Context(), 9, 0, 0))(t)), 0)
}

func noLines(t *testing.T, s LogStore) {
	ok(t, s.AppendLogs(t.Context(), nil))
	ok(t, s.AppendLogs(t.Context(), []core.LogChunk{chunk(9, 1, 3), chunk(11, 1, 3)}))
	for _, run := range []core.RunID{-1, 0, 8, 10, 12} {
		equal(t, "the lines", len(must(s.Logs(t.Context(), run, 0, 10))(t)), 0)
	}
}

func linesDoNotMix(t *testing.T, s LogStore) {
	var wait sync.WaitGroup
	for run := range core.RunID(8) {
		wait.Go(func() {
			for i := range int64(20) {
				if err := s.AppendLogs(context.WithoutCancel(t.Context()), []core.LogChunk{chunk(run+1, 1+i*5, 5)}); err != nil {
					t.Errorf("appending to run %d: %v", run, err)
				}
			}
		})
	}
	wait.Wait()
	for run := range core.RunID(8) {
		equal(t, "the lines", must(s.Logs(t.Context(), run+1, 0, 1000))(t), chunk(run+1, 1, 100).Lines)
	}
}

func linesOfNoRun(t *testing.T, s LogStore) {
	ok(t, s.AppendLogs(t.Context(), []core.LogChunk{chunk(0, 1, 5), chunk(9, 1, 2), chunk(0, 6, 5)}))
	equal(t, "the lines of a run", must(s.Logs(t.Context(), 9, 0, 100))(t), chunk(9, 1, 2).Lines)
	equal(t, "the lines of none", len(must(s.Logs(t.Context(), 0, 0, 100))(t)), 0)
}

func anyBytes(t *testing.T, s LogStore) {
	c := chunk(9, 1, 4)
	c.Lines[0].Text = ""
	c.Lines[1].Text = "\x00\xff\n\r\x1b[31m<script>"
	c.Lines[2].Text = strings.Repeat("ö", 100_000)
	ok(t, s.AppendLogs(t.Context(), []core.LogChunk{c}))
	equal(t, "the lines", must(s.Logs(t.Context(), 9, 0, 10))(t), c.Lines)
}

// writeLogs writes runs with about a kilobyte of log each, a minute apart.
func writeLogs(t *testing.T, s LogStore, n int) {
	t.Helper()
	for run := range core.RunID(n) {
		c := chunk(run+1, 1, 4)
		for i := range c.Lines {
			c.Lines[i].Text = strings.Repeat("x", 256)
			c.Lines[i].Time = start.Add(time.Duration(run) * time.Minute)
		}
		ok(t, s.AppendLogs(t.Context(), []core.LogChunk{c}))
	}
}

// kept tells from which run on the store still has lines, and fails when
// there is a gap.
func kept(t *testing.T, s LogStore, n int) int {
	t.Helper()
	first := n + 1
	for run := n; run > 0; run-- {
		lines := len(must(s.Logs(t.Context(), core.RunID(run), 0, 10))(t))
		if lines == 0 {
			continue
		}
		if lines != 4 || run != first-1 {
			t.Fatalf("run %d has %d lines, and run %d is the first after it", run, lines, first)
		}
		first = run
	}
	return first
}

func trimLogsBySize(t *testing.T, s LogStore) {
	const n = 100
	writeLogs(t, s, n)
	for must(s.TrimLogs(t.Context(), 1<<20, time.Time{}))(t) {
	}
	equal(t, "the first run when there is room", kept(t, s, n), 1)
	for steps := 0; must(s.TrimLogs(t.Context(), 50<<10, time.Time{}))(t); steps++ {
		if steps > 1000 {
			t.Fatal("trimming does not end")
		}
	}
	// A run takes 1 KiB and up to 256 bytes around it; up to a period more
	// may go.
	if first := kept(t, s, n); first < 50 || first > 66 {
		t.Fatalf("runs from %d of %d are kept in 50 KiB", first, n)
	}
	for must(s.TrimLogs(t.Context(), 0, time.Time{}))(t) {
	}
	equal(t, "the first run when nothing may be kept", kept(t, s, n), n+1)
	ok(t, s.AppendLogs(t.Context(), []core.LogChunk{chunk(9, 1, 3)}))
	equal(t, "the lines after that", must(s.Logs(t.Context(), 9, 0, 10))(t), chunk(9, 1, 3).Lines)
}

func trimLogsByAge(t *testing.T, s LogStore) {
	const n = 40
	writeLogs(t, s, n)
	for must(s.TrimLogs(t.Context(), 1<<30, start.Add(20*time.Minute)))(t) {
	}
	if first := kept(t, s, n); first < 21-PeriodBytes/1024 || first > 21 {
		t.Fatalf("runs from %d on are kept of those from 21 on", first)
	}
}
