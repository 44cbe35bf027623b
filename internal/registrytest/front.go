package registrytest

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Front stands in front of a registry without TLS, and may do with a request
// what it likes.
type Front struct {
	// Host is its address, host:port.
	Host string

	mu    sync.Mutex
	serve Serve
	seen  []string
}

// Serve is asked about a request before it is passed on to the registry; it
// gives true when it has answered.
type Serve func(w http.ResponseWriter, r *http.Request, registry http.Handler) bool

// NewFront makes a front that lasts as long as the test.
func NewFront(t testing.TB, behind *Registry) *Front {
	t.Helper()
	f := &Front{}
	next := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: behind.Host})
	next.FlushInterval = -1
	next.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.seen = append(f.seen, r.Method+" "+r.URL.Path+" "+r.Header.Get("Range"))
		serve := f.serve
		f.mu.Unlock()
		if serve == nil || !serve(w, r, next) {
			next.ServeHTTP(w, r)
		}
	}))
	server.Config.ErrorLog = next.ErrorLog
	server.Start()
	t.Cleanup(server.Close)
	f.Host = server.Listener.Addr().String()
	return f
}

// Registry gives the registry as it is seen through the front.
func (f *Front) Registry() *Registry { return &Registry{Host: f.Host} }

// Set has serve asked from now on; nil passes everything on.
func (f *Front) Set(serve Serve) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.serve = serve
}

// Seen gives the requests so far: method, path and Range.
func (f *Front) Seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.seen)
}

// Count tells how many requests had all the words.
func (f *Front) Count(words ...string) int {
	n := 0
	for _, line := range f.Seen() {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			n++
		}
	}
	return n
}

// CutAfter passes on n bytes of an answer's body, and cuts the connection
// then.
func CutAfter(w http.ResponseWriter, r *http.Request, registry http.Handler, n int) {
	registry.ServeHTTP(&cutter{ResponseWriter: w, left: n}, r)
	panic(http.ErrAbortHandler)
}

type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if len(p) <= c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	_, _ = c.ResponseWriter.Write(p[:c.left])
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// HoldAfter passes on n bytes of an answer's body, waits, and passes on the
// rest. An answer whose caller has left by then is cut off.
func HoldAfter(w http.ResponseWriter, r *http.Request, registry http.Handler, n int, until <-chan struct{}) {
	registry.ServeHTTP(&holder{ResponseWriter: w, left: n, until: until}, r)
}

type holder struct {
	http.ResponseWriter
	left  int
	until <-chan struct{}
}

func (h *holder) Write(p []byte) (int, error) {
	if len(p) <= h.left || h.left < 0 {
		h.left -= len(p)
		return h.ResponseWriter.Write(p)
	}
	first, err := h.ResponseWriter.Write(p[:h.left])
	if err != nil {
		return first, err
	}
	h.left = -1
	if err := http.NewResponseController(h.ResponseWriter).Flush(); err != nil {
		return first, err
	}
	<-h.until
	rest, err := h.ResponseWriter.Write(p[first:])
	return first + rest, err
}
