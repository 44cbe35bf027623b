package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/api"
)

// kitEcho is what the function of testdata/kit answers.
type kitEcho struct {
	Header  http.Header
	Body    string
	Chunked bool
	Echo    string
	Read    int64
	Error   string
	Env     []string
	User    [2]int
}

// order is what the function is asked to do; see testdata/kit/knob.go.
type order map[string]any

// loadKit puts the image kit:1 into a server.
func loadKit(t *testing.T, s *server) {
	t.Helper()
	data, err := os.ReadFile(built("kit"))
	if err != nil {
		t.Fatal(err)
	}
	f := fixture{names: []string{"kit:1"}, entrypoint: []string{"/kit"}, files: map[string][]byte{"kit": data}}
	tar, _ := f.layout(t)
	s.does(t, "image", "load", save(t, "kit.tar", tar))
}

// kit makes a function of the contract fdk; flags are those of function create.
func (s *server) kit(t *testing.T, app, name string, flags ...string) {
	t.Helper()
	loadKit(t, s)
	s.does(t, append([]string{"function", "create", name, "--app", app, "--image", "kit:1", "--contract", "fdk", "--memory", "64MiB"}, flags...)...)
}

// order calls a function with an order.
func (s *server) order(t *testing.T, target string, o order) answer {
	t.Helper()
	body, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	r := s.request(t.Context(), t, "POST", target, strings.NewReader(string(body)))
	r.Header.Set("Content-Type", "application/json")
	return send(t, r)
}

// texts gives the lines of a run's log of a stream; "" for both.
func (s *server) texts(t *testing.T, run, stream string) []string {
	t.Helper()
	var out []string
	for _, l := range s.lines(t, run) {
		if stream == "" || l.Stream == stream {
			out = append(out, l.Text)
		}
	}
	return out
}

