package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dayfly-io/dayfly/internal/core"
)

// accepted are the media types of manifests that an answer may have.
var accepted = strings.Join([]string{
	string(types.OCIImageIndex), string(types.DockerManifestList), string(types.OCIManifestSchema1), string(types.DockerManifestSchema2),
}, ", ")

// Name gives the repository with its registry.
func (r *Repository) Name() string { return r.name.Name() }

// Shown is an image of the repository as people write it.
func (r *Repository) Shown(what string) string { return shown(r.name, what) }

// Head asks which manifest a tag or digest means. Registries that do not say
// its digest are asked for the manifest itself.
func (r *Repository) Head(ctx context.Context, what string) (v1.Descriptor, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*r.client.opts.Stall, errStalled)
	defer cancel()
	resp, err := r.do(ctx, http.MethodHead, "manifests", what, accepted, 0)
	if err != nil {
		return v1.Descriptor{}, explain(ctx, r.name, what, err, r.known)
	}
	defer resp.Body.Close() //nolint:errcheck // there is none
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		return v1.Descriptor{}, explain(ctx, r.name, what, transport.CheckError(resp, http.StatusOK), r.known)
	}
	digest, err := v1.NewHash(resp.Header.Get("Docker-Content-Digest"))
	if err == nil && resp.StatusCode == http.StatusOK && digest.Algorithm == "sha256" && resp.Header.Get("Content-Type") != "" {
		return v1.Descriptor{Digest: digest, MediaType: mediaType(resp), Size: resp.ContentLength}, nil
	}
	_, d, err := r.Manifest(ctx, v1.Descriptor{}, what)
	return d, err
}

// MaxManifest is the most bytes a manifest may have.
const MaxManifest = 1 * core.MiB

// Manifest reads the manifest that a tag or digest means, and describes it.
// want is what is known of it: when it has a digest that is asked for, in
// place of what, and verified, and so is the size.
func (r *Repository) Manifest(ctx context.Context, want v1.Descriptor, what string) ([]byte, v1.Descriptor, error) {
	if want.Digest.Hex != "" {
		what = want.Digest.String()
	}
	data, media, err := r.small(ctx, "manifests", what, accepted, MaxManifest)
	if err != nil {
		return nil, v1.Descriptor{}, err
	}
	if err := r.verify(data, what, want.Size); err != nil {
		return nil, v1.Descriptor{}, err
	}
	sum := sha256.Sum256(data)
	got := v1.Descriptor{
		Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}, Size: int64(len(data)), MediaType: media,
	}
	return data, got, nil
}

// SmallBlob reads a blob of at most limit bytes and verifies it.
func (r *Repository) SmallBlob(ctx context.Context, d v1.Descriptor, limit core.Bytes) ([]byte, error) {
	data, _, err := r.small(ctx, "blobs", d.Digest.String(), "", limit)
	if err != nil {
		return nil, err
	}
	return data, r.verify(data, d.Digest.String(), d.Size)
}

func (r *Repository) small(ctx context.Context, kind, what, accept string, limit core.Bytes) ([]byte, types.MediaType, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*r.client.opts.Stall, errStalled)
	defer cancel()
	resp, err := r.do(ctx, http.MethodGet, kind, what, accept, 0)
	if err == nil {
		defer resp.Body.Close() //nolint:errcheck // it was read
		err = transport.CheckError(resp, http.StatusOK)
	}
	if err != nil {
		return nil, "", explain(ctx, r.name, what, err, r.known)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	switch {
	case err != nil:
		return nil, "", explain(ctx, r.name, what, err, r.known)
	case core.Bytes(len(data)) > limit:
		return nil, "", core.Errorf(core.KindTooLarge, core.ReasonImagePullFailed,
			"the registry %s describes the image %s in more than %s, the most there may be", r.name.RegistryStr(), r.Shown(what), limit)
	}
	return data, mediaType(resp), nil
}

