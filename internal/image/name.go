package image

import (
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dayfly-io/dayfly/internal/core"
)

// maxName is the longest name of an image, in bytes; registries take 255 for
// the repository and 128 for the tag.
const maxName = 512

// parseRef reads what a person calls an image: a digest, a name, or a name
// with a digest, where the digest counts. key is the name in full, the same
// for all its short forms.
func parseRef(ref string) (digest, key string, err error) {
	if strings.HasPrefix(ref, "sha256:") {
		h, err := v1.NewHash(ref)
		if err != nil {
			return "", "", core.Invalid("%q is not a digest: it is sha256: and 64 hexadecimal digits", ref)
		}
		return h.String(), "", nil
	}
	if len(ref) > maxName {
		return "", "", core.Invalid("the image name %q... is %d bytes long; %d are the most", ref[:64], len(ref), maxName)
	}
	parsed, err := name.ParseReference(ref, name.WeakValidation)
	if err != nil {
		return "", "", &core.Error{
			Kind: core.KindInvalid, Code: core.CodeInvalid, Err: err,
			Message: "the image name \"" + ref + "\" is not one: write it like shop/resize:1.2",
		}
	}
	// The parser takes dots for letters. In a URL they would lead elsewhere.
	for part := range strings.SplitSeq(parsed.Context().RepositoryStr(), "/") {
		if part == "." || part == ".." {
			return "", "", core.Invalid("the image name %q is not one: no part of it may be %q", ref, part)
		}
	}
	if d, ok := parsed.(name.Digest); ok {
		return d.DigestStr(), "", nil
	}
	return "", parsed.Name(), nil
}
