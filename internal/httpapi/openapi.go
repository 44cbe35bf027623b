package httpapi

import (
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dayfly-io/dayfly/api"
)

// operation makes an operation of its pattern: the method, a space, the path.
func operation(id, pattern, summary string) huma.Operation {
	method, path, _ := strings.Cut(pattern, " ")
	tag, _, _ := strings.Cut(strings.TrimPrefix(path, "/v1/"), "/")
	if strings.Contains(path, "/functions/") {
		tag = "functions"
	}
	return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{tag}}
}

// Document gives the OpenAPI 3.1 document of all routes, as JSON.
func (h *Handler) Document() ([]byte, error) { return h.document() }

// openapi serves the document.
func (h *Handler) openapi(w http.ResponseWriter, r *http.Request) {
	b, err := h.document()
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	w.Header()["Content-Type"] = []string{"application/json"}
	_, _ = w.Write(b) // who cannot be written to has left
}

// loosenAnswers lets answers have fields that the document does not know, so
// that a newer server does not break a strict client. Bodies of requests stay
// closed: a key that is not known is an error.
func loosenAnswers(schemas map[string]*huma.Schema) {
	requests := map[string]bool{"NewVersion": true, "InstanceBounds": true, "Concurrency": true, "Limits": true, "Mount": true}
	for name, s := range schemas {
		if closed, ok := s.AdditionalProperties.(bool); ok && !closed && !requests[name] {
			s.AdditionalProperties = nil
		}
	}
}

// describePlain writes the routes that answer a small JSON document by hand
// into the document.
func (h *Handler) describePlain(id, path, summary string) {
	op := operation(id, "GET "+path, summary)
	op.Tags = []string{"server"}
	op.Responses = map[string]*huma.Response{
		"200": {Description: "OK", Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: huma.TypeObject}}}},
		"default": {Description: "Error", Content: map[string]*huma.MediaType{
			api.ProblemType: {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}},
		}},
	}
	h.api.OpenAPI().AddOperation(&op)
}

// describeCalls writes the URLs of functions into the document.
func (h *Handler) describeCalls() {
	name := func(n, doc string) *huma.Param {
		return &huma.Param{Name: n, In: "path", Required: true, Description: doc, Schema: &huma.Schema{Type: huma.TypeString}}
	}
	params := []*huma.Param{name("app", "name of the app"), name("function", "name of the function")}
	below := append(params[:2:2], name("path", "handed to the function; it may have slashes in it"))
	for _, method := range []string{
		http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions,
	} {
		for path, params := range map[string][]*huma.Param{"/f/{app}/{function}": params, "/f/{app}/{function}/{path}": below} {
			h.api.OpenAPI().AddOperation(h.describeCall(method, path, params))
		}
	}
}

func (h *Handler) describeCall(method, path string, params []*huma.Param) *huma.Operation {
	id := "call-function-" + strings.ToLower(method)
	if len(params) > 2 {
		id = "call-function-path-" + strings.ToLower(method)
	}
	op := operation(id, method+" "+path, "Call a function and wait for its answer")
	op.Tags = []string{"calls"}
	op.Parameters = params
	op.Description = "Any method, header and body are handed to the function, and its answer is streamed back."
	if method != http.MethodGet && method != http.MethodHead {
		op.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"*/*": {}}}
	}
	text := &huma.Schema{Type: huma.TypeString}
	op.Responses = map[string]*huma.Response{
		"default": {
			Description: "The function's own answer; or, where " + api.HeaderError + " is set, a problem of Dayfly's",
			Headers: map[string]*huma.Header{
				api.HeaderRunID: {Description: "id of the run", Schema: text},
				serverTiming:    {Description: "queue, start (desc=cold or hot) and run, in milliseconds", Schema: text},
				api.HeaderError: {Description: "code of the problem", Schema: text},
			},
			Content: map[string]*huma.MediaType{
				"*/*":           {},
				api.ProblemType: {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}},
			},
		},
	}
	return &op
}
