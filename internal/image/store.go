package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image/registry"
)

// Options bounds what the store takes. The zero value is good.
type Options struct {
	// MaxLayer bounds one layer unpacked; 0 means 16 GiB.
	MaxLayer core.Bytes
	// MaxImage bounds the layers of one load unpacked, and the tar itself; 0
	// means 32 GiB.
	MaxImage core.Bytes
	// MaxEntries bounds the files and directories of one layer; 0 means
	// 2,000,000.
	MaxEntries int
	// MaxRatio bounds how many times larger a layer may be unpacked than
	// compressed, once it is over 256 MiB; 0 means 200.
	MaxRatio int
	// MinFree is how much of the disk is left free; 0 means 256 MiB.
	MinFree core.Bytes
	// Registries says how registries are spoken to when images are pulled.
	Registries registry.Options
	// Owners says to whom the files of layers belong; zero means to those that
	// the layers name.
	Owners Owners
	// Logger gets what goes wrong where no caller waits; nil means none.
	Logger *slog.Logger
	// Now gives the time; nil means time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	o.MaxLayer = cmp.Or(o.MaxLayer, 16*core.GiB)
	o.MaxImage = cmp.Or(o.MaxImage, 32*core.GiB)
	o.MaxEntries = cmp.Or(o.MaxEntries, 2_000_000)
	o.MaxRatio = cmp.Or(o.MaxRatio, 200)
	o.MinFree = cmp.Or(o.MinFree, 256*core.MiB)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Store keeps images in a directory.
type Store struct {
	dir  string
	opts Options
	// writing holds one token; whoever has it changes what is on disk.
	writing chan struct{}
	// life ends with Close, and all that goes on in the background with it.
	life       context.Context //nolint:containedctx // the life of pulls, which outlast those who ask for them
	end        context.CancelCauseFunc
	background sync.WaitGroup
	registries *registry.Client
	pulls      flights[progress, core.Image]
	layerPulls flights[layerProgress, struct{}]
	unpacking  chan struct{} // a token for each layer of a pull that is being unpacked
	rubbish    rubbish
	// ratioFrom and pause are fields for the tests.
	ratioFrom int64
	pause     time.Duration

	mu       sync.RWMutex
	images   map[string]*held // by digest
	names    map[string]nameRecord
	layers   map[string]layerRecord // by diff ID
	users    map[userKey]User
	problems []error
	claims   map[string]int  // diff IDs that pulls under way want, and how many do
	unsynced map[string]bool // diff IDs of layers that may not be on the disk yet
}

// held is an image in memory.
type held struct {
	record imageRecord
	config core.ImageConfig
	rootfs Rootfs
	names  []string // sorted
	pins   int
	used   time.Time // last acquired
}

// Open opens the store in dir and makes it if it is not there. Metadata files
// that cannot be read do not fail it: see [Store.Problems]. The store lives
// until Close; of ctx it takes the values only.
func Open(ctx context.Context, dir string, opts Options) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the image store: %w", err)
	}
	s := &Store{
		dir: dir, opts: opts.withDefaults(),
		writing: make(chan struct{}, 1), unpacking: make(chan struct{}, unpackers), ratioFrom: ratioFrom, pause: firstPause,
		images: map[string]*held{}, names: map[string]nameRecord{},
		layers: map[string]layerRecord{}, users: map[userKey]User{},
		claims: map[string]int{}, unsynced: map[string]bool{},
	}
	s.registries = registry.New(s.opts.Registries)
	s.life, s.end = context.WithCancelCause(context.WithoutCancel(ctx))
	// Layers hold setuid programs of others: nobody else may walk in.
	for _, d := range []string{dir, s.path(imagesDir), s.path(namesDir), s.path(layersDir), s.path(spoolDir), s.path(tmpDir)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("opening the image store: %w", err)
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // it is a directory
		return nil, fmt.Errorf("opening the image store: %w", err)
	}
	if err := s.checkOwners(); err != nil {
		return nil, err
	}
	if err := s.read(); err != nil {
		return nil, fmt.Errorf("opening the image store %s: %w", dir, err)
	}
	if err := s.sweep(); err != nil {
		return nil, fmt.Errorf("opening the image store %s: %w", dir, err)
	}
	return s, nil
}

// Close ends pulls and what else goes on in the background, and waits for it.
// Images stay usable to those who have acquired them.
func (s *Store) Close() error {
	s.end(errClosed)
	s.rubbish.close()
	s.background.Wait()
	s.registries.Close()
	return nil
}

var errClosed = errors.New("the image store is closed")

// Problems tells which metadata files could not be used when the store was
// opened. Each error names the file.
func (s *Store) Problems() []error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.problems)
}

// Image finds an image by name or digest; "hello" and
// "docker.io/library/hello:latest" are one name. core.KindNotFound with the
// code image_not_found when there is none.
func (s *Store) Image(_ context.Context, ref string) (core.Image, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	h, _, err := s.find(ref)
	if err != nil {
		return core.Image{}, err
	}
	return h.image(), nil
}

// Images lists all images by name; those without one come last.
func (s *Store) Images(context.Context) ([]core.Image, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]core.Image, 0, len(s.images))
	for _, h := range s.images {
		list = append(list, h.image())
	}
	slices.SortFunc(list, func(a, b core.Image) int {
		if len(a.Names) == 0 || len(b.Names) == 0 {
			return cmp.Or(cmp.Compare(len(b.Names), len(a.Names)), cmp.Compare(a.Digest, b.Digest))
		}
		return cmp.Or(cmp.Compare(a.Names[0], b.Names[0]), cmp.Compare(a.Digest, b.Digest))
	})
	return list, nil
}

// find looks an image up; key is the name it was found by, "" for a digest.
// The caller holds mu.
func (s *Store) find(ref string) (h *held, key string, err error) {
	digest, key, err := parseRef(ref)
	if err != nil {
		return nil, "", err
	}
	if key != "" {
		digest = s.names[key].Digest
	}
	h, ok := s.images[digest]
	if !ok {
		return nil, "", core.Errorf(core.KindNotFound, core.ReasonImageNotFound, "there is no image %s on this server: load or pull it first", ref)
	}
	return h, key, nil
}

func (h *held) image() core.Image {
	var size core.Bytes
	for _, l := range h.record.Layers {
		size += core.Bytes(l.Size)
	}
	return core.Image{
		Names: slices.Clone(h.names), Digest: h.record.Digest, Size: size, Source: h.record.Source,
		LoadedAt: h.record.LoadedAt, UsedAt: h.used, Instances: h.pins, Config: h.config,
	}
}

// lock waits for the right to change what is on disk.
func (s *Store) lock(ctx context.Context) error {
	select {
	case s.writing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for another load of an image: %w", context.Cause(ctx))
	}
}

func (s *Store) unlock() { <-s.writing }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// platform is an operating system and an architecture, in Go's words, which
// are those of the image specification.
type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "/" + p.arch }

var thisPlatform = platform{runtime.GOOS, runtime.GOARCH}