// verify checks what was asked for by digest.
func (r *Repository) verify(data []byte, what string, size int64) error {
	sum := sha256.Sum256(data)
	got := "sha256:" + hex.EncodeToString(sum[:])
	switch {
	case strings.Contains(what, ":") && got != what:
		return failed(core.KindUnavailable, nil, fmt.Sprintf("the registry %s answered something else for %s, with the digest %s: it is damaged, or lies",
			r.name.RegistryStr(), r.Shown(what), got))
	case size > 0 && int64(len(data)) != size:
		return failed(core.KindUnavailable, nil, fmt.Sprintf("the registry %s has %d bytes for %s, which should have %d: it is damaged, or lies",
			r.name.RegistryStr(), len(data), r.Shown(what), size))
	}
	return nil
}

// do asks for something of the repository, from the byte from on.
func (r *Repository) do(ctx context.Context, method, kind, what, accept string, from int64) (*http.Response, error) {
	url := r.name.Scheme() + "://" + r.name.RegistryStr() + "/v2/" + r.name.RepositoryStr() + "/" + kind + "/" + what
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err //nolint:wrapcheck // explain does
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	if from > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(from, 10)+"-")
	}
	return r.http.Do(req) //nolint:wrapcheck // explain does
}

// Blob opens a blob, from the byte from on if the registry can do that, else
// from its first: start tells. Reading it fails when nothing comes for
// [Options].Stall. What it gives is not verified.
func (r *Repository) Blob(ctx context.Context, d v1.Descriptor, from int64) (body io.ReadCloser, start int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	what := d.Digest.String()
	resp, start, err := r.part(ctx, d, from) //nolint:bodyclose // the blob's Close does
	if errors.Is(err, errRange) && from > 0 {
		resp, start, err = r.part(ctx, d, 0) //nolint:bodyclose // likewise
	}
	if err != nil {
		err = explain(ctx, r.name, what, err, r.known)
		cancel(nil)
		return nil, 0, err
	}
	b := &blob{repo: r, what: what, body: resp.Body, ctx: ctx, cancel: cancel}
	b.watch = time.AfterFunc(r.client.opts.Stall, func() { cancel(errStalled) })
	return b, start, nil
}

// part asks for a blob from the byte from on.
func (r *Repository) part(ctx context.Context, d v1.Descriptor, from int64) (*http.Response, int64, error) {
	resp, err := r.do(ctx, http.MethodGet, "blobs", d.Digest.String(), "", from)
	if err != nil {
		return nil, 0, err
	}
	start, err := r.accept(resp, d, from)
	if err != nil {
		_ = resp.Body.Close()
	}
	return resp, start, err
}

// accept checks the answer to a question for a part of a blob, and tells where
// it begins.
func (r *Repository) accept(resp *http.Response, d v1.Descriptor, from int64) (start int64, err error) {
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && from > 0 {
		return 0, errRange
	}
	if err := transport.CheckError(resp, http.StatusOK, http.StatusPartialContent); err != nil {
		return 0, err //nolint:wrapcheck // explain does
	}
	if resp.StatusCode == http.StatusPartialContent {
		var end, total int64
		n, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &start, &end, &total)
		if err != nil || n != 3 || start != from || end != d.Size-1 || total != d.Size {
			return 0, errRange
		}
	}
	if resp.ContentLength >= 0 && resp.ContentLength != d.Size-start {
		return 0, failed(core.KindUnavailable, nil, fmt.Sprintf("the registry %s has %d bytes for %s, which should have %d: it is damaged, or lies",
			r.name.RegistryStr(), start+resp.ContentLength, r.Shown(d.Digest.String()), d.Size))
	}
	return start, nil
}

var errRange = errors.New("it answered another part of the blob than it was asked for")

func mediaType(resp *http.Response) types.MediaType {
	media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return types.MediaType(strings.TrimSpace(media))
}

// blob is a body that fails when it stalls.
type blob struct {
	repo   *Repository
	what   string
	body   io.ReadCloser
	ctx    context.Context //nolint:containedctx // that of the request, to tell why it ended
	cancel context.CancelCauseFunc
	watch  *time.Timer
}

func (b *blob) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if n > 0 {
		b.watch.Reset(b.repo.client.opts.Stall)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = explain(b.ctx, b.repo.name, b.what, err, b.repo.known)
	}
	return n, err
}

func (b *blob) Close() error {
	b.watch.Stop()
	b.cancel(nil)
	return b.body.Close()
}
