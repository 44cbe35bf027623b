package web_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/contract/web"
	"github.com/dayfly-io/dayfly/internal/core"
)

// A script is a connection whose peer says what was written down before, in
// pieces, and whose own words are kept.
type script struct {
	net.Conn

	answer []byte
	piece  int
	sent   bytes.Buffer
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.answer) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.answer[:min(s.piece, len(s.answer))])
	s.answer = s.answer[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error) { return s.sent.Write(p) }
func (s *script) Close() error                { return nil }

func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) CloseWrite() error                { return nil }

// play makes a call against a script.
func play(ctx context.Context, s *script, call *core.Call) (*recorder, core.Outcome) {
	c := web.New(dialFunc(func(context.Context, core.InstanceID, int) (net.Conn, error) { return s, nil }), web.Options{})
	reply := newRecorder()
	return reply, c.Serve(ctx, call, reply)
}

// sentBy gives what the function would get, as lines; the fields sorted.
func sentBy(t *testing.T, call *core.Call) (lines []string, body string, o core.Outcome) {
	t.Helper()
	s := &script{answer: []byte("HTTP/1.1 204 No Content\r\n\r\n"), piece: 100}
	_, o = play(t.Context(), s, call)
	head, body, _ := strings.Cut(s.sent.String(), "\r\n\r\n")
	lines = strings.Split(head, "\r\n")
	slices.Sort(lines[1:])
	return lines, body, o
}

func TestRequest(t *testing.T) {
	t.Parallel()
	call := newCall("POST", "/a%2Fb/c", "hello")
	call.Deadline = time.Date(2031, 2, 3, 4, 5, 6, 7_891_234, time.FixedZone("x", 3600))
	call.Traceparent = "00-trace-span-01"
	call.Request.RawQuery = "q=1&r=%20"
	call.Request.Header = core.Header{
		"Accept-Encoding":     {"gzip, br"},
		"Connection":          {"keep-alive, X-Private", "upgrade"},
		"Content-Length":      {"99"},
		"Content-Type":        {"text/plain"},
		"Cookie":              {"a=1", "b=2"},
		"Dayfly-Attempt":      {"77"},
		"Dayfly-Deadline":     {"never"},
		"Dayfly-Run-Id":       {"run_forged"},
		"Dayfly-Trigger":      {"forged"},
		"Dayfly_run_id":       {"run_forged"},
		"Expect":              {"something"},
		"Forwarded":           {"for=203.0.113.9;proto=http", `for="open`},
		"Host":                {"other"},
		"Keep-Alive":          {"1"},
		"Proxy-Authorization": {"secret"},
		"Proxy-Connection":    {"keep-alive"},
		"Te":                  {"gzip, Trailers"},
		"Traceparent":         {"00-forged-01"},
		"Tracestate":          {"vendor=1"},
		"Trailer":             {"X-Sum"},
		"Transfer-Encoding":   {"gzip"},
		"Upgrade":             {"h2c"},
		"X-Empty":             {""},
		"X-Private":           {"1"},
	}
	lines, body, o := sentBy(t, call)
	want := []string{
		"POST /a%2Fb/c?q=1&r=%20 HTTP/1.1",
		"Accept-Encoding: gzip, br",
		"Content-Length: 5",
		"Content-Type: text/plain",
		"Cookie: a=1",
		"Cookie: b=2",
		"Dayfly-Attempt: 2",
		"Dayfly-Deadline: 2031-02-03T03:05:06.007Z",
		"Dayfly-Run-Id: " + core.RunID(1<<40).String(),
		"Dayfly-Trigger: http",
		"Forwarded: for=203.0.113.9;proto=http, for=192.0.2.7;host=shop.example;proto=https",
		"Host: shop.example",
		"Te: trailers",
		"Traceparent: 00-trace-span-01",
		"Tracestate: vendor=1",
		"X-Empty: ",
	}
	if !reflect.DeepEqual(lines, want) || body != "hello" {
		t.Errorf("got\n%s\n%q, want\n%s", strings.Join(lines, "\n"), body, strings.Join(want, "\n"))
	}
	wantOutcome(t, o, core.StateSucceeded, "", "")
}

func TestForwarded(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ remote, host, scheme, want string }{
		{"192.0.2.7:4711", "localhost:8080", "http", `for=192.0.2.7;host="localhost:8080";proto=http`},
		{"[2001:db8::1]:4711", "a.example", "https", `for="[2001:db8::1]";host=a.example;proto=https`},
		{"[::ffff:192.0.2.7]:1", "", "", `for=192.0.2.7`},
		{"[fe80::1%eth0]:1", "", "", `for="[fe80::1]"`},
		{"", "", "ftp", `for=unknown`},
	} {
		call := newCall("GET", "/", "")
		call.Request.Remote, call.Request.Host, call.Request.Scheme = tc.remote, tc.host, tc.scheme
		if lines, _, _ := sentBy(t, call); !slices.Contains(lines, "Forwarded: "+tc.want) {
			t.Errorf("%q is not in %q", tc.want, lines)
		}
	}
}

