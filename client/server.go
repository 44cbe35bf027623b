package client

import (
	"context"
	"net/http"

	"github.com/dayfly-io/dayfly/api"
)

// Server tells what the server says of itself.
func (c *Client) Server(ctx context.Context) (api.Server, error) {
	var out api.Server
	err := c.call(ctx, request{method: http.MethodGet, path: "/v1/server"}, nil, &out)
	return out, err
}

// Ready reports whether the server takes calls; a nil error says that it
// does.
func (c *Client) Ready(ctx context.Context) error {
	return c.call(ctx, request{method: http.MethodGet, path: "/readyz"}, nil, &struct{}{})
}
