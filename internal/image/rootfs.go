package image

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Rootfs is what an image's instances are mounted from. Its slices are the
// store's own: do not change them.
type Rootfs struct {
	// Layers are directories, lowest first; at least one, none twice.
	Layers []string
	Config core.ImageConfig
	// Digest is that of the manifest.
	Digest string
}

// Rootfs gives the layers of an image by its digest. They stay at least until
// the next removal or collection: see [Store.Acquire]. core.KindNotFound with
// the code image_not_found.
func (s *Store) Rootfs(_ context.Context, digest string) (Rootfs, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	h, ok := s.images[digest]
	if !ok {
		return Rootfs{}, notFound(digest)
	}
	return h.rootfs, nil
}

// Acquire is Rootfs, and keeps the image from being removed until [Store.Release]
// has been called as often.
func (s *Store) Acquire(_ context.Context, digest string) (Rootfs, error) {
	s.mu.Lock()
	h, ok := s.images[digest]
	if ok {
		h.pins++
	}
	s.mu.Unlock()
	if !ok {
		return Rootfs{}, notFound(digest)
	}
	s.touch(digest)
	return h.rootfs, nil
}

// touchEvery is how often the use of an image is noted.
const touchEvery = time.Hour

// touch notes that an image is used, in memory and as the time of its file,
// so that the next process knows.
func (s *Store) touch(digest string) {
	now := s.opts.Now()
	s.mu.Lock()
	h, ok := s.images[digest]
	due := ok && now.Sub(h.used) >= touchEvery
	if due {
		h.used = now
	}
	s.mu.Unlock()
	if !due {
		return
	}
	if err := ignoreGone(os.Chtimes(s.imageFile(digest), now, now)); err != nil {
		s.opts.Logger.Warn("the use of an image cannot be noted", slog.String("digest", digest), slog.Any("error", err))
	}
}

// Release gives up what one [Store.Acquire] got.
func (s *Store) Release(digest string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, ok := s.images[digest]; ok && h.pins > 0 {
		h.pins--
	}
}

func notFound(digest string) error {
	return core.Errorf(core.KindNotFound, core.ReasonImageNotFound, "there is no image %s on this server: load or pull it again", digest)
}

// setNames gives an image names, taking them from whatever had them; the
// caller holds mu.
func (s *Store) setNames(digest string, names map[string]string) {
	changed := []string{digest}
	for key, shown := range names {
		changed = append(changed, s.names[key].Digest)
		s.names[key] = nameRecord{Name: shown, Digest: digest}
	}
	slices.Sort(changed)
	for _, d := range slices.Compact(changed) {
		if h, ok := s.images[d]; ok {
			h.rename(s.names)
		}
	}
}
