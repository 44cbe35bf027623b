package client

import (
	"context"
	"io"
	"net/http"

	"github.com/dayfly-io/dayfly/api"
)

// LoadImages sends a tar of one or more images, in docker-save or OCI layout,
// and gives the images that were loaded. The tar is streamed.
func (c *Client) LoadImages(ctx context.Context, tar io.Reader) ([]api.Image, error) {
	q := request{
		method: http.MethodPost, path: "/v1/images", body: tar, length: -1,
		header: http.Header{"Content-Type": {"application/x-tar"}},
	}
	var out api.List[api.Image]
	err := c.call(ctx, q, nil, &out)
	return out.Items, err
}

// Images lists the images that the server has, by name.
func (c *Client) Images(ctx context.Context) ([]api.Image, error) {
	var out api.List[api.Image]
	err := c.call(ctx, request{method: http.MethodGet, path: "/v1/images"}, nil, &out)
	return out.Items, err
}
