package deploy

import (
	"context"
	"io"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Store keeps definitions. Each method is one transaction.
type Store interface {
	// SaveVersion makes a new version of a function and makes it the one that
	// is called; it makes app and function where they are missing. A spec and
	// digest equal to the current version's make no new one: the definition
	// is answered as it is (but for description and annotations, which are
	// taken over). core.KindConflict when Create is set and the function is
	// there, or IfMatch is set and does not match; core.KindNotFound when
	// IfMatch is "*" and there is no such function.
	SaveVersion(ctx context.Context, n core.NewVersion) (core.Definition, error)
	// Version gives the function with one of its versions, the one that is
	// called for the number 0; core.KindNotFound says which of app, function
	// and version is missing.
	Version(ctx context.Context, app, function string, number int) (core.Definition, error)
	// Versions lists the versions of a function, newest first.
	Versions(ctx context.Context, app, function string, page core.Page) ([]core.Version, string, error)
	// Definitions lists functions by app name, then name; app "" means all
	// apps. The string is the cursor of the next page, "" after the last.
	Definitions(ctx context.Context, app string, page core.Page) ([]core.Definition, string, error)
	// DeleteFunction deletes a function and its versions; its runs stay.
	// ifMatch as in core.NewVersion.
	DeleteFunction(ctx context.Context, app, function, ifMatch string) error
	// Apps lists apps by name.
	Apps(ctx context.Context, page core.Page) ([]core.App, string, error)
	// PinVersion gives a version that has no digest this one, and tells which
	// it has: the first who comes decides. core.KindNotFound when there is no
	// such version any more.
	PinVersion(ctx context.Context, function core.FunctionID, version int, digest string) (string, error)
}

// Images keeps container images, and gets them from registries. Where a
// registry refuses, errors are core.KindInvalid with the code
// image_pull_failed, or core.KindNotFound with image_not_found; where it does
// not answer, or not as it should, they are core.KindUnavailable with
// image_pull_failed. An image that cannot run here is image_unsupported.
type Images interface {
	// Load reads a tar of one or more images, in docker-save or OCI layout,
	// and keeps them with their names. Errors are core.KindInvalid with what
	// is wrong in the tar, or core.KindTooLarge.
	Load(ctx context.Context, tar io.Reader) ([]core.Image, error)
	// Image finds an image that is here, by name or digest; core.KindNotFound
	// with the code image_not_found.
	Image(ctx context.Context, ref string) (core.Image, error)
	// Images lists the images that are here, by name.
	Images(ctx context.Context) ([]core.Image, error)
	// Resolve asks the registry which image, for this platform, a name means
	// now, and gives its digest. Nothing is downloaded that is of any size.
	Resolve(ctx context.Context, ref string) (digest string, err error)
	// Pull gets an image from its registry, verifies and unpacks it and gives
	// it its name; ref may be name@digest, which gives it none. Who pulls what
	// is being pulled shares that; the pull ends early when all who wait for
	// it are gone, and the next one goes on where it ended. report is told
	// several times a second how far it is, by this call's goroutine; nil for
	// none.
	Pull(ctx context.Context, ref string, report func(core.PullProgress)) (core.Image, error)
	// Remove takes a name from its image, or removes an image by its digest;
	// see core.KindConflict for one in use.
	Remove(ctx context.Context, ref string) error
	// Prune removes the images that the limits let go and keep does not hold,
	// none that is in use, and reports them. What cannot be pulled again and
	// has a name stays, unless limits say otherwise.
	Prune(ctx context.Context, limits core.ImageLimits, keep func(core.Image) bool) (core.Pruned, error)
}
