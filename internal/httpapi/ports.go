package httpapi

import (
	"context"
	"io"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Door says who a visitor is.
type Door interface {
	// Enter gives the principal, or a core.Error of the kind unauthenticated
	// or forbidden. It is on the path of every call.
	Enter(ctx context.Context, v core.Visit) (core.Principal, error)
}

// Invoker calls functions.
type Invoker interface {
	// Call calls a function and returns when the run has ended. A nil error
	// means that the reply is whole, whatever the function answered in it. An
	// error means that it is not: if nothing has been written yet, the error
	// is answered, else the reply is cut off. The run is as far as it came; one
	// that was never made has no id.
	//
	// Neither req nor reply is used after Call has returned.
	Call(ctx context.Context, p core.Principal, app, function, trigger string, req *core.Request, reply core.RunReply) (core.Run, error)
}

// Runs tells about runs.
type Runs interface {
	// Run gives one run; core.KindNotFound.
	Run(ctx context.Context, p core.Principal, id core.RunID) (core.Run, error)
	// Runs lists runs, newest first.
	Runs(ctx context.Context, p core.Principal, filter core.RunFilter, page core.Page) (core.RunPage, error)
	// Cancel ends a run and gives it as it is then; core.KindConflict when it
	// has ended already.
	Cancel(ctx context.Context, p core.Principal, id core.RunID) (core.Run, error)
	// Logs gives up to limit lines whose sequence is over after, in order.
	Logs(ctx context.Context, p core.Principal, id core.RunID, after int64, limit int) ([]core.LogLine, error)
	// Follow gives emit the lines whose sequence is over after, in order and
	// as they come, until the run has ended and all of them have been given;
	// then it gives the run. It stops with emit's error.
	Follow(ctx context.Context, p core.Principal, id core.RunID, after int64, emit func([]core.LogLine) error) (core.Run, error)
}

// Deployer keeps functions.
type Deployer interface {
	// Save makes a new version of a function; see deploy.Store.
	Save(ctx context.Context, p core.Principal, n core.NewVersion) (core.Definition, error)
	// Function gives a function with the version that is called;
	// core.KindNotFound.
	Function(ctx context.Context, p core.Principal, app, name string) (core.Definition, error)
	// Functions lists functions by app, then name; app "" means all apps. The
	// string is the cursor of the next page.
	Functions(ctx context.Context, p core.Principal, app string, page core.Page) ([]core.Definition, string, error)
	// Delete deletes a function; ifMatch as in core.NewVersion.
	Delete(ctx context.Context, p core.Principal, app, name, ifMatch string) error
	// Apps lists apps by name.
	Apps(ctx context.Context, p core.Principal, page core.Page) ([]core.App, string, error)
}

// Images keeps images.
type Images interface {
	// LoadImages reads a tar of images to its end and keeps them.
	LoadImages(ctx context.Context, p core.Principal, tar io.Reader) ([]core.Image, error)
	// PullImage gets an image from its registry. report is told several times
	// a second how far it is, before PullImage returns.
	PullImage(ctx context.Context, p core.Principal, ref string, report func(core.PullProgress)) (core.Image, error)
	// Images lists the images that are here, by name.
	Images(ctx context.Context, p core.Principal) ([]core.Image, error)
	// Image gives one by name or digest; core.KindNotFound.
	Image(ctx context.Context, p core.Principal, ref string) (core.Image, error)
	// RemoveImage takes a name from its image, or removes one by its digest;
	// core.KindConflict when it is in use or cannot be had again.
	RemoveImage(ctx context.Context, p core.Principal, ref string) error
	// PruneImages removes the images that nothing uses.
	PruneImages(ctx context.Context, p core.Principal, all bool) (core.Pruned, error)
}

// Versions keeps the versions of functions.
type Versions interface {
	// Version gives a function with one of its versions; core.KindNotFound.
	Version(ctx context.Context, p core.Principal, app, name string, number int) (core.Definition, error)
	// Versions lists the versions of a function, newest first.
	Versions(ctx context.Context, p core.Principal, app, name string, page core.Page) ([]core.Version, string, error)
	// Rollback makes a new version that is what an earlier one was.
	Rollback(ctx context.Context, p core.Principal, r core.Rollback) (core.Definition, error)
}

// Instances tells about instances.
type Instances interface {
	// Instances lists the live ones.
	Instances(ctx context.Context, p core.Principal) ([]core.Instance, error)
	// Kept tells about those of a version that are kept without being called.
	Kept(ctx context.Context, p core.Principal, def *core.Definition) (core.Kept, error)
}
