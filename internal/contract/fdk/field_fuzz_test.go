package fdk_test

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/internal/core"
)

// FuzzAnswer has a process answer with any head, and looks at what reaches the
// caller: nothing, or a final status with fields that are for the caller.
func FuzzAnswer(f *testing.F) {
	for _, head := range []string{
		"HTTP/1.1 200 OK\r\nFn-Http-Status: 404\r\nFn-Http-H-X: 1\r\nContent-Length: 2\r\n\r\nhi",
		"HTTP/1.1 200 OK\r\nFn-Http-Status: 204\r\nFn-Http-H-Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
		"HTTP/1.1 502 Bad\r\nFn-Http-H-X: 1\r\n\r\noh",
		"HTTP/1.1 200 OK\r\nFn-Http-Status: +200\r\nFn-Http-H-Connection: close\r\nfn-http-h-set-cookie: a\r\n\r\n",
		"HTTP/1.0 200\nFn-Http-Status: 0200\n\n",
	} {
		f.Add([]byte(head), true)
		f.Add([]byte(head), false)
	}
	f.Fuzz(func(t *testing.T, answer []byte, trigger bool) {
		fn := newFunction(t, func(p *peer) {
			p.request()
			_, _ = p.Write(answer)
		})
		kind := core.TriggerAPI
		if trigger {
			kind = core.TriggerHTTP
		}
		r := newReply()
		o := fn.contract.Serve(t.Context(), call(kind, "GET", "", nil), r)
		if o.Status != r.status || o.Answered != (r.status != 0) || o.BytesOut != core.Bytes(r.body.Len()) || !o.State.Final() {
			t.Fatalf("the outcome is %+v, the answer %d with %d bytes", o, r.status, r.body.Len())
		}
		if r.status == 0 {
			if len(r.header) != 0 || r.body.Len() != 0 || o.State == core.StateSucceeded {
				t.Fatalf("nothing was answered, and there is %v %q: %+v", r.header, r.body.String(), o)
			}
			return
		}
		// What net/http reads of it must be an answer with status 200.
		read, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
		if err == nil {
			_ = read.Body.Close()
		}
		if err == nil && read.StatusCode >= 200 && read.StatusCode != http.StatusOK {
			t.Fatalf("the process answered %d, and the caller got %d", read.StatusCode, r.status)
		}
		if r.status < 200 || r.status > 999 || !trigger && r.status != http.StatusOK {
			t.Fatalf("the caller gets the status %d", r.status)
		}
		for name, values := range r.header {
			if name != http.CanonicalHeaderKey(name) || name == "" || strings.ContainsAny(strings.Join(values, ""), "\r\n\x00") {
				t.Fatalf("the caller gets the field %q: %q", name, values)
			}
			switch name {
			case "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Dayfly-Run-Id":
				t.Fatalf("the caller gets %s: %q", name, values)
			case "Content-Length":
				if len(values) != 1 {
					t.Fatalf("the caller gets several lengths: %q", values)
				}
			}
			if trigger && (strings.HasPrefix(name, "Fn-Fdk-") || name == "Fn-Http-Status") && !bytes.Contains(bytes.ToLower(answer), []byte("fn-http-h-fn-")) {
				t.Fatalf("the caller gets %s", name)
			}
		}
		if empty := r.status == http.StatusNoContent || r.status == http.StatusNotModified; trigger && empty && r.body.Len() != 0 {
			t.Fatalf("an answer with status %d has a body", r.status)
		}
	})
}
