package e2e_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/api"
)

// echoed is what the path / of misbehave web answers.
type echoed struct {
	Method, Path, Query, Host, Body string
	Header                          http.Header
}

func TestEveryRouteOfTheAPI(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "routes", "f", "web")
	id := s.get(t, "/f/routes/f/hello").want(t, 200).run(t)
	document := decode[struct {
		OpenAPI string                               `json:"openapi"`
		Paths   map[string]map[string]map[string]any `json:"paths"`
	}](t, s.get(t, "/v1/openapi.json").want(t, 200).body)
	if !strings.HasPrefix(document.OpenAPI, "3.1") {
		t.Errorf("the document is of OpenAPI %q", document.OpenAPI)
	}
	fill := strings.NewReplacer("{app}", "routes", "{function}", "f", "{run}", id, "{path}", "hello", "{image}", "misbehave:1", "{version}", "1")
	asked := 0
	for path, methods := range document.Paths {
		if methods["get"] == nil {
			continue
		}
		a := s.get(t, fill.Replace(path)).want(t, 200)
		if strings.HasPrefix(path, "/v1") && a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s lacks the headers that keep browsers off: %v", path, a.header)
		}
		asked++
	}
	if asked < 12 {
		t.Errorf("the document has %d routes to get: %v", asked, slices.Sorted(maps.Keys(document.Paths)))
	}
	put := func(body string, header ...string) answer {
		r := s.request(t.Context(), t, "PUT", "/v1/apps/routes/functions/g", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		return send(t, r)
	}
	first := put(`{"image":"misbehave:1"}`).want(t, 200)
	put(`{"image":"misbehave:1"}`, "If-None-Match", "*").problem(t, 412, "conflict", `"g"`, `"routes"`)
	put(`{"image":"misbehave:1","cpu":2}`, "If-Match", `"wrong"`).problem(t, 412, "conflict")
	second := put(`{"image":"misbehave:1","cpu":2}`, "If-Match", first.header.Get("ETag")).want(t, 200)
	if f := decode[api.Function](t, second.body); f.Version != 2 || second.header.Get("ETag") == first.header.Get("ETag") {
		t.Errorf("a change should make version 2 and another ETag: %s", second.body)
	}
	p := put(`{"image":"misbehave:1","memroy":"1GiB","port":70000}`)
	p.want(t, 422)
	wantWords(t, p.body, "memroy", "port", `"code":"invalid"`)
	put(`{"image":`).want(t, 400)
	put(`{"image":"sha256:`+strings.Repeat("ab", 32)+`"}`).problem(t, 404, "image_not_found", "abab")
	s.call(t, "DELETE", "/v1/apps/routes/functions/g", "").want(t, 204)
	s.call(t, "DELETE", "/v1/apps/routes/functions/g", "").problem(t, 404, "not_found", `"g"`, `"routes"`)
	s.call(t, "POST", "/v1/apps", "").problem(t, 405, "invalid", "GET")
	s.get(t, "/v1/nothing").problem(t, 404, "not_found", "openapi.json")
	s.get(t, "/v1/runs?statee=failed").want(t, 422)
	s.get(t, "/v1/runs?cursor=nonsense").problem(t, 400, "invalid", "cursor")
	s.get(t, "/v1/runs/nonsense").problem(t, 400, "invalid", "run_")
	s.get(t, "/v1/runs/run_0000000000001").problem(t, 404, "not_found")
	s.call(t, "POST", "/v1/runs/"+id+"/cancel", "").problem(t, 409, "conflict", "succeeded")
	if a := s.get(t, "/").want(t, 200); !strings.Contains(a.body, `"hello"`) {
		t.Errorf("/ answers %s", a.body)
	}
}

// Pages of a list come one after the other, each run once.
func TestPagesOfRuns(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "pages", "f", "web")
	for range 25 {
		s.get(t, "/f/pages/f/hello").want(t, 200)
	}
	seen := map[string]bool{}
	cursor := ""
	for pages := 0; ; pages++ {
		l := decode[api.List[api.Run]](t, s.get(t, "/v1/runs?app=pages&limit=7&cursor="+cursor).want(t, 200).body)
		for _, r := range l.Items {
			if seen[r.ID] {
				t.Errorf("%s is listed twice", r.ID)
			}
			seen[r.ID] = true
		}
		if cursor = l.NextCursor; cursor == "" {
			break
		}
		if pages > 10 {
			t.Fatal("the list does not end")
		}
	}
	if len(seen) != 25 {
		t.Errorf("%d runs were listed, want 25", len(seen))
	}
}

