package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/dayfly-io/dayfly/api"
)

// Page is the part of a list that is wanted. The zero value is the first
// page of the usual size.
type Page struct {
	// Cursor is the NextCursor of the page before.
	Cursor string
	// Limit is how many items at most; 0 means the server's default.
	Limit int
}

func (p Page) query(q url.Values) url.Values {
	if q == nil {
		q = url.Values{}
	}
	if p.Cursor != "" {
		q.Set("cursor", p.Cursor)
	}
	if p.Limit > 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	return q
}

// All gives the items of all pages of a list, as in
//
//	for f, err := range client.All(func(p client.Page) (api.List[api.Function], error) {
//		return c.Functions(ctx, "", p)
//	}) { ... }
//
// It ends after the first error.
func All[T any](list func(Page) (api.List[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for page := (Page{}); ; {
			l, err := list(page)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range l.Items {
				if !yield(item, nil) {
					return
				}
			}
			if l.NextCursor == "" {
				return
			}
			page.Cursor = l.NextCursor
		}
	}
}

// Apps lists apps by name.
func (c *Client) Apps(ctx context.Context, page Page) (api.List[api.App], error) {
	var out api.List[api.App]
	err := c.call(ctx, request{method: http.MethodGet, path: "/v1/apps", query: page.query(nil)}, nil, &out)
	return out, err
}
