package docker

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/moby/moby/client"

	"github.com/dayfly-io/dayfly/internal/core"
)

// found is an image in the engine, as far as starts need it. An id names its
// contents, so that it does not change.
type found struct {
	id      string
	config  core.ImageConfig
	volumes []string
}

// imageOf finds the image of a version.
func (d *Driver) imageOf(ctx context.Context, digest string) (found, error) {
	d.used.Store(digest, time.Now())
	if v, ok := d.images.Load(digest); ok {
		if f, ok := v.(found); ok {
			return f, nil
		}
	}
	res, err := d.engine.findImage(ctx, digest)
	if err != nil {
		return found{}, err
	}
	f := found{id: res.ID, config: configOf(res)}
	if res.Config != nil {
		f.volumes = slices.Sorted(maps.Keys(res.Config.Volumes))
	}
	d.images.Store(digest, f)
	return f, nil
}

// findImage finds an image by a name, by the engine's id, or by the digest that
// a registry has for it, with the name of a repository before it or not.
func (e *engine) findImage(ctx context.Context, ref string) (client.ImageInspectResult, error) {
	res, err := e.api.ImageInspect(ctx, ref)
	_, digest, named := strings.Cut(ref, "@")
	if !named {
		digest = ref
	}
	if !errdefs.IsNotFound(err) || !strings.HasPrefix(digest, "sha256:") {
		return res, imageError(ref, err)
	}
	list, lerr := e.api.ImageList(ctx, client.ImageListOptions{})
	if lerr != nil {
		return res, imageError(ref, lerr)
	}
	for _, s := range list.Items {
		if s.ID == digest || slices.ContainsFunc(s.RepoDigests, func(d string) bool { return strings.HasSuffix(d, "@"+digest) }) {
			res, err = e.api.ImageInspect(ctx, s.ID)
			return res, imageError(ref, err)
		}
	}
	return res, imageError(ref, err)
}

func configOf(res client.ImageInspectResult) core.ImageConfig {
	out := core.ImageConfig{OS: res.Os, Architecture: res.Architecture}
	if c := res.Config; c != nil {
		out.Entrypoint, out.Cmd, out.Env = c.Entrypoint, c.Cmd, c.Env
		out.WorkingDir, out.User, out.StopSignal = c.WorkingDir, c.User, c.StopSignal
	}
	return out
}

func imageError(ref string, err error) error {
	switch {
	case err == nil:
		return nil
	case errdefs.IsNotFound(err):
		return noImage(ref, err)
	case errdefs.IsInvalidArgument(err):
		return &core.Error{
			Kind: core.KindInvalid, Code: core.CodeInvalid, Err: err,
			Message: "the image name \"" + ref + "\" is not one: write it like shop/resize:1.2",
		}
	case client.IsErrConnectionFailed(err):
		return core.Unavailable(core.CodeUnavailable, err, "the Docker engine does not answer")
	}
	return fmt.Errorf("find the image %s in the Docker engine: %w", ref, err)
}

// Images is the store of images that the engine is: the port of internal/deploy.
//
// The digest of an image that was pulled is that of its registry; of one that was
// loaded, what the engine calls its id. Both name its contents, so that a version
// stays with the image it was deployed with, whatever its name means later. So
// that an image which loses its names is not taken for rubbish, each gets a name
// of ours as well, which is never shown and by which we know it again.
type Images struct {
	d        *Driver
	keychain Keychain
}

// Keychain has the credentials for registries.
type Keychain interface {
	// Credentials gives those for a repository, such as
	// "registry.example/shop/resize"; the zero value when there are none.
	Credentials(ctx context.Context, repository string) (core.RegistryCredentials, error)
}

// Images gives the engine's images. Credentials for registries come from the
// keychain; nil means that there are none.
func (d *Driver) Images(k Keychain) *Images { return &Images{d, k} }

// The ends of the names by which we know images again: those that we brought,
// which are ours to remove, and those that were in the engine before.
const (
	markBrought = "-brought"
	markKept    = "-kept"
)

