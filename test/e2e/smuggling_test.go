package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/api"
)

// exchanged sends bytes and gives all that comes back until the server closes
// the connection, or has answered as often as it is asked.
func (s *server) exchanged(t *testing.T, sent string, most int) (answers []*http.Response, bodies []string) {
	t.Helper()
	w := s.wire(t)
	w.say(t, sent)
	for range most {
		got, err := http.ReadResponse(w.in, nil)
		if err != nil {
			break
		}
		body, _ := io.ReadAll(got.Body)
		answers, bodies = append(answers, got), append(bodies, string(body))
		// Now, for a caller that ends its side while it waits has gone away.
		_ = w.Conn.(*net.TCPConn).CloseWrite()
	}
	return answers, bodies
}

// Requests that one server may take for one and another for two, or for
// something else than the door saw. None of them reaches a function as
// anything but the one request that the server took it for.
func TestRequestSmuggling(t *testing.T) { //nolint:tparallel // what all of them left is looked at in the end
	t.Parallel()
	s := shared.get(t)
	s.create(t, "smuggle", "f", "web")
	s.create(t, "smuggle", "victim", "web")
	host := strings.TrimPrefix(s.url, "http://")
	const inner = "GET /f/smuggle/victim/hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
	post := func(fields, body string) string {
		return "POST /f/smuggle/f/echo HTTP/1.1\r\nHost: " + host + "\r\n" + fields + "\r\n" + body
	}
	for _, c := range []struct {
		name, sent string
		status     int    // of the first answer
		body       string // that the function got, if it was called
	}{
		// What frames the body. RFC 9112, 6.1: with both, chunked counts, and the connection ends.
		{"length and chunked", post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+inner), 200, ""},
		{"chunked and length", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "3\r\nabc\r\n0\r\n\r\n"+inner), 200, "abc"},
		{"two lengths", post("Content-Length: 0\r\nContent-Length: 60\r\n", inner), 400, ""},
		{"the same length twice", post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), 200, "abc"},
		{"list of lengths", post("Content-Length: 3, 3\r\n", "abc"), 400, ""},
		{"signed length", post("Content-Length: +3\r\n", "abc"), 400, ""},
		{"negative length", post("Content-Length: -1\r\n", "abc"), 400, ""},
		{"hexadecimal length", post("Content-Length: 0x3\r\n", "abc"), 400, ""},
		{"length that is too long", post("Content-Length: 99999999999999999999\r\n", "abc"), 400, ""},
		{"empty length", post("Content-Length:\r\n", inner), 400, ""},
		{"length with an underscore", post("Content_Length: 60\r\n", ""), 200, ""},
		{"chunked with an underscore", post("Transfer_Encoding: chunked\r\nContent-Length: 3\r\n", "abc"), 200, "abc"},
		{"unknown encoding", post("Transfer-Encoding: xchunked\r\n", inner), 501, ""},
		{"chunked and another", post("Transfer-Encoding: chunked, identity\r\n", inner), 501, ""},
		{"another and chunked", post("Transfer-Encoding: gzip, chunked\r\n", inner), 501, ""},
		{"chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", inner), 501, ""},
		{"chunked and identity in two fields", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", inner), 501, ""},
		{"chunked with a tab", post("Transfer-Encoding:\tchunked\r\n", "0\r\n\r\n"), 200, ""},
		{"chunked with a vertical tab", post("Transfer-Encoding: \x0bchunked\r\n", inner), 400, ""},
		{"chunked in quotes", post("Transfer-Encoding: \"chunked\"\r\n", inner), 501, ""},
		{"folded encoding", post("Transfer-Encoding:\r\n chunked\r\n", inner), 0, ""},
		{"encoding in HTTP/1.0", "POST /f/smuggle/f/echo HTTP/1.0\r\nHost: " + host + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner, 200, ""},
		// The chunks.
		{"size that is none", post("Transfer-Encoding: chunked\r\n", "x\r\nabc\r\n0\r\n\r\n"), 0, ""},
		{"signed size", post("Transfer-Encoding: chunked\r\n", "+3\r\nabc\r\n0\r\n\r\n"), 0, ""},
		{"prefixed size", post("Transfer-Encoding: chunked\r\n", "0x3\r\nabc\r\n0\r\n\r\n"), 0, ""},
		{"size that is too long", post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"), 0, ""},
		{"data longer than its size", post("Transfer-Encoding: chunked\r\n", "3\r\nabcd\r\n0\r\n\r\n"), 0, ""},
		{"size after a space", post("Transfer-Encoding: chunked\r\n", " 3\r\nabc\r\n0\r\n\r\n"), 0, ""},
		{"line feed in an extension", post("Transfer-Encoding: chunked\r\n", "3;a=\"\n\"\r\nabc\r\n0\r\n\r\n"), 0, ""},
		{"trailer that frames", post("Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n", "0\r\nContent-Length: 60\r\n\r\n"), 400, ""},
		// The lines of the head.
		{"space before the colon", post("X-A : 1\r\n", ""), 400, ""},
		{"length with a space before the colon", post("Content-Length : 60\r\n", inner), 400, ""},
		{"folded line", post("X-A: 1\r\n 2\r\n", ""), 200, ""},
		{"folded first line", "GET /f/smuggle/f/echo HTTP/1.1\r\n Host: " + host + "\r\n\r\n", 400, ""},
		{"return in a value", post("X-A: 1\rX-B: 2\r\n", ""), 400, ""},
		{"zero in a value", post("X-A: 1\x00\r\n", ""), 400, ""},
		{"no name", post(": 1\r\n", ""), 400, ""},
		{"no colon", post("hello\r\n", ""), 400, ""},
		{"name with a space", post("X A: 1\r\n", ""), 400, ""},
		{"name that is not ASCII", post("X-\xc3\x85: 1\r\n", ""), 400, ""},
		// Whom it is for.
		{"two hosts", post("Host: evil.example\r\n", ""), 400, ""},
		{"no host", "GET /f/smuggle/f/echo HTTP/1.1\r\n\r\n", 400, ""},
		{"host with a slash", "GET /f/smuggle/f/echo HTTP/1.1\r\nHost: localhost/evil\r\n\r\n", 400, ""},
		{"host with a user", "GET /f/smuggle/f/echo HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n", 400, ""},
		{"another host in the target", "GET http://evil.example/f/smuggle/f/echo HTTP/1.1\r\nHost: " + host + "\r\n\r\n", 403, ""},
		{"our host in the target", "GET http://" + host + "/f/smuggle/f/echo HTTP/1.1\r\nHost: evil.example\r\n\r\n", 200, ""},
		{"a tunnel", "CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example:80\r\n\r\n", 403, ""},
		// The first line.
		{"another version", "GET /f/smuggle/f/echo HTTP/1.2\r\nHost: " + host + "\r\n\r\n", 200, ""},
		{"a version that is none", "GET /f/smuggle/f/echo HTTP/3.0\r\nHost: " + host + "\r\n\r\n", 505, ""},
		{"no version", "GET /f/smuggle/f/echo\r\nHost: " + host + "\r\n\r\n", 400, ""},
		{"a method with a space", "GE T /f/smuggle/f/echo HTTP/1.1\r\nHost: " + host + "\r\n\r\n", 400, ""},
		{"two spaces", "GET  /f/smuggle/f/echo HTTP/1.1\r\nHost: " + host + "\r\n\r\n", 400, ""},
		{"a return in the target", "GET /f/smuggle/f/echo\rX HTTP/1.1\r\nHost: " + host + "\r\n\r\n", 400, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			answers, bodies := s.exchanged(t, c.sent, 3)
			if c.status == 0 {
				// The body cannot be read: the call fails, or the connection ends.
				if len(answers) > 0 && answers[0].StatusCode < 400 {
					t.Fatalf("it is answered %d %s", answers[0].StatusCode, bodies[0])
				}
				return
			}
			if len(answers) == 0 || answers[0].StatusCode != c.status {
				t.Fatalf("it should be answered %d: %v %q", c.status, answers, bodies)
			}
			if c.status != 200 {
				return
			}
			if got := decode[echoed](t, bodies[0]); got.Body != c.body || got.Path != "/echo" || len(got.Header["Transfer-Encoding"])+len(got.Header["Transfer_encoding"]) > 0 ||
				len(got.Header["Content_length"]) > 0 || got.Host == "evil.example" {
				t.Errorf("the function got %+v", got)
			}
			if len(answers) > 1 {
				t.Errorf("what was hidden behind it is answered as well: %d %s", answers[1].StatusCode, bodies[1])
			}
		})
	}
	if runs := s.runs(t, "app=smuggle&function=victim"); len(runs) > 0 {
		t.Errorf("what was hidden in a body was called: %+v", runs)
	}
	s.get(t, "/f/smuggle/f/hello").want(t, 200)
}

