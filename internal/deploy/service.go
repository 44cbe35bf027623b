package deploy

import (
	"context"
	"fmt"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sequence"
)

// Catalog is told when a definition has changed.
type Catalog interface {
	// Refresh returns when calls meet what has been saved.
	Refresh(ctx context.Context) error
}

// Service puts images and functions in place. Its methods may be called
// concurrently.
type Service struct {
	store   Store
	images  Images
	catalog Catalog
	can     core.Capabilities
	ids     *sequence.Source
	now     func() time.Time
	ready   readiness
	fetches fetches
}

// Config is what a service works with. Every field must be set.
type Config struct {
	Store   Store
	Images  Images
	Catalog Catalog
	// Capabilities are those of the driver: what it cannot do is refused here
	// and not when the function is called.
	Capabilities core.Capabilities
	IDs          *sequence.Source
	Now          func() time.Time
}

// New makes a service that lives until Close; of ctx it takes the values only.
func New(ctx context.Context, c Config) *Service {
	s := &Service{store: c.Store, images: c.Images, catalog: c.Catalog, can: c.Capabilities, ids: c.IDs, now: c.Now}
	s.ready.byFunction = map[core.FunctionID][]*core.Definition{}
	s.fetches.open(ctx)
	return s
}

// Save makes a new version of a function, with the image that its name means
// now, or that it means at the first call if that cannot be found out now. A
// spec's unset fields get their defaults. What this node's driver cannot do is
// refused with [core.KindNotImplemented].
func (s *Service) Save(ctx context.Context, p core.Principal, n core.NewVersion) (core.Definition, error) {
	n.Spec = n.Spec.WithDefaults()
	if err := n.Validate(); err != nil {
		return core.Definition{}, err
	}
	if err := s.can.Check(n.Spec); err != nil {
		return core.Definition{}, fmt.Errorf("save %s/%s: %w", n.App, n.Function, err)
	}
	digest, err := s.resolve(ctx, n)
	if err != nil {
		return core.Definition{}, err
	}
	n.Digest = digest
	return s.save(ctx, p, n)
}

// save saves a version whose image is found out, or left to its first call.
func (s *Service) save(ctx context.Context, p core.Principal, n core.NewVersion) (core.Definition, error) {
	n.By, n.At = p.Name, s.now()
	n.AppID, n.FunctionID = core.AppID(s.ids.Next()), core.FunctionID(s.ids.Next())
	def, err := s.store.SaveVersion(ctx, n)
	if err != nil {
		return core.Definition{}, fmt.Errorf("save %s/%s: %w", n.App, n.Function, err)
	}
	return def, s.refresh(ctx)
}

// startable checks that there is something to start. With args: body that is
// the entrypoint, since the body stands in place of the cmd: without one, who
// calls would say what program is run.
func startable(spec core.Spec, image core.ImageConfig) error {
	if spec.Args == core.ArgsBody && len(spec.Command) == 0 && len(image.Entrypoint) == 0 {
		return core.Errorf(core.KindInvalid, core.ReasonImageUnsupported,
			"the image %s has no entrypoint that could take the body as its argument (args: body): set command to say what is to be started", spec.Image)
	}
	if len(image.Process(spec.Command, nil)) == 0 {
		return core.Errorf(core.KindInvalid, core.ReasonImageUnsupported,
			"the image %s has neither entrypoint nor cmd: set command to say what is to be started", spec.Image)
	}
	return nil
}

func (s *Service) refresh(ctx context.Context) error {
	if err := s.catalog.Refresh(ctx); err != nil {
		return fmt.Errorf("take over the change: %w", err)
	}
	return nil
}

// Function gives a function with the version that is called.
func (s *Service) Function(ctx context.Context, _ core.Principal, app, name string) (core.Definition, error) {
	return s.store.Version(ctx, app, name, 0)
}

// Functions lists functions by app, then name; app "" means all apps.
func (s *Service) Functions(ctx context.Context, _ core.Principal, app string, page core.Page) ([]core.Definition, string, error) {
	return s.store.Definitions(ctx, app, page)
}

// Delete deletes a function; what it is doing is finished, its runs stay.
func (s *Service) Delete(ctx context.Context, _ core.Principal, app, name, ifMatch string) error {
	if err := s.store.DeleteFunction(ctx, app, name, ifMatch); err != nil {
		return fmt.Errorf("delete %s/%s: %w", app, name, err)
	}
	return s.refresh(ctx)
}

// Apps lists apps by name.
func (s *Service) Apps(ctx context.Context, _ core.Principal, page core.Page) ([]core.App, string, error) {
	return s.store.Apps(ctx, page)
}
