package invoke_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

func TestCall(t *testing.T) {
	t.Parallel()
	inWorld(t, map[string]program{"f": {serve: echo}}, func(w *world) {
		for i, cold := range []bool{true, false} {
			began := time.Now()
			body := fmt.Sprint("body", i)
			c := w.call("f", body)
			if c.err != nil || c.reply.status != 200 || c.reply.body.String() != body {
				t.Fatalf("got %d %q, %v", c.reply.status, c.reply.body.String(), c.err)
			}
			want := core.Run{
				ID: c.run.ID, AppID: 1, FunctionID: 1, App: "shop", Function: "f", Version: 1, State: core.StateSucceeded, Trigger: "http",
				Principal: "me", Attempt: 1, Method: "POST", Path: "/p", Status: 200, Instance: c.run.Instance, Cold: cold,
				CreatedAt: began, StartedAt: began, FinishedAt: began, BytesIn: 5, BytesOut: 5, LogBytes: 12, Progress: -1,
				Usage: core.Usage{PeakMemory: core.MiB},
			}
			if !reflect.DeepEqual(c.run, want) || c.run.ID == 0 || c.run.Instance == 0 {
				t.Errorf("got  %+v\nwant %+v", c.run, want)
			}
			if b := c.reply.begun; b.ID != c.run.ID || b.Cold != cold || b.State != core.StateRunning || !b.StartedAt.Equal(began) {
				t.Errorf("the reply was told of %+v", b)
			}
			w.flushed()
			stored, err := w.store.Run(w.Context(), c.run.ID)
			want.CreatedAt, want.StartedAt, want.FinishedAt = began.UTC(), began.UTC(), began.UTC()
			stored.CreatedAt, stored.StartedAt, stored.FinishedAt = stored.CreatedAt.UTC(), stored.StartedAt.UTC(), stored.FinishedAt.UTC()
			if err != nil || !stored.CreatedAt.Equal(began) || stored.State != want.State || stored.LogBytes != 12 || stored.BytesOut != 5 {
				t.Errorf("the store has %+v, %v", stored, err)
			}
			if got := w.log(c.run.ID); !slices.Equal(got, []string{"asked " + body}) {
				t.Errorf("the log is %q", got)
			}
		}
		if ins, err := w.Instances(w.Context(), me); err != nil || len(ins) != 1 || ins[0].Served != 2 {
			t.Errorf("the instances are %v, %v", ins, err)
		}
	})
}

func TestFunctionErrorPassesThrough(t *testing.T) {
	t.Parallel()
	inWorld(t, map[string]program{"f": {serve: func(_ *instance, w writer, r *request) {
		status := map[string]int{"/p": 503}[r.URL.Path]
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "sorry")
	}}}, func(w *world) {
		c := w.call("f", "")
		if c.err != nil || c.reply.status != 503 || c.reply.body.String() != "sorry" {
			t.Errorf("got %d %q, %v", c.reply.status, c.reply.body.String(), c.err)
		}
		if c.run.State != core.StateFailed || c.run.Reason != core.ReasonFunctionError || c.run.Status != 503 || !strings.Contains(c.run.Message, "503") {
			t.Errorf("the run is %+v", c.run)
		}
		if w.d.alive() != 1 {
			t.Error("the instance was ended for an answer")
		}
	})
}

func TestUnknownFunction(t *testing.T) {
	t.Parallel()
	inWorld(t, nil, func(w *world) {
		c := w.call("nobody", "")
		if !core.IsKind(c.err, core.KindNotFound) || c.run.ID != 0 || len(w.list(core.RunFilter{})) != 0 {
			t.Errorf("got %v, %+v", c.err, c.run)
		}
	})
}

