package front_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/front"
)

// serving starts servers of a handler, one of net/http alone and one with a
// front, and gives their addresses.
func serving(t *testing.T, h http.HandlerFunc) (plain, fronted string) {
	t.Helper()
	behind := func() *http.Server {
		return &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	}
	s := behind()
	plain = listening(t, s.Serve, s.Close)
	f := front.New(behind(), "/f/")
	return plain, listening(t, f.Serve, f.Close)
}

func listening(t *testing.T, serve func(net.Listener) error, end func() error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- serve(l) }()
	t.Cleanup(func() {
		_ = end()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serving ended with %v", err)
		}
	})
	return l.Addr().String()
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// told is what a handler or a client can see of a message.
type told struct {
	Status                               int
	Method, Target, Path, RawPath, Query string
	Host, Body, Err                      string
	Header, Trailer                      http.Header
	Length                               int64
	Close, Chunked, Ended                bool
}

func text(v []told) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%.3000s", b)
}

// all sends bytes and gives all answers, up to so many.
func all(t *testing.T, address, sent string, most int, method string) []told {
	t.Helper()
	c := dial(t, address)
	go func() { _, _ = io.WriteString(c, sent) }()
	in := bufio.NewReader(c)
	var out []told
	for range most {
		got, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return append(out, told{Ended: true})
		}
		body, err := io.ReadAll(got.Body)
		got.Header.Del("Date")
		out = append(out, told{
			Status: got.StatusCode, Header: got.Header, Trailer: got.Trailer, Body: string(body), Length: got.ContentLength,
			Close: got.Close, Chunked: got.TransferEncoding != nil, Err: fmt.Sprint(err),
		})
		if got.Close {
			break
		}
	}
	return out
}

// What a handler sees of a request, and what the caller sees of the answer, is
// as with net/http, whoever answers.
func TestRequestsAsNetHTTP(t *testing.T) {
	t.Parallel()
	plain, fronted := serving(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		header := r.Header.Clone()
		fmt.Fprintf(w, "%+v", told{
			Method: r.Method, Target: r.RequestURI, Path: r.URL.Path, RawPath: r.URL.RawPath, Query: r.URL.RawQuery,
			Host: r.Host, Body: string(body), Err: fmt.Sprint(err), Header: header, Length: r.ContentLength, Close: r.Close,
		})
	})
	const host = "Host: localhost:1\r\n"
	for _, sent := range []string{
		"GET /f/a/b HTTP/1.1\r\n" + host + "\r\n",
		"GET /f/a/b?x=1&y=%20 HTTP/1.1\r\n" + host + "User-Agent: curl\r\nx-a-bC:  v \t\r\nX-Empty:\r\nCookie: a\r\nCookie: b\r\n\r\n",
		"GET /f/a%2Fb HTTP/1.1\r\n" + host + "\r\n",
		"GET /f/a! HTTP/1.1\r\n" + host + "\r\n",
		"GET /f/a? HTTP/1.1\r\n" + host + "\r\n",
		"GET /f/../v1 HTTP/1.1\r\n" + host + "\r\n",
		"GET /v1 HTTP/1.1\r\n" + host + "\r\n",
		"GET /f/a HTTP/1.0\r\n\r\n",
		"GET /f/a HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n",
		"GET /f/a HTTP/1.1\r\n" + host + "Connection: Keep-Alive\r\n\r\n",
		"POST /f/a HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhello",
		"POST /f/a HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n",
		"POST /f/a HTTP/1.1\r\n" + host + "Content-Length: 20000\r\n\r\n" + strings.Repeat("0123456789", 2000),
		"POST /f/a HTTP/1.1\r\n" + host + "Content-Length: 16384\r\n\r\n" + strings.Repeat("x", 16384),
		"POST /f/a HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"DELETE /f/a HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\nok",
		"BREW /f/a HTTP/1.1\r\n" + host + "\r\n",
		"GET /f/a HTTP/1.1\r\n" + host + "X-A: " + strings.Repeat("a", 7000) + "\r\n\r\n",
		"GET /f/a HTTP/1.1\r\n" + host + "X-A: " + strings.Repeat("a", 9000) + "\r\n\r\n",
		"GET /f/a HTTP/1.1\r\n" + host + strings.Repeat("X-A: 1\r\n", 70) + "\r\n",
		"GET /f/a HTTP/1.1\nHost: x\n\n",
		"GET /f/a HTTP/1.1\r\n" + host + "X-A: 1\r\n 2\r\n\r\n",
		"GET /f/a HTTP/1.1\r\n" + host + "Pragma: no-cache\r\n\r\n",
		"GET /f/a HTTP/1.1\r\n\r\n",
		"GET /f/a HTTP/1.1\r\n" + host + host + "\r\n",
		"GET /f/a HTTP/1.1\r\n" + host + "X A: 1\r\n\r\n",
		"\x16\x03\x01\x00\xa5\r\n\r\n",
		// Several on one connection: plain ones, then one that is handed over.
		strings.Repeat("GET /f/a HTTP/1.1\r\n"+host+"\r\n", 5) + "POST /f/b HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\nabcGET /f/c%20d HTTP/1.1\r\n" + host + "\r\nGET /f/e HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n",
	} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			n := strings.Count(sent, " HTTP/1.1\r\n") + 1
			if !strings.Contains(sent, "close") && !strings.Contains(sent, "HTTP/1.0") {
				n = max(n-1, 1)
			}
			if want, got := all(t, plain, sent, n, "GET"), all(t, fronted, sent, n, "GET"); !reflect.DeepEqual(got, want) {
				t.Errorf("%.200q is answered\n%s, by net/http\n%s", sent, text(got), text(want))
			}
		})
	}
}

