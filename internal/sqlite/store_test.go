package sqlite_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sqlite"
)

// TestARollbackForgetsWhatWasNoted fills the file while runs of new functions
// and with new words are saved: what the store notes in memory of a
// transaction that broke may not be used by a later one.
func TestARollbackForgetsWhatWasNoted(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{PeriodRuns: 1000})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := s.Pages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 8
	strange := func(i int) []core.Run {
		runs := benchRuns(i*100, 100)
		for k := range runs {
			runs[k].Function, runs[k].FunctionID = fmt.Sprint("new", i, k%10), core.FunctionID(5000+i*10+k%10)
			runs[k].Principal = fmt.Sprint("someone", i)
			runs[k].Message = strings.Repeat("m", 300)
		}
		runs[0].State, runs[0].Reason, runs[0].FinishedAt = core.StateRunning, "", time.Time{}
		return runs
	}
	refused := 0
	for i := range rounds {
		for step := 0; ; step++ {
			if err := s.MaxPages(t.Context(), pages+6*step); err != nil {
				t.Fatal(err)
			}
			err := s.SaveRuns(t.Context(), strange(i))
			if err == nil {
				pages += 6 * step
				break
			}
			if !isFull(err) || step > 100 {
				t.Fatal(err)
			}
			refused++
		}
	}
	if refused < rounds {
		t.Fatalf("only %d batches were refused", refused)
	}
	check := func(s *sqlite.Store) {
		t.Helper()
		for i := range rounds {
			for _, want := range strange(i) {
				got, err := s.Run(t.Context(), want.ID)
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Fatalf("batch %d:\n got %+v, %v\nwant %+v", i, got, err, want)
				}
			}
		}
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check(openAt(t, path, sqlite.Options{}))
}

// TestPeriodsAreDroppedWhole checks that what was forgotten gives its pages
// back for what comes.
func TestPeriodsAreDroppedWhole(t *testing.T) {
	t.Parallel()
	s := open(t, sqlite.Options{PeriodRuns: 1000})
	size := 0
	for round := range 7 {
		for i := range 4 {
			if err := s.SaveRuns(t.Context(), benchRuns((round*4+i)*500, 500)); err != nil {
				t.Fatal(err)
			}
		}
		for {
			more, err := s.TrimRuns(t.Context(), 1000, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			if !more {
				break
			}
		}
		pages, err := s.Pages(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if round == 2 {
			size = pages
		}
		if round > 2 && pages > size+size/4 {
			t.Fatalf("the file grew from %d to %d pages although old runs are dropped", size, pages)
		}
	}
}

// TestAPeriodLastsADayAtMost checks that runs of a server with little to do
// can be forgotten by the day.
func TestAPeriodLastsADayAtMost(t *testing.T) {
	t.Parallel()
	s := open(t, sqlite.Options{})
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for hour := range 24 * 10 {
		r := benchRun(0)
		r.ID = core.RunID(core.FirstIDAt(at.Add(time.Duration(hour) * time.Hour)))
		if err := s.SaveRuns(t.Context(), []core.Run{r}); err != nil {
			t.Fatal(err)
		}
	}
	for {
		more, err := s.TrimRuns(t.Context(), 1_000_000, at.Add(7*24*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
	}
	left, err := s.Runs(t.Context(), core.RunFilter{}, core.Page{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(left.Runs); n < 3*24 || n > 4*24 {
		t.Fatalf("%d runs are left of the last three days", n)
	}
}

// What a release wrote that had neither samples nor kills for memory is read
// as a run without them.
func TestADetailOfAnOlderReleaseIsRead(t *testing.T) {
	t.Parallel()
	old, err := hex.DecodeString("014000020000000014a01f3c8eda960180808014000468747470056c6f63616c04504f5354")
	if err != nil {
		t.Fatal(err)
	}
	r, err := sqlite.ReadDetail(old)
	if err != nil || r.Usage != (core.Usage{CPU: 1234567, PeakMemory: 20 * core.MiB}) || r.Samples != nil || r.PeakOfInstance || r.BytesOut != benchRun(1).BytesOut {
		t.Errorf("got %+v, %v", r, err)
	}
}

func FuzzReadDetail(f *testing.F) {
	f.Add([]byte{})
	f.Add(sqlite.AppendDetail(benchRun(1)))
	odd := benchRun(77)
	odd.Message, odd.Path, odd.Cold, odd.Progress = "message", "/path", true, 3
	odd.Start = core.StartPhases{Image: 1, Sandbox: 2, Boot: 3}
	f.Add(sqlite.AppendDetail(odd))
	odd.Usage = core.Usage{CPU: 1, Throttled: 2, Memory: 3, PeakMemory: 4, OOMKills: 5}
	odd.PeakOfInstance, odd.Samples = true, []core.UsageSample{{At: 1, CPU: 2, Memory: 3}, {At: 4, CPU: 5, Memory: 1}}
	f.Add(sqlite.AppendDetail(odd))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := sqlite.ReadDetail(b)
		if err != nil {
			return
		}
		again, err := sqlite.ReadDetail(sqlite.AppendDetail(r))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v comes back as %+v, %v", r, again, err)
		}
	})
}

// TestReadsGoOnWhilePeriodsComeAndGo lists and reads while others write and
// forget: no read may meet a table that is gone.
func TestReadsGoOnWhilePeriodsComeAndGo(t *testing.T) {
	t.Parallel()
	s := open(t, sqlite.Options{PeriodRuns: 50})
	ctx, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for range 3 {
		wait.Go(func() {
			for ctx.Err() == nil {
				filter := core.RunFilter{App: "shop", Function: []string{"", "f3"}[rand.IntN(2)]}
				page, err := s.Runs(t.Context(), filter, core.Page{Limit: 100})
				for _, r := range page.Runs {
					if r.App != "shop" || r.Trigger != core.TriggerHTTP {
						err = fmt.Errorf("the run %+v is not whole", r)
					}
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 200 {
		if err := s.SaveRuns(t.Context(), benchRuns(i*20, 20)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.TrimRuns(t.Context(), 100, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	wait.Wait()
}

func TestASpecThatCouldNotBeReadIsRefused(t *testing.T) {
	t.Parallel()
	s := open(t, sqlite.Options{})
	_, err := s.SaveVersion(t.Context(), core.NewVersion{App: "a", Function: "f", AppID: 1, FunctionID: 2, Spec: core.Spec{Image: "x"}})
	if !core.IsKind(err, core.KindInvalid) {
		t.Fatalf("a spec without cpu: %v", err)
	}
	if changes, err := s.Changes(t.Context(), 0, 10); err != nil || len(changes) > 0 {
		t.Fatalf("it left %v, %v", changes, err)
	}
}

func TestAnOldSpecMeansTheDefaultsOfWhatCameLater(t *testing.T) {
	t.Parallel()
	s := open(t, sqlite.Options{})
	n := core.NewVersion{App: "a", Function: "f", AppID: 1, FunctionID: 2, Spec: core.Spec{Image: "x"}.WithDefaults()}
	for range 2 { // what was saved before is not taken for another spec
		d, err := s.SaveVersion(t.Context(), n)
		if err != nil || d.Version.Number != 1 {
			t.Fatalf("got version %d, %v", d.Version.Number, err)
		}
		if err := s.DropNewKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := s.Version(t.Context(), "a", "f", 0); err != nil || !d.Version.Spec.Equal(n.Spec) {
		t.Errorf("got %+v, %v", d.Version.Spec, err)
	}
}
