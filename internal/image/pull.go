package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image/registry"
)

// pullers is how many layers of an image are got at a time; of these, some
// wait for their turn to be unpacked.
const pullers = 3

// Resolve asks the registry which image, for this platform, a name means now.
func (s *Store) Resolve(ctx context.Context, ref string) (digest string, err error) {
	target, err := remoteRef(ref)
	if err != nil {
		return "", err
	}
	repo, err := s.registries.Open(ctx, target.ref)
	if err != nil {
		return "", err
	}
	d, err := repo.Head(ctx, target.ref.Identifier())
	if err != nil {
		return "", err
	}
	if isManifest(d.MediaType) {
		return d.Digest.String(), nil
	}
	c, err := s.choose(ctx, repo, target)
	if err != nil {
		return "", err
	}
	return c.record.Digest, nil
}

// target is what a person wants pulled.
type target struct {
	asked string
	ref   name.Reference
	// named is the name that the image gets, "" for none; sure is set when the
	// name means the image now, not when it is a reminder beside a digest.
	named string
	sure  bool
}

// remoteRef reads a name that a registry is to be asked for.
func remoteRef(ref string) (target, error) {
	if strings.HasPrefix(ref, "sha256:") {
		return target{}, core.Errorf(core.KindNotFound, core.ReasonImageNotFound,
			"there is no image %s on this server, and a digest alone does not say where to pull it from: load it, or write repository@%s", ref, ref)
	}
	if _, _, err := parseRef(ref); err != nil {
		return target{}, err
	}
	parsed, err := name.ParseReference(ref, name.WeakValidation)
	if err != nil {
		return target{}, core.Invalid("the image name %q is not one: %v", ref, err)
	}
	t := target{asked: ref, ref: parsed, named: ref, sure: true}
	if _, ok := parsed.(name.Digest); ok {
		t.named, t.sure = "", false
		if before, _, _ := strings.Cut(ref, "@"); strings.LastIndex(before, ":") > strings.LastIndex(before, "/") {
			t.named = before
		}
	}
	return t, nil
}

// choose reads what a name means and picks the image of this platform.
func (s *Store) choose(ctx context.Context, repo *registry.Repository, t target) (*candidate, error) {
	want := v1.Descriptor{}
	if digest, ok := t.ref.(name.Digest); ok {
		hash, err := v1.NewHash(digest.DigestStr())
		if err != nil {
			return nil, core.Invalid("%q is not a digest: it is sha256: and 64 hexadecimal digits", digest.DigestStr())
		}
		want.Digest = hash
	}
	data, d, err := repo.Manifest(ctx, want, t.ref.Identifier())
	if err != nil {
		return nil, err
	}
	if !isIndex(d.MediaType) && !isManifest(d.MediaType) {
		return nil, core.Errorf(core.KindInvalid, core.ReasonImageUnsupported,
			"the image %s is of the media type %q, which is no container image", t.asked, d.MediaType)
	}
	p := &picker{source: remote{repo}, byDigest: map[string]*candidate{}}
	choices, others, err := p.read(ctx, data, d, t.asked, 0)
	switch {
	case err != nil:
		return nil, asPull(err)
	case len(choices) == 0 && len(others) == 0:
		return nil, core.Errorf(core.KindInvalid, core.ReasonImageUnsupported, "the image %s names no image that could be run", t.asked)
	case len(choices) == 0:
		return nil, wrongPlatform(t.asked, others)
	}
	choices = best(choices)
	c := choices[len(choices)-1].image
	c.record.Source = repo.Name()
	return c, nil
}

// asPull gives an image's defects the code of a pull that failed, where they
// have none of their own.
func asPull(err error) error {
	e, ok := errors.AsType[*core.Error](err)
	if !ok || e.Code != core.CodeInvalid && e.Code != core.CodeTooLarge {
		return err
	}
	named := *e
	named.Code = core.ReasonImagePullFailed
	return &named
}

// Pull gets an image from its registry, verifies and unpacks it, and gives it
// its name. Those who pull the same share it, and layers are shared among all
// pulls; it ends early when all who wait for it are gone, and what has been
// downloaded by then is kept for the next.
func (s *Store) Pull(ctx context.Context, ref string, report func(core.PullProgress)) (core.Image, error) {
	t, err := remoteRef(ref)
	if err != nil {
		return core.Image{}, err
	}
	if image, err := s.Image(ctx, ref); err == nil && !t.sure {
		s.touch(image.Digest)
		return image, nil
	}
	a := ask[progress, core.Image]{key: t.ref.Name() + " " + t.named}
	a.begin = func(p *progress) { p.begin(ref, s.opts.Now()) }
	a.work = func(ctx context.Context, p *progress) (core.Image, error) { return s.pull(ctx, t, p) }
	if report != nil {
		a.watch = func(p *progress) { report(p.at(s.opts.Now())) }
	}
	image, err := s.pulls.do(ctx, s.life, &s.background, a)
	if err != nil && s.life.Err() != nil {
		return image, core.Unavailable(core.ReasonServerRestarted, err, "the server is stopping")
	}
	return image, err
}

func (s *Store) pull(ctx context.Context, t target, p *progress) (core.Image, error) {
	defer s.active()()
	repo, err := s.registries.Open(ctx, t.ref)
	if err != nil {
		return core.Image{}, err
	}
	c, err := s.choose(ctx, repo, t)
	if err != nil {
		return core.Image{}, err
	}
	if t.named != "" {
		if c.keys, err = nameKeys([]string{t.named}); err != nil {
			return core.Image{}, err
		}
	}
	defer s.claim(c)()
	if err := s.getLayers(ctx, repo, c, p); err != nil {
		return core.Image{}, err
	}
	if err := s.lock(ctx); err != nil {
		return core.Image{}, err
	}
	defer s.unlock()
	if err := s.settle(c); err != nil {
		return core.Image{}, err
	}
	if !t.sure {
		c.keys = s.freeKeys(c.keys)
	}
	if err := s.commit([]*candidate{c}, nil, ""); err != nil {
		return core.Image{}, fmt.Errorf("keeping the image %s: %w", t.asked, err)
	}
	return s.Image(ctx, c.record.Digest)
}