// What is too much of a request is refused before it costs anything.
func TestRequestsThatAreTooLarge(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "large", "f", "web")
	host := strings.TrimPrefix(s.url, "http://")
	get := func(target, fields string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + fields + "\r\n"
	}
	for _, c := range []struct {
		name, sent string
		status     int
	}{
		{"a large header", get("/f/large/f/echo", "X-A: "+strings.Repeat("a", 60<<10)+"\r\n"), 200},
		{"too large a header", get("/f/large/f/echo", "X-A: "+strings.Repeat("a", 80<<10)+"\r\n"), 431},
		{"many fields", get("/f/large/f/echo", strings.Repeat("X-A: 1\r\n", 990)), 200},
		{"too many fields", get("/f/large/f/echo", strings.Repeat("X-A: 1\r\n", 1010)), 431},
		{"a long URL", get("/f/large/f/echo?"+strings.Repeat("a", 16000), ""), 200},
		{"too long a URL", get("/f/large/f/echo?"+strings.Repeat("a", 17000), ""), 414},
		{"far too long a URL", get("/f/large/f/echo?"+strings.Repeat("a", 100<<10), ""), 431},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			answers, bodies := s.exchanged(t, c.sent, 1)
			if len(answers) == 0 || answers[0].StatusCode != c.status {
				t.Errorf("it should be answered %d: %.200v", c.status, bodies)
			}
		})
	}
}

