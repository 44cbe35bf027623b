package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// resolveTime is how long a registry may take to say what a name means before
// a deployment goes on without.
const resolveTime = 10 * time.Second

// resolve finds out which image a new version has. A name that was loaded
// here means what was loaded; for others the registry is asked. Where it does
// not answer, the digest is "", and the first call is to find out.
func (s *Service) resolve(ctx context.Context, n core.NewVersion) (digest string, err error) {
	here, err := s.images.Image(ctx, n.Spec.Image)
	switch {
	case err == nil && (here.Source == "" || strings.Contains(n.Spec.Image, "sha256:")):
		return here.Digest, startable(n.Spec, here.Config)
	case err != nil && !core.IsKind(err, core.KindNotFound):
		return "", fmt.Errorf("find the image of %s/%s: %w", n.App, n.Function, err)
	case n.Lazy:
		return "", nil
	}
	asking, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	digest, err = s.images.Resolve(asking, n.Spec.Image)
	if err == nil {
		if image, err := s.images.Image(ctx, digest); err == nil {
			return digest, startable(n.Spec, image.Config)
		}
		return digest, nil
	}
	if !core.IsKind(err, core.KindUnavailable) && asking.Err() == nil || ctx.Err() != nil {
		return "", fmt.Errorf("find the image of %s/%s: %w", n.App, n.Function, err)
	}
	if here.Digest != "" {
		return here.Digest, startable(n.Spec, here.Config)
	}
	// What is called now stays as it is, if all else is the same.
	if now, err := s.store.Version(ctx, n.App, n.Function, 0); err == nil && now.Version.Spec.Equal(n.Spec) {
		return now.Version.Digest, nil
	}
	return "", nil
}

// Ready reports whether an instance of the definition can be started at once.
// It takes no lock that calls of other functions take.
func (s *Service) Ready(def *core.Definition) bool { return s.ready.has(def) }

// Fetch makes sure that the image of a definition is here, pins the version
// to it if nobody has yet, and gives the definition as it is then. It goes on
// when ctx ends, for those who call later. report is told how far it is.
func (s *Service) Fetch(ctx context.Context, def *core.Definition, report func(core.PullProgress)) (*core.Definition, error) {
	if def.Version.Resolved() {
		image, err := s.images.Image(ctx, def.Version.Digest)
		if err == nil {
			if err := startable(def.Version.Spec, image.Config); err != nil {
				return nil, err
			}
			s.ready.add(def)
			return def, nil
		}
		if !core.IsKind(err, core.KindNotFound) {
			return nil, fmt.Errorf("find the image of %s/%s: %w", def.App.Name, def.Function.Name, err)
		}
	}
	f, err := s.fetches.join(s, def)
	if err != nil {
		return nil, err
	}
	defer f.waiting.Add(-1)
	look := time.NewTicker(reportEvery)
	defer look.Stop()
	for {
		select {
		case <-f.done:
			return f.def, f.err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-look.C:
			if p := f.progress.Load(); p != nil && report != nil {
				report(*p)
			}
		}
	}
}

// reportEvery is how often a caller who waits is told how far it is.
const reportEvery = 200 * time.Millisecond

// failureKept is how long a failure is told to who comes, without trying
// again.
const failureKept = 2 * time.Second

type versionKey struct {
	function core.FunctionID
	version  int
}

// fetches are the images that are being fetched.
type fetches struct {
	mu     sync.Mutex
	under  map[versionKey]*fetch
	closed bool
	work   sync.WaitGroup
	life   context.Context //nolint:containedctx // the life of what goes on when those who asked for it have left
	end    context.CancelCauseFunc
}

// fetch is the image of a version being fetched.
type fetch struct {
	waiting  atomic.Int64
	progress atomic.Pointer[core.PullProgress]
	done     chan struct{}
	def      *core.Definition
	err      error
	failed   time.Time // when it failed; before done is closed
}

func (f *fetches) open(ctx context.Context) {
	f.under = map[versionKey]*fetch{}
	f.life, f.end = context.WithCancelCause(context.WithoutCancel(ctx))
}