func TestStartFailures(t *testing.T) {
	t.Parallel()
	missing := core.Errorf(core.KindNotFound, core.ReasonImageNotFound, "there is no image i")
	inWorld(t, map[string]program{
		"crash": {main: func(_ context.Context, in *instance) int {
			for i := range 30 {
				in.print(1+i%2, fmt.Sprintf("line %d\n", i))
			}
			in.print(2, "panic: no config")
			return 3
		}},
		"silent": {main: func(ctx context.Context, in *instance) int {
			in.print(1, "loading\n")
			return hang(ctx, in)
		}},
		"image": {start: func(context.Context) error { return fmt.Errorf("find the image: %w", missing) }},
		"slow": {start: func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}},
		"job": {start: func(context.Context) error { return missing }},
	}, func(w *world) {
		c := w.call("crash", "")
		w.failed(c, core.KindFunction, core.StateFailed, core.ReasonStartFailed,
			"shop/crash ended before it listened on port 8080: it exited with code 3", "the last it printed:\nline 21\n", "line 29\npanic: no config")
		w.failed(w.call("silent", ""), core.KindTimeout, core.StateFailed, core.ReasonStartTimeout, "nothing listened on port 8080 within 10s", "loading")
		w.failed(w.call("image", ""), core.KindNotFound, core.StateFailed, core.ReasonImageNotFound, "there is no image i")
		w.failed(w.call("slow", ""), core.KindTimeout, core.StateFailed, core.ReasonStartTimeout, "limits.start")
		w.failed(w.call("job", ""), core.KindFunction, core.StateFailed, core.ReasonImageNotFound, "there is no image i")
		if w.d.alive() != 0 {
			t.Errorf("%d instances are left", w.d.alive())
		}
	})
}

func TestProcessEndsDuringCall(t *testing.T) {
	t.Parallel()
	for reason, exit := range map[core.Reason]core.Exit{
		core.ReasonExitCode: {Code: 3}, core.ReasonSignal: {Code: 139, Signal: 11}, core.ReasonOOMKilled: {Code: 137, Signal: 9, OOM: true},
	} {
		inWorld(t, map[string]program{"f": {serve: func(in *instance, _ writer, r *request) {
			in.print(2, "panic: oh\n")
			in.crash(exit)
			<-r.Context().Done()
		}}}, func(w *world) {
			c := w.call("f", "")
			w.failed(c, core.KindFunction, core.StateFailed, reason, "shop/f", "panic: oh")
			if c.run.ExitCode != exit.Code {
				t.Errorf("the exit code is %d", c.run.ExitCode)
			}
		})
	}
}

