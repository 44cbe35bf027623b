package docker_test

import (
	"testing"

	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/dayfly-io/dayfly/internal/registrytest"
)

func credentials(t *testing.T, host string) string {
	t.Helper()
	auth, err := authconfig.Encode(registry.AuthConfig{Username: registrytest.User, Password: registrytest.Password, ServerAddress: host})
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

// leftover is a container that a driver has made.
func leftover(id, image string) *container.Config {
	return &container.Config{Image: image, Labels: map[string]string{"io.dayfly.data": "dayfly-" + id}, Entrypoint: []string{"/x"}}
}

// initImage gives the image of a driver's init.
func initImage(t *testing.T, c *client.Client, id string) string {
	t.Helper()
	list, err := c.ImageList(t.Context(), client.ImageListOptions{Filters: client.Filters{}.Add("label", "io.dayfly.data=dayfly-"+id)})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("the image of init: %v, %v", list.Items, err)
	}
	return list.Items[0].ID
}

// removeAll takes an image with all its names away.
func removeAll(t *testing.T, host, ref string) {
	t.Helper()
	if _, err := api(t, host).ImageRemove(t.Context(), imageID(t, host, ref), client.ImageRemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
}

func imageID(t *testing.T, host, ref string) string {
	t.Helper()
	res, err := api(t, host).ImageInspect(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return res.ID
}