// The length is told where it means something.
func TestRequestFraming(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		method string
		body   io.Reader
		length int64
		field  string
		sent   string
	}{
		{"GET", nil, 0, "", ""},
		{"GET", nil, -1, "", ""},
		{"POST", nil, 0, "Content-Length: 0", ""},
		{"DELETE", strings.NewReader("x"), 0, "", ""},
		{"GET", strings.NewReader("x"), 1, "Content-Length: 1", "x"},
		{"PUT", strings.NewReader("hello"), -1, "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"},
		{"PUT", strings.NewReader(""), -1, "Transfer-Encoding: chunked", "0\r\n\r\n"},
	} {
		call := newCall(tc.method, "/", "")
		call.Request.Body, call.Request.Length = tc.body, tc.length
		lines, body, _ := sentBy(t, call)
		framing := ""
		for _, l := range lines {
			if strings.HasPrefix(l, "Content-Length") || strings.HasPrefix(l, "Transfer-Encoding") {
				framing += l
			}
		}
		if framing != tc.field || body != tc.sent {
			t.Errorf("%s, %d: got %q and %q, want %q and %q", tc.method, tc.length, framing, body, tc.field, tc.sent)
		}
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*core.Call){
		"method":       func(c *core.Call) { c.Request.Method = "GE T" },
		"connect":      func(c *core.Call) { c.Request.Method = "CONNECT" },
		"path":         func(c *core.Call) { c.Request.Path = "/a b" },
		"path, query":  func(c *core.Call) { c.Request.Path = "/a?b" },
		"path, return": func(c *core.Call) { c.Request.Path = "/ HTTP/1.1\r\nX: y" },
		"absolute":     func(c *core.Call) { c.Request.Path = "http://other/" },
		"query":        func(c *core.Call) { c.Request.RawQuery = "a=\n" },
		"host":         func(c *core.Call) { c.Request.Host = "a\r\nb" },
		"name":         func(c *core.Call) { c.Request.Header["X A"] = []string{""} },
		"value":        func(c *core.Call) { c.Request.Header["X-A"] = []string{"a\r\nX-B: b"} },
		"forwarded":    func(c *core.Call) { c.Request.Header["Forwarded"] = []string{"a\nb"} },
		"traceparent":  func(c *core.Call) { c.Traceparent = "a\r\nb" },
	} {
		call := newCall("GET", "/", "")
		spoil(call)
		s := &script{}
		_, o := play(t.Context(), s, call)
		if o.State != core.StateFailed || o.Reason != core.CodeInvalid || o.Kill || o.Answered || s.sent.Len() != 0 {
			t.Errorf("%s: got %+v, sent %q; want it refused as invalid", name, o, s.sent.String())
		}
	}
}

// What is sent is read by net/http into the same request.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/a/b%20c", "q=1", "localhost:8080", "X-Name", "value", "203.0.113.9:5", []byte("hello"), true)
	f.Add("POST", "//x", "", "[::1]:80", "Forwarded", `for="a`, "[::1]:5", []byte(strings.Repeat("x", 40000)), false)
	f.Add("PUT", "/", "a?b", "", "Connection", "X-Name", "", []byte{}, true)
	f.Fuzz(func(t *testing.T, method, path, query, host, name, value, remote string, body []byte, known bool) {
		call := newCall(method, path, "")
		r := call.Request
		r.RawQuery, r.Host, r.Remote = query, host, remote
		r.Header = core.Header{http.CanonicalHeaderKey(name): {value}}
		r.Body, r.Length = bytes.NewReader(body), int64(len(body))
		if !known {
			r.Length = -1
		}
		target := path
		if target == "" {
			target = "/"
		}
		if query != "" {
			target += "?" + query
		}
		if _, err := url.ParseRequestURI(target); err != nil {
			return // not "as it was escaped"
		}
		s := &script{answer: []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), piece: 1000}
		_, o := play(t.Context(), s, call)
		if o.State != core.StateSucceeded {
			if s.sent.Len() != 0 {
				t.Fatalf("refused (%s), yet sent %q", o.Message, s.sent.Bytes())
			}
			return
		}
		br := bufio.NewReader(&s.sent)
		got, err := http.ReadRequest(br)
		if err != nil {
			t.Fatalf("net/http does not read it: %v", err)
		}
		gotBody, err := io.ReadAll(got.Body)
		if err != nil || !bytes.Equal(gotBody, body) {
			t.Fatalf("got the body %q (%v), want %q", gotBody, err, body)
		}
		if br.Buffered() != 0 {
			t.Fatal("there is something behind the request")
		}
		wantRequest(t, got, r, target)
	})
}

func wantRequest(t *testing.T, got *http.Request, r *core.Request, target string) {
	t.Helper()
	method, host := r.Method, r.Host
	if method == "" {
		method = "GET"
	}
	if host == "" {
		host = "localhost"
	}
	if got.Method != method || got.RequestURI != target || got.Host != host {
		t.Fatalf("got %s %s of %s, want %s %s of %s", got.Method, got.RequestURI, got.Host, method, target, host)
	}
	// Content-Length is there of the request's own accord; net/http turns
	// Pragma into Cache-Control.
	ours := []string{"Dayfly-Run-Id", "Dayfly-Attempt", "Dayfly-Deadline", "Dayfly-Trigger", "Forwarded", "Te", "Content-Length", "Pragma", "Cache-Control"}
	for name, values := range got.Header {
		if slices.Contains(ours, name) {
			continue
		}
		if len(values) != 1 || values[0] != strings.Trim(r.Header.Get(name), " \t") {
			t.Fatalf("the field %s is %q, and was %q", name, values, r.Header[name])
		}
	}
	for _, name := range ours[:5] {
		if len(got.Header[name]) != 1 {
			t.Fatalf("the field %s is %q, want one value", name, got.Header[name])
		}
	}
	if got.Header.Get("Dayfly-Trigger") != core.TriggerHTTP {
		t.Fatalf("the trigger is forged: %q", got.Header.Get("Dayfly-Trigger"))
	}
}
