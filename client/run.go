package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/dayfly-io/dayfly/api"
)

// RunFilter says which runs are wanted. Zero fields let everything pass.
type RunFilter struct {
	App      string
	Function string
	States   []api.State
	// Since and Until bound when a run was made: an instant as RFC 3339 has
	// it, or a duration such as 1h, meaning that long ago.
	Since, Until string
}

// Runs lists runs, newest first.
func (c *Client) Runs(ctx context.Context, f RunFilter, page Page) (api.List[api.Run], error) {
	q := url.Values{}
	for name, value := range map[string]string{"app": f.App, "function": f.Function, "since": f.Since, "until": f.Until} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for _, s := range f.States {
		q.Add("state", string(s))
	}
	var out api.List[api.Run]
	err := c.call(ctx, request{method: http.MethodGet, path: "/v1/runs", query: page.query(q)}, nil, &out)
	return out, err
}

// Run gives one run.
func (c *Client) Run(ctx context.Context, id string) (api.Run, error) {
	var out api.Run
	err := c.call(ctx, request{method: http.MethodGet, path: path("v1", "runs", id)}, nil, &out)
	return out, err
}

// RunUsage gives what a run has used, in all and over time.
func (c *Client) RunUsage(ctx context.Context, id string) (api.RunUsage, error) {
	var out api.RunUsage
	err := c.call(ctx, request{method: http.MethodGet, path: path("v1", "runs", id) + "/usage"}, nil, &out)
	return out, err
}

// CancelRun ends a run and gives it as it is then. One that has ended already
// is an [*Error] with the code conflict.
func (c *Client) CancelRun(ctx context.Context, id string) (api.Run, error) {
	var out api.Run
	err := c.call(ctx, request{method: http.MethodPost, path: path("v1", "runs", id) + "/cancel"}, nil, &out)
	return out, err
}