func TestClientGone(t *testing.T) {
	t.Parallel()
	inWorld(t, map[string]program{"f": {serve: hangUp}, "job": {main: hang}, "start": {main: hang}}, func(w *world) {
		w.spec("f", func(s *core.Spec) { s.Instances.Max = 1 })
		w.spec("job", func(s *core.Spec) { s.Instances.Max = 1 })
		for _, name := range []string{"f", "job", "start"} {
			first, _ := w.going(name, "")
			var second *call
			if name != "start" { // has none that waits in line
				second, _ = w.going(name, "")
				second.cancel()
				<-second.done
			}
			first.cancel()
			for _, c := range []*call{first, second} {
				if c != nil {
					<-c.done
					if c.run.State != core.StateCancelled || c.run.Reason != core.ReasonClientGone || c.err == nil {
						t.Errorf("%s: the run is %+v", name, c.run)
					}
				}
			}
			w.after(15 * time.Second) // a start goes on for others until its limit
			if n := w.d.alive(); n != 0 {
				t.Errorf("%s: %d processes are left", name, n)
			}
		}
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	inWorld(t, map[string]program{"f": {serve: hangUp}, "job": {main: hang}, "start": {main: hang}, "echo": {serve: echo}}, func(w *world) {
		w.spec("f", func(s *core.Spec) { s.Instances.Max = 1 })
		w.spec("job", func(s *core.Spec) { s.Instances.Max = 1 })
		cancelled := func(c *call, id core.RunID) {
			t.Helper()
			run, err := w.Cancel(w.Context(), me, id)
			if err != nil || run.State != core.StateCancelled || run.Reason != core.ReasonCancelledByUser || run.FinishedAt.IsZero() {
				t.Errorf("got %+v, %v", run, err)
			}
			w.failed(c, core.KindConflict, core.StateCancelled, core.ReasonCancelledByUser, "cancelled by me")
			if run, err := w.Cancel(w.Context(), me, id); !core.IsKind(err, core.KindConflict) || run.ID != id {
				t.Errorf("cancelled twice: %v", err)
			}
		}
		for _, name := range []string{"f", "job"} {
			running, first := w.going(name, "")
			waiting, second := w.going(name, "")
			if first.State != core.StateRunning || second.State != core.StateQueued {
				t.Fatalf("%s: the runs are %s and %s", name, first.State, second.State)
			}
			cancelled(waiting, second.ID)
			cancelled(running, first.ID)
			w.after(time.Second)
			if n := w.d.alive(); n != 0 {
				t.Errorf("%s: %d processes are left", name, n)
			}
		}
		starting, run := w.going("start", "")
		cancelled(starting, run.ID)
		c := w.call("echo", "")
		for range 2 { // in memory, then on disk
			if run, err := w.Cancel(w.Context(), me, c.run.ID); !core.IsKind(err, core.KindConflict) || run.State != core.StateSucceeded {
				t.Errorf("after its end it is %s, %v", run.State, err)
			}
			w.flushed()
		}
		if _, err := w.Cancel(w.Context(), me, 12345); !core.IsKind(err, core.KindNotFound) {
			t.Errorf("an unknown run: %v", err)
		}
	})
}

// A run that does not end is told of within a bound.
func TestCancelIsBounded(t *testing.T) {
	t.Parallel()
	inWorld(t, map[string]program{"job": {main: func(ctx context.Context, _ *instance) int {
		<-ctx.Done()
		time.Sleep(time.Minute) // of the bubble
		return 0
	}}}, func(w *world) {
		c, run := w.going("job", "")
		if got, err := w.Cancel(w.Context(), me, run.ID); !core.IsKind(err, core.KindTimeout) || got.State != core.StateRunning {
			t.Errorf("got %+v, %v", got, err)
		}
		w.failed(c, core.KindConflict, core.StateCancelled, core.ReasonCancelledByUser)
	})
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	inWorld(t, map[string]program{"f": {serve: hangUp}, "job": {main: func(ctx context.Context, in *instance) int {
		in.print(2, "working\n")
		return hang(ctx, in)
	}}}, func(w *world) {
		for name, text := range map[string]string{"f": "did not finish its answer within its timeout of 7s", "job": "was killed because it did not end within its timeout of 7s"} {
			w.spec(name, func(s *core.Spec) { s.Timeout = 7 * time.Second })
			began := time.Now()
			c := w.call(name, "")
			w.failed(c, core.KindTimeout, core.StateTimedOut, core.ReasonTimeout, text)
			if d := time.Since(began); d < 7*time.Second || d > 8*time.Second {
				t.Errorf("%s: it took %s", name, d)
			}
			w.after(time.Second)
			if n := w.d.alive(); n != 0 {
				t.Errorf("%s: %d processes are left", name, n)
			}
		}
	})
}

func TestJob(t *testing.T) {
	t.Parallel()
	inWorld(t, map[string]program{"job": {main: func(_ context.Context, in *instance) int {
		body, _ := io.ReadAll(in.stdio.Stdin)
		in.print(2, "::progress 42 half way\nlog of "+string(body))
		in.print(1, "result of "+string(body))
		return len(body)
	}}}, func(w *world) {
		c := w.call("job", "")
		if c.err != nil || c.reply.body.String() != "result of " || !c.run.Cold || c.run.Progress != 42 || c.run.ProgressText != "half way" {
			t.Errorf("got %q, %v, %+v", c.reply.body.String(), c.err, c.run)
		}
		c = w.call("job", "xyz")
		w.failed(c, core.KindFunction, core.StateFailed, core.ReasonExitCode, "exited with code 3", "the last it printed:\n::progress 42 half way\nlog of xyz")
		if got := w.log(c.run.ID); c.run.ExitCode != 3 || !slices.Equal(got, []string{"::progress 42 half way", "log of xyz"}) {
			t.Errorf("the exit code is %d and the log %q", c.run.ExitCode, got)
		}
		if !slices.Contains(w.store.states(c.run.ID), core.StateRunning) {
			w.flushed()
		}
	})
}

// The end of the log is in the error also when it has been written already.
func TestTailIsKept(t *testing.T) {
	t.Parallel()
	inWorld(t, map[string]program{"job": {main: func(ctx context.Context, in *instance) int {
		in.print(2, strings.Repeat("ü", 3000)+"\nwhy it failed\n")
		time.Sleep(5 * time.Second) // of the bubble
		return 1
	}}}, func(w *world) {
		c := w.call("job", "")
		w.failed(c, core.KindFunction, core.StateFailed, core.ReasonExitCode, "üü\nwhy it failed")
		if m := core.AsError(c.err).Message; len(m) > 2200 || strings.Contains(m, "\uFFFD") {
			t.Errorf("the message has %d bytes: %q", len(m), m)
		}
	})
}

func TestTraceparent(t *testing.T) {
	t.Parallel()
	const trace, span, zeros = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00000000000000000000000000000000"
	got := make(chan string, 1)
	inWorld(t, map[string]program{"f": {serve: func(_ *instance, _ writer, r *request) { got <- r.Header.Get("Traceparent") }}}, func(w *world) {
		for given, kept := range map[string]bool{
			"00-" + trace + "-" + span + "-00":                  true,
			"00-" + trace + "-" + span + "-01":                  true,
			"cc-" + trace + "-" + span + "-01-more":             true,
			"00-" + trace + "-" + span + "-01-more":             false,
			"cc-" + trace + "-" + span + "-01more":              false,
			"ff-" + trace + "-" + span + "-01":                  false,
			"00-" + zeros + "-" + span + "-01":                  false,
			"00-" + trace + "-" + zeros[:16] + "-01":            false,
			"00-" + strings.ToUpper(trace) + "-" + span + "-01": false,
			"00-" + trace + "-" + span:                          false,
			"zz-" + trace + "-" + span + "-01":                  false,
			"":                                                  false,
		} {
			reply := &reply{header: core.Header{}}
			req := &core.Request{Method: "GET", Path: "/", Host: "h", Header: core.Header{"Traceparent": {given}}}
			if _, err := w.Call(w.Context(), me, "shop", "f", core.TriggerHTTP, req, reply); err != nil {
				t.Fatal(err)
			}
			sent := <-got
			if len(sent) != 55 || sent[:3] != "00-" || sent[36:52] == span || sent[36:52] == zeros[:16] || sent[3:35] == zeros {
				t.Errorf("%q became %q", given, sent)
			}
			if (sent[3:35] == trace) != kept || kept && sent[53:] != given[53:55] {
				t.Errorf("%q became %q; kept should be %v", given, sent, kept)
			}
		}
	})
}

func TestChanged(t *testing.T) {
	t.Parallel()
	inWorld(t, map[string]program{"f": {serve: echo}}, func(w *world) {
		w.call("f", "")
		change := core.Change{Definition: *w.defs["f"]}
		w.Changed(change)
		w.after(time.Second)
		if w.d.alive() != 1 {
			t.Error("the instance of the version that is called was ended")
		}
		change.Definition.Version.Number = 2
		w.Changed(change)
		w.after(time.Second)
		if w.d.alive() != 0 {
			t.Error("the instance of an old version is there")
		}
		w.call("f", "")
		w.Changed(core.Change{Deleted: true, Definition: core.Definition{Function: core.Function{ID: w.defs["f"].Function.ID}}})
		w.after(time.Second)
		if w.d.alive() != 0 {
			t.Error("the instance of a deleted function is there")
		}
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	inWorld(t, map[string]program{"f": {serve: hangUp}, "job": {main: func(ctx context.Context, _ *instance) int {
		<-ctx.Done()
		time.Sleep(500 * time.Millisecond) // of the bubble: it ends slowly
		return 0
	}}, "start": {main: hang}, "echo": {serve: echo}}, func(w *world) {
		w.spec("f", func(s *core.Spec) { s.Instances.Max = 1 })
		var calls []*call
		for _, name := range []string{"f", "f", "job", "start"} {
			c, _ := w.going(name, "")
			calls = append(calls, c)
		}
		done := w.call("echo", "x")
		w.close()
		for i, c := range calls {
			select {
			case <-c.done:
			default:
				synctest.Wait()
			}
			w.failed(c, core.KindUnavailable, core.StateFailed, core.ReasonServerRestarted, "stopping")
			if got, err := w.store.Run(w.Context(), c.run.ID); err != nil || got.State != core.StateFailed {
				t.Errorf("call %d: the store has %+v, %v", i, got, err)
			}
		}
		if got, err := w.store.Run(w.Context(), done.run.ID); err != nil || got.State != core.StateSucceeded {
			t.Errorf("the store has %+v, %v", got, err)
		}
		late := w.call("echo", "x")
		if e, ok := errors.AsType[*core.Error](late.err); !ok || e.Code != core.ReasonServerRestarted || late.run.ID != 0 {
			t.Errorf("a call after Close got %v", late.err)
		}
	})
}
