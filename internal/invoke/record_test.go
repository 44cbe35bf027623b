package invoke_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Every run that has ended is in the store, counted once.
func TestEveryRunIsRecorded(t *testing.T) {
	t.Parallel()
	inWorld(t, map[string]program{"f": {serve: echo}, "job": {main: func(_ context.Context, in *instance) int {
		in.print(2, "a line\n")
		return 0
	}}}, func(w *world) {
		var callers sync.WaitGroup
		var mu sync.Mutex
		ids := map[core.RunID]bool{}
		for i := range 8 {
			callers.Go(func() {
				r := rand.New(rand.NewPCG(uint64(i), 0))
				for range 50 {
					c := w.call([]string{"f", "f", "f", "job"}[r.IntN(4)], "x")
					mu.Lock()
					ids[c.run.ID] = true
					mu.Unlock()
					time.Sleep(time.Duration(r.IntN(40)) * time.Millisecond) // of the bubble
				}
			})
		}
		callers.Wait()
		w.flushed()
		counters, err := w.store.Counters(w.Context())
		total := int64(0)
		for _, c := range counters {
			total += c.Count
		}
		if err != nil || len(ids) != 400 || total != 400 {
			t.Errorf("%d ids, %d runs counted, %v", len(ids), total, err)
		}
		for id := range ids {
			if run, err := w.store.Run(w.Context(), id); err != nil || run.State != core.StateSucceeded || run.LogBytes == 0 {
				t.Fatalf("the store has %+v, %v", run, err)
			}
			if got := len(w.log(id)); got != 1 {
				t.Fatalf("the log of %s has %d lines", id, got)
			}
		}
		if held, runs := w.Held(); held != 0 || runs != 0 {
			t.Errorf("%d bytes of %d runs are kept in memory", held, runs)
		}
	})
}

// A cold run, and one that takes long, is written down while it goes on.
func TestStartedRows(t *testing.T) {
	t.Parallel()
	waits := make(chan time.Duration, 1)
	inWorld(t, map[string]program{"f": {serve: func(*instance, writer, *request) { time.Sleep(<-waits) }}}, func(w *world) {
		for _, tc := range []struct {
			wait time.Duration
			want bool
		}{{500 * time.Millisecond, true}, {500 * time.Millisecond, false}, {2 * time.Second, true}} {
			waits <- tc.wait
			c := w.call("f", "")
			w.flushed()
			states := w.store.states(c.run.ID)
			if got := slices.Contains(states, core.StateRunning); got != tc.want || states[len(states)-1] != core.StateSucceeded || len(states) > 2 {
				t.Errorf("a run of %s, cold %v, was written as %v", tc.wait, c.run.Cold, states)
			}
		}
	})
}

// While the store fails runs stay readable, up to a bound, and are written
// when it works again.
func TestFailingStore(t *testing.T) {
	t.Parallel()
	inWorld(t, map[string]program{"f": {serve: echo}, "job": {main: hang}}, func(w *world) {
		w.Bound(5, 1<<20)
		w.store.fail(errDisk)
		var runs []core.Run
		for i := range 5 {
			c := w.call("f", fmt.Sprint(i))
			if c.err != nil {
				t.Fatal(c.err)
			}
			runs = append(runs, c.run)
			w.after(time.Second)
		}
		c := w.call("f", "refused")
		if e := core.AsError(c.err); e.Kind != core.KindUnavailable || e.Code != core.ReasonDiskFull || c.run.ID != 0 {
			t.Errorf("a call past the bound got %v", c.err)
		}
		w.after(time.Minute)
		listed := w.list(core.RunFilter{})
		if len(listed) != 5 || listed[0].ID != runs[4].ID || listed[4].ID != runs[0].ID {
			t.Errorf("%d runs are listed", len(listed))
		}
		for i, run := range runs {
			if got, err := w.Service.Run(w.Context(), me, run.ID); err != nil || got.State != core.StateSucceeded {
				t.Errorf("run %d is read as %+v, %v", i, got, err)
			}
			if got := w.log(run.ID); !slices.Equal(got, []string{fmt.Sprint("asked ", i)}) {
				t.Errorf("run %d has the log %q", i, got)
			}
			if _, err := w.store.Run(w.Context(), run.ID); !core.IsKind(err, core.KindNotFound) {
				t.Errorf("run %d is in a store that failed: %v", i, err)
			}
		}
		w.store.fail(nil)
		w.after(time.Second)
		for i, run := range runs {
			if got, err := w.store.Run(w.Context(), run.ID); err != nil || got.State != core.StateSucceeded || len(w.store.states(run.ID)) != 1 {
				t.Errorf("run %d is in the store as %+v, %v, written as %v", i, got, err, w.store.states(run.ID))
			}
			if got := w.log(run.ID); len(got) != 1 {
				t.Errorf("run %d has the log %q", i, got)
			}
		}
		if held, n := w.Held(); held != 0 || n != 0 || w.store.logged != 5 {
			t.Errorf("%d bytes of %d runs are kept in memory; %d lines were written", held, n, w.store.logged)
		}
		if c := w.call("f", "again"); c.err != nil {
			t.Error(c.err)
		}
	})
}

