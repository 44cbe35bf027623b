package image

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dayfly-io/dayfly/internal/core"
)

// source is where the parts of an image come from: a tar or a registry.
type source interface {
	// document gives the contents of a manifest or config, verified; what says
	// which, and called of what image.
	document(ctx context.Context, d v1.Descriptor, what, called string, limit core.Bytes) ([]byte, error)
	// layer gives a layer as it is in the source.
	layer(d v1.Descriptor, called string) (*blob, error)
}

// picker walks an index and picks the images of this platform.
type picker struct {
	source   source
	saved    []savedImage
	visited  int
	found    []*candidate
	byDigest map[string]*candidate
}

// choice is an image of this platform; a lower rank fits better.
type choice struct {
	image *candidate
	rank  int
}

// pickGroup picks from descriptors that stand for one image.
func (p *picker) pickGroup(ctx context.Context, group []v1.Descriptor) error {
	name := nameOf(group[0])
	called := cmp.Or(name, group[0].Digest.String())
	choices, others, err := p.choose(ctx, group, called, 0)
	if err != nil {
		return err
	}
	if len(choices) == 0 && len(others) == 0 {
		return nil // signatures, attestations
	}
	if len(choices) == 0 {
		return wrongPlatform(called, others)
	}
	choices = best(choices)
	if name != "" {
		choices = choices[len(choices)-1:] // a name stands for the last
	}
	for _, c := range choices {
		p.add(c.image, name)
	}
	return nil
}

// best gives the choices that fit best.
func best(choices []choice) []choice {
	rank := slices.MinFunc(choices, func(a, b choice) int { return cmp.Compare(a.rank, b.rank) }).rank
	return slices.DeleteFunc(choices, func(c choice) bool { return c.rank != rank })
}

func (p *picker) add(c *candidate, name string) {
	known, ok := p.byDigest[c.record.Digest]
	if !ok {
		known = c
		p.byDigest[c.record.Digest] = c
		p.found = append(p.found, c)
		c.names = tags(p.saved, sha256Of(c.record.Config))
	}
	if name != "" {
		known.names = append(known.names, name)
	}
}

// choose gives the images of this platform among descriptors, and the
// platforms of the others.
func (p *picker) choose(ctx context.Context, all []v1.Descriptor, called string, depth int) (choices []choice, others []string, err error) {
	if depth > maxNesting {
		return nil, nil, core.Invalid("the image %s has indexes within indexes, more than %d deep", called, maxNesting)
	}
	for _, d := range all {
		if p.visited++; p.visited > maxVisited {
			return nil, nil, core.Errorf(core.KindTooLarge, core.CodeTooLarge, "the tar has indexes that name more than %d images", maxVisited)
		}
		if isAttestation(d) {
			continue
		}
		if d.Platform != nil && !isIndex(d.MediaType) && !runsHere(d.Platform) {
			others = append(others, d.Platform.String())
			continue
		}
		more, rest, err := p.open(ctx, d, called, depth)
		if err != nil {
			return nil, nil, err
		}
		choices, others = append(choices, more...), append(others, rest...)
	}
	return choices, others, nil
}

// open reads what a descriptor leads to.
func (p *picker) open(ctx context.Context, d v1.Descriptor, called string, depth int) ([]choice, []string, error) {
	if !isIndex(d.MediaType) && !isManifest(d.MediaType) {
		return nil, nil, core.Errorf(core.KindInvalid, core.ReasonImageUnsupported,
			"the image %s is of the media type %q, which is no container image", called, d.MediaType)
	}
	data, err := p.source.document(ctx, d, "manifest", called, maxManifest)
	if err != nil {
		return nil, nil, err
	}
	return p.read(ctx, data, d, called, depth)
}

// read reads an index or a manifest.
func (p *picker) read(ctx context.Context, data []byte, d v1.Descriptor, called string, depth int) ([]choice, []string, error) {
	if isIndex(d.MediaType) {
		index, err := v1.ParseIndexManifest(bytes.NewReader(data))
		if err != nil {
			return nil, nil, badJSON("index of "+called, err)
		}
		return p.choose(ctx, index.Manifests, called, depth+1)
	}
	c, err := readCandidate(ctx, p.source, data, d, called)
	if err != nil {
		return nil, nil, err
	}
	if d.Platform == nil && !runsHere(c.config.Platform()) {
		return nil, []string{c.config.Platform().String()}, nil
	}
	if err := c.fits(called); err != nil {
		return nil, nil, err
	}
	return []choice{{image: c, rank: rank(d.Platform)}}, nil, nil
}

