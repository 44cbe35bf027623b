package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Remove takes a name from its image, or, given a digest, removes the image
// with all its names. An image whose last name goes is removed too, unless it
// is in use: then the next [Store.Prune] does. core.KindNotFound when there is
// no such image, core.KindConflict for the digest of one in use.
func (s *Store) Remove(ctx context.Context, ref string) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	s.mu.Lock()
	h, key, err := s.find(ref)
	if err == nil && key == "" && h.pins > 0 {
		err = core.Conflict("the image %s is in use by %d instances: stop them first", ref, h.pins)
	}
	if err != nil {
		s.mu.Unlock()
		return err
	}
	gone := []string{key}
	if key == "" {
		gone = s.keysOf(h.record.Digest)
	}
	for _, k := range gone {
		delete(s.names, k)
	}
	h.rename(s.names)
	remove := len(h.names) == 0 && h.pins == 0
	if remove {
		s.drop(h.record.Digest)
	}
	s.mu.Unlock()

	for _, k := range gone {
		err = errors.Join(err, ignoreGone(os.Remove(s.nameFile(k))))
	}
	if remove {
		err = errors.Join(err, ignoreGone(os.Remove(s.imageFile(h.record.Digest))))
	}
	err = errors.Join(err, syncDir(s.path(namesDir)), syncDir(s.path(imagesDir)))
	if err != nil {
		return fmt.Errorf("removing the image %s: %w", ref, err)
	}
	if !remove {
		return nil
	}
	_, _, err = s.removeLayers()
	return err
}

// spaceGrace is how long an image stays that was just used, whatever space
// there is: it would be pulled again at once.
const spaceGrace = time.Hour

// spoolKept is how long the beginning of a download waits to be gone on with.
const spoolKept = 24 * time.Hour

// Prune removes the images that the limits let go and keep does not hold, and
// the layers that no image uses then. An image that somebody has acquired
// stays, and so does one with a name that cannot be pulled again, unless the
// limits let it go. The layers' files go afterwards, in the background.
func (s *Store) Prune(ctx context.Context, limits core.ImageLimits, keep func(core.Image) bool) (core.Pruned, error) {
	if err := s.lock(ctx); err != nil {
		return core.Pruned{}, err
	}
	defer s.unlock()
	var out core.Pruned
	for _, image := range s.prunable(limits) {
		if !s.excess(image, limits) || keep(image) { // keep may take its time, so mu is not held
			continue
		}
		gone, err := s.forget(image.Digest)
		if err != nil {
			return out, fmt.Errorf("removing the image %s: %w", image.Digest, err)
		}
		if gone {
			out.Images = append(out.Images, image)
		}
	}
	var err error
	if len(out.Images) > 0 {
		err = errors.Join(syncDir(s.path(namesDir)), syncDir(s.path(imagesDir)))
	}
	if err != nil {
		return out, fmt.Errorf("removing images: %w", err)
	}
	out.Layers, out.Bytes, err = s.removeLayers()
	return out, errors.Join(err, s.pruneSpool())
}

// prunable gives the images that nobody uses and that may go by their kind,
// least recently used first.
func (s *Store) prunable(limits core.ImageLimits) []core.Image {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []core.Image
	for _, h := range s.images {
		if h.pins == 0 && (h.record.Source != "" || len(h.names) == 0 || limits.Named) {
			out = append(out, h.image())
		}
	}
	slices.SortFunc(out, func(a, b core.Image) int {
		return cmp.Or(lastUse(a).Compare(lastUse(b)), cmp.Compare(a.Digest, b.Digest))
	})
	return out
}

func lastUse(i core.Image) time.Time {
	if i.UsedAt.After(i.LoadedAt) {
		return i.UsedAt
	}
	return i.LoadedAt
}

// excess reports whether an image is beyond a limit as things are.
func (s *Store) excess(i core.Image, limits core.ImageLimits) bool {
	if lastUse(i).Before(limits.UnusedSince) {
		return true
	}
	return limits.Space > 0 && s.opts.Now().Sub(lastUse(i)) > spaceGrace && s.size() > limits.Space
}

// size gives the sum of the layers that images use.
func (s *Store) size() core.Bytes {
	s.mu.RLock()
	defer s.mu.RUnlock()
	seen := map[string]int64{}
	for _, h := range s.images {
		for _, l := range h.record.Layers {
			seen[l.DiffID] = l.Size
		}
	}
	var sum core.Bytes
	for _, n := range seen {
		sum += core.Bytes(n)
	}
	return sum
}

