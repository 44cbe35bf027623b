package invoke_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// A call whose image is not here waits for it; its run says so, and the wait
// counts to the start.
func TestCallWaitsForItsImage(t *testing.T) {
	t.Parallel()
	inWorld(t, map[string]program{"f": {serve: echo}, "job": {main: func(context.Context, *instance) int { return 0 }}}, func(w *world) {
		for _, name := range []string{"f", "job"} {
			there := make(chan struct{})
			w.images.fetch = func(ctx context.Context, def *core.Definition, report func(core.PullProgress)) (*core.Definition, error) {
				report(core.PullProgress{Phase: core.PullDownloading, Done: 63, Total: 100, Layers: 2})
				select {
				case <-there:
				case <-ctx.Done():
					return nil, context.Cause(ctx)
				}
				pinned := *def
				pinned.Version.Digest = "sha256:pinned"
				return &pinned, nil
			}
			c := w.send(name, "")
			synctest.Wait()
			runs, err := w.Runs(t.Context(), core.Principal{}, core.RunFilter{Function: name}, core.Page{})
			if err != nil || len(runs.Runs) != 1 {
				t.Fatalf("%s: %+v, %v", name, runs, err)
			}
			run := runs.Runs[0]
			if run.State != core.StateQueued || run.Waiting == nil || run.Waiting.For != core.WaitImage || run.Waiting.Message != "image pull 63 %" || run.Waiting.Pull.Layers != 2 {
				t.Errorf("%s: while it waits the run is %+v", name, run)
			}
			time.Sleep(5 * time.Second) // of the bubble
			close(there)
			<-c.done
			got := c
			if got.err != nil || got.run.Waiting != nil || !got.run.Cold || got.run.Start.Image != 5*time.Second || got.run.Queue() >= time.Second {
				t.Errorf("%s: it ended with %v, and the run is %+v", name, got.err, got.run)
			}
		}
		for _, in := range w.d.instances {
			if in.spec.Digest != "sha256:pinned" {
				t.Errorf("an instance was started of %q", in.spec.Digest)
			}
		}
	})
}

// The wait ends with the function's timeout, or with the caller; the pull is
// not the caller's.
func TestCallWaitsForItsImageOnlySoLong(t *testing.T) {
	t.Parallel()
	inWorld(t, map[string]program{"f": {serve: echo}}, func(w *world) {
		w.images.fetch = func(ctx context.Context, _ *core.Definition, report func(core.PullProgress)) (*core.Definition, error) {
			report(core.PullProgress{Phase: core.PullDownloading, Done: 25, Total: 100, Rate: 10})
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		began := time.Now()
		got := w.call("f", "")
		e := core.AsError(got.err)
		if e.Kind != core.KindUnavailable || e.Code != core.ReasonImagePullFailed || e.RetryAfter != 8 || !strings.Contains(e.Message, "image pull 25 %") || !strings.Contains(e.Message, "--pull") {
			t.Errorf("got %+v", e)
		}
		if waited := time.Since(began); waited != 30*time.Second {
			t.Errorf("it waited %s", waited)
		}
		if got.run.State != core.StateFailed || got.run.Reason != core.ReasonImagePullFailed || got.run.Waiting != nil {
			t.Errorf("the run is %+v", got.run)
		}
		c := w.send("f", "")
		synctest.Wait()
		c.cancel()
		if <-c.done; c.run.State != core.StateCancelled || c.run.Reason != core.ReasonClientGone {
			t.Errorf("after its caller had left the run is %+v", c.run)
		}
	})
}

// That the image cannot be had is neither the call's fault nor a function that
// is missing.
func TestImageThatCannotBeHad(t *testing.T) {
	t.Parallel()
	inWorld(t, map[string]program{"f": {serve: echo}}, func(w *world) {
		for _, tc := range []struct {
			err  error
			kind core.Kind
			code core.Code
		}{
			{core.Errorf(core.KindNotFound, core.ReasonImageNotFound, "none"), core.KindFunction, core.ReasonImageNotFound},
			{core.Errorf(core.KindInvalid, core.ReasonImagePullFailed, "no"), core.KindFunction, core.ReasonImagePullFailed},
			{core.Errorf(core.KindInvalid, core.ReasonImageUnsupported, "no"), core.KindFunction, core.ReasonImageUnsupported},
			{core.Unavailable(core.ReasonImagePullFailed, nil, "later"), core.KindUnavailable, core.ReasonImagePullFailed},
			{core.Unavailable(core.ReasonDiskFull, nil, "full"), core.KindUnavailable, core.ReasonDiskFull},
			{errors.New("boom"), core.KindInternal, core.CodeInternal},
		} {
			w.images.fetch = func(context.Context, *core.Definition, func(core.PullProgress)) (*core.Definition, error) {
				return nil, tc.err
			}
			got := w.call("f", "")
			if e := core.AsError(got.err); e.Kind != tc.kind || e.Code != tc.code || got.run.State != core.StateFailed || got.run.Reason != tc.code {
				t.Errorf("for %v: %v, the run is %s, %s", tc.err, got.err, got.run.State, got.run.Reason)
			}
		}
	})
}