func TestFunctionURL(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "url", "größe_1", "web")
	for _, c := range []struct{ method, target, path, query, body string }{
		{"GET", "/f/url/gr%C3%B6%C3%9Fe_1", "/", "", ""},
		{"GET", "/f/url/gr%C3%B6%C3%9Fe_1/", "/", "", ""},
		{"POST", "/f/url/gr%C3%B6%C3%9Fe_1/a//b/%2e%2e/%2F?x=1&x=2&y=%20", "/a//b/%2e%2e/%2F", "x=1&x=2&y=%20", "body"},
		{"DELETE", "/f/url/gr%C3%B6%C3%9Fe_1/x?", "/x", "", ""},
		{"PATCH", "/f/url/gr%C3%B6%C3%9Fe_1/x/", "/x/", "", strings.Repeat("z", 100_000)},
		{"PROPFIND", "/f/url/gr%C3%B6%C3%9Fe_1/dav", "/dav", "", ""},
	} {
		a := s.call(t, c.method, c.target, c.body).want(t, 200)
		e := decode[echoed](t, a.body)
		if e.Method != c.method || e.Path != c.path || e.Query != c.query || e.Body != c.body {
			t.Errorf("%s %s came as %s %s?%s with %d bytes", c.method, c.target, e.Method, e.Path, e.Query, len(e.Body))
		}
		r := s.wantRun(t, a.run(t), api.StateSucceeded, "")
		if r.Method != c.method || r.Path != c.path || r.Status != 200 || r.BytesIn != int64(len(c.body)) || r.BytesOut != int64(len(a.body)) {
			t.Errorf("the record of %s %s is %+v", c.method, c.target, r)
		}
	}
	if a := s.call(t, "HEAD", "/f/url/gr%C3%B6%C3%9Fe_1/hello", "").want(t, 200); a.body != "" {
		t.Errorf("HEAD was answered with the body %q", a.body)
	}
	s.get(t, "/f/url/nothing").problem(t, 404, "not_found", `"nothing"`, `"url"`)
	s.get(t, "/f/nothing/f").problem(t, 404, "not_found", "nothing")
	s.get(t, "/f/url").problem(t, 404, "not_found", "/f/url")
}

var timing = regexp.MustCompile(`^queue;dur=[0-9.]+, start;dur=([0-9.]+);desc=(cold|hot), run;dur=[0-9.]+$`)

func TestHeadersOfAnAnswer(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "headers", "f", "web")
	s.create(t, "headers", "job", "cat", "--contract", "job")
	for i, want := range []string{"cold", "hot"} {
		a := s.get(t, "/f/headers/f/").want(t, 200)
		m := timing.FindStringSubmatch(a.header.Get("Server-Timing"))
		if m == nil || m[2] != want || (m[1] == "0") != (want == "hot") {
			t.Errorf("Server-Timing of call %d is %q", i+1, a.header.Get("Server-Timing"))
		}
		r := s.wantRun(t, a.run(t), api.StateSucceeded, "")
		if r.Cold != (want == "cold") || (r.Start != nil) != r.Cold || r.Trigger != "http" || r.Attempt != 1 || r.Principal != "local" {
			t.Errorf("the record of call %d is %+v", i+1, r)
		}
		if a.header.Get("X-Own") != "mine" || a.header.Get("Content-Type") != "application/json" || a.header.Get("Content-Security-Policy") != "sandbox" {
			t.Errorf("the header of call %d is %v", i+1, a.header)
		}
	}
	a := s.get(t, "/f/headers/job").want(t, 200)
	if m := timing.FindStringSubmatch(a.header.Get("Server-Timing")); m == nil || m[2] != "cold" {
		t.Errorf("Server-Timing of a job is %q", a.header.Get("Server-Timing"))
	}
}

