package sqlite_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sqlite"
)

// benchRun makes the i-th of many plain runs, 20 a millisecond, over 20
// functions; one in a hundred failed.
func benchRun(i int) core.Run {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(i/20) * time.Millisecond)
	r := core.Run{
		ID:    core.RunID(core.FirstIDAt(at) + 1<<12 + int64(i%20)),
		AppID: 1, FunctionID: core.FunctionID(1000 + i%20), App: "shop", Function: fmt.Sprintf("f%d", i%20),
		Version: 3, State: core.StateSucceeded, Trigger: core.TriggerHTTP, Principal: "local", Attempt: 1, Method: "POST", Path: "/",
		Status: 200, Instance: core.InstanceID(core.FirstIDAt(at)), CreatedAt: at, StartedAt: at.Add(123 * time.Microsecond),
		FinishedAt: at.Add(4567 * time.Microsecond), BytesIn: 10, BytesOut: 2000, LogBytes: 30,
		Usage: core.Usage{CPU: 1234567, PeakMemory: 20 * core.MiB}, Progress: -1,
	}
	if i%100 == 77 {
		r.State, r.Reason, r.Status = core.StateFailed, core.ReasonFunctionError, 500
	}
	return r
}

func benchRuns(from, n int) []core.Run {
	runs := make([]core.Run, n)
	for i := range runs {
		runs[i] = benchRun(from + i)
	}
	return runs
}

// cpu gives the processor time that the process has used so far, which other
// work on the machine does not blur as it does the clock's.
func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSaveRuns tells what a finished run costs, in batches.
func BenchmarkSaveRuns(b *testing.B) {
	for _, size := range []int{1, 50, 500} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := open(b, sqlite.Options{})
			saved, batch := 0, benchRuns(0, size)
			began := cpu(b)
			for b.Loop() {
				for i := range batch {
					batch[i].ID, batch[i].FunctionID = core.RunID(1<<50+saved+i), core.FunctionID(1000+i%20)
				}
				if err := s.SaveRuns(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
				saved += size
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(saved), "ns/run")
			b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/float64(saved), "cpu-ns/run")
		})
	}
}

const largeRuns = 2_000_000

// BenchmarkList tells what pages cost beside two million runs.
func BenchmarkList(b *testing.B) {
	s := open(b, sqlite.Options{})
	for i := 0; i < largeRuns; i += 5000 {
		if err := s.SaveRuns(b.Context(), benchRuns(i, 5000)); err != nil {
			b.Fatal(err)
		}
	}
	middle := core.Cursor(benchRun(largeRuns / 2).ID.String())
	failed := []core.State{core.StateFailed, core.StateTimedOut}
	for _, c := range []struct {
		name   string
		filter core.RunFilter
		page   core.Page
	}{
		{"first", core.RunFilter{}, core.Page{}},
		{"middle", core.RunFilter{}, core.Page{Cursor: middle}},
		{"app", core.RunFilter{App: "shop"}, core.Page{}},
		{"function", core.RunFilter{App: "shop", Function: "f3"}, core.Page{}},
		{"function from the middle", core.RunFilter{App: "shop", Function: "f3"}, core.Page{Cursor: middle}},
		{"failed", core.RunFilter{States: failed}, core.Page{}},
		{"failed of a function", core.RunFilter{App: "shop", Function: "f17", States: failed}, core.Page{}},
		{"none failed of a function", core.RunFilter{App: "shop", Function: "f3", States: failed}, core.Page{}},
		{"succeeded of a function", core.RunFilter{App: "shop", Function: "f3", States: []core.State{core.StateSucceeded}}, core.Page{}},
		{"running", core.RunFilter{States: []core.State{core.StateRunning}}, core.Page{}},
		{"a search that finds nothing", core.RunFilter{Function: "nothing"}, core.Page{}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Runs(b.Context(), c.filter, c.page); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("one run", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Run(b.Context(), benchRun(largeRuns/2).ID); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("counters", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Counters(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("trim slice", func(b *testing.B) {
		longest, steps := time.Duration(0), 0
		for b.Loop() {
			began := time.Now()
			more, err := s.TrimRuns(b.Context(), 0, time.Time{})
			if err != nil {
				b.Fatal(err)
			}
			if more {
				longest, steps = max(longest, time.Since(began)), steps+1
			}
		}
		b.ReportMetric(float64(longest.Milliseconds()), "longest-ms")
		b.ReportMetric(float64(steps), "slices")
	})
}

// BenchmarkChanges tells what the first look at 100,000 functions costs.
func BenchmarkChanges(b *testing.B) {
	const functions = 100_000
	s := open(b, sqlite.Options{})
	var wait sync.WaitGroup
	for w := range 100 {
		wait.Go(func() {
			for i := w; i < functions; i += 100 {
				_, err := s.SaveVersion(b.Context(), core.NewVersion{
					App: fmt.Sprint("app", i%10), Function: fmt.Sprint("f", i), Digest: "sha256:x", By: "bench",
					Spec:  core.Spec{Image: fmt.Sprint("shop/f:", i), Env: map[string]string{"A": "1", "B": fmt.Sprint(i)}}.WithDefaults(),
					AppID: core.AppID(1 + i%10), FunctionID: core.FunctionID(100 + i), At: time.Unix(1e9, 0),
				})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	b.Run("all", func(b *testing.B) {
		began := cpu(b)
		defer func() { b.ReportMetric((cpu(b)-began).Seconds()/float64(b.N), "cpu-s/op") }()
		for b.Loop() {
			n := 0
			for after := int64(0); ; {
				changes, err := s.Changes(b.Context(), after, 1000)
				if err != nil {
					b.Fatal(err)
				}
				if len(changes) == 0 {
					break
				}
				n, after = n+len(changes), changes[len(changes)-1].Revision
			}
			if n != functions {
				b.Fatalf("%d functions", n)
			}
		}
	})
	for name, cursor := range map[string]string{"first": "", "middle": core.Cursor("app5", "f50005")} {
		b.Run("page "+name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := s.Definitions(b.Context(), "", core.Page{Cursor: cursor}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
