package client

import (
	"context"
	"net/http"
	"strconv"

	"github.com/dayfly-io/dayfly/api"
)

// Versions lists the versions of a function, newest first.
func (c *Client) Versions(ctx context.Context, app, name string, page Page) (api.List[api.Version], error) {
	var out api.List[api.Version]
	err := c.call(ctx, request{method: http.MethodGet, path: functionPath(app, name) + "/versions", query: page.query(nil)}, nil, &out)
	return out, err
}

// Version gives one version of a function.
func (c *Client) Version(ctx context.Context, app, name string, number int) (api.Version, error) {
	var out api.Version
	err := c.call(ctx, request{method: http.MethodGet, path: functionPath(app, name) + "/versions/" + strconv.Itoa(number)}, nil, &out)
	return out, err
}

// Rollback makes a new version of a function that is what version to was; 0
// means the one before what is called now. ifMatch is the ETag the function
// must have, "" for any.
func (c *Client) Rollback(ctx context.Context, app, name string, to int, ifMatch string) (api.Function, error) {
	h := http.Header{}
	if ifMatch != "" {
		h.Set("If-Match", ifMatch)
	}
	var out api.Function
	err := c.call(ctx, request{method: http.MethodPost, path: functionPath(app, name) + "/rollback", header: h}, api.Rollback{To: to}, &out)
	return out, err
}