// The log of a run has what it printed, told apart by stream.
func TestLogOfAnHTTPRun(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "weblog", "f", "web")
	for i := range 3 {
		a := s.get(t, fmt.Sprintf("/f/weblog/f/call-%d", i)).want(t, 200)
		got := map[string]string{}
		for _, l := range s.lines(t, a.run(t)) {
			got[l.Stream] += l.Text + "\n"
		}
		want := map[string]string{"stdout": fmt.Sprintf("echoing GET /call-%d\n", i), "stderr": "to stderr\n"}
		if !maps.Equal(got, want) {
			t.Errorf("the log of call %d is %q, want %q", i, got, want)
		}
	}
}

func variables(env []string) map[string]string {
	m := map[string]string{}
	for _, kv := range env {
		k, v, _ := strings.Cut(kv, "=")
		m[k] = v
	}
	return m
}

// wantVariables fails the test unless the environment has exactly these
// variables; a value that begins with ~ is a pattern.
func wantVariables(t *testing.T, got, want map[string]string) {
	t.Helper()
	for k, v := range want {
		if pattern, ok := strings.CutPrefix(v, "~"); ok {
			if !regexp.MustCompile("^(?:" + pattern + ")$").MatchString(got[k]) {
				t.Errorf("%s is %q, want %s", k, got[k], pattern)
			}
		} else if have, ok := got[k]; !ok || have != v {
			t.Errorf("%s is %q, want %q", k, have, v)
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s=%s should not be there", k, v)
		}
	}
}

const (
	tracePattern = "~00-0123456789abcdef0123456789abcdef-[0-9a-f]{16}-01"
	traceparent  = "00-0123456789abcdef0123456789abcdef-00f067aa0ba902b7-01"
	runPattern   = "~run_[0-9a-z]{13}"
	timePattern  = `~\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`
)

// What a job finds in its environment (contracts: "What the process gets").
func TestEnvironmentOfAJob(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "environ", "job", "env", "--contract", "job", "--cpu", "0.5", "--env", "OWN=1", "--env", "WHO=function", "--timeout", "20s")
	r := s.request(t.Context(), t, "PUT", "/f/environ/job/a/b?c=d&e", strings.NewReader("x"))
	for k, v := range map[string]string{
		"Content-Type": "text/plain", "Accept": "text/*", "Accept-Language": "nb", "User-Agent": "e2e", "Traceparent": traceparent,
		"Authorization": "Bearer secret", "Cookie": "secret", "X-Other": "secret", "X-Request-Id": "77",
	} {
		r.Header.Set(k, v)
	}
	began := time.Now()
	a := send(t, r).want(t, 200)
	got := variables(decode[[]string](t, a.body))
	wantVariables(t, got, map[string]string{
		"PATH": "~/.+", "HOME": "/root", "HOSTNAME": "job",
		"FROM_IMAGE": "yes", "WHO": "function", "OWN": "1",
		"DAYFLY_APP": "environ", "DAYFLY_FUNCTION": "job", "DAYFLY_VERSION": "1", "DAYFLY_MEMORY": "67108864", "DAYFLY_CPU": "0.5", "DAYFLY_NODE": "~.+",
		"DAYFLY_RUN_ID": a.run(t), "DAYFLY_ATTEMPT": "1", "DAYFLY_DEADLINE": timePattern, "DAYFLY_TRIGGER": "http",
		"DAYFLY_IDEMPOTENCY_KEY": "~.+", "TRACEPARENT": tracePattern,
		"DAYFLY_METHOD": "PUT", "DAYFLY_PATH": "/a/b", "DAYFLY_QUERY": "c=d&e",
		"DAYFLY_HEADER_CONTENT_TYPE": "text/plain", "DAYFLY_HEADER_ACCEPT": "text/*", "DAYFLY_HEADER_ACCEPT_LANGUAGE": "nb",
		"DAYFLY_HEADER_USER_AGENT": "e2e", "DAYFLY_HEADER_X_REQUEST_ID": "77",
	})
	deadline, err := time.Parse(time.RFC3339, got["DAYFLY_DEADLINE"])
	if left := deadline.Sub(began); err != nil || left < 15*time.Second || left > 20*time.Second+patience {
		t.Errorf("the deadline is %s after the call, want a little over 20s", left)
	}
}

