package web_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/internal/core"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("0123456789abcdef", 64<<10)
	for _, tc := range []struct {
		name, method, answer string
		closes               bool
		status               int
		header               string
		body                 string
		trailer, interim     string
		kept                 bool
	}{
		{name: "length", answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", status: 200, header: "Content-Length=5", body: "hello", kept: true},
		{name: "empty", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", status: 200, header: "Content-Length=0", kept: true},
		{name: "large", answer: "HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n" + big, status: 200, header: "Content-Length=1048576", body: big, kept: true},
		{name: "chunked", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n", status: 200, body: "hello world", kept: true},
		{name: "chunked, trailers", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nTrailer: X-Sum\r\n\r\n05  \r\nhello\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n", status: 200, header: "Trailer=X-Sum", body: "hello", trailer: "X-Other=2 X-Sum=1", kept: true},
		{name: "trailers that may not be there", answer: "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nTransfer-Encoding: chunked\r\nTrailer: Set-Cookie, X-Sum, Dayfly_Run_State\r\n\r\n0\r\nSet-Cookie: 1\r\nIf-Match: x\r\nX-Hop: 1\r\nDayfly_Run-State: x\r\nX-Sum: 1\r\nHost: x\r\nX-Sum: 2\r\n\r\n", status: 200, header: "Trailer=X-Sum", trailer: "X-Sum=1,2", kept: true},
		{name: "large chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n" + big + "\r\n0\r\n\r\n", status: 200, body: big, kept: true},
		{name: "until close", answer: "HTTP/1.1 200 OK\r\n\r\nhello", closes: true, status: 200, body: "hello"},
		{name: "http/1.0", answer: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", status: 200, header: "Content-Length=2", body: "hi"},
		{name: "http/1.0 keep-alive", answer: "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi", status: 200, header: "Content-Length=2", body: "hi", kept: true},
		{name: "connection close", answer: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", status: 200, header: "Content-Length=2", body: "hi"},
		{name: "no content", answer: "HTTP/1.1 204 No Content\r\n\r\n", status: 204, kept: true},
		{name: "no content, length", answer: "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", status: 204, kept: true},
		{name: "no content, yet a body", answer: "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc", status: 204},
		{name: "not modified", answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nEtag: \"a\"\r\n\r\n", status: 304, header: "Content-Length=99 Etag=\"a\"", kept: true},
		{name: "head", method: "HEAD", answer: "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", status: 200, header: "Content-Length=99", kept: true},
		{name: "head, chunked", method: "HEAD", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", status: 200, kept: true},
		{name: "interim", answer: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 3\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", status: 200, header: "Content-Length=2", body: "hi", interim: "103 Link=</a>", kept: true},
		{name: "line feeds only", answer: "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", status: 200, header: "Content-Length=2", body: "hi", kept: true},
		{name: "no reason", answer: "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", status: 200, header: "Content-Length=2", body: "hi", kept: true},
		{name: "small letters", answer: "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a-bC:  v \t\r\n\r\nhi", status: 200, header: "Content-Length=2 X-A-Bc=v", body: "hi", kept: true},
		{name: "the same length twice", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", status: 200, header: "Content-Length=2", body: "hi", kept: true},
		{name: "several values", answer: "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nContent-Length: 0\r\nSet-Cookie: b\r\n\r\n", status: 200, header: "Content-Length=0 Set-Cookie=a,b", kept: true},
		{
			name: "hop by hop and ours", status: 200, header: "Content-Length=0 Date=now Server=s", kept: true,
			answer: "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: x\r\nUpgrade: h2c\r\nTe: x\r\n" +
				"Dayfly-Run-Id: run_x\r\nDate: now\r\nServer: s\r\nContent-Length: 0\r\n\r\n",
		},
		{name: "left over", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", status: 200, header: "Content-Length=2", body: "hi"},
		{name: "not found", answer: "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", status: 404, header: "Content-Length=2", body: "no", kept: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFunction(t, always(tc.answer, tc.closes))
			call := newCall("GET", "/", "")
			if tc.method != "" {
				call.Request.Method = tc.method
			}
			for range 2 {
				reply := newRecorder()
				o := f.contract.Serve(t.Context(), call, reply)
				want := core.Outcome{State: core.StateSucceeded, Status: tc.status, BytesOut: core.Bytes(len(tc.body)), Answered: true}
				if o != want {
					t.Errorf("got outcome %+v, want %+v", o, want)
				}
				if got := headerText(reply.header); reply.status != tc.status || got != tc.header {
					t.Errorf("got %d %s, want %d %s", reply.status, got, tc.status, tc.header)
				}
				if got := headerText(reply.trailer); got != tc.trailer || strings.Join(reply.interim, "; ") != tc.interim {
					t.Errorf("got the trailers %q and the interim answers %q, want %q and %q", got, reply.interim, tc.trailer, tc.interim)
				}
				if reply.body.String() != tc.body {
					t.Errorf("got a body of %d bytes (%.60q), want %d", reply.body.Len(), reply.body.String(), len(tc.body))
				}
			}
			want := int64(2)
			if tc.kept {
				want = 1
			}
			if n := f.dials.Load(); n != want {
				t.Errorf("%d connections were made for two calls, want %d", n, want)
			}
		})
	}
}

func headerText(h core.Header) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(h)) {
		parts = append(parts, k+"="+strings.Join(h[k], ","))
	}
	return strings.Join(parts, " ")
}

func TestBadAnswers(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	chunked := ok + "Transfer-Encoding: chunked\r\n\r\n"
	for _, tc := range []struct {
		name, answer, says string
		answered           bool
	}{
		{name: "nothing", answer: "", says: "without an answer"},
		{name: "garbage", answer: "SSH-2.0-OpenSSH_9.2p1\r\n\r\n", says: `"SSH-2.0-OpenSSH_9.2p1"`},
		{name: "binary", answer: "\x16\x03\x01\x00\n\n", says: "not HTTP/1.1"},
		{name: "http/2", answer: "HTTP/2.0 200 OK\r\n\r\n", says: "not HTTP/1.1"},
		{name: "no status", answer: "HTTP/1.1 abc OK\r\n\r\n", says: "no status"},
		{name: "long status", answer: "HTTP/1.1 2000 OK\r\n\r\n", says: "not HTTP/1.1"},
		{name: "status 099", answer: "HTTP/1.1 099 OK\r\n\r\n", says: "status 099"},
		{name: "bad reason", answer: "HTTP/1.1 200 O\x00K\r\n\r\n", says: "status line"},
		{name: "huge status line", answer: "HTTP/1.1 200 " + strings.Repeat("a", 100<<10) + "\r\n\r\n", says: "limits.headers"},
		{name: "endless line", answer: strings.Repeat("a", 100<<10), says: "limits.headers"},
		{name: "endless fields", answer: ok + strings.Repeat("X-A: 0123456789012345678901234567890123456789012345678901234567890123456789\r\n", 1500), says: "limits.headers"},
		{name: "too many fields", answer: ok + strings.Repeat("A:\r\n", 1001) + "\r\n", says: "1000 header fields"},
		{name: "endless interim", answer: strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 5000), says: "limits.headers"},
		{name: "head broken off", answer: ok + "Content-Le", says: "middle of the answer's head"},
		{name: "return in value", answer: ok + "X-A: a\rX-B: b\r\n\r\n", says: "header line"},
		{name: "zero in value", answer: ok + "X-A: a\x00\r\n\r\n", says: "header line"},
		{name: "space before colon", answer: ok + "Content-Length : 5\r\n\r\nhello", says: "header line"},
		{name: "folded", answer: ok + "X-A: a\r\n b\r\n\r\n", says: "header line"},
		{name: "folded first", answer: ok + " X-A: a\r\n\r\n", says: "header line"},
		{name: "no colon", answer: ok + "hello\r\n\r\n", says: "header line"},
		{name: "empty name", answer: ok + ": a\r\n\r\n", says: "header line"},
		{name: "bad name", answer: ok + "X(A): a\r\n\r\n", says: "header line"},
		{name: "name not ascii", answer: ok + "X-\xc3\x85: a\r\n\r\n", says: "header line"},
		{name: "length and chunked", answer: ok + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", says: "both Content-Length and Transfer-Encoding"},
		{name: "two lengths", answer: ok + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", says: "two lengths, 5 and 6"},
		{name: "length with a zero before it", answer: ok + "Content-Length: 02\r\nContent-Length: 2\r\n\r\nhi", says: "Content-Length"},
		{name: "length list", answer: ok + "Content-Length: 5, 5\r\n\r\nhello", says: "Content-Length"},
		{name: "negative length", answer: ok + "Content-Length: -5\r\n\r\n", says: "Content-Length"},
		{name: "signed length", answer: ok + "Content-Length: +5\r\n\r\nhello", says: "Content-Length"},
		{name: "empty length", answer: ok + "Content-Length:\r\n\r\n", says: "Content-Length"},
		{name: "huge length", answer: ok + "Content-Length: 9223372036854775808\r\n\r\n", says: "Content-Length"},
		{name: "gzip, chunked", answer: ok + "Transfer-Encoding: gzip, chunked\r\n\r\n", says: "Transfer-Encoding"},
		{name: "chunked twice", answer: ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", says: "Transfer-Encoding"},
		{name: "chunked in 1.0", answer: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", says: "HTTP/1.0"},
		{name: "bad trailer field", answer: ok + "Trailer: Content-Length\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", says: "Trailer"},
		{name: "101", answer: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", says: "which nobody asked for"},
		{name: "short small body", answer: ok + "Content-Length: 10\r\n\r\nhello", says: "closed the connection after 0 bytes"},
		{name: "short large body", answer: ok + "Content-Length: 1000000\r\n\r\nhello", says: "closed the connection after 5 bytes", answered: true},
		{name: "bad chunk size", answer: chunked + "x\r\n", says: "chunk size", answered: true},
		{name: "empty chunk size", answer: chunked + "\r\nhello\r\n", says: "chunk size", answered: true},
		{name: "negative chunk size", answer: chunked + "-1\r\n", says: "chunk size", answered: true},
		{name: "prefixed chunk size", answer: chunked + "0x5\r\nhello\r\n0\r\n\r\n", says: "chunk size", answered: true},
		{name: "huge chunk size", answer: chunked + "ffffffffffffffff\r\n", says: "chunk size", answered: true},
		{name: "space before extension", answer: chunked + "5 ;a\r\nhello\r\n0\r\n\r\n", says: "chunk size", answered: true},
		{name: "return in extension", answer: chunked + "5;a\rb\r\nhello\r\n0\r\n\r\n", says: "chunk size", answered: true},
		{name: "chunk line feed only", answer: chunked + "5\nhello\r\n0\r\n\r\n", says: "carriage return", answered: true},
		{name: "chunk too long", answer: chunked + "5\r\nhelloo\r\n0\r\n\r\n", says: "longer than it said", answered: true},
		{name: "endless extension", answer: chunked + "5;" + strings.Repeat("a", 10000), says: "over 1024 bytes", answered: true},
		{name: "many extensions", answer: chunked + strings.Repeat("1;"+strings.Repeat("a", 1000)+"\r\nx\r\n", 100), says: "beside the data", answered: true},
		{name: "chunks broken off", answer: chunked + "5\r\nhello\r\n", says: "after 5 bytes", answered: true},
		{name: "chunk broken off", answer: chunked + "5\r\nhel", says: "after 3 bytes", answered: true},
		{name: "bad trailer", answer: chunked + "0\r\nhello\r\n\r\n", says: "trailer line", answered: true},
		{name: "endless trailers", answer: chunked + "0\r\n" + strings.Repeat("X-A: b\r\n", 20000), says: "trailers", answered: true},
		{name: "endless trailer", answer: chunked + "0\r\nX-A: " + strings.Repeat("b", 100<<10), says: "over 65536 bytes", answered: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFunction(t, always(tc.answer, true))
			reply := newRecorder()
			o := f.contract.Serve(t.Context(), newCall("GET", "/", ""), reply)
			wantOutcome(t, o, core.StateFailed, core.ReasonFunctionError, tc.says)
			if !strings.HasPrefix(o.Message, "the function shop/resize ") {
				t.Errorf("the message %q does not name the function", o.Message)
			}
			if !o.Kill || o.Answered != tc.answered || (reply.status != 0) != tc.answered {
				t.Errorf("got kill %v, answered %v, status %d; want true, %v", o.Kill, o.Answered, reply.status, tc.answered)
			}
			if !tc.answered && len(reply.header)+reply.body.Len() != 0 {
				t.Errorf("something of the bad answer got through: %v %q", reply.header, reply.body.String())
			}
		})
	}
}

// The limit is the function's own.
func TestHeaderLimit(t *testing.T) {
	t.Parallel()
	answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-A: %s\r\n\r\n", strings.Repeat("a", 200<<10))
	f := newFunction(t, always(answer, false))
	call := newCall("GET", "/", "")
	wantOutcome(t, f.contract.Serve(t.Context(), call, newRecorder()), core.StateFailed, core.ReasonFunctionError, "over 64KiB")
	call.Definition.Version.Spec.Limits.Headers = 256 * core.KiB
	reply := newRecorder()
	wantOutcome(t, f.contract.Serve(t.Context(), call, reply), core.StateSucceeded, "", "")
	if n := len(reply.header.Get("X-A")); n != 200<<10 {
		t.Errorf("the field has %d bytes", n)
	}
}

func TestServerError(t *testing.T) {
	t.Parallel()
	f := newFunction(t, always("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nRetry-After: 3\r\n\r\nlate", false))
	reply := newRecorder()
	o := f.contract.Serve(t.Context(), newCall("GET", "/", ""), reply)
	wantOutcome(t, o, core.StateFailed, core.ReasonFunctionError, "shop/resize answered 503")
	if !o.Answered || o.Kill || o.Status != 503 {
		t.Errorf("got %+v, want it answered with 503 and the instance alive", o)
	}
	if reply.status != 503 || reply.body.String() != "late" || reply.header.Get("Retry-After") != "3" {
		t.Errorf("the answer came as %d %v %q", reply.status, reply.header, reply.body.String())
	}
}

// What the server has put into the reply stays, and the function adds to it.
func TestFunctionAddsToHeader(t *testing.T) {
	t.Parallel()
	f := newFunction(t, always("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Security-Policy: default-src *\r\n\r\n", false))
	reply := newRecorder()
	reply.header["Content-Security-Policy"] = []string{"sandbox"}
	f.contract.Serve(t.Context(), newCall("GET", "/", ""), reply)
	if got := headerText(reply.header); got != "Content-Length=0 Content-Security-Policy=sandbox,default-src *" {
		t.Error(got)
	}
}