// readCandidate reads a manifest and the config it names, and finds its
// layers.
func readCandidate(ctx context.Context, from source, data []byte, d v1.Descriptor, called string) (*candidate, error) {
	m, err := v1.ParseManifest(bytes.NewReader(data))
	if err != nil {
		return nil, badJSON("manifest of "+called, err)
	}
	if m.Config.MediaType != types.OCIConfigJSON && m.Config.MediaType != types.DockerConfigJSON {
		return nil, core.Errorf(core.KindInvalid, core.ReasonImageUnsupported,
			"the image %s has a config of the media type %q: it is no container image", called, m.Config.MediaType)
	}
	if len(m.Layers) > maxLayers {
		return nil, tooManyLayers(called, len(m.Layers))
	}
	config, err := from.document(ctx, m.Config, "config", called, maxConfig)
	if err != nil {
		return nil, err
	}
	c, err := newCandidate(called, data, string(d.MediaType), config, nil)
	if err != nil || !runsHere(c.config.Platform()) {
		return c, err // the layers of another platform need not be there
	}
	for _, l := range m.Layers {
		if !isLayer(l.MediaType) {
			return nil, core.Errorf(core.KindInvalid, core.ReasonImageUnsupported,
				"the image %s has a layer of the media type %q; tars, with gzip, zstd or uncompressed, are known", called, l.MediaType)
		}
		b, err := from.layer(l, called)
		if err != nil {
			return nil, err
		}
		c.blobs = append(c.blobs, b)
	}
	return c, nil
}

// document implements source.
func (s *spool) document(_ context.Context, d v1.Descriptor, what, called string, limit core.Bytes) ([]byte, error) {
	b, err := s.blob(d, what, called)
	if err != nil {
		return nil, err
	}
	return b.read(what, limit)
}

// layer implements source.
func (s *spool) layer(d v1.Descriptor, called string) (*blob, error) {
	return s.blob(d, "layer", called)
}

// blob finds the blob that a descriptor names and verifies digest and size.
func (s *spool) blob(d v1.Descriptor, what, called string) (*blob, error) {
	if err := knownDigest(d, what, called); err != nil {
		return nil, err
	}
	b, ok := s.find("blobs/sha256/" + d.Digest.Hex)
	if !ok {
		return nil, core.Invalid("the image %s needs the %s %s, which is not in the tar", called, what, d.Digest)
	}
	if b.digest != d.Digest.String() {
		return nil, core.Invalid("the image %s has a damaged %s: expected the digest %s, found %s", called, what, d.Digest, b.digest)
	}
	if b.size != d.Size {
		return nil, core.Invalid("the image %s has a %s %s of %d bytes, and says it has %d", called, what, d.Digest, b.size, d.Size)
	}
	return b, nil
}

// knownDigest refuses a descriptor that cannot be verified.
func knownDigest(d v1.Descriptor, what, called string) error {
	if d.Digest.Algorithm != "sha256" {
		return core.Errorf(core.KindInvalid, core.ReasonImageUnsupported,
			"the image %s names its %s by a digest of the kind %q; only sha256 is known", called, what, d.Digest.Algorithm)
	}
	return nil
}

func isIndex(m types.MediaType) bool {
	return m == types.OCIImageIndex || m == types.DockerManifestList
}

func isManifest(m types.MediaType) bool {
	return m == types.OCIManifestSchema1 || m == types.DockerManifestSchema2
}

func isLayer(m types.MediaType) bool {
	switch m {
	case types.OCILayer, types.OCILayerZStd, types.OCIUncompressedLayer,
		types.OCIRestrictedLayer, types.OCIUncompressedRestrictedLayer,
		types.DockerLayer, types.DockerUncompressedLayer, types.DockerForeignLayer,
		"application/vnd.docker.image.rootfs.diff.tar.zstd":
		return true
	}
	return false
}

// isAttestation knows what buildx puts beside images.
func isAttestation(d v1.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] != "" ||
		d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

func runsHere(p *v1.Platform) bool {
	return p == nil || (p.OS == "" || p.OS == thisPlatform.os) && (p.Architecture == "" || p.Architecture == thisPlatform.arch)
}

// rank says how well a variant of this architecture fits: the base of it, or
// none named, runs everywhere; of the others it is not known.
func rank(p *v1.Platform) int {
	if p == nil {
		return 0
	}
	switch p.Variant {
	case "", "v1", "v8":
		return 0
	}
	return 1
}
