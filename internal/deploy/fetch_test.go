package deploy_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/deploy"
	"github.com/dayfly-io/dayfly/internal/memory"
	"github.com/dayfly-io/dayfly/internal/sequence"
)

// distant is a store of images with a registry behind it.
type distant struct {
	here   map[string]core.Image // by name and by digest
	remote map[string]string     // name to digest
	down   error                 // what the registry says in place of an answer
	config core.ImageConfig      // of what is pulled
	pulls  []string
	gate   chan struct{} // a pull waits for it, unless it is nil
	pruned []core.Image  // candidates
	gone   []string
}

func (d *distant) Load(context.Context, io.Reader) ([]core.Image, error) { return nil, nil }

func (d *distant) Image(_ context.Context, ref string) (core.Image, error) {
	if i, ok := d.here[ref]; ok {
		return i, nil
	}
	return core.Image{}, core.Errorf(core.KindNotFound, core.ReasonImageNotFound, "there is no image %s here", ref)
}

func (d *distant) Images(context.Context) ([]core.Image, error) { return nil, nil }

func (d *distant) Resolve(_ context.Context, ref string) (string, error) {
	if d.down != nil {
		return "", d.down
	}
	if _, digest, ok := strings.Cut(ref, "@"); ok {
		return digest, nil
	}
	if digest := d.remote[ref]; digest != "" {
		return digest, nil
	}
	return "", core.Errorf(core.KindNotFound, core.ReasonImageNotFound, "the registry has no image %s", ref)
}

func (d *distant) Pull(ctx context.Context, ref string, report func(core.PullProgress)) (core.Image, error) {
	d.pulls = append(d.pulls, ref)
	report(core.PullProgress{Image: ref, Phase: core.PullDownloading, Done: 1, Total: 2})
	if d.gate != nil {
		select {
		case <-d.gate:
		case <-ctx.Done():
			return core.Image{}, context.Cause(ctx)
		}
	}
	digest, err := d.Resolve(ctx, ref)
	if err != nil {
		return core.Image{}, err
	}
	i := core.Image{Digest: digest, Source: "r", Config: d.config}
	d.here[digest] = i
	return i, nil
}

func (d *distant) Remove(_ context.Context, ref string) error {
	d.gone = append(d.gone, ref)
	delete(d.here, ref)
	return nil
}

func (d *distant) Prune(_ context.Context, _ core.ImageLimits, keep func(core.Image) bool) (core.Pruned, error) {
	var out core.Pruned
	for _, i := range d.pruned {
		if !keep(i) {
			out.Images = append(out.Images, i)
		}
	}
	return out, nil
}

var down = core.Unavailable(core.ReasonImagePullFailed, nil, "the registry cannot be reached")

func newDistant() *distant {
	return &distant{
		here: map[string]core.Image{}, remote: map[string]string{"r/web:1": "sha256:1"},
		config: core.ImageConfig{Entrypoint: []string{"/web"}},
	}
}

func over(i deploy.Images) *deploy.Service {
	can := core.Capabilities{Driver: "sandbox", Networks: []core.Network{core.NetworkEgress}}
	return deploy.New(context.Background(), deploy.Config{
		Store: memory.New(), Images: i, Catalog: &catalog{}, Capabilities: can, IDs: sequence.New(0, time.Now), Now: time.Now,
	})
}

func save(t *testing.T, s *deploy.Service, image string, lazy bool) core.Definition {
	t.Helper()
	n := version(image)
	n.Lazy = lazy
	def, err := s.Save(t.Context(), someone, n)
	if err != nil {
		t.Fatal(err)
	}
	return def
}

