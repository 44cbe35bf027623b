package fdk_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/contract/fdk"
	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/socket"
)

// instance is the one of an instance's process that is played here.
const instance core.InstanceID = 7

// place is an instance's directory of sockets.
type place struct {
	path  string
	dir   *socket.Dir
	dials atomic.Int64
	gone  atomic.Bool
}

func newPlace(t testing.TB) *place {
	t.Helper()
	path, err := os.MkdirTemp("", "fdk") //nolint:usetesting // short, for the 107 bytes of an address
	if err != nil {
		t.Fatal(err)
	}
	dir, err := socket.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(dir.Close(), os.RemoveAll(path)); err != nil {
			t.Error(err)
		}
	})
	return &place{path: path, dir: dir}
}

func (p *place) in(name string) string { return filepath.Join(p.path, name) }

// AwaitSocket implements fdk.Dialer.
func (p *place) AwaitSocket(ctx context.Context, id core.InstanceID, name string) error {
	if id != instance || p.gone.Load() {
		return core.ErrGone
	}
	return p.dir.Await(ctx, name)
}

// DialSocket implements fdk.Dialer.
func (p *place) DialSocket(_ context.Context, id core.InstanceID, name string) (net.Conn, error) {
	if id != instance || p.gone.Load() {
		return nil, core.ErrGone
	}
	p.dials.Add(1)
	return p.dir.Dial(name)
}

// peer is the process's end of a connection.
type peer struct {
	net.Conn
	in *bufio.Reader
}

// request reads a request; nil when none comes.
func (p *peer) request() *http.Request {
	r, err := http.ReadRequest(p.in)
	if err != nil {
		return nil
	}
	return r
}

func (p *peer) say(text string) { _, _ = io.WriteString(p, text) }

// ended returns when the other side has closed the connection.
func (p *peer) ended() { _, _ = io.Copy(io.Discard, p.in) }

// function is a process that does something with each connection.
type function struct {
	*place
	contract *fdk.Contract
}

func newFunction(t testing.TB, does func(p *peer)) *function {
	t.Helper()
	f := &function{place: newPlace(t)}
	f.contract = fdk.New(f, fdk.Options{Node: "n1"})
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: f.in("phonylsnr.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("phonylsnr.sock", f.in(fdk.SocketName)); err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer c.Close()
				does(&peer{c, bufio.NewReader(c)})
			})
		}
	})
	t.Cleanup(func() {
		f.contract.Forget(instance)
		_ = l.Close()
		work.Wait()
	})
	return f
}

// answering gives a process that notes the requests and answers them all.
func answering(t testing.TB, answer string) (*function, *atomic.Pointer[got]) {
	t.Helper()
	var last atomic.Pointer[got]
	return newFunction(t, func(p *peer) {
		for {
			r := p.request()
			if r == nil {
				return
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			last.Store(&got{r, string(body)})
			p.say(answer)
		}
	}), &last
}

type got struct {
	*http.Request
	body string
}

func call(trigger, method, body string, header core.Header) *core.Call {
	if header == nil {
		header = core.Header{}
	}
	spec := core.Spec{Image: "i", Contract: core.ContractFDK}.WithDefaults()
	c := &core.Call{
		Run: &core.Run{ID: 1 << 40, Attempt: 1, Trigger: trigger},
		Definition: &core.Definition{
			App: core.App{ID: 3, Name: "shop"}, Function: core.Function{ID: 1, Name: "resize"}, Version: core.Version{Number: 4, Spec: spec},
		},
		Instance: instance, Deadline: time.Now().Add(spec.Timeout), Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Request: &core.Request{
			Method: method, Path: "/a%20b", FullPath: "/f/shop/resize/a%20b", RawQuery: "x=1", Host: "shop.example:8080", Scheme: "https",
			Remote: "192.0.2.7:4711", Header: header,
		},
	}
	if body != "" {
		c.Request.Body, c.Request.Length = strings.NewReader(body), int64(len(body))
	}
	return c
}

// reply keeps an answer.
type reply struct {
	header core.Header
	status int
	body   bytes.Buffer
	flushs int
}

func newReply() *reply { return &reply{header: core.Header{}} }

func (r *reply) Header() core.Header { return r.header }

func (r *reply) WriteHeader(status int) { r.status = status }

func (r *reply) Write(p []byte) (int, error) { return r.body.Write(p) }

func (r *reply) Flush() error {
	r.flushs++
	return nil
}
