package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// LoadImages reads a tar of images to its end and keeps them.
func (s *Service) LoadImages(ctx context.Context, _ core.Principal, tar io.Reader) ([]core.Image, error) {
	images, err := s.images.Load(ctx, tar)
	if err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	return images, nil
}

// Images lists the images that are here, by name.
func (s *Service) Images(ctx context.Context, _ core.Principal) ([]core.Image, error) {
	return s.images.Images(ctx)
}

// Image gives an image that is here, by name or digest.
func (s *Service) Image(ctx context.Context, _ core.Principal, ref string) (core.Image, error) {
	return s.images.Image(ctx, ref)
}

// PullImage gets an image from its registry; report is told how far it is.
func (s *Service) PullImage(ctx context.Context, _ core.Principal, ref string, report func(core.PullProgress)) (core.Image, error) {
	image, err := s.images.Pull(ctx, ref, report)
	if err != nil {
		return core.Image{}, fmt.Errorf("pull the image %s: %w", ref, err)
	}
	return image, nil
}

// RemoveImage takes a name from its image, or removes an image by its digest.
// One that a function has is pulled again when it is called, unless it was
// loaded: that is core.KindConflict.
func (s *Service) RemoveImage(ctx context.Context, _ core.Principal, ref string) error {
	image, err := s.images.Image(ctx, ref)
	if err != nil {
		return err
	}
	last := ref == image.Digest || len(image.Names) <= 1
	if last && image.Source == "" {
		called, err := s.called(ctx)
		if err != nil {
			return err
		}
		if user := called[image.Digest]; user != "" {
			return core.Conflict("the image %s was loaded and is what the function %s runs: delete or deploy the function first", ref, user)
		}
	}
	err = s.images.Remove(ctx, ref)
	s.ready.forget(image.Digest)
	if err != nil {
		return fmt.Errorf("remove the image %s: %w", ref, err)
	}
	return nil
}

// PruneImages removes the images that no function has and no instance uses;
// all lets go of those that functions have and that can be pulled again, and
// of those that were loaded and have a name.
func (s *Service) PruneImages(ctx context.Context, _ core.Principal, all bool) (core.Pruned, error) {
	called, err := s.called(ctx)
	if err != nil {
		return core.Pruned{}, err
	}
	limits := core.ImageLimits{UnusedSince: s.now(), Named: all}
	return s.prune(ctx, limits, func(i core.Image) bool {
		return called[i.Digest] != "" && (!all || i.Source == "")
	})
}

// TrimImages removes the images that nothing has used since the instant
// before, and the least recently used of what is beyond space bytes. What a
// function has and cannot be pulled again stays.
func (s *Service) TrimImages(ctx context.Context, space core.Bytes, before time.Time) (core.Pruned, error) {
	// Most of the time there is nothing to remove, and nothing to be asked.
	var called map[string]string
	var failed error
	pruned, err := s.prune(ctx, core.ImageLimits{UnusedSince: before, Space: space}, func(i core.Image) bool {
		if called == nil && failed == nil {
			called, failed = s.called(ctx)
		}
		return failed != nil || called[i.Digest] != "" && i.Source == ""
	})
	return pruned, errors.Join(err, failed)
}

func (s *Service) prune(ctx context.Context, limits core.ImageLimits, keep func(core.Image) bool) (core.Pruned, error) {
	pruned, err := s.images.Prune(ctx, limits, keep)
	for _, i := range pruned.Images {
		s.ready.forget(i.Digest)
	}
	if err != nil {
		return pruned, fmt.Errorf("prune images: %w", err)
	}
	return pruned, nil
}

// called gives the images of the versions that are called, each with a
// function that has it.
func (s *Service) called(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	for page := (core.Page{Limit: core.MaxPageSize}); ; {
		defs, next, err := s.store.Definitions(ctx, "", page)
		if err != nil {
			return nil, fmt.Errorf("look which images functions have: %w", err)
		}
		for _, d := range defs {
			out[d.Version.Digest] = d.App.Name + "/" + d.Function.Name
		}
		if next == "" {
			return out, nil
		}
		page.Cursor = next
	}
}
