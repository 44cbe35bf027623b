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
}

// Images keeps container images.
type Images interface {
	// Load reads a tar of one or more images, in docker-save or OCI layout,
	// and keeps them with their names. Errors are core.KindInvalid with what
	// is wrong in the tar, or core.KindTooLarge.
	Load(ctx context.Context, tar io.Reader) ([]core.Image, error)
	// Image finds an image by name or digest; core.KindNotFound with the code
	// image_not_found.
	Image(ctx context.Context, ref string) (core.Image, error)
	// Images lists all images by name.
	Images(ctx context.Context) ([]core.Image, error)
}
