package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"time"

	"github.com/dayfly-io/dayfly/bench/load"
)

// ProxyCommand is the command of the bench's own program that is a proxy; an
// address to listen on and the address of the program follow.
const ProxyCommand = "proxy"

// proxyIdle is how many idle connections a proxy keeps to the program: more
// than there are callers, so that none is made anew.
const proxyIdle = 100

// Proxy is what stands between callers and a program at the least when it is
// made of net/http: it copies headers and bodies, and records nothing.
type Proxy struct {
	target    string
	transport *http.Transport
}

// NewProxy makes a proxy to the program at an address, host:port.
func NewProxy(target string) *Proxy {
	return &Proxy{target: target, transport: &http.Transport{MaxIdleConnsPerHost: proxyIdle, DisableCompression: true}}
}

// ServeHTTP passes a request on, and the answer back. An answer that breaks
// off is cut off.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+p.target+r.URL.RequestURI(), r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	maps.Copy(out.Header, r.Header)
	out.ContentLength = r.ContentLength
	answer, err := p.transport.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = answer.Body.Close() }() // it was only read
	maps.Copy(w.Header(), answer.Header)
	w.WriteHeader(answer.StatusCode)
	if _, err := io.Copy(w, answer.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// RunProxy is the proxy's process: it serves until ctx is cancelled.
func RunProxy(ctx context.Context, listen, target string) error {
	return serveProxy(ctx, listen, NewProxy(target))
}

// serveProxy serves until ctx is cancelled.
func serveProxy(ctx context.Context, listen string, proxy http.Handler) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listen as a proxy: %w", err)
	}
	s := &http.Server{Handler: proxy, ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() }) // Serve says that it was closed
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve as a proxy: %w", err)
	}
	return nil
}

// StayProxy starts this program again as a proxy to the one at an address,
// and leaves it running until Close.
func StayProxy(ctx context.Context, target string) (*Target, error) {
	port, err := load.FreePort()
	if err != nil {
		return nil, err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	return stay(ctx, address, exec.Command("/proc/self/exe", ProxyCommand, address, target), os.Environ())
}
