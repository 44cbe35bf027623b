package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Remove takes a name from its image, or, given a digest, removes the image with
// all its names. What somebody else has brought into the engine stays there
// without our name.
func (i *Images) Remove(ctx context.Context, ref string) error {
	res, err := i.d.engine.findImage(ctx, ref)
	if err != nil {
		return err
	}
	it := i.describe(res, ref)
	byDigest := ref == it.Digest || ref == res.ID
	if byDigest && it.Instances > 0 {
		return core.Conflict("the image %s is in use by %d instances: stop them first", ref, it.Instances)
	}
	if byDigest || len(it.Names) <= 1 && it.Instances == 0 {
		_, err = i.forget(ctx, res, it.Names)
		return err
	}
	return i.untag(ctx, ref)
}

// forget removes an image, as far as it is ours: with these names of others, if
// we have brought it.
func (i *Images) forget(ctx context.Context, res client.ImageInspectResult, names []string) (bool, error) {
	if !i.marked(res.RepoTags, markBrought) {
		names = nil
	}
	for _, n := range append(slices.Clone(names), i.mark(res.ID, markBrought), i.mark(res.ID, markKept)) {
		if err := i.untag(ctx, n); err != nil {
			return false, err
		}
	}
	i.d.dropImage(res.ID)
	if !i.marked(res.RepoTags, markBrought) {
		return false, nil
	}
	// What was pulled by its digest has that for a name.
	_, err := i.d.engine.api.ImageRemove(ctx, res.ID, client.ImageRemoveOptions{PruneChildren: true})
	switch {
	case err == nil, errdefs.IsNotFound(err):
		return true, nil
	case errdefs.IsConflict(err): // somebody else's container or name: it is still ours too
		err = core.Conflict("the image %s is in use in the Docker engine: %v", res.ID, err)
	default:
		err = fmt.Errorf("remove the image %s from the Docker engine: %w", res.ID, err)
	}
	return false, errors.Join(err, i.keep(ctx, client.ImageInspectResult{InspectResponse: image.InspectResponse{ID: res.ID}}, nil))
}

// dropImage forgets what was known of an image.
func (d *Driver) dropImage(id string) {
	d.images.Range(func(key, v any) bool {
		if f, ok := v.(found); ok && f.id == id {
			d.images.Delete(key)
		}
		return true
	})
}

func (i *Images) untag(ctx context.Context, ref string) error {
	_, err := i.d.engine.api.ImageRemove(ctx, ref, client.ImageRemoveOptions{PruneChildren: true})
	if errdefs.IsConflict(err) {
		return core.Conflict("the image %s is in use by a container in the Docker engine: stop that first", ref)
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove the name %s in the Docker engine: %w", ref, err)
	}
	return nil
}

// spaceGrace is how long an image stays that was just used, whatever space
// there is: it would be pulled again at once.
const spaceGrace = time.Hour

// Prune removes images that we have brought, that the limits let go and keep does
// not hold. Others in the engine are none of our business.
func (i *Images) Prune(ctx context.Context, limits core.ImageLimits, keep func(core.Image) bool) (core.Pruned, error) {
	all, err := i.all(ctx)
	if err != nil {
		return core.Pruned{}, err
	}
	var size core.Bytes
	ours := slices.DeleteFunc(all, func(r client.ImageInspectResult) bool { return !i.marked(r.RepoTags, markBrought) })
	for _, r := range ours {
		size += core.Bytes(r.Size)
	}
	lastUse := func(it core.Image) time.Time {
		if it.UsedAt.After(it.LoadedAt) {
			return it.UsedAt
		}
		return it.LoadedAt
	}
	slices.SortFunc(ours, func(a, b client.ImageInspectResult) int {
		return cmp.Or(lastUse(i.describe(a, "")).Compare(lastUse(i.describe(b, ""))), strings.Compare(a.ID, b.ID))
	})
	var out core.Pruned
	now := time.Now()
	for _, r := range ours {
		it := i.describe(r, "")
		used := lastUse(it)
		tooOld := !limits.UnusedSince.IsZero() && used.Before(limits.UnusedSince)
		tooMuch := limits.Space > 0 && size > limits.Space && now.Sub(used) > spaceGrace
		stays := it.Source == "" && len(it.Names) > 0 && !limits.Named
		if !tooOld && !tooMuch || stays || it.Instances > 0 || kept(it, r, keep) {
			continue
		}
		gone, err := i.forget(ctx, r, it.Names)
		if core.IsKind(err, core.KindConflict) {
			continue // a container that is not ours has it
		}
		if err != nil {
			return out, err
		}
		if gone {
			size -= it.Size
			out.Bytes += it.Size
			out.Layers += len(r.RootFS.Layers)
			out.Images = append(out.Images, it)
		}
	}
	return out, nil
}

// kept asks about an image under every digest that a version can have it by.
func kept(it core.Image, r client.ImageInspectResult, keep func(core.Image) bool) bool {
	for _, d := range append([]string{"@" + r.ID}, r.RepoDigests...) {
		_, it.Digest, _ = strings.Cut(d, "@")
		if keep(it) {
			return true
		}
	}
	return false
}