func TestFDKFunction(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.kit(t, "kit", "f", "--env", "OWN=1", "--env", "FN_TYPE=mine")
	r := s.request(t.Context(), t, "PUT", "/f/kit/f/a%20b?x=1&y=%2f", strings.NewReader(`{"isDebug":true}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header["X-Two"] = []string{"1", "2"}
	r.Header.Set("Fn-Call-Id", "forged")
	a := send(t, r).want(t, 200)
	e := decode[kitEcho](t, a.body)
	run := s.wantRun(t, a.run(t), api.StateSucceeded, "")
	if !e.Chunked || e.Body != `{"isDebug":true}` || e.User != [2]int{1000, 1000} {
		t.Errorf("it got %+v", e)
	}
	for name, want := range map[string][]string{
		"Fn-Call-Id": {run.ID}, "Fn-Intent": {"httprequest"}, "Fn-Http-Method": {"PUT"},
		"Fn-Http-Request-Url": {s.url + "/f/kit/f/a%20b?x=1&y=%2f"}, "Content-Type": {"application/json"},
		"Fn-Http-H-X-Two": {"1", "2"}, "Fn-Http-H-Fn-Call-Id": {"forged"}, "Dayfly-Run-Id": {run.ID}, "Dayfly-Trigger": {"http"}, "Dayfly-Attempt": {"1"},
	} {
		if !slices.Equal(e.Header[name], want) {
			t.Errorf("the field %s is %q, want %q", name, e.Header[name], want)
		}
	}
	deadline, err := time.Parse(time.RFC3339, e.Header.Get("Fn-Deadline"))
	if d := deadline.Sub(run.StartedAt); err != nil || d < 28*time.Second || d > 31*time.Second {
		t.Errorf("the deadline is %q, %s after the start", e.Header.Get("Fn-Deadline"), d)
	}
	f := decode[api.Function](t, s.get(t, "/v1/apps/kit/functions/f").want(t, 200).body)
	for _, want := range []string{
		"FN_LISTENER=unix:/tmp/iofs/lsnr.sock", "FN_FORMAT=http-stream", "FN_TYPE=sync", "FN_MEMORY=64", "FN_APP_NAME=kit", "FN_FN_NAME=f",
		"FN_FN_ID=" + f.ID, "FN_LOGFRAME_HDR=Fn-Call-Id", "DAYFLY_APP=kit", "DAYFLY_FUNCTION=f", "DAYFLY_VERSION=1", "DAYFLY_MEMORY=67108864",
		"DAYFLY_CPU=1", "DAYFLY_NODE=0", "OWN=1", "HOME=/",
	} {
		if !slices.Contains(e.Env, want) {
			t.Errorf("the environment lacks %s: %q", want, e.Env)
		}
	}
	if got := s.texts(t, run.ID, ""); !slices.Equal(got, []string{"debug: it got 16 bytes"}) {
		t.Errorf("the log is %q", got)
	}
	for name := range a.header {
		if strings.HasPrefix(name, "Fn-") {
			t.Errorf("the caller gets %s", name)
		}
	}
	for _, large := range []int{1, 20 << 10, 3 << 20} {
		a := s.call(t, "POST", "/f/kit/f", strings.Repeat("x", large)).want(t, 200)
		if e := decode[kitEcho](t, a.body); len(e.Body) != large || !e.Chunked {
			t.Errorf("of %d bytes %d came, in chunks: %v", large, len(e.Body), e.Chunked)
		}
	}
	if a := s.call(t, "HEAD", "/f/kit/f", "").want(t, 200); a.body != "" || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("HEAD gives %+v", a)
	}
}

// Each knob of Fn's test image, and what caller, run record and log see of it.
func TestFDKFunctionThatMisbehaves(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.kit(t, "knobs", "f", "--timeout", "20s")
	s.kit(t, "knobs", "brief", "--timeout", "400ms")
	s.kit(t, "knobs", "small", "--memory", "32MiB")
	for _, tc := range []struct {
		name, function string
		order          order
		status         int
		state          api.State
		reason         string
		says           string // in the run's message
		kept           bool   // the instance
		check          func(t *testing.T, a answer, e kitEcho)
	}{
		{"sleeps", "f", order{"sleepTime": 50}, 200, api.StateSucceeded, "", "", true, nil},
		{"sleeps too long", "brief", order{"sleepTime": 60000}, 504, api.StateTimedOut, "timeout", "within its timeout of 400ms", false, nil},
		{"answers 404", "f", order{"responseCode": 404}, 404, api.StateSucceeded, "", "", true, nil},
		{"answers 500", "f", order{"responseCode": 500}, 500, api.StateFailed, "function_error", "answered 500", true, nil},
		{"answers 204", "f", order{"responseCode": 204, "isEmptyBody": true}, 204, api.StateSucceeded, "", "", true, nil},
		{"answers 304 with a body", "f", order{"responseCode": 304}, 304, api.StateSucceeded, "", "", true, nil},
		{"answers 42", "f", order{"responseCode": 42}, 502, api.StateFailed, "function_error", "no final status", true, nil},
		{"fails", "f", order{"wireStatus": 502}, 502, api.StateFailed, "function_error", "failed, as its process says", true, nil},
		{"is out of time", "f", order{"wireStatus": 504}, 504, api.StateTimedOut, "timeout", "ran out of time", true, nil},
		{"answers what is no kit's status", "f", order{"wireStatus": 418}, 502, api.StateFailed, "function_error", "answered 418", false, nil},
		{"sets a content type", "f", order{"responseContentType": "text/x-own"}, 200, api.StateSucceeded, "", "", true, func(t *testing.T, a answer, _ kitEcho) {
			t.Helper()
			if got := a.header.Get("Content-Type"); got != "text/x-own" {
				t.Errorf("the content type is %q", got)
			}
		}},
		{"echoes", "f", order{"echoContent": "hello"}, 200, api.StateSucceeded, "", "", true, func(t *testing.T, _ answer, e kitEcho) {
			t.Helper()
			if e.Echo != "hello" {
				t.Errorf("the echo is %q", e.Echo)
			}
		}},
		{"crashes", "f", order{"isCrash": true}, 502, api.StateFailed, "exit_code", "exited with code 1", false, nil},
		{"exits with 0", "f", order{"isExit": true}, 502, api.StateFailed, "exit_code", "exited with code 0", false, nil},
		{"exits", "f", order{"exitCode": 7}, 502, api.StateFailed, "exit_code", "exited with code 7", false, nil},
		{"reads a file", "f", order{"readFile": "/kit", "readFileSize": 4096}, 200, api.StateSucceeded, "", "", true, func(t *testing.T, _ answer, e kitEcho) {
			t.Helper()
			if e.Read != 1<<20 || e.Error != "" {
				t.Errorf("it read %d bytes: %s", e.Read, e.Error)
			}
		}},
		{"writes to /tmp", "f", order{"createFile": "/tmp/x", "createFileSize": 4096}, 200, api.StateSucceeded, "", "", true, wantError("")},
		{"writes elsewhere", "f", order{"createFile": "/x"}, 200, api.StateSucceeded, "", "", true, wantError("read-only file system")},
		{"fills the place of its socket", "f", order{"createFile": "/tmp/iofs/x", "createFileSize": 1 << 20}, 200, api.StateSucceeded, "", "", true, wantError("no space left")},
		{"takes memory", "f", order{"allocateMemory": 8 << 20}, 200, api.StateSucceeded, "", "", true, nil},
		{"takes too much memory", "small", order{"allocateMemory": 256 << 20}, 502, api.StateFailed, "oom_killed", "memory limit", false, nil},
		{"sends trailers", "f", order{"trailerRepeat": 20}, 200, api.StateSucceeded, "", "", true, nil},
		{"sends trailers without end", "f", order{"trailerRepeat": 2000}, 200, api.StateFailed, "function_error", "valid HTTP/1.1", false, nil},
		{"answers no HTTP", "f", order{"invalidResponse": true}, 502, api.StateFailed, "function_error", "valid HTTP/1.1", false, nil},
		{"has no body", "f", order{"isEmptyBody": true}, 200, api.StateSucceeded, "", "", true, func(t *testing.T, a answer, _ kitEcho) {
			t.Helper()
			if a.body != "" || a.header.Get("Content-Length") != "0" {
				t.Errorf("the body is %q", a.body)
			}
		}},
		{"gets fields", "f", order{"expectHeaders": order{"Fn-Http-H-Accept-Encoding": []string{}, "Fn-Intent": []string{"httprequest"}}}, 200, api.StateSucceeded, "", "", true, wantError("")},
		{"sets fields", "f", order{"returnHeaders": order{"X-Own": []string{"1", "2"}, "Location": []string{"/x"}, "Connection": []string{"close"}}}, 200, api.StateSucceeded, "", "", true, func(t *testing.T, a answer, _ kitEcho) {
			t.Helper()
			if !slices.Equal(a.header["X-Own"], []string{"1", "2"}) || a.header.Get("Location") != "/x" {
				t.Errorf("the fields are %v", a.header)
			}
		}},
	} {
		// One after the other: whether an instance is kept is a part of it.
		target := "/f/knobs/" + tc.function
		s.order(t, target, order{}).want(t, 200) // there is a hot instance
		a := s.order(t, target, tc.order)
		if a.status != tc.status {
			t.Errorf("%s: the answer is %d: %s", tc.name, a.status, a.body)
			continue
		}
		r := s.wantRun(t, a.run(t), tc.state, tc.reason)
		if !strings.Contains(r.Message, tc.says) || (tc.says == "") != (r.Message == "") {
			t.Errorf("%s: the run says %q", tc.name, r.Message)
		}
		if tc.state == api.StateSucceeded && a.err != nil || tc.status == 502 && r.Status != 0 {
			t.Errorf("%s: the run is %+v, the answer %+v", tc.name, r, a)
		}
		if tc.check != nil {
			e := kitEcho{}
			_ = json.Unmarshal([]byte(a.body), &e)
			tc.check(t, a, e)
		}
		next := s.runOf(t, s.order(t, target, order{}).want(t, 200).run(t))
		if kept := next.Instance == r.Instance; kept != tc.kept {
			t.Errorf("%s: that the instance is kept is %v", tc.name, kept)
		}
	}
}

func wantError(words string) func(*testing.T, answer, kitEcho) {
	return func(t *testing.T, _ answer, e kitEcho) {
		t.Helper()
		if (words == "") != (e.Error == "") || !strings.Contains(e.Error, words) {
			t.Errorf("its error is %q, want %q", e.Error, words)
		}
	}
}

// What a function does after its answer is no part of the run, and not lost.
func TestFDKFunctionThatGoesOnAfterItsAnswer(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.kit(t, "after", "f")
	first := s.order(t, "/f/after/f", order{"postSleepTime": 300, "postOutGarbage": 2, "postErrGarbage": 1}).want(t, 200)
	if r := s.wantRun(t, first.run(t), api.StateSucceeded, ""); r.FinishedAt.Sub(r.StartedAt) > 290*time.Millisecond {
		t.Errorf("the run took %s", r.FinishedAt.Sub(r.StartedAt))
	}
	second := s.order(t, "/f/after/f", order{"isDebug": true}).want(t, 200)
	late := "[of " + first.run(t) + ", which has ended] garbage after the answer "
	if got := s.texts(t, second.run(t), "stdout"); !slices.Equal(got, []string{late + "garbage after the answer "}) {
		t.Errorf("the log of the next run has on stdout %q", got)
	}
	if got := s.texts(t, second.run(t), "stderr"); len(got) != 2 || got[0] != late || !strings.HasPrefix(got[1], "debug:") {
		t.Errorf("the log of the next run has on stderr %q", got)
	}
	if got := s.texts(t, first.run(t), ""); len(got) != 0 {
		t.Errorf("the log of the run has %q", got)
	}
}

func TestFDKFunctionThatLeaksMemory(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.kit(t, "leak", "f")
	for n := 0; ; n++ {
		a := s.order(t, "/f/leak/f", order{"leakMemory": 16 << 20})
		if a.status == 200 && n < 10 {
			continue
		}
		p := a.problem(t, 502, "oom_killed", "64MiB")
		s.wantRun(t, p.RunID, api.StateFailed, "oom_killed")
		break
	}
	s.order(t, "/f/leak/f", order{}).want(t, 200)
}

func TestFDKFunctionThatShutsDown(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.kit(t, "down", "f")
	a := s.order(t, "/f/down/f", order{"isShutdown": true}).want(t, 200)
	s.wantRun(t, a.run(t), api.StateSucceeded, "")
	s.noInstance(t, "down", patience)
	s.order(t, "/f/down/f", order{}).want(t, 200)
}

func TestFDKFunctionsThatDoNotStart(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	loadKit(t, s)
	s.deploy(t, "kitstart", `
functions:
  slow: {image: "kit:1", contract: fdk, memory: 64MiB, env: {ENABLE_INIT_DELAY_MSEC: "300"}, limits: {start: 20s}}
  late: {image: "kit:1", contract: fdk, memory: 64MiB, env: {ENABLE_INIT_DELAY_MSEC: "60000"}, limits: {start: 500ms}}
  none: {image: "misbehave:1", contract: fdk, memory: 64MiB, command: [/misbehave, never], limits: {start: 500ms}}
  exits: {image: "misbehave:1", contract: fdk, memory: 64MiB, command: [/misbehave, exit, "3"]}
  web: {image: "misbehave:1", contract: fdk, memory: 64MiB, command: [/misbehave, web], limits: {start: 500ms}}
`)
	a := s.order(t, "/f/kitstart/slow", order{}).want(t, 200)
	if r := s.wantRun(t, a.run(t), api.StateSucceeded, ""); r.Start == nil || r.Start.BootMS < 300 {
		t.Errorf("the start was %+v", r.Start)
	}
	for name, f := range map[string]failure{
		"late":  {"/f/kitstart/late", 504, "start_timeout", api.StateFailed, []string{"/tmp/iofs/lsnr.sock", "FN_LISTENER", "limits.start"}, 20},
		"none":  {"/f/kitstart/none", 504, "start_timeout", api.StateFailed, []string{"/tmp/iofs/lsnr.sock", "I have better things to do"}, 20},
		"exits": {"/f/kitstart/exits", 502, "start_failed", api.StateFailed, []string{"exited with code 3", "my last words"}, 20},
		"web":   {"/f/kitstart/web", 504, "start_timeout", api.StateFailed, []string{"/tmp/iofs/lsnr.sock"}, 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.check(t, s)
		})
	}
	s.fails(t, 1, []string{"concurrency.per_instance", "one request at a time"},
		"function", "create", "g", "--app", "kitstart", "--image", "kit:1", "--contract", "fdk", "--per-instance", "2")
}

func TestFDKCallerThatGoesAway(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.kit(t, "gone", "f")
	hot := s.runOf(t, s.order(t, "/f/gone/f", order{}).want(t, 200).run(t))
	ctx, leave := context.WithCancel(t.Context())
	done := later(s.request(ctx, t, "POST", "/f/gone/f", strings.NewReader(`{"sleepTime":60000}`)))
	run := s.running(t, "gone", "f")
	leave()
	within(t, "the caller", patience, done)
	s.wantRun(t, run, api.StateCancelled, "client_gone")
	next := s.runOf(t, s.order(t, "/f/gone/f", order{}).want(t, 200).run(t))
	if next.Instance == hot.Instance {
		t.Error("the instance that was at work is called again")
	}
}

// One instance never has two requests at once.
func TestFDKFunctionTakesOneRequestAtATime(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	loadKit(t, s)
	s.deploy(t, "single", "functions:\n  f: {image: \"kit:1\", contract: fdk, memory: 64MiB, instances: {max: 2}}\n")
	var calls []<-chan answer
	for range 6 {
		calls = append(calls, later(s.request(t.Context(), t, "POST", "/f/single/f", strings.NewReader(`{"sleepTime":50}`))))
	}
	spans := map[string][]api.Run{}
	for _, c := range calls {
		a := within(t, "an answer", patience, c).want(t, 200)
		r := s.wantRun(t, a.run(t), api.StateSucceeded, "")
		spans[r.Instance] = append(spans[r.Instance], r)
	}
	if len(spans) > 2 {
		t.Errorf("there were %d instances", len(spans))
	}
	for instance, runs := range spans {
		slices.SortFunc(runs, func(a, b api.Run) int { return a.StartedAt.Compare(b.StartedAt) })
		for i := 1; i < len(runs); i++ {
			if runs[i].StartedAt.Before(runs[i-1].FinishedAt.Add(-time.Millisecond)) {
				t.Errorf("on %s two runs went on at once: %s", instance, fmt.Sprint(runs[i-1:i+1]))
			}
		}
	}
}