// missing gives the layers of an image that are not here, each once.
func (s *Store) missing(c *candidate) []int {
	var out []int
	seen := map[string]bool{}
	for i, l := range c.record.Layers {
		if _, ok := s.knownLayer(l.DiffID); !ok && !seen[l.DiffID] {
			out = append(out, i)
		}
		seen[l.DiffID] = true
	}
	return out
}

// getLayers downloads and unpacks what is missing of an image.
func (s *Store) getLayers(ctx context.Context, repo *registry.Repository, c *candidate, p *progress) error {
	missing := s.missing(c)
	var total core.Bytes
	for _, i := range missing {
		if total += core.Bytes(c.blobs[i].size); total > s.opts.MaxImage {
			return core.Errorf(core.KindTooLarge, core.ReasonImagePullFailed, "the image is larger than %s, the most an image may be", s.opts.MaxImage)
		}
	}
	p.resolved(c.record.Digest, total, len(missing))
	spooled, unpacked := s.newRoom(), s.newRoom()
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(pullers)
	for _, i := range missing {
		group.Go(func() error {
			got := layerGet{store: s, repo: repo, blob: c.blobs[i], diffID: c.record.Layers[i].DiffID, spooled: spooled, unpacked: unpacked}
			followed := false
			_, err := s.layerPulls.do(groupCtx, s.life, &s.background, ask[layerProgress, struct{}]{
				key: got.blob.digest, tag: got.diffID, work: got.run,
				watch: func(l *layerProgress) {
					if !followed {
						followed = true
						p.follow(l)
					}
				},
			})
			return asPull(inLayer(err, i+1, len(c.record.Layers), c.record.Layers[i].DiffID))
		})
	}
	return group.Wait()
}

// layerGet gets one layer.
type layerGet struct {
	store             *Store
	repo              *registry.Repository
	blob              *blob
	diffID            string
	spooled, unpacked *room
}

func (g layerGet) run(ctx context.Context, state *layerProgress) (_ struct{}, err error) {
	s := g.store
	defer s.active()()
	hash, err := v1.NewHash(g.blob.digest)
	if err != nil {
		return struct{}{}, fmt.Errorf("reading a digest: %w", err)
	}
	if _, ok := s.knownLayer(g.diffID); ok {
		state.got.Store(g.blob.size)
		state.unpacked.Store(true)
		return struct{}{}, nil
	}
	d := &download{repo: g.repo, blob: v1.Descriptor{Digest: hash, Size: g.blob.size}, room: g.spooled, state: state, pause: s.pause}
	file := s.spoolFile(g.blob.digest)
	if err := d.run(ctx, file); err != nil {
		return struct{}{}, err
	}
	select {
	case s.unpacking <- struct{}{}:
		defer func() { <-s.unpacking }()
	case <-ctx.Done():
		return struct{}{}, context.Cause(ctx)
	}
	work, err := os.MkdirTemp(s.path(tmpDir), "pull-")
	if err != nil {
		return struct{}{}, fmt.Errorf("unpacking a layer: %w", diskError(err))
	}
	defer func() {
		if removeErr := os.RemoveAll(work); removeErr != nil {
			s.opts.Logger.Warn("leftover of a pull cannot be removed", slog.String("path", work), slog.Any("error", removeErr))
		}
	}()
	dir := filepath.Join(work, hexOf(g.diffID))
	stats, err := s.unpackLayer(ctx, &blob{file: file}, g.diffID, dir, g.unpacked)
	if err == nil {
		err = s.placeLayer(dir, layerRecord{DiffID: g.diffID, Size: stats.Bytes, Entries: stats.Entries})
	}
	if e, ok := errors.AsType[*core.Error](err); ok && e.Kind == core.KindInvalid {
		err = errors.Join(err, ignoreGone(os.Remove(file))) // it will not be better next time
	}
	state.unpacked.Store(err == nil)
	return struct{}{}, err
}

// settle lets go of what was downloaded for an image, so that it is dropped
// from memory and never written, and then writes its layers to the disk.
func (s *Store) settle(c *candidate) error {
	for _, b := range c.blobs {
		err := s.layerPulls.unless(b.digest, func() error { return ignoreGone(os.Remove(s.spoolFile(b.digest))) })
		if err != nil {
			return fmt.Errorf("removing a spooled layer: %w", err)
		}
	}
	return s.syncLayers()
}

func (s *Store) spoolFile(digest string) string { return s.path(spoolDir, hexOf(digest)+".part") }

// claim keeps the layers of an image from being removed before the image is
// here that holds them.
func (s *Store) claim(c *candidate) (release func()) {
	add := func(n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, l := range c.record.Layers {
			if s.claims[l.DiffID] += n; s.claims[l.DiffID] == 0 {
				delete(s.claims, l.DiffID)
			}
		}
	}
	add(1)
	return func() { add(-1) }
}

// freeKeys gives the names that nothing has yet.
func (s *Store) freeKeys(keys map[string]string) map[string]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := map[string]string{}
	for key, shown := range keys {
		if _, ok := s.names[key]; !ok {
			out[key] = shown
		}
	}
	return out
}
