package deploy

import (
	"context"
	"fmt"
	"strings"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Version gives a function with one of its versions.
func (s *Service) Version(ctx context.Context, _ core.Principal, app, name string, number int) (core.Definition, error) {
	if number < 1 {
		return core.Definition{}, core.Invalid("there is no version %d: they are numbered from 1", number)
	}
	return s.store.Version(ctx, app, name, number)
}

// Versions lists the versions of a function, newest first.
func (s *Service) Versions(ctx context.Context, _ core.Principal, app, name string, page core.Page) ([]core.Version, string, error) {
	return s.store.Versions(ctx, app, name, page)
}

// Rollback makes a new version that is what an earlier one was, with the image
// that one was pinned to. Versions are never made current again themselves: so
// the list of versions is the history of what was called, and who made it so.
// A version that is called already makes no new one.
func (s *Service) Rollback(ctx context.Context, p core.Principal, r core.Rollback) (core.Definition, error) {
	now, err := s.store.Version(ctx, r.App, r.Function, 0)
	if err != nil {
		return core.Definition{}, err
	}
	to := r.To
	if to == 0 {
		to = now.Version.Origin() - 1
		if to < 1 {
			return core.Definition{}, core.Conflict("%s/%s is at version %d and there is none before it to go back to", r.App, r.Function, now.Version.Origin())
		}
	}
	old, err := s.Version(ctx, p, r.App, r.Function, to)
	if err != nil {
		return core.Definition{}, err
	}
	if err := s.can.Check(old.Version.Spec); err != nil {
		return core.Definition{}, err
	}
	if err := s.available(ctx, old.Version); err != nil {
		return core.Definition{}, fmt.Errorf("find the image of version %d of %s/%s: %w", to, r.App, r.Function, err)
	}
	if r.IfMatch == "" {
		r.IfMatch = now.Function.ETag() // what was decided on is what is changed
	}
	return s.save(ctx, p, core.NewVersion{
		App: r.App, Function: r.Function, Description: now.Function.Description, Annotations: now.Function.Annotations,
		Spec: old.Version.Spec, Digest: old.Version.Digest, Restores: old.Version.Origin(), IfMatch: r.IfMatch,
	})
}

// available checks that a version's image is here or can be pulled.
func (s *Service) available(ctx context.Context, v core.Version) error {
	if !v.Resolved() {
		return nil
	}
	_, missing := s.images.Image(ctx, v.Digest)
	if missing == nil || strings.HasPrefix(v.Spec.Image, "sha256:") {
		return missing
	}
	asking, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	_, err := s.images.Resolve(asking, core.ImageAt(v.Spec.Image, v.Digest))
	if core.IsKind(err, core.KindUnavailable) || asking.Err() != nil && ctx.Err() == nil {
		return missing
	}
	return err
}