// What a web server finds in its environment, and in each request.
func TestEnvironmentOfAWebServer(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "environ", "web", "web", "--cpu", "2", "--env", "OWN=1")
	a := s.get(t, "/f/environ/web/env").want(t, 200)
	wantVariables(t, variables(decode[[]string](t, a.body)), map[string]string{
		"PATH": "~/.+", "HOME": "/root", "HOSTNAME": "web", "FROM_IMAGE": "yes", "WHO": "image", "OWN": "1",
		"DAYFLY_APP": "environ", "DAYFLY_FUNCTION": "web", "DAYFLY_VERSION": "1", "DAYFLY_MEMORY": "67108864", "DAYFLY_CPU": "2", "DAYFLY_NODE": "~.+",
		"PORT": "8080", "K_SERVICE": "web", "K_REVISION": "~web-.+", "K_CONFIGURATION": "web",
	})
	r := s.request(t.Context(), t, "GET", "/f/environ/web/x", nil)
	for k, v := range map[string]string{
		"Traceparent": traceparent, "Tracestate": "a=b", "Dayfly-Run-Id": "forged", "Dayfly-Trigger": "forged", "Dayfly_Run_Id": "forged",
		"Connection": "X-Hop", "X-Hop": "forged", "X-Plain": "5",
	} {
		r.Header.Set(k, v)
	}
	a = send(t, r).want(t, 200)
	e := decode[echoed](t, a.body)
	for k, want := range map[string]string{
		"Dayfly-Run-Id": a.run(t), "Dayfly-Attempt": "1", "Dayfly-Deadline": timePattern, "Dayfly-Trigger": "http",
		"Traceparent": tracePattern, "Tracestate": "a=b", "Forwarded": "~.*for=.*", "X-Plain": "5", "X-Hop": "", "Dayfly_run_id": "",
	} {
		got := e.Header.Get(k)
		pattern, ok := strings.CutPrefix(want, "~")
		if ok && !regexp.MustCompile("^(?:"+pattern+")$").MatchString(got) || !ok && got != want {
			t.Errorf("the function got %s: %q, want %q", k, got, want)
		}
	}
	// The port that the function sets, by flag or by variable.
	s.create(t, "environ", "port", "web", "--port", "9999")
	s.create(t, "environ", "portenv", "web", "--env", "PORT=7777")
	for name, port := range map[string]string{"port": "9999", "portenv": "7777"} {
		env := variables(decode[[]string](t, s.get(t, "/f/environ/"+name+"/env").want(t, 200).body))
		if env["PORT"] != port {
			t.Errorf("PORT of %s is %s, want %s", name, env["PORT"], port)
		}
	}
}

// A conversation: each side hears the other before it has finished.
func TestStreamingBothWays(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "stream", "f", "web")
	in, say := io.Pipe()
	t.Cleanup(func() { _ = say.Close() })
	heads := make(chan *http.Response, 1)
	go func() {
		r := s.request(t.Context(), t, "POST", "/f/stream/f/talk", in)
		got, err := web.Do(r)
		if err == nil {
			heads <- got
		}
	}()
	if _, err := io.WriteString(say, "hello\n"); err != nil {
		t.Fatal(err)
	}
	got := within(t, "the head of the answer", patience, heads)
	defer func() { _ = got.Body.Close() }()
	answers := bufio.NewReader(got.Body)
	for i := range 5 {
		line, err := answers.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("you said %d\n", i-1)
		if i == 0 {
			want = "you said hello\n"
		}
		if line != want {
			t.Fatalf("the answer to line %d is %q, want %q", i, line, want)
		}
		if _, err := fmt.Fprintf(say, "%d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	if r := s.runOf(t, got.Header.Get(api.HeaderRunID)); r.State != api.StateRunning {
		t.Errorf("the run should go on: %+v", r)
	}
	if err := say.Close(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(answers); err != nil || string(rest) != "you said 4\n" {
		t.Errorf("the rest of the answer is %q, %v", rest, err)
	}
	s.wantRun(t, got.Header.Get(api.HeaderRunID), api.StateSucceeded, "")
}

// rss gives how much memory a process uses, in bytes.
func rss(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("/proc/%d/status does not tell VmRSS", pid)
	return 0
}

// peak watches the memory of a process until the function it gives is called,
// which tells the most that was seen.
func peak(t *testing.T, pid int) (most func() int64) {
	t.Helper()
	stop := make(chan struct{})
	result := make(chan int64, 1)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		var top int64
		for {
			select {
			case <-stop:
				result <- top
				return
			case <-tick.C:
				top = max(top, rss(t, pid))
			}
		}
	}()
	return sync.OnceValue(func() int64 { close(stop); return <-result })
}

