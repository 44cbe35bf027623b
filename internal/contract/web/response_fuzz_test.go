package web_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/internal/contract/web"
	"github.com/dayfly-io/dayfly/internal/core"
)

// What is accepted as an answer, net/http accepts too, with the same status,
// fields and body. The other way round it is laxer: it takes any version of
// one digit each, statuses under 100, spaces before a status, folded lines,
// Content-Length beside chunked, Transfer-Encoding (ignored) in HTTP/1.0,
// chunk size lines up to 4 KiB, and any number of interim answers.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;a=b\r\nxyz\r\n0\r\nX-T: 1\r\n\r\nextra",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 404 No\nConnection: X-A, close\nx-a: b\nX-B:c \n\nrest",
		"HTTP/1.1 200\nConneCtion: X-A, Close\nX-A:\n\n",
		"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2\r\nPragma: no-cache\r\nTrailer: X\r\n\r\nhi",
		"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 02\r\nContent-Length: 2\r\n\r\nhi",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nF  \r\n0123456789abcde\r\n00\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
	} {
		f.Add([]byte(s), uint16(7), false)
		f.Add([]byte(s), uint16(60000), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, piece uint16, isHead bool) {
		method := "GET"
		if isHead {
			method = "HEAD"
		}
		s := &script{answer: data, piece: int(piece) + 1}
		reply, o := play(t.Context(), s, newCall(method, "/", ""))
		if o.State == core.StateFailed && o.Status < 500 && (!o.Kill || o.Message == "") {
			t.Fatalf("a bad answer without a kill or a message: %+v", o)
		}
		if reply.status == 0 {
			return
		}
		br := bufio.NewReaderSize(bytes.NewReader(data), len(data)+16)
		res := oracle(t, br, method)
		body, err := io.ReadAll(res.Body)
		whole := o.State == core.StateSucceeded || o.Status >= 500 && strings.Contains(o.Message, "answered")
		if whole && (err != nil || !bytes.Equal(body, reply.body.Bytes())) {
			t.Fatalf("the body is %q, net/http has %q (%v)", reply.body.Bytes(), body, err)
		}
		if !bytes.HasPrefix(body, reply.body.Bytes()) {
			t.Fatalf("the body begins with %q, net/http has %q", reply.body.Bytes(), body)
		}
		if reply.status != res.StatusCode {
			t.Fatalf("the status is %d, net/http has %d", reply.status, res.StatusCode)
		}
		if got, want := plain(http.Header(reply.header), data), plain(res.Header, data); !reflect.DeepEqual(got, want) {
			t.Fatalf("the fields are %q, net/http has %q", got, want)
		}
		if !whole {
			return
		}
		want := plain(res.Trailer, data)
		maps.DeleteFunc(want, func(name string, values []string) bool { return len(values) == 0 || !web.MayTrail(name) })
		if got := plain(http.Header(reply.trailer), data); len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Fatalf("the trailers are %q, net/http has %q", got, want)
		}
	})
}

// What is accepted as an answer that switches protocols, net/http reads as
// one, for a protocol that was asked for; and what comes behind it reaches the
// caller byte for byte.
func FuzzUpgrade(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: Upgrade\r\n\r\nhello",
		"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 101 \nUpgrade:TALK/2\n\n\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nContent-Length: 3\r\n\r\nhello",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nUpgrade: chat\r\nContent-Length: 0\r\n\r\n",
	} {
		f.Add([]byte(s), uint16(9))
	}
	f.Fuzz(func(t *testing.T, data []byte, piece uint16) {
		s := &script{answer: data, piece: int(piece) + 1}
		c := web.New(dialFunc(func(context.Context, core.InstanceID, int) (net.Conn, error) { return s, nil }), web.Options{})
		reply := &switchingTo{recorder: recorder{header: core.Header{}}}
		o := c.Serve(t.Context(), upgradeCall("chat, talk/2"), reply)
		if reply.status != http.StatusSwitchingProtocols {
			if reply.got.Len() > 0 {
				t.Fatalf("the caller got %q of an answer that switches nothing: %+v", reply.got.Bytes(), o)
			}
			return
		}
		br := bufio.NewReaderSize(bytes.NewReader(data), len(data)+16)
		res := oracle(t, br, "GET")
		if p := res.Header.Get("Upgrade"); res.StatusCode != 101 || !strings.EqualFold(p, "chat") && !strings.EqualFold(p, "talk/2") {
			t.Fatalf("it switched, and net/http has %d to %q", res.StatusCode, p)
		}
		rest, err := io.ReadAll(br)
		if err != nil || !bytes.Equal(rest, reply.got.Bytes()) || int(o.BytesOut) != len(rest) {
			t.Fatalf("the caller got %q, behind the head is %q (%v); %+v", reply.got.Bytes(), rest, err, o)
		}
	})
}

// switchingTo is a reply whose caller sends nothing in the other protocol, and
// keeps what it gets.
type switchingTo struct {
	recorder

	got bytes.Buffer
}

func (r *switchingTo) Switch() (net.Conn, error) {
	r.status = http.StatusSwitchingProtocols
	return &callerOf{r: r}, nil
}

type callerOf struct {
	script

	r *switchingTo
}

func (c *callerOf) Write(p []byte) (int, error) { return c.r.got.Write(p) }

// oracle reads the final answer with net/http.
func oracle(t *testing.T, br *bufio.Reader, method string) *http.Response {
	t.Helper()
	for {
		res, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("accepted, but net/http does not: %v", err)
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			return res
		}
	}
}

// plain takes away what is between neighbours, or treated otherwise on
// purpose: a length where there is no body, and net/http's Cache-Control made
// of Pragma. What Connection names is found in the data, since net/http takes
// that field away when it says close.
func plain(h http.Header, data []byte) http.Header {
	h = h.Clone()
	for line := range bytes.Lines(data) {
		field, list, _ := bytes.Cut(line, []byte(":"))
		if !bytes.EqualFold(field, []byte("Connection")) {
			continue
		}
		for item := range bytes.SplitSeq(list, []byte(",")) {
			for name := range h {
				if strings.EqualFold(name, string(bytes.Trim(item, " \t\r\n"))) {
					delete(h, name)
				}
			}
		}
	}
	for name := range h {
		if strings.HasPrefix(name, "Proxy-") {
			delete(h, name)
		}
	}
	for _, name := range []string{
		"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Dayfly-Run-Id", "Content-Length", "Cache-Control",
	} {
		delete(h, name)
	}
	return h
}
