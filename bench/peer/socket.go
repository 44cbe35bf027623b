package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/dayfly-io/dayfly/bench/load"
)

// SocketProxyCommand is the command of the bench's own program that is a proxy
// to programs on Unix sockets; an address to listen on, the directory of the
// sockets and their number follow.
const SocketProxyCommand = "socket-proxy"

// socketOf is where the nth program listens.
func socketOf(dir string, n int) string {
	return filepath.Join(dir, strconv.Itoa(n), "lsnr.sock")
}

// SocketProxy is a [Proxy] to many programs, each of which gets one request at
// a time: the one that was used last goes first.
type SocketProxy struct {
	mu    sync.Mutex
	idle  []*Proxy
	spare chan struct{} // one for each that is idle
}

// NewSocketProxy makes a proxy to n programs with their sockets below dir.
func NewSocketProxy(dir string, n int) *SocketProxy {
	p := &SocketProxy{spare: make(chan struct{}, n)}
	for i := range n {
		path := socketOf(dir, i)
		one := NewProxy("localhost")
		one.transport.MaxIdleConnsPerHost = 1
		one.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		p.idle = append(p.idle, one)
		p.spare <- struct{}{}
	}
	return p
}

// ServeHTTP passes a request on to a program that has none.
func (p *SocketProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	<-p.spare
	p.mu.Lock()
	last := len(p.idle) - 1
	one := p.idle[last]
	p.idle = p.idle[:last]
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.idle = append(p.idle, one)
		p.mu.Unlock()
		p.spare <- struct{}{}
	}()
	one.ServeHTTP(w, r)
}

// RunSocketProxy is the proxy's process: it serves until ctx is cancelled.
func RunSocketProxy(ctx context.Context, listen, dir, n string) error {
	count, err := strconv.Atoi(n)
	if err != nil {
		return fmt.Errorf("read the number of sockets: %w", err)
	}
	return serveProxy(ctx, listen, NewSocketProxy(dir, count))
}

// StaySockets starts n programs of the contract fdk in directories of their
// own below dir, and this program again as a proxy to them, and leaves all of
// them running until the Close of what it gives.
func StaySockets(ctx context.Context, program, dir string, n int) (proxy *Target, programs *Programs, err error) {
	programs = &Programs{}
	defer func() {
		if err != nil {
			err = errors.Join(err, programs.Close())
		}
	}()
	for i := range n {
		path := socketOf(dir, i)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, programs, fmt.Errorf("make the directory of a socket: %w", err)
		}
		cmd := exec.Command(program)
		cmd.Env, cmd.Stderr = []string{"FN_LISTENER=unix:" + path, "FN_FORMAT=http-stream"}, os.Stderr
		if err := cmd.Start(); err != nil {
			return nil, programs, fmt.Errorf("start a program: %w", err)
		}
		programs.all = append(programs.all, cmd)
		if err := awaitFile(ctx, path); err != nil {
			return nil, programs, err
		}
	}
	port, err := load.FreePort()
	if err != nil {
		return nil, programs, err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	proxy, err = stay(ctx, address, exec.Command("/proc/self/exe", SocketProxyCommand, address, dir, strconv.Itoa(n)), os.Environ())
	return proxy, programs, err
}

// awaitFile waits until there is something at a path.
func awaitFile(ctx context.Context, path string) error {
	for began := time.Now(); ; time.Sleep(pause) {
		_, err := os.Stat(path)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || time.Since(began) > patience {
			return fmt.Errorf("wait for a socket: %w", err)
		}
	}
}

// Programs are processes that are ended together.
type Programs struct{ all []*exec.Cmd }

// Close ends the programs.
func (p *Programs) Close() error {
	var errs []error
	for _, cmd := range p.all {
		errs = append(errs, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed, and says so
	}
	return errors.Join(errs...)
}