func TestSaveAsksTheRegistry(t *testing.T) {
	t.Parallel()
	i := newDistant()
	s := over(i)
	defer s.Close()
	if def := save(t, s, "r/web:1", false); def.Version.Digest != "sha256:1" || len(i.pulls) != 0 {
		t.Errorf("the version is pinned to %q after the pulls %v", def.Version.Digest, i.pulls)
	}
	_, err := s.Save(t.Context(), someone, version("r/none:1"))
	if e := core.AsError(err); e.Kind != core.KindNotFound || e.Code != core.ReasonImageNotFound {
		t.Errorf("an image that does not exist: %v", err)
	}
	// The registry is down: what is known stays, what is not is left open.
	i.down = down
	if def := save(t, s, "r/web:1", false); def.Version.Number != 1 || def.Version.Digest != "sha256:1" {
		t.Errorf("the same again is %+v", def.Version)
	}
	if def := save(t, s, "r/web:2", false); def.Version.Number != 2 || def.Version.Resolved() {
		t.Errorf("with the registry down another is %+v", def.Version)
	}
	i.here["r/web:3"] = core.Image{Digest: "sha256:3", Source: "r/web", Config: i.config}
	if def := save(t, s, "r/web:3", false); def.Version.Digest != "sha256:3" {
		t.Errorf("with the registry down one that is here is %+v", def.Version)
	}
	i.down = core.Errorf(core.KindInvalid, core.ReasonImagePullFailed, "no")
	if _, err := s.Save(t.Context(), someone, version("r/web:4")); core.AsError(err).Code != core.ReasonImagePullFailed {
		t.Errorf("a registry that refuses: %v", err)
	}
	// What was loaded is what its name means, whatever registries say.
	i.here["mine"] = core.Image{Digest: "sha256:9", Config: i.config}
	if def := save(t, s, "mine", true); def.Version.Digest != "sha256:9" {
		t.Errorf("a loaded image is %+v", def.Version)
	}
	if def := save(t, s, "r/web:1", true); def.Version.Resolved() {
		t.Errorf("lazily it is %+v", def.Version)
	}
}

// A registry that takes its time does not hold a deployment up for long.
func TestSaveDoesNotWaitForTheRegistry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := &slow{newDistant()}
		s := over(i)
		defer s.Close()
		began := time.Now()
		if def := save(t, s, "r/web:1", false); def.Version.Resolved() || time.Since(began) != 10*time.Second {
			t.Errorf("after %s it is %+v", time.Since(began), def.Version)
		}
	})
}

type slow struct{ *distant }

func (*slow) Resolve(ctx context.Context, _ string) (string, error) {
	<-ctx.Done()
	return "", context.Cause(ctx)
}

func TestFetchPinsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newDistant()
		i.gate = make(chan struct{})
		s := over(i)
		defer s.Close()
		def := save(t, s, "r/web:1", true)
		if s.Ready(&def) {
			t.Error("it is ready before anything was pulled")
		}
		// One leaves, the pull goes on; the others get what it brings.
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := s.Fetch(ctx, &def, nil)
			left <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
		got := make(chan *core.Definition)
		for range 3 {
			go func() {
				var seen []core.PullProgress
				pinned, err := s.Fetch(t.Context(), &def, func(p core.PullProgress) { seen = append(seen, p) })
				if err != nil || len(seen) == 0 || seen[0].Percent() != 50 {
					t.Errorf("got %v, after %v", err, seen)
				}
				got <- pinned
			}()
		}
		time.Sleep(time.Second) // of the bubble
		close(i.gate)
		for range 3 {
			if pinned := <-got; pinned.Version.Digest != "sha256:1" || pinned == &def {
				t.Errorf("it is pinned to %q", pinned.Version.Digest)
			}
		}
		if len(i.pulls) != 1 || def.Version.Resolved() {
			t.Errorf("there were the pulls %v; the definition that was handed out is %+v", i.pulls, def.Version)
		}
		// The name means another image now; the version does not.
		i.remote["r/web:1"] = "sha256:2"
		pinned, err := s.Fetch(t.Context(), &def, nil)
		if err != nil || pinned.Version.Digest != "sha256:1" || len(i.pulls) != 1 {
			t.Errorf("later it is %+v, %v, after %v", pinned, err, i.pulls)
		}
		// And is pulled again, by its digest, when it has gone.
		now, err := s.Function(t.Context(), someone, "shop", "resize")
		if err != nil || now.Version.Digest != "sha256:1" {
			t.Fatalf("the function has %+v, %v", now.Version, err)
		}
		if _, err := s.Fetch(t.Context(), &now, nil); err != nil || !s.Ready(&now) {
			t.Errorf("ready: %t, %v", s.Ready(&now), err)
		}
		if err := s.RemoveImage(t.Context(), someone, "sha256:1"); err != nil {
			t.Fatal(err)
		}
		if s.Ready(&now) {
			t.Error("it is ready after its image was removed")
		}
		if _, err := s.Fetch(t.Context(), &now, nil); err != nil || len(i.pulls) != 2 || i.pulls[1] != "r/web:1@sha256:1" {
			t.Errorf("got %v after %v", err, i.pulls)
		}
		s.Changed(core.Change{Definition: now})
		if s.Ready(&now) {
			t.Error("a definition that was replaced is ready")
		}
	})
}