// Answers by which a function tries to slip something to a caller. Its own
// caller is told; the next ones get what is theirs.
func TestResponseSplitting(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "split", "f", "web")
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	for _, c := range []struct {
		name, answer string
		status       int
		body, says   string
	}{
		{"an answer behind the answer", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + evil, 200, "ok", ""},
		{"an answer behind the chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + evil, 200, "ok", ""},
		{"an answer behind none", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n" + evil, 204, "", ""},
		{"an answer behind 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n" + evil, 304, "", ""},
		{"an answer in an interim one", "HTTP/1.1 103 Early Hints\r\nContent-Length: 40\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + evil, 200, "ok", ""},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 44\r\n\r\nok" + evil, 502, "", "two lengths"},
		{"length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + evil, 502, "", "both Content-Length and Transfer-Encoding"},
		{"an encoding that is none", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n" + evil, 502, "", "only chunked"},
		{"a return in a value", "HTTP/1.1 200 OK\r\nX-A: 1\rSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n", 502, "", "header line"},
		{"a folded line", "HTTP/1.1 200 OK\r\nX-A: 1\r\n Set-Cookie: a=b\r\nContent-Length: 0\r\n\r\n", 502, "", "header line"},
		{"a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", 502, "", "header line"},
		{"a name in the status", "HTTP/1.1 200 OK\rSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n", 502, "", "status line"},
		{"a run of its own", "HTTP/1.1 200 OK\r\nDayfly-Run-Id: run_forged\r\nDayfly-Error: internal\r\nContent-Length: 2\r\n\r\nok", 200, "ok", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			// PUT, because the function closes connections without a word, and
			// what meets such a one may be sent again.
			a := s.call(t, "PUT", "/f/split/f/raw?close=1", c.answer)
			if c.status == 502 {
				a.problem(t, 502, "function_error", c.says)
				s.wantRun(t, a.run(t), api.StateFailed, "function_error")
			} else {
				a.want(t, c.status)
			}
			if a.header.Get("Set-Cookie") != "" || c.status != 502 && (a.body != c.body || a.header.Get(api.HeaderError) != "") {
				t.Errorf("the caller got %v %q", a.header, a.body)
			}
			if id := a.run(t); s.runOf(t, id).Function != "f" {
				t.Errorf("the answer names the run %s", id)
			}
			s.get(t, "/f/split/f/hello").want(t, 200)
		})
	}
}

// Callers on one connection get their own answers, in order, however much of
// the next request is there already.
func TestPipelinedRequests(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "pipeline", "f", "web")
	host := strings.TrimPrefix(s.url, "http://")
	var sent strings.Builder
	const n = 20
	for i := range n {
		body := strings.Repeat(fmt.Sprint(i%10), i*1000)
		fmt.Fprintf(&sent, "POST /f/pipeline/f/%d HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", i, host, len(body), body)
	}
	w := s.wire(t)
	go func() { _, _ = io.WriteString(w, sent.String()) }()
	in := bufio.NewReader(w)
	for i := range n {
		got, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		body, err := io.ReadAll(got.Body)
		if err != nil {
			t.Fatal(err)
		}
		if e := decode[echoed](t, string(body)); e.Path != fmt.Sprintf("/%d", i) || len(e.Body) != i*1000 || strings.Trim(e.Body, fmt.Sprint(i%10)) != "" {
			t.Fatalf("answer %d is of %s with %d bytes", i, e.Path, len(e.Body))
		}
	}
}
