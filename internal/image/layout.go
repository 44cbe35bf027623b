package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Bounds of what describes an image. Honest ones are a tenth of it; decoded,
// such JSON can take a hundred times its size.
const (
	maxManifest = 1 * core.MiB
	maxConfig   = 2 * core.MiB
	maxVisited  = 1000 // descriptors looked at in one tar
	maxNesting  = 4    // of an index in an index
)

// maxLayers is how many layers an image may have: as many as in Docker, which
// is what overlay mounts took when layers were given in one page of options.
const maxLayers = 127

// The annotations of an index that name an image, best first: containerd's
// with the name in full, and the image specification's.
var nameAnnotations = []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"}

// candidate is an image found in a tar, its manifest and config verified, its
// layers not yet.
type candidate struct {
	names  []string
	keys   map[string]string // the names in full, each as it was given
	record imageRecord
	config *v1.ConfigFile
	blobs  []*blob // of the layers, lowest first
}

// images finds the images of a tar.
func (s *spool) images(ctx context.Context) ([]*candidate, error) {
	saved, err := s.readSaved()
	if err != nil {
		return nil, err
	}
	if _, ok := s.find("index.json"); ok {
		return s.fromIndex(ctx, saved)
	}
	if saved == nil {
		return nil, core.Invalid("the tar has neither index.json nor manifest.json: it is no image; send the output of docker save or an OCI layout")
	}
	return s.fromSaved(saved)
}

// savedImage is an entry of docker save's manifest.json
// (https://github.com/moby/docker-image-spec/blob/main/spec.md).
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func (s *spool) readSaved() ([]savedImage, error) {
	b, ok := s.find("manifest.json")
	if !ok {
		return nil, nil
	}
	data, err := b.read("manifest.json", maxManifest)
	if err != nil {
		return nil, err
	}
	var saved []savedImage
	if err := json.Unmarshal(data, &saved); err != nil {
		return nil, badJSON("manifest.json", err)
	}
	if len(saved) == 0 {
		return nil, core.Invalid("the manifest.json of the tar names no image")
	}
	return saved, nil
}

// fromSaved reads the older docker save, which has no manifests: they are
// made up, the same ones each time.
func (s *spool) fromSaved(saved []savedImage) ([]*candidate, error) {
	var all []*candidate
	for _, image := range saved {
		called := strings.Join(image.RepoTags, ", ")
		config, ok := s.find(image.Config)
		if !ok {
			return nil, core.Invalid("the image %s says its config is the file %q, which is not in the tar", called, image.Config)
		}
		m := v1.Manifest{SchemaVersion: 2, MediaType: types.DockerManifestSchema2}
		m.Config = descriptor(config, types.DockerConfigJSON)
		if len(image.Layers) > maxLayers {
			return nil, tooManyLayers(called, len(image.Layers))
		}
		var blobs []*blob
		for _, name := range image.Layers {
			b, ok := s.find(name)
			if !ok {
				return nil, core.Invalid("the image %s says a layer is the file %q, which is not in the tar", called, name)
			}
			blobs = append(blobs, b)
			m.Layers = append(m.Layers, descriptor(b, types.DockerUncompressedLayer))
		}
		raw, err := json.Marshal(m)
		if err != nil {
			return nil, fmt.Errorf("writing the manifest of %s: %w", called, err)
		}
		data, err := config.read("config", maxConfig)
		if err != nil {
			return nil, err
		}
		c, err := newCandidate(called, raw, string(m.MediaType), data, blobs)
		if err != nil {
			return nil, err
		}
		if err := c.fits(called); err != nil {
			return nil, err
		}
		c.names = image.RepoTags
		all = append(all, c)
	}
	return all, nil
}

func descriptor(b *blob, media types.MediaType) v1.Descriptor {
	return v1.Descriptor{
		MediaType: media, Size: b.size,
		Digest: v1.Hash{Algorithm: "sha256", Hex: hexOf(b.digest)},
	}
}

