package invoke_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// work uses a processor for so many seconds, by halves, with as many MiB.
func work(in *instance, seconds int) {
	for i := range 2 * seconds {
		in.use(500*time.Millisecond, core.Bytes(i/2+1)*core.MiB)
		time.Sleep(500 * time.Millisecond) // of the bubble
	}
}

// A run that takes long has samples of its own, also on an instance that has
// served others; short ones have none.
func TestLongRunsHaveSamples(t *testing.T) {
	t.Parallel()
	serve := func(in *instance, _ writer, r *request) {
		if strings.HasSuffix(r.URL.Path, "p") {
			in.use(3*time.Second, core.MiB)
			work(in, 5)
		}
	}
	main := func(_ context.Context, in *instance) int {
		work(in, 5)
		return 0
	}
	inWorld(t, map[string]program{"f": {serve: serve}, "job": {main: main}}, func(w *world) {
		for _, name := range []string{"job", "f", "f"} {
			c := w.call(name, "")
			if c.err != nil || len(c.run.Samples) < 3 || len(c.run.Samples) > 6 {
				t.Fatalf("%s: %v, the run is %+v", name, c.err, c.run)
			}
			extra := time.Duration(0)
			if name == "f" {
				extra = 3 * time.Second
			}
			for i, s := range c.run.Samples {
				// What a step uses is there at its start.
				if ahead := s.CPU - extra - s.At; ahead < 0 || ahead > time.Second || s.Memory < core.Bytes(i+1)*core.MiB || s.At < time.Second {
					t.Errorf("%s: sample %d is %+v", name, i, s)
				}
			}
			w.flushed()
			stored, err := w.store.Run(w.Context(), c.run.ID)
			if err != nil || len(stored.Samples) != len(c.run.Samples) {
				t.Errorf("the store has %+v, %v", stored, err)
			}
			if want := 5*time.Second + extra; c.run.Usage.CPU != want || c.run.Usage.PeakMemory != 5*core.MiB || c.run.PeakOfInstance {
				t.Errorf("%s: its usage is %+v, want %s of processor", name, c.run.Usage, want)
			}
		}
	})
}

func TestShortRunsHaveNoSamples(t *testing.T) {
	t.Parallel()
	serve := func(*instance, writer, *request) {
		time.Sleep(900 * time.Millisecond) // of the bubble
	}
	inWorld(t, map[string]program{"f": {serve: serve}}, func(w *world) {
		for range 5 {
			if c := w.call("f", ""); c.err != nil || c.run.Samples != nil {
				t.Errorf("%v, the run is %+v", c.err, c.run)
			}
		}
	})
}

// The peak of a run is what the instance had at most while it went on, or is
// said to be more than that.
func TestPeakOfMemoryOfEachRun(t *testing.T) {
	t.Parallel()
	for _, stay := range []bool{false, true} {
		sizes := []core.Bytes{8, 64, 16}
		n := 0
		inWorld(t, map[string]program{"f": {serve: func(in *instance, _ writer, _ *request) {
			in.use(0, sizes[n]*core.MiB)
			in.use(0, core.MiB)
			n++
		}}}, func(w *world) {
			w.d.peaksStay = stay
			want := []core.Bytes{8, 64, 16}
			if stay {
				want[2] = 64
			}
			for i := range sizes {
				c := w.call("f", "")
				if c.run.Usage.PeakMemory != want[i]*core.MiB || c.run.PeakOfInstance != stay {
					t.Errorf("peaks that stay: %v; run %d has %s, of the instance: %v", stay, i, c.run.Usage.PeakMemory, c.run.PeakOfInstance)
				}
				w.after(time.Second)
			}
		})
	}
}

// A process that was killed for memory while the main one goes on is told with
// the run, whatever becomes of it, and not again with the next.
func TestKillsForMemoryAreTold(t *testing.T) {
	t.Parallel()
	const note = "a process of the instance was killed because the memory limit was reached"
	inWorld(t, map[string]program{
		"f": {serve: func(in *instance, w writer, r *request) {
			body, _ := io.ReadAll(r.Body)
			switch string(body) {
			case "kill":
				in.killChild()
			case "crash":
				in.crash(core.Exit{Code: 137, Signal: 9})
				<-r.Context().Done()
			}
		}},
		"job": {main: func(_ context.Context, in *instance) int {
			in.killChild()
			return 4
		}},
	}, func(w *world) {
		kill := func(what string) core.Run { return w.call("f", what).run }
		if r := kill("kill"); r.State != core.StateSucceeded || !strings.Contains(r.Message, note) || r.Usage.OOMKills != 1 {
			t.Errorf("the run is %+v", r)
		}
		w.after(time.Second)
		if r := kill(""); r.Message != "" || r.Usage.OOMKills != 0 {
			t.Errorf("the next run is %+v", r)
		}
		w.after(time.Second)
		// It ended itself, long after a child of it was killed.
		if r := kill("crash"); r.Reason != core.ReasonSignal {
			t.Errorf("the run is %+v", r)
		}
		r := w.call("job", "").run
		if r.Reason != core.ReasonExitCode || !strings.Contains(r.Message, "exited with code 4; "+note) || r.Usage.OOMKills != 1 {
			t.Errorf("the run of a job is %+v", r)
		}
	})
}