func (i *Images) mark(id, how string) string {
	_, hex, _ := strings.Cut(id, ":")
	return i.d.engine.name + how + ":" + hex
}

// ids gives what is in the engine.
func (i *Images) ids(ctx context.Context) (map[string]bool, error) {
	list, err := i.d.engine.api.ImageList(ctx, client.ImageListOptions{})
	if err != nil {
		return nil, imageError("of all names", err)
	}
	out := map[string]bool{}
	for _, s := range list.Items {
		out[s.ID] = true
	}
	return out, nil
}

// keep gives an image a name of ours. before are the images that were there
// when it was asked for.
func (i *Images) keep(ctx context.Context, image client.ImageInspectResult, before map[string]bool) error {
	if slices.ContainsFunc(image.RepoTags, func(n string) bool { return strings.HasPrefix(n, i.d.engine.name+"-") }) {
		return nil
	}
	how := markBrought
	if before[image.ID] {
		how = markKept
	}
	_, err := i.d.engine.api.ImageTag(ctx, client.ImageTagOptions{Source: image.ID, Target: i.mark(image.ID, how)})
	if err != nil {
		return fmt.Errorf("keep an image in the Docker engine: %w", err)
	}
	return nil
}

// loaded is a line of what the engine answers to a load.
type loaded struct {
	Stream      string `json:"stream"`
	ErrorDetail *struct {
		Message string `json:"message"`
	} `json:"errorDetail"`
	Error string `json:"error"`
}

// Load implements the port of internal/deploy. What is in the tar is for the
// engine to check: that is its API of docker load.
func (i *Images) Load(ctx context.Context, tar io.Reader) ([]core.Image, error) {
	before, err := i.ids(ctx)
	if err != nil {
		return nil, err
	}
	source := &reading{from: tar}
	res, err := i.d.engine.api.ImageLoad(ctx, source, client.ImageLoadWithQuiet(true))
	if source.err != nil {
		return nil, fmt.Errorf("read the image: %w", source.err)
	}
	if err != nil {
		return nil, loadError(err)
	}
	names, err := namesOf(res)
	if err = errors.Join(err, res.Close()); source.err != nil {
		return nil, fmt.Errorf("read the image: %w", source.err)
	}
	if err != nil {
		return nil, loadError(err)
	}
	if len(names) == 0 {
		return nil, core.Invalid("there is no image in the tar: write one with docker save")
	}
	var out []core.Image
	for _, n := range names {
		res, err := i.d.engine.findImage(ctx, n)
		if err == nil {
			err = i.keep(ctx, res, before)
		}
		if err != nil {
			return nil, err
		}
		image := i.describe(res, "")
		if !slices.ContainsFunc(out, func(o core.Image) bool { return o.Digest == image.Digest }) {
			out = append(out, image)
		}
	}
	return out, nil
}

// reading remembers that the sender of an image was at fault and not the engine.
type reading struct {
	from io.Reader
	err  error
}

func (r *reading) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// namesOf reads which images were loaded: "Loaded image: NAME", or "Loaded image
// ID: sha256:..." for one without a name.
func namesOf(r io.Reader) ([]string, error) {
	var names []string
	in := json.NewDecoder(bufio.NewReader(r))
	for {
		var l loaded
		err := in.Decode(&l)
		switch {
		case errors.Is(err, io.EOF):
			return names, nil
		case err != nil:
			return nil, fmt.Errorf("read what the Docker engine says of the load: %w", err)
		case l.ErrorDetail != nil || l.Error != "":
			text := l.Error
			if l.ErrorDetail != nil {
				text = cmp.Or(l.ErrorDetail.Message, text)
			}
			return nil, errors.New(text)
		}
		for line := range strings.Lines(l.Stream) {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "Loaded image"); ok {
				_, loaded, _ := strings.Cut(rest, ": ")
				names = append(names, loaded)
			}
		}
	}
}

