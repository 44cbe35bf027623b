package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Config is what the handler needs. Every port must be set.
type Config struct {
	Door      Door
	Invoker   Invoker
	Runs      Runs
	Deployer  Deployer
	Versions  Versions
	Images    Images
	Instances Instances
	// Server is what the server says of itself.
	Server Server
	// Ready tells why the server does not take calls now; nil means that it
	// always does.
	Ready func(ctx context.Context) error
	// Heartbeat is how often a followed log that has nothing to tell sends a
	// sign of life; 0 means 15 s.
	Heartbeat time.Duration
	Logger    *slog.Logger
}

// Handler answers the requests of a server.
type Handler struct {
	cfg      Config
	mux      *http.ServeMux
	api      huma.API
	document func() ([]byte, error)
	closing  chan struct{}
	close    sync.Once
}

// New makes the handler.
func New(cfg Config) *Handler {
	if cfg.Heartbeat <= 0 {
		cfg.Heartbeat = 15 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Handler{cfg: cfg, mux: http.NewServeMux(), closing: make(chan struct{})}
	h.routes()
	h.document = sync.OnceValues(h.api.OpenAPI().MarshalJSON)
	return h
}

// maxStreams is how many requests one HTTP/2 connection may have at a time.
const maxStreams = 250

// maxURL is how long the target of a request may be, in bytes, and
// maxRequestFields how many header fields a request may have; the limit of
// bytes alone would let through thousands of tiny ones.
const (
	maxURL           = 16 << 10
	maxRequestFields = 1000
)

var closing = []string{"close"}

// oversized refuses a request by its outer measures; nil for one that may
// come in.
func oversized(r *http.Request) *problem {
	if len(r.RequestURI) > maxURL {
		return &problem{Problem: document(http.StatusRequestURITooLong, core.CodeTooLarge,
			fmt.Sprintf("the URL has %d bytes; it may have %d: send the rest in the body", len(r.RequestURI), maxURL))}
	}
	n := 0
	for _, values := range r.Header {
		n += len(values)
	}
	if n > maxRequestFields {
		return &problem{Problem: document(http.StatusRequestHeaderFieldsTooLarge, core.CodeTooLarge,
			fmt.Sprintf("the request has %d header fields; it may have %d", n, maxRequestFields))}
	}
	return nil
}

// NewServer makes a server of the handler, for HTTP/1.1 and, by prior
// knowledge, HTTP/2, with limits on what a caller may
// take before anything is known of the request. Its Shutdown closes the
// handler.
func NewServer(h *Handler) *http.Server {
	s := &http.Server{
		Handler:           h,
		Protocols:         new(http.Protocols),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,
			// A caller that is there no more, or takes nothing, is noticed.
			SendPingTimeout:  time.Minute,
			WriteByteTimeout: time.Minute,
		},
		ErrorLog: slog.NewLogLogger(h.cfg.Logger.Handler(), slog.LevelDebug),
	}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	s.RegisterOnShutdown(h.Close)
	return s
}

// Close ends the answers that last as long as a run does, so that the server
// can stop. It may be called more than once.
func (h *Handler) Close() { h.close.Do(func() { close(h.closing) }) }

// ServeHTTP answers a request. Function URLs go their own way, past router
// and framework: they are what most requests are for.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.TransferEncoding != nil {
		// Somebody between us and the caller may have taken another length for
		// it, and the rest for another request (RFC 9112, 6.1). net/http does
		// not tell whether there was one.
		w.Header()["Connection"] = closing
	}
	if p := oversized(r); p != nil {
		protect(w.Header())
		writeProblem(w, *p)
		return
	}
	if strings.HasPrefix(r.URL.Path, CallPrefix) {
		h.call(w, r)
		return
	}
	out := &recorder{ResponseWriter: w}
	defer h.rescue(out, r)
	protect(w.Header())
	ctx := r.Context()
	if r.URL.Path != "/healthz" && r.URL.Path != "/readyz" {
		p, err := h.cfg.Door.Enter(ctx, visit(r, false))
		if err != nil {
			h.refuse(out, r, err)
			return
		}
		ctx = context.WithValue(ctx, principalKey{}, p)
	}
	h.route(out, r.WithContext(ctx))
}

// route passes the request to its route. Where there is none, the router's
// own answer is turned into a problem document.
func (h *Handler) route(w http.ResponseWriter, r *http.Request) {
	answer, pattern := h.mux.Handler(r)
	if pattern != "" {
		h.mux.ServeHTTP(w, r)
		return
	}
	none := nowhere{header: http.Header{}}
	answer.ServeHTTP(&none, r)
	if allow := none.header["Allow"]; len(allow) > 0 {
		w.Header()["Allow"] = allow
		writeProblem(w, problem{Problem: document(http.StatusMethodNotAllowed, core.CodeInvalid,
			"the method "+r.Method+" is not for "+r.URL.Path+": use "+allow[0])})
		return
	}
	h.refuse(w, r, core.NotFound("there is nothing at %s; the routes are in /v1/openapi.json", r.URL.Path))
}

// visit gathers what the door decides by.
func visit(r *http.Request, function bool) core.Visit {
	return core.Visit{
		Method: r.Method, Host: r.Host, Remote: r.RemoteAddr, Function: function,
		Authorization: first(r.Header["Authorization"]),
		Origin:        first(r.Header["Origin"]),
		FetchSite:     first(r.Header["Sec-Fetch-Site"]),
	}
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

type principalKey struct{}

// principal gives who the door said the visitor is.
func principal(ctx context.Context) core.Principal {
	p, _ := ctx.Value(principalKey{}).(core.Principal)
	return p
}

// protect sets the headers that keep a browser from taking an answer for what
// it is not.
func protect(header http.Header) {
	header["X-Content-Type-Options"] = []string{"nosniff"}
	header["Content-Security-Policy"] = []string{"default-src 'none'; frame-ancestors 'none'"}
	header["Referrer-Policy"] = []string{"no-referrer"}
	header["Cross-Origin-Resource-Policy"] = []string{"same-origin"}
	header["Cache-Control"] = []string{"no-store"}
}

// rescue turns a panic of a route into a problem document, if nothing has
// been answered yet, and logs it.
func (h *Handler) rescue(w *recorder, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	// A route also panics when it cannot write to a caller that has left.
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	p := h.panicked(r, v)
	if w.wrote {
		panic(http.ErrAbortHandler)
	}
	writeProblem(w, p)
}

// panicked logs a panic and gives the problem to answer.
func (h *Handler) panicked(r *http.Request, v any) problem {
	id := requestID()
	h.cfg.Logger.LogAttrs(r.Context(), slog.LevelError, "request panicked",
		slog.String("request_id", id), slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	return internal(id)
}

// recorder remembers whether an answer has begun.
type recorder struct {
	http.ResponseWriter
	wrote bool
}

func (w *recorder) WriteHeader(status int) {
	w.wrote = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	w.wrote = true
	return w.ResponseWriter.Write(p) //nolint:wrapcheck // it stands in for the writer
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// nowhere takes the router's own answer.
type nowhere struct{ header http.Header }

func (w *nowhere) Header() http.Header         { return w.header }
func (w *nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (w *nowhere) WriteHeader(int)             {}
