package client

import (
	"context"
	"net/http"

	"github.com/dayfly-io/dayfly/api"
)

// Instances lists the live instances.
func (c *Client) Instances(ctx context.Context) ([]api.Instance, error) {
	var out api.List[api.Instance]
	err := c.call(ctx, request{method: http.MethodGet, path: "/v1/instances"}, nil, &out)
	return out.Items, err
}
