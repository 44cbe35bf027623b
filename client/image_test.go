package client_test

import (
	"testing"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/client"
)

func TestImages(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := start(t, &backend{}, nil)
	const ref = "registry.example/a:1" // a slash that is no part of a path
	if i, err := c.Image(ctx, ref); err != nil || i.Digest != "sha256:abc" {
		t.Errorf("the image: %+v, %v", i, err)
	}
	var told []api.PullProgress
	i, err := c.PullImage(ctx, ref, func(p api.PullProgress) { told = append(told, p) })
	if err != nil || i.Digest != "sha256:abc" {
		t.Errorf("pulled: %+v, %v", i, err)
	}
	if len(told) == 0 || told[0].Percent != 25 || told[0].Phase != api.PullDownloading {
		t.Errorf("the progress is %+v", told)
	}
	if _, err := c.PullImage(ctx, "nothing", nil); !client.IsCode(err, api.ReasonImageNotFound) {
		t.Errorf("what is not there was pulled: %v", err)
	}
	if err := c.RemoveImage(ctx, ref); err != nil {
		t.Errorf("removed: %v", err)
	}
	if err := c.RemoveImage(ctx, "nothing"); !client.IsCode(err, api.ReasonImageNotFound) {
		t.Errorf("what is not there was removed: %v", err)
	}
	if p, err := c.PruneImages(ctx, true); err != nil || len(p.Images) != 1 || p.Bytes != 1<<20 {
		t.Errorf("pruned: %+v, %v", p, err)
	}
}