// forget removes an image with its names, unless somebody has acquired it
// meanwhile.
func (s *Store) forget(digest string) (bool, error) {
	s.mu.Lock()
	h, ok := s.images[digest]
	if !ok || h.pins > 0 {
		s.mu.Unlock()
		return false, nil
	}
	keys := s.keysOf(digest)
	for _, k := range keys {
		delete(s.names, k)
	}
	s.drop(digest)
	s.mu.Unlock()
	var err error
	for _, k := range keys {
		err = errors.Join(err, ignoreGone(os.Remove(s.nameFile(k))))
	}
	return true, errors.Join(err, ignoreGone(os.Remove(s.imageFile(digest))))
}

// pruneSpool removes the beginnings of downloads that nobody has gone on
// with.
func (s *Store) pruneSpool() error {
	entries, err := os.ReadDir(s.path(spoolDir))
	if err != nil {
		return fmt.Errorf("listing what was downloaded in part: %w", err)
	}
	for _, e := range entries {
		info, statErr := e.Info()
		if statErr != nil || s.opts.Now().Sub(info.ModTime()) < spoolKept {
			continue
		}
		digest := "sha256:" + strings.TrimSuffix(e.Name(), ".part")
		err = errors.Join(err, s.layerPulls.unless(digest, func() error { return ignoreGone(os.Remove(s.path(spoolDir, e.Name()))) }))
	}
	return err
}

func (s *Store) keysOf(digest string) []string {
	var keys []string
	for k, n := range s.names {
		if n.Digest == digest {
			keys = append(keys, k)
		}
	}
	return keys
}

// drop forgets an image; the caller holds mu.
func (s *Store) drop(digest string) {
	delete(s.images, digest)
	for k := range s.users {
		if k.digest == digest {
			delete(s.users, k)
		}
	}
}

// removeLayers removes the layers that no image uses: out of the way at once
// and for good, then file by file in the background.
func (s *Store) removeLayers() (layers int, freed core.Bytes, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	trash, freed, err := s.trashLayers()
	s.throw(trash...)
	return len(trash), freed, err
}

// trashLayers renames unused layers into tmp and gives their new paths. While
// the metadata of some image cannot be read, layers that nobody knows stay:
// they may be its own. The caller holds mu.
func (s *Store) trashLayers() (trash []string, freed core.Bytes, err error) {
	used := map[string]bool{}
	for id := range s.claims {
		used[hexOf(id)] = true
	}
	for _, h := range s.images {
		for _, l := range h.record.Layers {
			used[hexOf(l.DiffID)] = true
		}
	}
	entries, err := os.ReadDir(s.path(layersDir))
	if err != nil {
		return nil, 0, fmt.Errorf("listing layers: %w", err)
	}
	for _, e := range entries {
		known, ok := s.layers["sha256:"+e.Name()]
		if used[e.Name()] || !ok && len(s.problems) > 0 {
			continue
		}
		to, err := s.discard(s.path(layersDir, e.Name()))
		if err != nil {
			return trash, freed, err
		}
		trash = append(trash, to)
		delete(s.layers, known.DiffID)
		delete(s.unsynced, known.DiffID)
		freed += core.Bytes(known.Size)
	}
	return trash, freed, nil
}

// discard renames a directory into a new one in tmp, which is to be removed.
func (s *Store) discard(dir string) (string, error) {
	to, err := os.MkdirTemp(s.path(tmpDir), "trash-")
	if err != nil {
		return "", fmt.Errorf("removing %s: %w", dir, diskError(err))
	}
	if err := os.Rename(dir, filepath.Join(to, filepath.Base(dir))); err != nil {
		return "", errors.Join(fmt.Errorf("removing %s: %w", dir, err), os.Remove(to))
	}
	return to, nil
}

// sweep removes what an earlier process left: layers that no image uses and
// all of tmp, the latter in the background.
func (s *Store) sweep() error {
	if _, _, err := s.trashLayers(); err != nil {
		return err
	}
	left, err := os.ReadDir(s.path(tmpDir))
	if err != nil {
		return fmt.Errorf("listing leftovers: %w", err)
	}
	for _, e := range left {
		s.throw(s.path(tmpDir, e.Name()))
	}
	return nil
}
