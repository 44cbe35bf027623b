package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/dayfly-io/dayfly/api"
)

// Functions lists functions by app, then name; app "" means all apps.
func (c *Client) Functions(ctx context.Context, app string, page Page) (api.List[api.Function], error) {
	q := page.query(nil)
	if app != "" {
		q.Set("app", app)
	}
	var out api.List[api.Function]
	err := c.call(ctx, request{method: http.MethodGet, path: "/v1/functions", query: q}, nil, &out)
	return out, err
}

// Function gives a function with the version that is called.
func (c *Client) Function(ctx context.Context, app, name string) (api.Function, error) {
	var out api.Function
	err := c.call(ctx, request{method: http.MethodGet, path: functionPath(app, name)}, nil, &out)
	return out, err
}

// PutOptions say under which condition a function is changed. The zero value
// is none.
type PutOptions struct {
	// IfMatch is the ETag the function must have, "*" for any that exists.
	IfMatch string
	// Create refuses a function that exists already.
	Create bool
	// Lazy leaves it to the first call to find out which image the name means.
	Lazy bool
}

// PutFunction makes a new version of a function and makes it the one that is
// called; app and function are made when they are not there. A version equal
// to the present one makes no new one. A condition that does not hold is an
// [*Error] with the code conflict.
func (c *Client) PutFunction(ctx context.Context, app, name string, v api.NewVersion, opt PutOptions) (api.Function, error) {
	h := http.Header{}
	if opt.IfMatch != "" {
		h.Set("If-Match", opt.IfMatch)
	}
	if opt.Create {
		h.Set("If-None-Match", "*")
	}
	q := url.Values{}
	if opt.Lazy {
		q.Set("pull", "lazy")
	}
	var out api.Function
	err := c.call(ctx, request{method: http.MethodPut, path: functionPath(app, name), header: h, query: q}, v, &out)
	return out, err
}

// DeleteFunction deletes a function and its versions; its runs stay. ifMatch
// is the ETag it must have, "" for any.
func (c *Client) DeleteFunction(ctx context.Context, app, name, ifMatch string) error {
	h := http.Header{}
	if ifMatch != "" {
		h.Set("If-Match", ifMatch)
	}
	return c.call(ctx, request{method: http.MethodDelete, path: functionPath(app, name), header: h}, nil, nil)
}

// FunctionURL gives the URL by which a function is called.
func (c *Client) FunctionURL(app, name string) string {
	return c.base.String() + "/f/" + url.PathEscape(app) + "/" + url.PathEscape(name)
}

func functionPath(app, name string) string { return path("v1", "apps", app, "functions", name) }
