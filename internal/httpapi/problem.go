package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/core"
)

// statuses is the one table from the kind of an error to its HTTP status.
var statuses = map[core.Kind]int{
	core.KindInvalid:         http.StatusBadRequest,
	core.KindNotFound:        http.StatusNotFound,
	core.KindConflict:        http.StatusConflict,
	core.KindUnauthenticated: http.StatusUnauthorized,
	core.KindForbidden:       http.StatusForbidden,
	core.KindTooLarge:        http.StatusRequestEntityTooLarge,
	core.KindExhausted:       http.StatusTooManyRequests,
	core.KindTimeout:         http.StatusGatewayTimeout,
	core.KindUnavailable:     http.StatusServiceUnavailable,
	core.KindFunction:        http.StatusBadGateway,
	core.KindNotImplemented:  http.StatusNotImplemented,
	core.KindInternal:        http.StatusInternalServerError,
}

// codeOf names the errors that the framework finds by itself, which have a
// status only.
func codeOf(status int) core.Code {
	switch {
	case status == http.StatusNotFound:
		return core.CodeNotFound
	case status == http.StatusRequestEntityTooLarge:
		return core.CodeTooLarge
	case status >= http.StatusInternalServerError:
		return core.CodeInternal
	default:
		return core.CodeInvalid
	}
}

// problem is a problem document on its way out. It is an error as huma wants
// them: with a status, headers and a content type.
type problem struct {
	api.Problem
	retryAfter int // seconds
}

func (p problem) Error() string             { return p.Detail }
func (p problem) GetStatus() int            { return p.Status }
func (p problem) ContentType(string) string { return api.ProblemType }

// GetHeaders gives the headers that go with the document.
func (p problem) GetHeaders() http.Header {
	h := http.Header{api.HeaderError: {p.Code}}
	if p.retryAfter > 0 {
		h["Retry-After"] = []string{strconv.Itoa(p.retryAfter)}
	}
	if p.Status == http.StatusUnauthorized {
		h["Www-Authenticate"] = []string{`Bearer realm="dayfly"`}
	}
	return h
}

func document(status int, code core.Code, detail string) api.Problem {
	return api.Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Code: string(code), Detail: detail,
	}
}

// internal is all that a caller sees of a fault of ours.
func internal(requestID string) problem {
	p := problem{Problem: document(http.StatusInternalServerError, core.CodeInternal, "internal error")}
	p.RequestID = requestID
	return p
}

// requestID makes an id by which an answer is found in the log.
func requestID() string { return "req_" + strings.ToLower(rand.Text()[:13]) }

// failure makes the problem document of an error. A fault of ours is logged
// with what was asked for, and the caller gets to know the request id only.
func (h *Handler) failure(ctx context.Context, method, path string, run core.Run, err error) problem {
	e := core.AsError(err)
	status, ok := statuses[e.Kind]
	if !ok || e.Kind == core.KindInternal || e.Message == "" {
		id := requestID()
		h.cfg.Logger.LogAttrs(ctx, slog.LevelError, "request failed", slog.String("request_id", id),
			slog.String("method", method), slog.String("path", path), slog.String("run", runID(run)), slog.Any("error", err))
		p := internal(id)
		p.RunID = runID(run)
		return p
	}
	p := problem{Problem: document(status, e.Code, e.Message), retryAfter: e.RetryAfter}
	if e.Code == "" {
		p.Code = string(codeOf(status))
	}
	p.RunID = runID(run)
	if run.Message != e.Message {
		p.Explain = run.Message
	}
	return p
}

func runID(run core.Run) string {
	if run.ID == 0 {
		return ""
	}
	return run.ID.String()
}

// refuse answers a request with an error.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	writeProblem(w, h.failure(r.Context(), r.Method, r.URL.Path, core.Run{}, err))
}

// writeProblem answers with a problem document. That it cannot be written
// means that the caller has left, which is nobody's concern.
func writeProblem(w http.ResponseWriter, p problem) {
	header := w.Header()
	maps.Copy(header, p.GetHeaders())
	header.Del("Content-Length")
	header.Del("Content-Encoding")
	header["Content-Type"] = []string{api.ProblemType}
	w.WriteHeader(p.Status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(p.Problem) //nolint:errchkjson // see above
}

// ownErrors turns the framework's own error documents into ours.
func ownErrors(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := document(m.Status, codeOf(m.Status), m.Detail)
	if m.Detail == "validation failed" {
		p.Detail = "the request is not valid"
	}
	for _, e := range m.Errors {
		if e != nil {
			p.Errors = append(p.Errors, api.Fault{Location: e.Location, Message: e.Message})
		}
	}
	ctx.SetHeader(api.HeaderError, p.Code)
	return p, nil
}
