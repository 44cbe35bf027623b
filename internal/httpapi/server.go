package httpapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/core"
)

// Server is what a server says of itself.
type Server struct {
	Version string
	// Node is its number in ids.
	Node int
	// Capabilities are those of the driver on this machine.
	Capabilities core.Capabilities
	StartedAt    time.Time
}

func (h *Handler) getServer(context.Context, core.Principal, *struct{}) (*answer[api.Server], error) {
	s := h.cfg.Server
	return reply(api.Server{
		Version: s.Version, Driver: s.Capabilities.Driver, Node: s.Node,
		Capabilities: s.Capabilities.Names(), Missing: missing(s.Capabilities), StartedAt: s.StartedAt.UTC(),
		UptimeSeconds: time.Since(s.StartedAt).Round(time.Millisecond).Seconds(),
	}), nil
}

func missing(c core.Capabilities) []api.Missing {
	out := make([]api.Missing, len(c.Missing))
	for i, m := range c.Missing {
		out[i] = api.Missing{Name: m.Name, Why: m.Why, Remedy: m.Remedy}
	}
	return out
}

// healthz says that the process answers.
func (h *Handler) healthz(w http.ResponseWriter, _ *http.Request) { writeJSON(w, `{"status":"ok"}`) }

// readyz says whether it takes calls.
func (h *Handler) readyz(w http.ResponseWriter, r *http.Request) {
	if h.cfg.Ready != nil {
		if err := h.cfg.Ready(r.Context()); err != nil {
			h.refuse(w, r, err)
			return
		}
	}
	writeJSON(w, `{"status":"ready"}`)
}

const rootPage = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Dayfly</title>
<h1>Dayfly</h1>
<p>This server runs container images as functions. Its API is described in <a href="/v1/openapi.json">/v1/openapi.json</a>.</p>
</html>
`

// root greets: browsers with a page, clients of Fn with what they look for.
func (h *Handler) root(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header()["Content-Type"] = []string{"text/html; charset=utf-8"}
		_, _ = w.Write([]byte(rootPage))
		return
	}
	writeJSON(w, `{"hello":"world!"}`)
}

func writeJSON(w http.ResponseWriter, document string) {
	w.Header()["Content-Type"] = []string{"application/json"}
	_, _ = w.Write([]byte(document + "\n")) // who cannot be written to has left
}
