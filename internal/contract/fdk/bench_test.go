package fdk_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

var benchAnswer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nFn-Fdk-Version: fdk-go/0.0.66\r\n" +
	"Fn-Http-Status: 200\r\nFn-Http-H-X-Answer: yes\r\nContent-Length: 200\r\n\r\n" + strings.Repeat("x", 200)

// BenchmarkServe counts what a call costs on this side: the process answers
// every request alike and allocates nothing.
func BenchmarkServe(b *testing.B) {
	for _, body := range []string{"", strings.Repeat("y", 100)} {
		name := "without a body"
		end := "\r\n\r\n"
		if body != "" {
			name, end = "with a body", "0\r\n\r\n"
		}
		b.Run(name, func(b *testing.B) {
			f := newFunction(b, func(p *peer) {
				buf := make([]byte, 8192)
				for have := 0; ; {
					n, err := p.Read(buf[have:])
					if err != nil {
						return
					}
					if have += n; bytes.HasSuffix(buf[:have], []byte(end)) {
						have = 0
						p.say(benchAnswer)
					}
				}
			})
			c := call(core.TriggerHTTP, "POST", "", core.Header{
				"User-Agent": {"curl/8.5.0"}, "Accept": {"*/*"}, "Accept-Encoding": {"gzip"}, "X-Request-Id": {"0123456789abcdef"},
			})
			reply := newReply()
			in := strings.NewReader(body)
			b.ReportAllocs()
			for b.Loop() {
				clear(reply.header)
				reply.body.Reset()
				c.Deadline = time.Now().Add(30 * time.Second)
				if body != "" {
					_, _ = in.Seek(0, io.SeekStart)
					c.Request.Body, c.Request.Length = in, int64(len(body))
				}
				if o := f.contract.Serve(b.Context(), c, reply); o.State != core.StateSucceeded {
					b.Fatal(o.Message)
				}
			}
		})
	}
}