// fromIndex reads an OCI layout. Newer tars of docker save are one as well;
// their manifest.json then says how people call the images.
func (s *spool) fromIndex(ctx context.Context, saved []savedImage) ([]*candidate, error) {
	b, _ := s.find("index.json")
	data, err := b.read("index.json", maxManifest)
	if err != nil {
		return nil, err
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(data))
	if err != nil {
		return nil, badJSON("index.json", err)
	}
	p := &picker{source: s, saved: saved, byDigest: map[string]*candidate{}}
	for _, group := range groups(index.Manifests) {
		if err := p.pickGroup(ctx, group); err != nil {
			return nil, err
		}
	}
	if len(p.found) == 0 {
		return nil, core.Invalid("the index.json of the tar names no image")
	}
	return p.found, nil
}

// groups puts descriptors together that stand for one image: those with the
// same name, and those without one that each name a platform.
func groups(all []v1.Descriptor) [][]v1.Descriptor {
	var order []string
	by := map[string][]v1.Descriptor{}
	for _, d := range all {
		key := "name " + nameOf(d)
		if nameOf(d) == "" && d.Platform == nil {
			key = "digest " + d.Digest.String()
		}
		if _, ok := by[key]; !ok {
			order = append(order, key)
		}
		by[key] = append(by[key], d)
	}
	out := make([][]v1.Descriptor, 0, len(order))
	for _, key := range order {
		out = append(out, by[key])
	}
	return out
}

func nameOf(d v1.Descriptor) string {
	for _, a := range nameAnnotations {
		if n := d.Annotations[a]; n != "" {
			return n
		}
	}
	return ""
}

// tags are the names that manifest.json gives to the image with this config.
func tags(saved []savedImage, configDigest string) []string {
	var out []string
	for _, image := range saved {
		if strings.HasSuffix(image.Config, hexOf(configDigest)) || strings.HasSuffix(image.Config, hexOf(configDigest)+".json") {
			out = append(out, image.RepoTags...)
		}
	}
	return out
}

// newCandidate verifies a config and what the manifest says of it.
func newCandidate(called string, manifest []byte, media string, config []byte, blobs []*blob) (*candidate, error) {
	file, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		return nil, badJSON("config of "+called, err)
	}
	c := &candidate{config: file, blobs: blobs}
	c.record = imageRecord{Digest: sha256Of(manifest), MediaType: media, Manifest: manifest, Config: config}
	for _, id := range file.RootFS.DiffIDs {
		if id.Algorithm != "sha256" {
			return nil, core.Errorf(core.KindInvalid, core.ReasonImageUnsupported, "the image %s has a layer with a digest of the kind %s; only sha256 is known", called, id.Algorithm)
		}
		c.record.Layers = append(c.record.Layers, layerRecord{DiffID: id.String()})
	}
	return c, nil
}

// fits refuses an image that cannot run here.
func (c *candidate) fits(called string) error {
	switch n := len(c.record.Layers); {
	case n != len(c.blobs):
		return core.Invalid("the image %s has %d layers and a config with %d; they must be as many", called, len(c.blobs), n)
	case n > maxLayers:
		return tooManyLayers(called, n)
	case n == 0:
		return core.Errorf(core.KindInvalid, core.ReasonImageUnsupported, "the image %s has no layers: there is nothing to run", called)
	}
	p := platform{c.config.OS, c.config.Architecture}
	if p.os != "" && p.os != thisPlatform.os || p.arch != "" && p.arch != thisPlatform.arch {
		return wrongPlatform(called, []string{p.String()})
	}
	return nil
}

func tooManyLayers(called string, n int) error {
	return core.Errorf(core.KindInvalid, core.ReasonImageUnsupported,
		"the image %s has %d layers; an overlay takes %d: build it with fewer", called, n, maxLayers)
}

func wrongPlatform(called string, has []string) error {
	slices.Sort(has)
	return core.Errorf(core.KindInvalid, core.ReasonImageUnsupported,
		"the image %s is for %s; this server needs %s: build or pull it for that", called, strings.Join(slices.Compact(has), ", "), thisPlatform)
}

func badJSON(what string, err error) error {
	return &core.Error{Kind: core.KindInvalid, Code: core.CodeInvalid, Message: "the " + what + " is not what it should be", Err: err}
}
