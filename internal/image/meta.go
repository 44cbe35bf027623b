package image

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dayfly-io/dayfly/internal/core"
)

// The directories of a store.
const (
	imagesDir = "images"
	namesDir  = "names"
	layersDir = "layers"
	spoolDir  = "spool"
	tmpDir    = "tmp"
)

// imageRecord is what images/*.json holds.
type imageRecord struct {
	Digest    string        `json:"digest"`
	MediaType string        `json:"media_type"`
	LoadedAt  time.Time     `json:"loaded_at"`
	Source    string        `json:"source,omitempty"` // repository it can be pulled from
	Manifest  []byte        `json:"manifest"`         // as it was, byte for byte
	Config    []byte        `json:"config"`
	Layers    []layerRecord `json:"layers"` // lowest first
}

// layerRecord is what is known of a layer.
type layerRecord struct {
	DiffID  string `json:"diff_id"`
	Size    int64  `json:"size"` // of its files
	Entries int    `json:"entries"`
}

// nameRecord is what names/*.json holds.
type nameRecord struct {
	Name   string `json:"name"` // as it was given
	Digest string `json:"digest"`
}

func (s *Store) imageFile(digest string) string {
	return s.path(imagesDir, hexOf(digest)+".json")
}

func (s *Store) nameFile(key string) string {
	sum := sha256.Sum256([]byte(key))
	return s.path(namesDir, hex.EncodeToString(sum[:])+".json")
}

func (s *Store) layerDir(diffID string) string {
	return s.path(layersDir, hexOf(diffID))
}

func hexOf(digest string) string { return strings.TrimPrefix(digest, "sha256:") }

// read fills the maps from disk.
func (s *Store) read() error {
	images, err := os.ReadDir(s.path(imagesDir))
	if err != nil {
		return err
	}
	for _, e := range images {
		if err := s.readImage(s.path(imagesDir, e.Name())); err != nil {
			s.problem(s.path(imagesDir, e.Name()), err)
		}
	}
	names, err := os.ReadDir(s.path(namesDir))
	if err != nil {
		return err
	}
	for _, e := range names {
		if err := s.readName(s.path(namesDir, e.Name())); err != nil {
			s.problem(s.path(namesDir, e.Name()), err)
		}
	}
	return nil
}

func (s *Store) problem(file string, err error) {
	s.problems = append(s.problems, fmt.Errorf("reading the image metadata %s: %w", file, err))
	s.opts.Logger.Warn("image metadata cannot be used; load the image again, or delete the file", slog.String("path", file), slog.Any("error", err))
}

func (s *Store) readImage(file string) error {
	var r imageRecord
	if err := readJSON(file, &r); err != nil {
		return err
	}
	if got := sha256Of(r.Manifest); got != r.Digest || file != s.imageFile(r.Digest) {
		return fmt.Errorf("its manifest has the digest %s", got)
	}
	h, err := s.newHeld(r)
	if err != nil {
		return err
	}
	for _, dir := range h.rootfs.Layers {
		if _, err := os.Stat(dir); err != nil {
			return fmt.Errorf("a layer is missing: %w", err)
		}
	}
	if at, err := os.Stat(file); err == nil && !at.ModTime().Equal(r.LoadedAt) {
		h.used = at.ModTime() // see touch
	}
	s.keep(h)
	return nil
}

func (s *Store) readName(file string) error {
	var n nameRecord
	if err := readJSON(file, &n); err != nil {
		return err
	}
	_, key, err := parseRef(n.Name)
	if err != nil {
		return err
	}
	if key == "" || file != s.nameFile(key) {
		return fmt.Errorf("the file of the name %s should be %s", n.Name, s.nameFile(key))
	}
	h, ok := s.images[n.Digest]
	if !ok {
		return fmt.Errorf("its image %s cannot be used or is not there", n.Digest)
	}
	s.names[key] = n
	h.rename(s.names)
	return nil
}

func (s *Store) newHeld(r imageRecord) (*held, error) {
	var file v1.ConfigFile
	if err := json.Unmarshal(r.Config, &file); err != nil {
		return nil, fmt.Errorf("reading its config: %w", err)
	}
	h := &held{record: r, config: configOf(&file)}
	h.rootfs = Rootfs{Digest: r.Digest, Config: h.config}
	seen := map[string]bool{}
	// Overlayfs takes no directory twice. Of a layer that is there more than
	// once the topmost counts: all that the lower one has is in it as well.
	for _, l := range slices.Backward(r.Layers) {
		if _, err := v1.NewHash(l.DiffID); err != nil {
			return nil, fmt.Errorf("reading its layers: %w", err)
		}
		if !seen[l.DiffID] {
			h.rootfs.Layers = append(h.rootfs.Layers, s.layerDir(l.DiffID))
		}
		seen[l.DiffID] = true
	}
	slices.Reverse(h.rootfs.Layers)
	return h, nil
}

// keep puts an image into the maps; the caller holds mu or is alone.
func (s *Store) keep(h *held) {
	if old, ok := s.images[h.record.Digest]; ok {
		h.pins, h.used = old.pins, old.used
		h.record.Source = cmp.Or(h.record.Source, old.record.Source)
	}
	s.images[h.record.Digest] = h
	h.rename(s.names)
	for _, l := range h.record.Layers {
		s.layers[l.DiffID] = l
	}
}

// rename takes the image's names out of all names.
func (h *held) rename(names map[string]nameRecord) {
	h.names = nil
	for _, n := range names {
		if n.Digest == h.record.Digest {
			h.names = append(h.names, n.Name)
		}
	}
	slices.Sort(h.names)
}

func configOf(f *v1.ConfigFile) core.ImageConfig {
	return core.ImageConfig{
		Entrypoint: f.Config.Entrypoint, Cmd: f.Config.Cmd, Env: f.Config.Env,
		WorkingDir: f.Config.WorkingDir, User: f.Config.User, StopSignal: f.Config.StopSignal,
		OS: f.OS, Architecture: f.Architecture,
	}
}

func sha256Of(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func readJSON(file string, v any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v) //nolint:wrapcheck // the caller names the file
}

// writeJSON writes a file so that after a crash it is there whole, new or
// old.
func (s *Store) writeJSON(file string, v any) (err error) {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	f, err := os.CreateTemp(s.path(tmpDir), "meta-")
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, diskError(err))
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("writing %s: %w", file, diskError(err)), ignoreGone(os.Remove(f.Name())))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err == nil {
		err = syncDir(filepath.Dir(file))
	}
	return err
}

func ignoreGone(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
