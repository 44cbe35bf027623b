package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Remove takes a name from its image, or, given a digest, removes the image
// with all its names. An image whose last name goes is removed too, unless it
// is in use: then the next [Store.GC] does. core.KindNotFound when there is
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
	_, err = s.removeLayers(ctx)
	return err
}

// GC removes images that have no name, that keep refuses, that nobody has
// acquired and that were loaded and last acquired before olderThan, and then
// the layers that no image uses. It tells how many images went and how many
// bytes of files with them. Deleting many files slows the file system down:
// call it when little goes on.
func (s *Store) GC(ctx context.Context, keep func(digest string) bool, olderThan time.Time) (removed int, freed int64, err error) {
	if err := s.lock(ctx); err != nil {
		return 0, 0, err
	}
	defer s.unlock()
	s.mu.RLock()
	var candidates []string
	for digest, h := range s.images {
		if h.stale(olderThan) {
			candidates = append(candidates, digest)
		}
	}
	s.mu.RUnlock()
	for _, digest := range candidates {
		if keep(digest) { // may take its time, so mu is not held
			continue
		}
		s.mu.Lock()
		stale := s.images[digest].stale(olderThan)
		if stale {
			s.drop(digest)
		}
		s.mu.Unlock()
		if !stale {
			continue
		}
		if err := ignoreGone(os.Remove(s.imageFile(digest))); err != nil {
			return removed, 0, fmt.Errorf("removing the image %s: %w", digest, err)
		}
		removed++
	}
	if removed > 0 {
		if err := syncDir(s.path(imagesDir)); err != nil {
			return removed, 0, fmt.Errorf("removing images: %w", err)
		}
	}
	freed, err = s.removeLayers(ctx)
	return removed, freed, err
}

func (h *held) stale(olderThan time.Time) bool {
	return len(h.names) == 0 && h.pins == 0 && h.record.LoadedAt.Before(olderThan) && h.used.Before(olderThan)
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

// removeLayers removes the layers that no image uses: first out of the way,
// at once and for good, then file by file. The caller has the lock.
func (s *Store) removeLayers(ctx context.Context) (freed int64, err error) {
	trash, err := s.trashLayers(&freed)
	for _, dir := range trash {
		if ctx.Err() != nil {
			return freed, errors.Join(err, fmt.Errorf("removing layers: %w", context.Cause(ctx))) // the next Open goes on
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return freed, err
}

// trashLayers renames unused layers into tmp and gives their new paths.
// While the metadata of some image cannot be read, layers that nobody knows
// stay: they may be its own.
func (s *Store) trashLayers(freed *int64) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := map[string]bool{}
	for _, h := range s.images {
		for _, l := range h.record.Layers {
			used[hexOf(l.DiffID)] = true
		}
	}
	entries, err := os.ReadDir(s.path(layersDir))
	if err != nil {
		return nil, fmt.Errorf("listing layers: %w", err)
	}
	var trash []string
	for _, e := range entries {
		known, ok := s.layers["sha256:"+e.Name()]
		if used[e.Name()] || !ok && len(s.problems) > 0 {
			continue
		}
		to, err := s.discard(s.path(layersDir, e.Name()))
		if err != nil {
			return trash, err
		}
		trash = append(trash, to)
		delete(s.layers, known.DiffID)
		*freed += known.Size
	}
	return trash, nil
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
	var freed int64
	if _, err := s.trashLayers(&freed); err != nil {
		return err
	}
	left, err := os.ReadDir(s.path(tmpDir))
	if err != nil {
		return fmt.Errorf("listing leftovers: %w", err)
	}
	s.sweeps.Go(func() {
		for _, e := range left {
			select {
			case <-s.closing:
				return
			default:
			}
			if err := os.RemoveAll(s.path(tmpDir, e.Name())); err != nil {
				s.opts.Logger.Warn("leftover of an image cannot be removed", slog.String("path", s.path(tmpDir, e.Name())), slog.Any("error", err))
			}
		}
	})
	return nil
}