// Logs that cannot be written are bounded in memory too, however few runs
// they are of.
func TestFailingLogStore(t *testing.T) {
	t.Parallel()
	inWorld(t, map[string]program{"job": printer(strings.Repeat(strings.Repeat("x", 999)+"\n", 300))}, func(w *world) {
		w.Bound(1000, 1<<20)
		w.store.fail(errDisk)
		n := 0
		for ; n < 20; n++ {
			if c := w.call("job", ""); c.err != nil {
				if core.AsError(c.err).Code != core.ReasonDiskFull {
					t.Errorf("got %v", c.err)
				}
				break
			}
			w.after(time.Second)
		}
		if n != 4 {
			t.Errorf("%d runs with 300 KB of log each were taken", n)
		}
	})
}

// A list has what is in memory and what is in the store, each run once, in
// order, over all pages; and only what the filter lets pass as it is now.
func TestRunsMerges(t *testing.T) {
	t.Parallel()
	inWorld(t, map[string]program{"f": {serve: echo}, "job": {main: hang}}, func(w *world) {
		var want []core.RunID
		for i := range 30 {
			switch i {
			case 10:
				w.flushed()
				w.store.fail(errDisk)
			case 5, 20:
				_, run := w.going("job", "")
				want = append(want, run.ID)
			}
			want = append(want, w.call("f", "").run.ID)
		}
		slices.Reverse(want)
		for _, size := range []int{1, 3, 7, 32, 100} {
			var got []core.RunID
			page := core.Page{Limit: size}
			for range 100 {
				p, err := w.Runs(w.Context(), me, core.RunFilter{}, page)
				if err != nil || len(p.Runs) > size {
					t.Fatalf("%d runs, %v", len(p.Runs), err)
				}
				for _, r := range p.Runs {
					got = append(got, r.ID)
				}
				if page.Cursor = p.Next; p.Next == "" {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("in pages of %d: got  %v\nwant %v", size, got, want)
			}
		}
		running := w.list(core.RunFilter{States: []core.State{core.StateRunning}})
		if len(running) != 2 {
			t.Errorf("%d runs are running", len(running))
		}
		if _, err := w.Cancel(w.Context(), me, running[1].ID); err != nil { // which the store has as running
			t.Error(err)
		}
		if got := w.list(core.RunFilter{States: []core.State{core.StateRunning}}); len(got) != 1 || got[0].ID != running[0].ID {
			t.Errorf("after the cancel %v run", got)
		}
		if got := w.list(core.RunFilter{States: []core.State{core.StateCancelled}}); len(got) != 1 {
			t.Errorf("after the cancel %v are cancelled", got)
		}
		if _, err := w.Runs(w.Context(), me, core.RunFilter{}, core.Page{Cursor: "?"}); !core.IsKind(err, core.KindInvalid) {
			t.Errorf("a bad cursor: %v", err)
		}
		w.store.fail(nil)
	})
}

// Everything at once, for the race detector.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	inWorld(t, map[string]program{"f": {serve: echo}, "g": {serve: hangUp}, "job": {main: func(ctx context.Context, in *instance) int {
		for range 20 {
			in.print(2, "line\n")
			select {
			case <-ctx.Done():
				return 1
			case <-time.After(10 * time.Millisecond):
			}
		}
		return 0
	}}}, func(w *world) {
		w.spec("f", func(s *core.Spec) { s.Instances.Max = 2 })
		w.spec("g", func(s *core.Spec) { s.Memory = 300 * core.MiB })
		var callers sync.WaitGroup
		for i := range 8 {
			callers.Go(func() {
				r := rand.New(rand.NewPCG(uint64(i), 1))
				for range 30 {
					c := w.send([]string{"f", "g", "job"}[r.IntN(3)], "x")
					time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond) // of the bubble
					runs := w.list(core.RunFilter{States: []core.State{core.StateRunning, core.StateQueued}})
					switch n := r.IntN(4); {
					case n == 0 && len(runs) > 0:
						_, _ = w.Cancel(w.Context(), me, runs[r.IntN(len(runs))].ID)
					case n == 1 && len(runs) > 0:
						callers.Go(func() {
							_, _ = w.Follow(w.Context(), me, runs[0].ID, 0, func([]core.LogLine) error { return nil })
						})
					case n == 2:
						w.store.fail(errDisk)
						time.Sleep(100 * time.Millisecond) // of the bubble
						w.store.fail(nil)
					}
					c.cancel()
					<-c.done
					if !c.run.State.Final() {
						t.Errorf("a call ended with %+v, %v", c.run, c.err)
					}
				}
			})
		}
		callers.Wait()
		w.flushed()
		synctest.Wait()
		if held, n := w.Held(); held != 0 || n != 0 {
			t.Errorf("%d bytes of %d runs are kept in memory", held, n)
		}
		for _, run := range w.list(core.RunFilter{}) {
			if !run.State.Final() {
				t.Errorf("a run is left %s", run.State)
			}
		}
	})
}
