package web_test

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/contract/web"
	"github.com/dayfly-io/dayfly/internal/core"
)

var benchAnswer = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: 200\r\n\r\n" +
	strings.Repeat("x", 200))

// rawUpstream answers every request without a body alike and allocates
// nothing, so that a benchmark counts the client alone.
func rawUpstream(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 8192)
				for have := 0; ; {
					n, err := c.Read(buf[have:])
					if err != nil {
						return
					}
					if have += n; bytes.HasSuffix(buf[:have], []byte("\r\n\r\n")) {
						have = 0
						if _, err := c.Write(benchAnswer); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func goUpstream(b *testing.B) string {
	b.Helper()
	body := bytes.Repeat([]byte("x"), 200)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })}
	go func() { _ = s.Serve(l) }()
	b.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

var benchHeader = map[string][]string{
	"User-Agent": {"curl/8.5.0"}, "Accept": {"*/*"}, "Accept-Encoding": {"gzip"}, "X-Request-Id": {"0123456789abcdef"},
}

// benchReply throws the answer away, as cheaply for both.
type benchReply struct{ header core.Header }

func (r *benchReply) Header() core.Header         { return r.header }
func (r *benchReply) WriteHeader(int)             {}
func (r *benchReply) Write(p []byte) (int, error) { return len(p), nil }
func (r *benchReply) Flush() error                { return nil }

func BenchmarkServe(b *testing.B) {
	for _, up := range []struct {
		name  string
		start func(*testing.B) string
	}{{"raw", rawUpstream}, {"nethttp", goUpstream}} {
		b.Run(up.name+"/dayfly", func(b *testing.B) { benchServe(b, up.start(b)) })
		b.Run(up.name+"/transport", func(b *testing.B) { benchTransport(b, up.start(b)) })
	}
}

func benchServe(b *testing.B, addr string) {
	c := web.New(dialTo(addr), web.Options{})
	def := testDefinition()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		reply := &benchReply{header: core.Header{}}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		req := &core.Request{Method: "GET", Path: "/hello", Host: "localhost:8080", Scheme: "http", Remote: "127.0.0.1:50000", Header: benchHeader}
		call := &core.Call{
			Run: &core.Run{ID: 1 << 40, Attempt: 1, Trigger: core.TriggerHTTP}, Definition: def, Instance: 7, Request: req,
			Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		}
		for pb.Next() {
			clear(reply.header)
			call.Deadline = time.Now().Add(30 * time.Second)
			if o := c.Serve(ctx, call, reply); o.State != core.StateSucceeded {
				b.Error(o.Message)
				return
			}
		}
	})
}

func benchTransport(b *testing.B, addr string) {
	tr := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	defer tr.CloseIdleConnections()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		header := http.Header{}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		buf := make([]byte, 32<<10)
		for pb.Next() {
			clear(header)
			// What a proxy on the transport has to do: a request and its header of
			// its own, the answer's header copied. It sets no deadline.
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/hello", nil)
			if err != nil {
				b.Error(err)
				return
			}
			maps.Copy(req.Header, benchHeader)
			req.Header["Dayfly-Run-Id"] = []string{core.RunID(1 << 40).String()}
			req.Header["Dayfly-Attempt"] = []string{"1"}
			req.Header["Dayfly-Trigger"] = []string{"http"}
			req.Header["Traceparent"] = []string{"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
			res, err := tr.RoundTrip(req)
			if err != nil {
				b.Error(err)
				return
			}
			maps.Copy(header, res.Header)
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, res.Body, buf); err != nil {
				b.Error(err)
				return
			}
			_ = res.Body.Close()
		}
	})
}

// BenchmarkReady tells how late it is noticed that a process listens, 1.2 ms
// after its start.
func BenchmarkReady(b *testing.B) {
	var late time.Duration
	tries := 0
	for b.Loop() {
		ours, theirs := net.Pipe()
		listens := time.Now().Add(1200 * time.Microsecond)
		c := web.New(dialFunc(func(context.Context, core.InstanceID, int) (net.Conn, error) {
			tries++
			if time.Now().Before(listens) {
				return nil, syscall.ECONNREFUSED
			}
			return ours, nil
		}), web.Options{})
		if err := c.Ready(b.Context(), 7, core.DefaultPort); err != nil {
			b.Fatal(err)
		}
		late += time.Since(listens)
		_ = theirs.Close()
	}
	b.ReportMetric(float64(late.Microseconds())/float64(b.N), "µs-late/op")
	b.ReportMetric(float64(tries)/float64(b.N), "tries/op")
}