func TestAnswersAsNetHTTP(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("0123456789abcdef", 10_000)
	for name, h := range map[string]http.HandlerFunc{
		"nothing": func(http.ResponseWriter, *http.Request) {},
		"text":    func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") },
		"page": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "<html>")
			_, _ = io.WriteString(w, "x")
		},
		"typed": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "a/b")
			_, _ = io.WriteString(w, "<html>")
		},
		"encoded": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "x")
			_, _ = io.WriteString(w, "hello")
		},
		"status": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(418)
			w.WriteHeader(500)
			_, _ = io.WriteString(w, "tea")
		},
		"odd status": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(799) },
		"no content": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(204)
		},
		"not allowed": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(304)
			_, err := io.WriteString(w, "x")
			w.Header().Set("X", fmt.Sprint(err))
		},
		"not modified": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99")
			w.WriteHeader(304)
		},
		"length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			_, _ = io.WriteString(w, "he")
			_, _ = io.WriteString(w, "llo")
		},
		"too long": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "2")
			_, _ = io.WriteString(w, "hi")
			_, _ = io.WriteString(w, "more")
		},
		"too short": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			_, _ = io.WriteString(w, "hi")
		},
		"large, length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(big)))
			_, _ = io.WriteString(w, big[:100])
			_, _ = io.WriteString(w, big[100:])
		},
		"large": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, big)
			_, _ = io.WriteString(w, "end")
		},
		"many parts": func(w http.ResponseWriter, _ *http.Request) {
			for i := range 2000 {
				fmt.Fprintf(w, "%d,", i)
			}
		},
		"flushed": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-A", "1")
			w.WriteHeader(200)
			w.Header().Set("X-A", "2")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "a")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "b")
		},
		"announced trailers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-Sum, X-None")
			_, _ = io.WriteString(w, "a")
			w.Header().Set("X-Sum", "1")
		},
		"other trailers": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "a")
			_ = http.NewResponseController(w).Flush()
			w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
		},
		"splitting": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["X-A"] = []string{"1\r\nSet-Cookie: a"}
			w.Header()["X B"] = []string{"1"}
		},
		"several": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["X-A"] = []string{"1", "2"}
			w.Header()["Date"] = []string{"now"}
		},
		"close": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			_, _ = io.WriteString(w, "bye")
		},
		"hints": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "x")
			w.WriteHeader(103)
			w.Header().Del("Link")
			_, _ = io.WriteString(w, "x")
		},
		"abort": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"panic": func(http.ResponseWriter, *http.Request) { panic("oh") },
		"abort later": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "a")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"body left": func(w http.ResponseWriter, r *http.Request) {
			_, _ = r.Body.Read(make([]byte, 1))
			_, _ = io.WriteString(w, "x")
		},
	} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			t.Run(name+" "+method, func(t *testing.T) {
				t.Parallel()
				plain, fronted := serving(t, h)
				body := ""
				if method == "POST" {
					body = "hello"
				}
				one := fmt.Sprintf("%s /f/a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, len(body), body)
				want, got := all(t, plain, one+one, 2, method), all(t, fronted, one+one, 2, method)
				if !reflect.DeepEqual(got, want) {
					t.Errorf("got\n%s, by net/http\n%s", text(got), text(want))
				}
			})
		}
	}
}

// The caller's leaving ends the context of its request.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	begun, ended := make(chan struct{}), make(chan error, 1)
	_, fronted := serving(t, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		select {
		case <-r.Context().Done():
			ended <- nil
		case <-time.After(20 * time.Second):
			ended <- errors.New("nothing was noticed")
		}
	})
	c := dial(t, fronted)
	_, _ = io.WriteString(c, "GET /f/a HTTP/1.1\r\nHost: x\r\n\r\n")
	<-begun
	_ = c.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// One who waits for an answer is not taken for one who has left, and may send