func (f *fetches) join(s *Service, def *core.Definition) (*fetch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errStopping
	}
	key := versionKey{def.Function.ID, def.Version.Number}
	if one, ok := f.under[key]; ok && !one.outdated(s.now()) {
		if n := one.waiting.Add(1); n > int64(def.Version.Spec.Limits.Waiting) {
			one.waiting.Add(-1)
			return nil, &core.Error{
				Kind: core.KindExhausted, Code: core.CodeTooMany, RetryAfter: 1,
				Message: def.App.Name + "/" + def.Function.Name + " has its line full of calls that wait for its image (limits.waiting): try again",
			}
		}
		return one, nil
	}
	one := &fetch{done: make(chan struct{})}
	one.waiting.Add(1)
	f.under[key] = one
	f.work.Go(func() {
		one.def, one.err = s.fetch(f.life, def, func(p core.PullProgress) { one.progress.Store(&p) })
		f.mu.Lock()
		defer f.mu.Unlock()
		if one.err == nil {
			delete(f.under, key)
		}
		one.failed = s.now()
		close(one.done)
	})
	return one, nil
}

// outdated reports whether a fetch failed so long ago that it is time to try
// again.
func (f *fetch) outdated(now time.Time) bool {
	select {
	case <-f.done:
		return now.Sub(f.failed) >= failureKept
	default:
		return false
	}
}

var errStopping = core.Unavailable(core.ReasonServerRestarted, nil, "the server is stopping")

// fetch gets the image of a version, and pins the version to it.
func (s *Service) fetch(ctx context.Context, def *core.Definition, report func(core.PullProgress)) (*core.Definition, error) {
	pinned := *def
	v := &pinned.Version
	var image core.Image
	var err error
	if !v.Resolved() {
		// Who asks may have had the definition since before it was pinned.
		now, err := s.store.Version(ctx, def.App.Name, def.Function.Name, v.Number)
		if err == nil && now.Function.ID == def.Function.ID {
			v.Digest = now.Version.Digest
		}
	}
	if !v.Resolved() {
		if image, err = s.first(ctx, v.Spec.Image, report); err != nil {
			return nil, fmt.Errorf("pull the image of %s/%s: %w", def.App.Name, def.Function.Name, err)
		}
		if err := startable(v.Spec, image.Config); err != nil {
			return nil, err
		}
		if v.Digest, err = s.store.PinVersion(ctx, v.FunctionID, v.Number, image.Digest); err != nil {
			return nil, fmt.Errorf("pin version %d of %s/%s: %w", v.Number, def.App.Name, def.Function.Name, err)
		}
		if err := s.refresh(ctx); err != nil {
			return nil, err
		}
	}
	if image.Digest != v.Digest {
		if image, err = s.images.Image(ctx, v.Digest); err != nil {
			image, err = s.images.Pull(ctx, core.ImageAt(v.Spec.Image, v.Digest), report)
		}
		if err != nil {
			return nil, fmt.Errorf("pull the image of %s/%s: %w", def.App.Name, def.Function.Name, err)
		}
	}
	return &pinned, startable(v.Spec, image.Config)
}

// first gets the image that a name means now.
func (s *Service) first(ctx context.Context, ref string, report func(core.PullProgress)) (core.Image, error) {
	here, missing := s.images.Image(ctx, ref)
	if missing == nil && here.Source == "" {
		return here, nil
	}
	image, err := s.images.Pull(ctx, ref, report)
	if core.IsKind(err, core.KindUnavailable) && missing == nil {
		return here, nil
	}
	return image, err
}

func (f *fetches) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.end(errStopping)
	f.work.Wait()
}

// readiness remembers which definitions can be started at once. Looking that
// up is on the path of every call.
type readiness struct {
	defs sync.Map // *core.Definition, as the catalog gives it, to nothing

	mu         sync.Mutex
	byFunction map[core.FunctionID][]*core.Definition
}

func (r *readiness) has(def *core.Definition) bool {
	_, ok := r.defs.Load(def)
	return ok
}

func (r *readiness) add(def *core.Definition) {
	if r.has(def) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.defs.LoadOrStore(def, struct{}{}); known {
		return
	}
	r.byFunction[def.Function.ID] = append(r.byFunction[def.Function.ID], def)
}

// changed lets go of what was known of a function.
func (r *readiness) changed(id core.FunctionID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, def := range r.byFunction[id] {
		r.defs.Delete(def)
	}
	delete(r.byFunction, id)
}

// forget lets go of all that has an image which may be gone.
func (r *readiness) forget(digest string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, defs := range r.byFunction {
		r.byFunction[id] = slices.DeleteFunc(defs, func(def *core.Definition) bool {
			if def.Version.Digest != digest {
				return false
			}
			r.defs.Delete(def)
			return true
		})
	}
}

// Changed takes note of a change of a function.
func (s *Service) Changed(c core.Change) { s.ready.changed(c.Definition.Function.ID) }

// Close ends what is being fetched, and waits for it.
func (s *Service) Close() { s.fetches.close() }
