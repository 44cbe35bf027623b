package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// Image gives an image that the server has, by name or digest.
func (c *Client) Image(ctx context.Context, ref string) (api.Image, error) {
	var out api.Image
	err := c.call(ctx, request{method: http.MethodGet, path: path("v1", "images", ref)}, nil, &out)
	return out, err
}

// RemoveImage takes a name from its image; the image goes with its last name,
// or when ref is its digest.
func (c *Client) RemoveImage(ctx context.Context, ref string) error {
	return c.call(ctx, request{method: http.MethodDelete, path: path("v1", "images", ref)}, nil, nil)
}

// PruneImages removes the images that nothing uses; all lets more go, see
// [api.PruneImages].
func (c *Client) PruneImages(ctx context.Context, all bool) (api.PrunedImages, error) {
	var out api.PrunedImages
	err := c.call(ctx, request{method: http.MethodPost, path: "/v1/images/prune"}, api.PruneImages{All: all}, &out)
	return out, err
}

// PullImage has the server get an image from its registry. report is told how
// far it is, several times a second; nil for none. When ctx ends, and nobody
// else waits for the image, the pull ends too; the next one goes on where it
// ended.
func (c *Client) PullImage(ctx context.Context, ref string, report func(api.PullProgress)) (api.Image, error) {
	body, err := json.Marshal(api.PullImage{Image: ref})
	if err != nil {
		return api.Image{}, fmt.Errorf("encode the name of an image: %w", err)
	}
	answer, err := c.send(ctx, request{
		method: http.MethodPost, path: "/v1/images/pull", body: bytes.NewReader(body), length: int64(len(body)),
		header: http.Header{"Content-Type": {"application/json"}, "Accept": {"application/x-ndjson, " + api.ProblemType}},
	})
	if err != nil {
		return api.Image{}, err
	}
	defer answer.Body.Close() //nolint:errcheck // it was read to its end or is of no more use
	if answer.StatusCode != http.StatusOK {
		return api.Image{}, c.refusal(answer)
	}
	if !isType(answer, "application/x-ndjson") {
		return api.Image{}, c.notDayfly(answer)
	}
	lines := json.NewDecoder(answer.Body)
	for {
		var e api.PullEvent
		err := lines.Decode(&e)
		switch {
		case ctx.Err() != nil:
			return api.Image{}, fmt.Errorf("pull the image %s: %w", ref, ctx.Err())
		case errors.Is(err, io.EOF):
			return api.Image{}, fmt.Errorf("pull the image %s: the server closed the connection before the end: %w", ref, io.ErrUnexpectedEOF)
		case err != nil:
			return api.Image{}, fmt.Errorf("pull the image %s: %w", ref, err)
		case e.Image != nil:
			return *e.Image, nil
		case e.Problem != nil:
			return api.Image{}, problemError(*e.Problem, e.Problem.Status, nil)
		case e.Progress != nil && report != nil:
			report(*e.Progress)
		}
	}
}
