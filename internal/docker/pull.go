package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Resolve asks, by way of the engine, the registry which image a name means now.
func (i *Images) Resolve(ctx context.Context, ref string) (digest string, err error) {
	auth, err := i.authority(ctx, ref)
	if err != nil {
		return "", err
	}
	res, err := i.d.engine.api.DistributionInspect(ctx, ref, client.DistributionInspectOptions{EncodedRegistryAuth: auth})
	if err != nil {
		return "", pullError(ctx, ref, err)
	}
	return res.Descriptor.Digest.String(), nil
}

// authority gives the credentials for the registry of a reference, as the
// engine takes them.
func (i *Images) authority(ctx context.Context, ref string) (string, error) {
	if strings.HasPrefix(ref, "sha256:") {
		return "", core.Invalid("%s is a digest without a repository: write repository@%s", ref, ref)
	}
	parsed, err := name.ParseReference(ref, name.WeakValidation)
	if err != nil {
		return "", core.Invalid("the image name %q is not one: %v", ref, err)
	}
	var c core.RegistryCredentials
	if i.keychain != nil {
		if c, err = i.keychain.Credentials(ctx, parsed.Context().Name()); err != nil {
			return "", &core.Error{
				Kind: core.KindInvalid, Code: core.ReasonImagePullFailed, Err: err,
				Message: "the credentials for " + parsed.Context().RegistryStr() + " cannot be had: mend the server's docker configuration (config.json in DOCKER_CONFIG or ~/.docker)",
			}
		}
	}
	if c == (core.RegistryCredentials{}) {
		return "", nil
	}
	auth, err := authconfig.Encode(registry.AuthConfig{
		Username: c.User, Password: c.Password, Auth: c.Basic, IdentityToken: c.IdentityToken, RegistryToken: c.Token,
		ServerAddress: parsed.Context().RegistryStr(),
	})
	if err != nil {
		return "", fmt.Errorf("write down the credentials for %s: %w", parsed.Context().RegistryStr(), err)
	}
	return auth, nil
}

// Pull has the engine pull an image. The engine shares layers among pulls, and
// verifies them.
func (i *Images) Pull(ctx context.Context, ref string, report func(core.PullProgress)) (core.Image, error) {
	if strings.Contains(ref, "@") {
		if image, err := i.Image(ctx, ref); err == nil {
			return image, nil
		}
		ref = withoutTag(ref)
	}
	auth, err := i.authority(ctx, ref)
	if err != nil {
		return core.Image{}, err
	}
	before, err := i.ids(ctx)
	if err != nil {
		return core.Image{}, err
	}
	res, err := i.d.engine.api.ImagePull(ctx, ref, client.ImagePullOptions{RegistryAuth: auth})
	if err != nil {
		return core.Image{}, pullError(ctx, ref, err)
	}
	err = follow(res, &pull{image: ref, since: time.Now(), layers: map[string]*layer{}, report: report})
	if err = errors.Join(err, res.Close()); err != nil {
		return core.Image{}, pullError(ctx, ref, err)
	}
	found, err := i.d.engine.findImage(ctx, ref)
	if err != nil {
		return core.Image{}, err
	}
	if err := i.keep(ctx, found, before); err != nil {
		return core.Image{}, err
	}
	return i.describe(found, ref), nil
}

// withoutTag takes the tag of a name:tag@digest away, which engines do not take
// all.
func withoutTag(ref string) string {
	before, digest, _ := strings.Cut(ref, "@")
	if colon := strings.LastIndex(before, ":"); colon > strings.LastIndex(before, "/") {
		before = before[:colon]
	}
	return before + "@" + digest
}

// pull is how far a pull is.
type pull struct {
	image  string
	digest string
	since  time.Time
	layers map[string]*layer
	report func(core.PullProgress)
	told   time.Time
}

type layer struct {
	done, total core.Bytes
	got         bool // downloaded
	unpacked    bool
}

// reportEvery is how often a caller is told how far it is.
const reportEvery = 200 * time.Millisecond

