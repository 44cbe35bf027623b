package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/api"
)

// memory gives a value of a process's memory in bytes, such as VmRSS or VmHWM
// (proc_pid_status(5)).
func (s *server) memory(t *testing.T, name string) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "\n"+name+":")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(line, " kB")), 10, 64)
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	return n << 10
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// flood is a body of a known sum and size that is made as it is read.
type flood struct {
	left int64
	at   byte
	sum  hash.Hash
}

func (f *flood) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), f.left)]
	for i := 0; i < len(p); i += 4096 { // a mark on each page is enough to tell an order
		f.at++
		p[i] = f.at
	}
	f.left -= int64(len(p))
	f.sum.Write(p)
	return len(p), nil
}

// A body of one gibibyte goes to a function and comes back while it goes, and
// the server keeps none of it.
func TestGibibyteBothWays(t *testing.T) {
	t.Parallel()
	const size = 1 << 30
	const most = 32 << 20 // by which the server may grow
	s := start(t, options{})
	loadMisbehave(t, s)
	s.create(t, "flood", "f", "web", "--timeout", "2m", "--cpu", "2")
	s.get(t, "/f/flood/f/hello").want(t, 200)
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.cmd.Process.Pid), []byte("5"), 0); err != nil {
		t.Fatalf("reset the peak of the server's memory: %v", err)
	}
	before := s.memory(t, "VmHWM")
	began := time.Now()
	up := &flood{left: size, sum: crc32.New(castagnoli)}
	r := s.request(t.Context(), t, "POST", "/f/flood/f/pump", up)
	got, err := web.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	down := crc32.New(castagnoli)
	n, err := io.CopyBuffer(struct{ io.Writer }{down}, got.Body, make([]byte, 256<<10))
	if err != nil || n != size || !bytes.Equal(down.Sum(nil), up.sum.Sum(nil)) {
		t.Errorf("%d of %d bytes came back, %v; the same: %v", n, int64(size), err, bytes.Equal(down.Sum(nil), up.sum.Sum(nil)))
	}
	grown := s.memory(t, "VmHWM") - before
	t.Logf("%d bytes each way in %s; the server's peak grew by %d KiB from %d KiB", int64(size), time.Since(began).Round(time.Millisecond), grown>>10, before>>10)
	if grown > most {
		t.Errorf("the server's memory grew by %d bytes at the most, want under %d", grown, most)
	}
	run := s.wantRun(t, got.Header.Get(api.HeaderRunID), api.StateSucceeded, "")
	if run.BytesIn != size || run.BytesOut != size {
		t.Errorf("the run has %d bytes in and %d out", run.BytesIn, run.BytesOut)
	}
}

// Events come as they are sent; the caller's last one reaches the function,
// and a caller that leaves ends its request.
func TestServerSentEvents(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "events", "f", "web")
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r := s.request(ctx, t, "GET", "/f/events/f/events", nil)
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Last-Event-ID", "41")
	got, err := web.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	in := bufio.NewScanner(got.Body)
	for i := 42; i <= 44; i++ {
		want := fmt.Sprintf("id: %d|data: event %d||", i, i)
		event := ""
		for range 3 {
			if !in.Scan() {
				t.Fatalf("the events ended: %v", in.Err())
			}
			event += in.Text() + "|"
		}
		if event != want {
			t.Errorf("the event is %q, want %q", event, want)
		}
	}
	leave()
	s.wantRun(t, got.Header.Get(api.HeaderRunID), "cancelled", "client_gone")
}

// Trailers go both ways; those that may not be there do not.
func TestTrailers(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "trailers", "f", "web")
	for name, client := range map[string]*http.Client{"HTTP/1.1": web, "HTTP/2": h2c(t)} {
		body := io.MultiReader(strings.NewReader("some "), strings.NewReader("bytes"))
		r := s.request(t.Context(), t, "POST", "/f/trailers/f/trailers", body)
		r.Trailer = http.Header{"X-Check": {"abc"}, "X-Other": {"1", "2"}, "Dayfly-Run-Id": {"forged"}, "Set-Cookie": {"x"}}
		got, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		saw, err := io.ReadAll(got.Body)
		_ = got.Body.Close()
		if err != nil || got.StatusCode != 200 {
			t.Fatalf("%s: %d, %v: %s", name, got.StatusCode, err, saw)
		}
		want := http.Header{"X-Check": {"abc"}, "X-Other": {"1", "2"}}
		if sent := decode[http.Header](t, string(saw)); fmt.Sprint(sent) != fmt.Sprint(want) {
			t.Errorf("%s: the function got the trailers %v, want %v", name, sent, want)
		}
		want = http.Header{"X-Sum": {"in the trailer"}, "X-Count": {"10"}, "X-Unannounced": {"1"}}
		if fmt.Sprint(got.Trailer) != fmt.Sprint(want) {
			t.Errorf("%s: the caller got the trailers %v, want %v", name, got.Trailer, want)
		}
		if got.Header.Get("X-Sum") != "in the header" {
			t.Errorf("%s: the header is %v", name, got.Header)
		}
	}
}