// Bodies of 100 MiB, both ways, go through and not into memory.
func TestLargeBodiesThroughAWebServer(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	loadMisbehave(t, s)
	s.create(t, "large", "f", "web")
	s.get(t, "/f/large/f/hello").want(t, 200)
	const size = 100 << 20
	before := rss(t, s.cmd.Process.Pid)
	most := peak(t, s.cmd.Process.Pid)
	for _, known := range []bool{true, false} {
		r := s.request(t.Context(), t, "POST", "/f/large/f/sink", io.LimitReader(zeroReader{}, size))
		if known {
			r.ContentLength = size
		}
		a := send(t, r).want(t, 200)
		if a.body != fmt.Sprintf("%d <nil>\n", size) {
			t.Errorf("the function counted %q", a.body)
		}
		if r := s.wantRun(t, a.run(t), api.StateSucceeded, ""); r.BytesIn != size {
			t.Errorf("the record counts %d bytes in", r.BytesIn)
		}
	}
	got, err := web.Do(s.request(t.Context(), t, "GET", fmt.Sprintf("/f/large/f/big?bytes=%d", size), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = got.Body.Close() }()
	if n, err := io.Copy(io.Discard, got.Body); n != size || err != nil {
		t.Errorf("%d bytes came: %v", n, err)
	}
	s.wantRun(t, got.Header.Get(api.HeaderRunID), api.StateSucceeded, "")
	if grown := most() - before; grown > 30<<20 {
		t.Errorf("the server grew by %d MiB with bodies of 100 MiB", grown>>20)
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestJob(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.deploy(t, "job", `
functions:
  cat: {image: "misbehave:1", contract: job, memory: 64MiB, command: [/misbehave, cat]}
  typed: {image: "misbehave:1", contract: job, memory: 64MiB, command: [/misbehave, cat], content_type: application/x-own}
  argument: {image: "misbehave:1", contract: job, memory: 64MiB, command: [/misbehave, args], args: body}
  streamed: {image: "misbehave:1", contract: job, memory: 64MiB, command: [/misbehave, hang, first], stream: true}
  result: {image: "misbehave:1", contract: job, memory: 64MiB, command: [/misbehave, zeros, "2000000"], limits: {result: 1MiB}}
  limited: {image: "misbehave:1", contract: job, memory: 64MiB, command: [/misbehave, cat], limits: {body: 1MiB}}
  steps: {image: "misbehave:1", contract: job, memory: 64MiB, command: [/misbehave, steps, 1ms, 1ms, 1ms]}
`)
	t.Run("stdin", func(t *testing.T) {
		t.Parallel()
		for _, body := range []string{"", "some text\n", strings.Repeat("0123456789", 900_000)} {
			a := s.call(t, "POST", "/f/job/cat", body).want(t, 200)
			if a.body != body {
				t.Errorf("of %d bytes %d came back", len(body), len(a.body))
			}
			r := s.wantRun(t, a.run(t), api.StateSucceeded, "")
			if r.BytesIn != int64(len(body)) || r.BytesOut != int64(len(body)) || !r.Cold || r.Status != 200 {
				t.Errorf("the record of a job: %+v", r)
			}
		}
	})
	t.Run("content type", func(t *testing.T) {
		t.Parallel()
		for _, c := range []struct{ target, body, want string }{
			{"/f/job/cat", "plain text", "text/plain; charset=utf-8"},
			{"/f/job/cat", "\x00\x01\x02\xff", "application/octet-stream"},
			{"/f/job/typed", "plain text", "application/x-own"},
		} {
			if got := s.call(t, "POST", c.target, c.body).want(t, 200).header.Get("Content-Type"); got != c.want {
				t.Errorf("%s with %q is answered as %s, want %s", c.target, c.body, got, c.want)
			}
		}
	})
	t.Run("argument", func(t *testing.T) {
		t.Parallel()
		for _, body := range []string{"one argument with spaces 'and' \"quotes\"\n", "", strings.Repeat("a", 128<<10-1)} {
			got := decode[[]string](t, s.call(t, "POST", "/f/job/argument", body).want(t, 200).body)
			if !slices.Equal(got, []string{body}) {
				t.Errorf("of an argument of %d bytes came %d arguments", len(body), len(got))
			}
		}
		p := s.call(t, "POST", "/f/job/argument", strings.Repeat("a", 128<<10+1)).problem(t, 413, "too_large", "131071B", "argument")
		s.wantRun(t, p.RunID, api.StateFailed, "too_large")
		s.call(t, "POST", "/f/job/argument", "a\x00b").problem(t, 400, "invalid", "zero byte")
	})
	t.Run("progress", func(t *testing.T) {
		t.Parallel()
		a := s.call(t, "POST", "/f/job/steps", "").want(t, 200)
		r := s.wantRun(t, a.run(t), api.StateSucceeded, "")
		if r.Progress == nil || *r.Progress != (api.Progress{Percent: 100, Text: "step 3"}) {
			t.Errorf("the progress is %+v", r.Progress)
		}
		wantWords(t, s.does(t, "run", "show", r.ID), "100% step 3")
	})
	t.Run("body over the limit", func(t *testing.T) {
		t.Parallel()
		p := s.call(t, "POST", "/f/job/limited", strings.Repeat("a", 1<<20+1)).problem(t, 413, "too_large", "1MiB", "limits.body")
		s.wantRun(t, p.RunID, api.StateFailed, "too_large")
		// Of unknown length: found out while it comes.
		r := s.request(t.Context(), t, "POST", "/f/job/limited", io.MultiReader(bytes.NewReader(make([]byte, 2<<20))))
		send(t, r).problem(t, 413, "too_large", "limits.body")
		s.call(t, "POST", "/f/job/limited", strings.Repeat("a", 1<<20)).want(t, 200)
		s.fails(t, 1, []string{"limits.body"}, "invoke", "job/limited", "-d", "@"+save(t, "body", make([]byte, 1<<20+1)))
	})
	t.Run("default limit of a body", func(t *testing.T) {
		t.Parallel()
		s.call(t, "POST", "/f/job/cat", strings.Repeat("a", 10<<20+1)).problem(t, 413, "too_large", "10MiB")
	})
	t.Run("result over the limit", func(t *testing.T) {
		t.Parallel()
		p := s.call(t, "POST", "/f/job/result", "").problem(t, 502, "result_too_large", "1MiB", "limits.result")
		s.wantRun(t, p.RunID, api.StateFailed, "result_too_large")
		s.fails(t, 20, []string{"limits.result"}, "invoke", "job/result", "-d", "")
	})
	t.Run("stream", func(t *testing.T) {
		t.Parallel()
		got, err := web.Do(s.request(t.Context(), t, "POST", "/f/job/streamed", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = got.Body.Close() }()
		line := make([]byte, len("first\n"))
		if _, err := io.ReadFull(got.Body, line); err != nil || string(line) != "first\n" || got.StatusCode != 200 {
			t.Fatalf("the first part should come before the end: %d %q %v", got.StatusCode, line, err)
		}
		id := got.Header.Get(api.HeaderRunID)
		if r := s.runOf(t, id); r.State != api.StateRunning {
			t.Errorf("the run should go on: %+v", r)
		}
		s.does(t, "run", "cancel", id)
		if _, err := io.ReadAll(got.Body); err == nil {
			t.Error("the answer of a run that was cancelled should be cut off")
		}
		s.wantRun(t, id, api.StateCancelled, "cancelled_by_user")
	})
}

// A streamed job that fails after its first byte says so in a trailer to
// those who read them.
func TestTrailerOfAStreamThatFails(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.deploy(t, "trailer", `
functions:
  f: {image: "misbehave:1", contract: job, memory: 64MiB, command: [/misbehave, hang, first], stream: true, timeout: 500ms}
`)
	r := s.request(t.Context(), t, "POST", "/f/trailer/f", nil)
	r.Header.Set("Te", "trailers")
	got, err := web.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = got.Body.Close() }()
	body, err := io.ReadAll(got.Body)
	if got.StatusCode != 200 || string(body) != "first\n" || err != nil || got.Trailer.Get(api.HeaderRunState) != "timed_out" {
		t.Errorf("the answer is %d %q, %v, with the trailer %v", got.StatusCode, body, err, got.Trailer)
	}
	if a := s.call(t, "POST", "/f/trailer/f", ""); a.err == nil || a.body != "first\n" {
		t.Errorf("without trailers the answer should be cut off: %+v", a)
	}
	s.fails(t, 20, []string{"timed_out"}, "invoke", "trailer/f", "-d", "")
}