func loadError(err error) error {
	switch {
	case client.IsErrConnectionFailed(err):
		return core.Unavailable(core.CodeUnavailable, err, "the Docker engine does not answer")
	case strings.Contains(err.Error(), "no space left on device"):
		return core.Unavailable(core.ReasonDiskFull, err, "the disk of the Docker engine is full: free some space")
	}
	return &core.Error{
		Kind: core.KindInvalid, Code: core.CodeInvalid, Err: err,
		Message: "the Docker engine cannot load this image: write it with docker save",
	}
}

// Image implements the port of internal/deploy.
func (i *Images) Image(ctx context.Context, ref string) (core.Image, error) {
	res, err := i.d.engine.findImage(ctx, ref)
	if err != nil {
		return core.Image{}, err
	}
	return i.describe(res, ref), nil
}

// describe tells of an image that was asked for by ref, or by its id when that
// is "".
func (i *Images) describe(res client.ImageInspectResult, ref string) core.Image {
	out := core.Image{
		Names: i.shown(res.RepoTags), Digest: res.ID, Size: core.Bytes(res.Size), Config: configOf(res), LoadedAt: res.Metadata.LastTagTime,
	}
	if out.LoadedAt.IsZero() {
		out.LoadedAt, _ = time.Parse(time.RFC3339Nano, res.Created)
	}
	if len(res.RepoDigests) > 0 {
		out.Source, out.Digest = sourceOf(res.RepoDigests, ref)
	}
	if _, digest, ok := strings.Cut("@"+ref, "@sha256:"); ok {
		out.Digest = "sha256:" + digest // the one that was asked for
	}
	for _, d := range []string{out.Digest, res.ID} {
		if at, ok := i.d.used.Load(d); ok {
			out.UsedAt, _ = at.(time.Time)
		}
	}
	out.Instances = i.d.instancesOf(res.ID)
	return out
}

// sourceOf gives where an image was pulled from, and its digest there: in the
// repository of ref, if it is one of them.
func sourceOf(digests []string, ref string) (source, digest string) {
	want := ""
	if parsed, err := name.ParseReference(ref, name.WeakValidation); err == nil {
		want = parsed.Context().Name()
	}
	for _, d := range digests {
		parsed, err := name.NewDigest(d, name.WeakValidation)
		if err != nil {
			continue
		}
		if digest == "" || parsed.Context().Name() == want {
			source, digest = parsed.Context().Name(), parsed.DigestStr()
		}
	}
	return source, digest
}

// ourName is how we name images, whatever the data directory is.
var ourName = regexp.MustCompile(`^dayfly-[0-9a-f]{16}-`)

// shown takes our own names away.
func (i *Images) shown(names []string) []string {
	out := []string{}
	for _, n := range names {
		if n != "<none>:<none>" && !ourName.MatchString(n) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// marked reports whether an image has a name of ours that ends so, or any for "".
func (i *Images) marked(names []string, how string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, i.d.engine.name+cmp.Or(how, "-")) })
}

// Images implements the port of internal/deploy: those that we have brought, and
// those with a name that somebody else has.
func (i *Images) Images(ctx context.Context) ([]core.Image, error) {
	all, err := i.all(ctx)
	if err != nil {
		return nil, err
	}
	var out []core.Image
	for _, res := range all {
		if image := i.describe(res, ""); len(image.Names) > 0 || i.marked(res.RepoTags, "") {
			out = append(out, image)
		}
	}
	slices.SortFunc(out, func(a, b core.Image) int {
		return cmp.Or(slices.Compare(a.Names, b.Names), cmp.Compare(a.Digest, b.Digest))
	})
	return out, nil
}

// all gives all images of the engine but init's.
func (i *Images) all(ctx context.Context) ([]client.ImageInspectResult, error) {
	list, err := i.d.engine.api.ImageList(ctx, client.ImageListOptions{})
	if err != nil {
		return nil, imageError("of all names", err)
	}
	var out []client.ImageInspectResult
	for _, s := range list.Items {
		if s.Labels[labelData] != "" {
			continue
		}
		res, err := i.d.engine.api.ImageInspect(ctx, s.ID)
		if errdefs.IsNotFound(err) {
			continue // it has gone meanwhile
		}
		if err != nil {
			return nil, imageError(s.ID, err)
		}
		out = append(out, res)
	}
	return out, nil
}