// Of interim answers, early hints reach the caller, others do not.
func TestEarlyHints(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "hints", "f", "web")
	for name, client := range map[string]*http.Client{"HTTP/1.1": web, "HTTP/2": h2c(t)} {
		var interim []string
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			interim = append(interim, fmt.Sprint(code, h["Link"]))
			return nil
		}}
		got, err := client.Do(s.request(httptrace.WithClientTrace(t.Context(), trace), t, "GET", "/f/hints/f/hints", nil))
		if err != nil {
			t.Fatal(err)
		}
		_ = got.Body.Close()
		if fmt.Sprint(interim) != "[103 [</style.css>; rel=preload]]" {
			t.Errorf("%s: the interim answers are %v", name, interim)
		}
		if got.StatusCode != 200 || got.Header.Get("X-Final") != "1" || got.Header.Get("Link") != "" {
			t.Errorf("%s: the answer is %d %v", name, got.StatusCode, got.Header)
		}
	}
}

// A caller that asks first sends its body only to a function that wants it.
func TestContinue(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "continue", "f", "web")
	for _, c := range []struct {
		path, want string
		status     int
	}{{"/refuse", "too much\n", 413}, {"/sink", "100000 <nil>\n", 200}} {
		asked := false
		trace := &httptrace.ClientTrace{Got100Continue: func() { asked = true }}
		body := &flood{left: 100_000, sum: crc32.New(castagnoli)}
		r := s.request(httptrace.WithClientTrace(t.Context(), trace), t, "POST", "/f/continue/f"+c.path, body)
		r.Header.Set("Expect", "100-continue")
		r.ContentLength = 100_000
		client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: patience}}
		got, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(got.Body)
		_ = got.Body.Close()
		if err != nil || got.StatusCode != c.status || string(text) != c.want {
			t.Errorf("%s: %d %q, %v", c.path, got.StatusCode, text, err)
		}
		if wanted := c.status == 200; asked != wanted || (body.left == 0) != wanted {
			t.Errorf("%s: asked for the body: %v; %d bytes of it were not sent", c.path, asked, body.left)
		}
		client.CloseIdleConnections()
	}
}

// h2c is a client of HTTP/2 without TLS.
func h2c(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// A call that streams both ways over HTTP/2, as gRPC's do, streams through to
// a function of HTTP/1.1: each line is answered before the next is sent.
func TestStreamBothWaysOverHTTP2(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "rpc", "f", "web")
	out, in := io.Pipe()
	r := s.request(t.Context(), t, "POST", "/f/rpc/f/rpc", out)
	r.Header.Set("Te", "trailers")
	r.Header.Set("Content-Type", "application/grpc+lines")
	said := make(chan error, 1)
	go func() { // the head of the answer comes with the first line
		_, err := io.WriteString(in, "line 0\n")
		said <- err
	}()
	got, err := h2c(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if err := within(t, "the first line is sent", patience, said); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(got.Body)
	for i := range 5 {
		if i > 0 {
			if _, err := fmt.Fprintf(in, "line %d\n", i); err != nil {
				t.Fatal(err)
			}
		}
		if line, err := lines.ReadString('\n'); line != fmt.Sprintf("you said line %d\n", i) {
			t.Fatalf("got %q, %v", line, err)
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Errorf("the rest is %q, %v", rest, err)
	}
	if got.ProtoMajor != 2 || got.StatusCode != 200 || got.Trailer.Get("Grpc-Status") != "trailers 1" {
		t.Errorf("got HTTP/%d %d with the trailers %v", got.ProtoMajor, got.StatusCode, got.Trailer)
	}
	s.wantRun(t, got.Header.Get(api.HeaderRunID), api.StateSucceeded, "")
}

// Many calls share one connection of HTTP/2, and each has its own run.
func TestManyCallsOverOneHTTP2Connection(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "many", "f", "web", "--per-instance", "20")
	client := h2c(t)
	answers := make(chan answer, 50)
	for i := range cap(answers) {
		r := s.request(t.Context(), t, "POST", "/f/many/f/echo", strings.NewReader(strconv.Itoa(i)))
		go func() {
			got, err := client.Do(r)
			if err != nil {
				answers <- answer{err: err}
				return
			}
			defer func() { _ = got.Body.Close() }()
			b, err := io.ReadAll(got.Body)
			answers <- answer{status: got.StatusCode, header: got.Header, body: string(b), err: err}
		}()
	}
	runs, bodies := map[string]bool{}, map[string]bool{}
	for range cap(answers) {
		a := within(t, "a call is answered", patience, answers).want(t, 200)
		runs[a.run(t)] = true
		bodies[decode[echoed](t, a.body).Body] = true
	}
	if len(runs) != cap(answers) || len(bodies) != cap(answers) {
		t.Errorf("%d calls made %d runs, and %d bodies came through", cap(answers), len(runs), len(bodies))
	}
}