// the next request meanwhile.
func TestSlowAnswers(t *testing.T) {
	t.Parallel()
	_, fronted := serving(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
			_, _ = io.WriteString(w, "left")
		case <-time.After(300 * time.Millisecond):
			_, _ = io.WriteString(w, r.URL.Path)
		}
	})
	c := dial(t, fronted)
	in := bufio.NewReader(c)
	ask := func(path string) { _, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n") }
	want := func(path string) {
		got, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(got.Body); string(body) != path {
			t.Errorf("got %q, %v, want %q", body, err, path)
		}
	}
	ask("/f/1")
	want("/f/1")
	ask("/f/2")
	<-time.After(150 * time.Millisecond) // the watch has begun
	ask("/f/3")
	want("/f/2")
	want("/f/3")
	ask("/f/4?")
	want("/f/4")
}

func TestLimits(t *testing.T) {
	t.Parallel()
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	f := front.New(&http.Server{Handler: h, ReadHeaderTimeout: 200 * time.Millisecond, IdleTimeout: 200 * time.Millisecond}, "/f/")
	address := listening(t, f.Serve, f.Close)
	for name, sent := range map[string]string{
		"nothing":  "",
		"a part":   "GET /f/a HTTP/1.1\r\nHost",
		"idle":     "GET /f/a HTTP/1.1\r\nHost: x\r\n\r\n",
		"the next": "GET /f/a HTTP/1.1\r\nHost: x\r\n\r\nGET /f",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, address)
			_, _ = io.WriteString(c, sent)
			if _, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("the connection was not closed: %v", err)
			}
		})
	}
	t.Run("a slow body", func(t *testing.T) {
		t.Parallel()
		f := front.New(&http.Server{Handler: h, ReadHeaderTimeout: time.Minute}, "/f/")
		c := dial(t, listening(t, f.Serve, f.Close))
		_, _ = io.WriteString(c, "POST /f/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
		<-time.After(1500 * time.Millisecond) // longer than the front waits for it
		_, _ = io.WriteString(c, "world")
		got, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(got.Body); string(body) != "helloworld" {
			t.Errorf("got %q, %v", body, err)
		}
	})
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	f := front.New(&http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/f/slow" {
			close(begun)
			<-goOn
		}
		_, _ = io.WriteString(w, "done")
	})}, "/f/")
	address := listening(t, f.Serve, f.Close)
	idle, busy := dial(t, address), dial(t, address)
	_, _ = io.WriteString(idle, "GET /f/a HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(idle), nil); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(busy, "GET /f/slow HTTP/1.1\r\nHost: x\r\n\r\n")
	<-begun
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := f.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a request under way: %v", err)
	}
	if _, err := io.ReadAll(idle); err != nil {
		t.Errorf("an idle connection is not closed: %v", err)
	}
	close(goOn)
	if err := f.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	got, err := http.ReadResponse(bufio.NewReader(busy), nil)
	if err != nil || !got.Close {
		t.Fatalf("the request under way is answered %+v, %v", got, err)
	}
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("it still listens")
	}
}

// What is taken for plain, net/http takes too, and reads the same.
func FuzzHead(f *testing.F) {
	for _, s := range []string{
		"GET /f/a/b?c=d HTTP/1.1\r\nHost: localhost:80\r\nx-a: b\r\nX-A:\tc \r\n\r\n",
		"POST /f/a HTTP/1.1\r\nhost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabcd",
		"PUT /f/ HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 03\r\nConnection: keep-alive\r\n\r\n",
		"GET /f/%2e HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
		"HEAD /f/a;b,c:d@e=f HTTP/1.1\r\nHost: a_b\r\nCookie: a\r\nCookie: b\r\nTe: trailers\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		end := bytes.Index(data, []byte("\r\n\r\n"))
		if end < 0 {
			return
		}
		got, length := front.Parse(string(data[:end+4]), "/f/")
		if got == nil {
			return
		}
		want, err := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(data), len(data)+16))
		if err != nil {
			t.Fatalf("taken for plain, but net/http says: %v", err)
		}
		if want.TransferEncoding != nil || want.Trailer != nil || want.ContentLength != length {
			t.Fatalf("the length is %d, net/http has %d %v %v", length, want.ContentLength, want.TransferEncoding, want.Trailer)
		}
		if got.Method != want.Method || got.RequestURI != want.RequestURI || got.Host != want.Host || got.Close != want.Close || got.Proto != want.Proto {
			t.Fatalf("got %+v, net/http has %+v", got, want)
		}
		if !reflect.DeepEqual(got.URL, want.URL) || got.URL.EscapedPath() != want.URL.EscapedPath() {
			t.Fatalf("the URL is %#v, net/http has %#v", got.URL, want.URL)
		}
		if !reflect.DeepEqual(got.Header, want.Header) {
			t.Fatalf("the header is %q, net/http has %q", got.Header, want.Header)
		}
	})
}