// progress is a line of what the engine tells of a pull (Docker Engine API,
// "ImageCreate").
type progress struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Detail struct {
		Current int64 `json:"current"`
		Total   int64 `json:"total"`
	} `json:"progressDetail"`
	Error       string `json:"error"`
	ErrorDetail *struct {
		Message string `json:"message"`
	} `json:"errorDetail"`
}

// follow reads what the engine tells of a pull until that has ended.
func follow(r io.Reader, p *pull) error {
	in := json.NewDecoder(r)
	for {
		var line progress
		err := in.Decode(&line)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read how far the pull is: %w", err)
		case line.ErrorDetail != nil:
			return errors.New(line.ErrorDetail.Message)
		case line.Error != "":
			return errors.New(line.Error)
		}
		p.note(line)
		if now := time.Now(); p.report != nil && now.Sub(p.told) >= reportEvery {
			p.told = now
			p.report(p.at(now))
		}
	}
}

func (p *pull) note(line progress) {
	if digest, ok := strings.CutPrefix(line.Status, "Digest: "); ok {
		p.digest = digest
		return
	}
	if line.ID == "" {
		return
	}
	l := p.layers[line.ID]
	if l == nil {
		l = &layer{}
		p.layers[line.ID] = l
	}
	switch line.Status {
	case "Pulling fs layer", "Waiting", "Verifying Checksum":
	case "Downloading":
		l.done, l.total = core.Bytes(line.Detail.Current), core.Bytes(max(line.Detail.Total, 0))
	case "Download complete":
		l.got, l.done = true, l.total
	case "Extracting":
		l.got, l.done = true, l.total
	case "Pull complete":
		l.got, l.unpacked, l.done = true, true, l.total
	default: // "Already exists", and what is no layer
		delete(p.layers, line.ID)
	}
}

func (p *pull) at(now time.Time) core.PullProgress {
	out := core.PullProgress{Image: p.image, Digest: p.digest, Phase: core.PullResolving, Layers: len(p.layers), Since: p.since}
	all := len(p.layers) > 0
	for _, l := range p.layers {
		out.Done += l.done
		out.Total += l.total
		if l.unpacked {
			out.LayersDone++
		}
		all = all && l.got
	}
	switch {
	case all:
		out.Phase = core.PullUnpacking
	case len(p.layers) > 0:
		out.Phase = core.PullDownloading
	}
	if took := now.Sub(p.since); took > 0 {
		out.Rate = core.Bytes(float64(out.Done) / took.Seconds())
	}
	return out
}

// pullError says what the engine, or the registry behind it, has refused.
func pullError(ctx context.Context, ref string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("pull the image %s: %w", ref, context.Cause(ctx))
	}
	text := strings.ToLower(err.Error())
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	fault := func(kind core.Kind, code core.Code, message string) error {
		return &core.Error{Kind: kind, Code: code, Message: message, Err: err}
	}
	switch {
	case client.IsErrConnectionFailed(err):
		return core.Unavailable(core.CodeUnavailable, err, "the Docker engine does not answer")
	case has("no space left on device"):
		return core.Unavailable(core.ReasonDiskFull, err, "the disk of the Docker engine is full: free some space")
	case has("no matching manifest", "does not match the specified platform", "unsupported media type"):
		return fault(core.KindInvalid, core.ReasonImageUnsupported, "the image "+ref+" has nothing for the platform of the Docker engine")
	case has("manifest unknown", "not found", "name unknown"):
		return fault(core.KindNotFound, core.ReasonImageNotFound, "the registry has no image "+ref+": check the name and the tag")
	case has("unauthorized", "denied", "authentication required", "no basic auth"), errdefs.IsUnauthorized(err), errdefs.IsPermissionDenied(err):
		return fault(core.KindInvalid, core.ReasonImagePullFailed,
			"the registry does not give out the image "+ref+": check the name, and log in with docker login as the user that the server runs as")
	case errdefs.IsInvalidArgument(err):
		return fault(core.KindInvalid, core.ReasonImagePullFailed, "the image "+ref+" cannot be pulled")
	}
	return core.Unavailable(core.ReasonImagePullFailed, err, "the image %s could not be pulled: the registry does not answer as it should", ref)
}