// What is wrong with an image is found out when it comes, if not before.
func TestFetchChecksTheImage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newDistant()
		i.config = core.ImageConfig{}
		s := over(i)
		defer s.Close()
		for _, lazy := range []bool{true, false} {
			i.here = map[string]core.Image{}
			def := save(t, s, "r/web:1", lazy)
			if _, err := s.Fetch(t.Context(), &def, nil); core.AsError(err).Code != core.ReasonImageUnsupported || s.Ready(&def) {
				t.Errorf("lazy %t: got %v", lazy, err)
			}
		}
	})
}

// A failure is told to those who come soon after, and then it is tried again.
func TestFetchFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newDistant()
		s := over(i)
		defer s.Close()
		def := save(t, s, "r/web:1", true)
		i.down = down
		for range 3 {
			if _, err := s.Fetch(t.Context(), &def, nil); !errors.Is(err, down) {
				t.Errorf("got %v", err)
			}
		}
		if len(i.pulls) != 1 {
			t.Errorf("it was tried %d times", len(i.pulls))
		}
		i.down = nil
		time.Sleep(2 * time.Second) // of the bubble
		if pinned, err := s.Fetch(t.Context(), &def, nil); err != nil || pinned.Version.Digest != "sha256:1" {
			t.Errorf("later it is %+v, %v", pinned, err)
		}
	})
}

func TestFetchIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newDistant()
		i.gate = make(chan struct{})
		s := over(i)
		n := version("r/web:1")
		n.Lazy, n.Spec.Limits.Waiting = true, 2
		def, err := s.Save(t.Context(), someone, n)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		for range 2 {
			go func() {
				_, err := s.Fetch(t.Context(), &def, nil)
				ended <- err
			}()
		}
		synctest.Wait()
		if _, err := s.Fetch(t.Context(), &def, nil); core.AsError(err).Code != core.CodeTooMany {
			t.Errorf("one too many got %v", err)
		}
		s.Close()
		for range 2 {
			if err := <-ended; core.AsError(err).Code != core.ReasonServerRestarted {
				t.Errorf("at the end a caller got %v", err)
			}
		}
		if _, err := s.Fetch(t.Context(), &def, nil); core.AsError(err).Code != core.ReasonServerRestarted {
			t.Errorf("after the end a caller got %v", err)
		}
	})
}

func TestPruneKeepsWhatFunctionsHave(t *testing.T) {
	t.Parallel()
	i := newDistant()
	i.here["mine"] = core.Image{Digest: "sha256:9", Names: []string{"mine"}, Config: i.config}
	i.pruned = []core.Image{{Digest: "sha256:9"}, {Digest: "sha256:1", Source: "r"}, {Digest: "sha256:5"}}
	s := over(i)
	defer s.Close()
	save(t, s, "mine", false)
	other := version("r/web:1")
	other.Function = "other"
	if _, err := s.Save(t.Context(), someone, other); err != nil {
		t.Fatal(err)
	}
	digests := func(p core.Pruned, err error) (out []string) {
		if err != nil {
			t.Error(err)
		}
		for _, i := range p.Images {
			out = append(out, i.Digest)
		}
		return out
	}
	if got := digests(s.PruneImages(t.Context(), someone, false)); !slices.Equal(got, []string{"sha256:5"}) {
		t.Errorf("by hand it pruned %v", got)
	}
	if got := digests(s.PruneImages(t.Context(), someone, true)); !slices.Equal(got, []string{"sha256:1", "sha256:5"}) {
		t.Errorf("all by hand it pruned %v", got)
	}
	if got := digests(s.TrimImages(t.Context(), 1, time.Now())); !slices.Equal(got, []string{"sha256:1", "sha256:5"}) {
		t.Errorf("by itself it pruned %v", got)
	}
	err := s.RemoveImage(t.Context(), someone, "mine")
	if !core.IsKind(err, core.KindConflict) || !strings.Contains(err.Error(), "shop/resize") || len(i.gone) != 0 {
		t.Errorf("what a function has and cannot be had again: %v", err)
	}
}

func TestRollbackToAnImageThatWasForgotten(t *testing.T) {
	t.Parallel()
	i := newDistant()
	s := over(i)
	defer s.Close()
	save(t, s, "r/web:1", false)
	i.remote["r/web:1"] = "sha256:2"
	save(t, s, "r/web:1", false)
	back, err := s.Rollback(t.Context(), someone, core.Rollback{App: "shop", Function: "resize", To: 1})
	if err != nil || back.Version.Digest != "sha256:1" {
		t.Errorf("it went back to %+v, %v", back.Version, err)
	}
	i.down = down
	if _, err := s.Rollback(t.Context(), someone, core.Rollback{App: "shop", Function: "resize", To: 2}); core.AsError(err).Code != core.ReasonImageNotFound {
		t.Errorf("with neither image nor registry: %v", err)
	}
}
