package httpapi

import (
	"context"
	"errors"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/core"
)

// routes is the one table of routes. Those that huma serves are in the OpenAPI
// document by that; the others are written into it here.
func (h *Handler) routes() {
	h.api = humago.New(h.mux, config())

	add(h, "list-apps", "GET /v1/apps", "List apps by name", h.listApps)

	add(h, "list-functions", "GET /v1/functions", "List functions by app, then name", h.listFunctions)
	add(h, "get-function", "GET /v1/apps/{app}/functions/{function}", "Show a function with the version that is called", h.getFunction)
	add(h, "put-function", "PUT /v1/apps/{app}/functions/{function}", "Make a new version of a function, and app and function where they are missing", h.putFunction)
	add(h, "delete-function", "DELETE /v1/apps/{app}/functions/{function}", "Delete a function and its versions; its runs stay", h.deleteFunction)

	add(h, "list-versions", "GET /v1/apps/{app}/functions/{function}/versions", "List the versions of a function, newest first", h.listVersions)
	add(h, "get-version", "GET /v1/apps/{app}/functions/{function}/versions/{version}", "Show a version", h.getVersion)
	add(h, "roll-back", "POST /v1/apps/{app}/functions/{function}/rollback", "Make a new version that is what an earlier one was", h.rollBack)

	add(h, "list-images", "GET /v1/images", "List images by name", h.listImages)
	add(h, "load-images", "POST /v1/images", "Load images from a tar, in docker-save or OCI layout", h.loadImages, tarBody)
	add(h, "pull-image", "POST /v1/images/pull", "Pull an image from its registry", h.pullImage, pullAnswers)
	add(h, "prune-images", "POST /v1/images/prune", "Remove the images that nothing uses", h.pruneImages)
	add(h, "get-image", "GET /v1/images/{image}", "Show an image", h.getImage)
	add(h, "delete-image", "DELETE /v1/images/{image}", "Take a name from its image, or remove an image by its digest", h.deleteImage)

	add(h, "list-runs", "GET /v1/runs", "List runs, newest first", h.listRuns)
	add(h, "get-run", "GET /v1/runs/{run}", "Show a run", h.getRun)
	add(h, "get-run-usage", "GET /v1/runs/{run}/usage", "Show what a run has used, also over time", h.getRunUsage)
	add(h, "cancel-run", "POST /v1/runs/{run}/cancel", "Cancel a run", h.cancelRun)
	add(h, "get-run-logs", "GET /v1/runs/{run}/logs", "Show or follow the log of a run", h.getLogs, logAnswers)

	add(h, "list-instances", "GET /v1/instances", "List live instances", h.listInstances)
	add(h, "get-server", "GET /v1/server", "Show what the server says of itself", h.getServer)

	h.mux.HandleFunc("GET /v1/openapi.json", h.openapi)
	h.mux.HandleFunc("GET /healthz", h.healthz)
	h.mux.HandleFunc("GET /readyz", h.readyz)
	h.mux.HandleFunc("GET /{$}", h.root)

	h.describePlain("get-openapi", "/v1/openapi.json", "Show this document")
	h.describePlain("get-health", "/healthz", "Tell that the process answers; open to all")
	h.describePlain("get-readiness", "/readyz", "Tell whether the server takes calls; open to all")
	h.describeCalls()
	loosenAnswers(h.api.OpenAPI().Components.Schemas.Map())
}

// config is huma's, without what it would add of its own: no pages, no
// $schema in bodies, our error documents.
func config() huma.Config {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	registry.RegisterTypeAlias(reflect.TypeFor[huma.ErrorModel](), reflect.TypeFor[api.Problem]())
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       "Dayfly",
				Version:     "v1",
				Description: "Any container image as an event-driven function or job.",
			},
			Components: &huma.Components{
				Schemas: registry,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", Description: "DAYFLY_TOKEN; not asked for on loopback while none is set"},
				},
			},
			Security: []map[string][]string{{}, {"token": {}}},
		},
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{ownErrors},
	}
}

// add adds a route. pattern is the method, a space and the path.
func add[I, O any](h *Handler, id, pattern, summary string, handle func(context.Context, core.Principal, *I) (*O, error), describe ...func(*huma.Operation, huma.Registry)) {
	op := operation(id, pattern, summary)
	for _, d := range describe {
		d(&op, h.api.OpenAPI().Components.Schemas)
	}
	huma.Register(h.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, principal(ctx), in)
		if err != nil {
			p := h.failure(ctx, op.Method, op.Path, core.Run{}, err)
			if _, ok := errors.AsType[*unmetError](err); ok && p.Status == http.StatusConflict {
				p.Status, p.Title = http.StatusPreconditionFailed, http.StatusText(http.StatusPreconditionFailed)
			}
			return nil, p
		}
		return out, nil
	})
}

// none is the answer of a route that has nothing to say.
type none struct{}

// answer is a JSON body.
type answer[T any] struct{ Body T }

func reply[T any](v T) *answer[T] { return &answer[T]{Body: v} }

// Paging are the parameters of every list.
type Paging struct {
	Cursor string `query:"cursor" doc:"next_cursor of the page before"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" doc:"how many items at most; 50 unless set"`
}

func (p Paging) page() core.Page { return core.Page{Cursor: p.Cursor, Limit: p.Limit} }

// list makes the answer of a list.
func list[C, W any](items []C, next string, wire func(C) W) *answer[api.List[W]] {
	l := api.List[W]{Items: make([]W, len(items)), NextCursor: next}
	for i := range items {
		l.Items[i] = wire(items[i])
	}
	return reply(l)
}

// unmetError is the error of a request with a condition. A conflict is
// answered as 412 then (RFC 9110, 15.5.13).
type unmetError struct{ error }

func (e *unmetError) Unwrap() error { return e.error }

func conditional(err error, condition bool) error {
	if err == nil || !condition {
		return err
	}
	return &unmetError{err}
}
