package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image/layer"
)

// unpackers is how many layers are unpacked at a time.
const unpackers = 2

// Load reads a tar of one or more images, as docker save or an OCI layout,
// plain or compressed with gzip or zstd, and keeps them with their names; a
// name that another image had moves. All of them are kept, or none: errors
// are core.KindInvalid with what is wrong in the tar (code image_unsupported
// for what is right but cannot run here), core.KindTooLarge, or
// core.KindUnavailable with the code disk_full.
func (s *Store) Load(ctx context.Context, tar io.Reader) (images []core.Image, err error) {
	defer s.active()()
	work, err := os.MkdirTemp(s.path(tmpDir), "load-")
	if err != nil {
		return nil, fmt.Errorf("loading an image: %w", diskError(err))
	}
	defer func() {
		if removeErr := os.RemoveAll(work); removeErr != nil {
			s.opts.Logger.Warn("leftover of a load cannot be removed", slog.String("path", work), slog.Any("error", removeErr))
		}
	}()
	spooled, err := spoolTar(ctx, tar, work, s.newRoom())
	if err != nil {
		return nil, err
	}
	candidates, err := spooled.images(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range candidates {
		if c.keys, err = nameKeys(c.names); err != nil {
			return nil, err
		}
	}
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	fresh, err := s.unpack(ctx, candidates, work)
	if err != nil {
		return nil, err
	}
	// The tar first, so that it is dropped from memory and never written.
	if err := spooled.remove(); err != nil {
		return nil, err
	}
	if len(fresh) > 0 || s.anyUnsynced(candidates) {
		if err := s.syncLayers(); err != nil {
			return nil, err
		}
	}
	if err := s.commit(candidates, fresh, work); err != nil {
		return nil, fmt.Errorf("keeping an image: %w", err)
	}
	return s.loaded(candidates)
}

// nameKeys gives the names in full, each with the first of the forms it was
// given in.
func nameKeys(names []string) (map[string]string, error) {
	out := map[string]string{}
	for _, n := range names {
		if n == "<none>:<none>" {
			continue // docker's way to say that there is none
		}
		_, key, err := parseRef(n)
		if err != nil {
			return nil, err
		}
		if _, ok := out[key]; !ok && key != "" {
			out[key] = n
		}
	}
	return out, nil
}

// unpack unpacks the layers that are not there yet into work and gives what
// is known of them, by diff ID.
func (s *Store) unpack(ctx context.Context, candidates []*candidate, work string) (map[string]*layerRecord, error) {
	fresh := map[string]*layerRecord{}
	room := s.newRoom()
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(unpackers)
	for _, c := range candidates {
		for i, l := range c.record.Layers {
			if _, ok := s.knownLayer(l.DiffID); ok || fresh[l.DiffID] != nil {
				continue
			}
			record := &layerRecord{DiffID: l.DiffID}
			fresh[l.DiffID] = record
			group.Go(func() error {
				stats, err := s.unpackLayer(groupCtx, c.blobs[i], l.DiffID, filepath.Join(work, hexOf(l.DiffID)), room)
				record.Size, record.Entries = stats.Bytes, stats.Entries
				return inLayer(err, i+1, len(c.record.Layers), l.DiffID)
			})
		}
	}
	return fresh, group.Wait()
}

func (s *Store) knownLayer(diffID string) (layerRecord, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	l, ok := s.layers[diffID]
	return l, ok
}

// inLayer says of a refusal in which layer it is.
func inLayer(err error, n, of int, diffID string) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*core.Error](err); ok {
		named := *e
		named.Message = fmt.Sprintf("layer %d of %d (%s): %s", n, of, diffID, e.Message)
		return &named
	}
	return fmt.Errorf("unpacking layer %d of %d (%s): %w", n, of, diffID, err)
}

// unpackLayer unpacks a blob into the new directory dir and verifies its diff
// ID.
func (s *Store) unpackLayer(ctx context.Context, b *blob, diffID, dir string, room *room) (layer.Stats, error) {
	f, err := os.Open(b.file)
	if err != nil {
		return layer.Stats{}, err
	}
	defer func() { _ = f.Close() }()
	in := &counted{Reader: f}
	plain, err := decompress(in)
	if err != nil {
		return layer.Stats{}, err
	}
	defer func() { _ = plain.Close() }()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return layer.Stats{}, diskError(err)
	}
	stream := readAhead(plain, func(total int64) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return s.checkSize(in.n, total)
	})
	defer func() { _ = stream.Close() }()
	stats, err := layer.Unpack(ctx, dir, stream, layer.Options{
		MaxBytes: int64(s.opts.MaxLayer), MaxEntries: s.opts.MaxEntries, Room: room.take, Owners: s.opts.Owners,
	})
	if err != nil {
		return layer.Stats{}, err
	}
	// What follows the end of the tar counts to the digest.
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return layer.Stats{}, err //nolint:wrapcheck // it is of our stream
	}
	if got := stream.digest(); got != diffID {
		return layer.Stats{}, core.Invalid("the layer is not the one its config names: expected %s, found %s", diffID, got)
	}
	return stats, nil
}

