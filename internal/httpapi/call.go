package httpapi

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/dayfly-io/dayfly/internal/core"
)

// CallPrefix is the path below which functions have their URLs.
const CallPrefix = "/f/"

// call answers a function's URL. It runs for every call: it allocates only
// what goes out.
func (h *Handler) call(w http.ResponseWriter, r *http.Request) {
	x := takeExchange(w)
	defer h.finish(x, r)
	p, err := h.cfg.Door.Enter(r.Context(), visit(r, true))
	if err != nil {
		x.fail(h.failure(r.Context(), r.Method, r.URL.Path, core.Run{}, err))
		return
	}
	if !p.Local {
		// The token has been used up at the door; it is none of the
		// function's business.
		delete(r.Header, "Authorization")
	}
	escaped := r.URL.EscapedPath()
	app, function, rest, ok := splitCall(escaped)
	if !ok {
		x.fail(h.failure(r.Context(), r.Method, r.URL.Path, core.Run{},
			core.NotFound("%s is not the URL of a function: it is /f/, the app, / and the function", r.URL.Path)))
		return
	}
	x.request(r, escaped, rest)
	run, err := h.cfg.Invoker.Call(r.Context(), p, app, function, core.TriggerHTTP, &x.req, x)
	if !x.begun && run.ID != 0 {
		x.Begin(&run)
	}
	switch {
	case err == nil:
		if !x.wrote {
			x.WriteHeader(http.StatusOK)
		}
	case !x.wrote:
		x.fail(h.failure(r.Context(), r.Method, r.URL.Path, run, err))
	case x.switched == nil:
		x.cut(r, run.State)
	}
}

// finish gives the exchange back, or answers for a panic.
func (h *Handler) finish(x *exchange, r *http.Request) {
	v := recover()
	if v == nil {
		x.close()
		giveExchange(x)
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	p := h.panicked(r, v)
	if x.wrote {
		x.close()
		panic(http.ErrAbortHandler)
	}
	x.fail(p)
}

// splitCall takes the escaped path of a function's URL apart. rest is the
// path below the function, as it was escaped.
func splitCall(escaped string) (app, function, rest string, ok bool) {
	s, ok := strings.CutPrefix(escaped, CallPrefix)
	if !ok {
		return "", "", "", false
	}
	app, function, _ = strings.Cut(s, "/")
	rest = "/"
	if i := strings.IndexByte(function, '/'); i >= 0 {
		function, rest = function[:i], function[i:]
	}
	if app == "" || function == "" {
		return "", "", "", false
	}
	app, errApp := url.PathUnescape(app)
	function, errFunction := url.PathUnescape(function)
	return app, function, rest, errApp == nil && errFunction == nil
}