// ratioFrom is the size in bytes from which on the compression ratio is
// bounded: short streams of zeros are honest.
const ratioFrom = 256 << 20

// checkSize holds a layer's stream within the bounds.
func (s *Store) checkSize(compressed, total int64) error {
	if total > int64(s.opts.MaxLayer) {
		return core.Errorf(core.KindTooLarge, core.CodeTooLarge, "the layer is larger than %s unpacked, the most a layer may be", s.opts.MaxLayer)
	}
	if total > s.ratioFrom && total/int64(s.opts.MaxRatio) > compressed {
		return core.Errorf(core.KindTooLarge, core.CodeTooLarge,
			"the layer is more than %d times larger unpacked than compressed, as only a decompression bomb is", s.opts.MaxRatio)
	}
	return nil
}

// commit puts layers, images and names in place, in this order, so that after
// a crash nothing leads nowhere.
func (s *Store) commit(candidates []*candidate, fresh map[string]*layerRecord, work string) error {
	for diffID, record := range fresh {
		if err := s.placeLayer(filepath.Join(work, hexOf(diffID)), *record); err != nil {
			return err
		}
		s.synced(diffID)
	}
	if err := syncDir(s.path(layersDir)); err != nil {
		return err
	}
	for _, c := range candidates {
		c.record.LoadedAt = s.opts.Now().UTC()
		for i, l := range c.record.Layers {
			known, ok := s.knownLayer(l.DiffID)
			if !ok {
				return fmt.Errorf("finding the layer %s: it is gone", l.DiffID)
			}
			c.record.Layers[i] = known
		}
		c.record.Source = cmp.Or(c.record.Source, s.sourceOf(c.record.Digest))
		h, err := s.newHeld(c.record)
		if err != nil {
			return err
		}
		if err := s.writeJSON(s.imageFile(c.record.Digest), c.record); err != nil {
			return err
		}
		if err := os.Chtimes(s.imageFile(c.record.Digest), c.record.LoadedAt, c.record.LoadedAt); err != nil {
			return fmt.Errorf("noting when an image came: %w", err)
		}
		s.mu.Lock()
		s.keep(h)
		s.mu.Unlock()
	}
	for _, c := range candidates {
		for key, shown := range c.keys {
			if err := s.writeJSON(s.nameFile(key), nameRecord{Name: shown, Digest: c.record.Digest}); err != nil {
				return err
			}
		}
		s.mu.Lock()
		s.setNames(c.record.Digest, c.keys)
		s.mu.Unlock()
	}
	return nil
}

// placeLayer renames an unpacked layer to its place. One that another has
// placed meanwhile is as good. What is there otherwise is of an image whose
// metadata was lost, and goes.
func (s *Store) placeLayer(from string, record layerRecord) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.layers[record.DiffID]; ok {
		return nil
	}
	to := s.layerDir(record.DiffID)
	if _, err := os.Lstat(to); err == nil {
		trash, err := s.discard(to)
		if err != nil {
			return err
		}
		s.throw(trash)
	}
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("keeping a layer: %w", diskError(err))
	}
	s.layers[record.DiffID], s.unsynced[record.DiffID] = record, true
	return nil
}

// syncLayers writes the layers that are in their places, or will be, to the
// disk.
func (s *Store) syncLayers() error {
	s.mu.RLock()
	written := slices.Collect(maps.Keys(s.unsynced))
	s.mu.RUnlock()
	if err := syncfs(s.dir); err != nil {
		return err
	}
	s.synced(written...)
	return nil
}

func (s *Store) synced(diffIDs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range diffIDs {
		delete(s.unsynced, id)
	}
}

// anyUnsynced reports whether an image has layers that a pull has placed and
// not written yet.
func (s *Store) anyUnsynced(candidates []*candidate) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, c := range candidates {
		for _, l := range c.record.Layers {
			if s.unsynced[l.DiffID] {
				return true
			}
		}
	}
	return false
}

// sourceOf tells where an image that is here was pulled from.
func (s *Store) sourceOf(digest string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if h, ok := s.images[digest]; ok {
		return h.record.Source
	}
	return ""
}

func (s *Store) loaded(candidates []*candidate) ([]core.Image, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []core.Image
	for _, c := range candidates {
		if h, ok := s.images[c.record.Digest]; ok {
			out = append(out, h.image())
		}
	}
	return out, nil
}
