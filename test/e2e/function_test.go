package e2e_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/api"
)

// failure is how a call of a function goes wrong.
type failure struct {
	target string // /f/...
	status int
	code   string
	state  api.State
	words  []string // in the problem's detail
	exit   int      // of dayfly invoke
}

// check calls the function by its URL and by the command, and looks at what
// is answered and recorded.
func (f failure) check(t *testing.T, s *server) api.Run {
	t.Helper()
	p := s.call(t, "POST", f.target, "").problem(t, f.status, f.code, f.words...)
	r := s.wantRun(t, p.RunID, f.state, f.code)
	wantWords(t, r.Message, f.words[:min(1, len(f.words))]...)
	parts := strings.SplitN(strings.TrimPrefix(f.target, "/f/"), "/", 3)
	args := []string{"invoke", parts[0] + "/" + parts[1], "-d", ""}
	if len(parts) == 3 {
		args = append(args, "--path", "/"+parts[2])
	}
	s.fails(t, f.exit, append([]string{"The run is run_"}, f.words...), args...)
	return r
}

// well fails the test when a function that has nothing to do with the trouble
// does not answer.
func (s *server) well(t *testing.T, app string) {
	t.Helper()
	if a := s.get(t, "/f/"+app+"/good/hello").want(t, http.StatusOK); !strings.HasPrefix(a.body, "hello") {
		t.Errorf("the good function answered %q", a.body)
	}
}

func TestFunctionsThatDoNotStart(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.deploy(t, "start", `
functions:
  good: {image: "misbehave:1", memory: 64MiB, command: [/misbehave, web]}
  exits: {image: "misbehave:1", memory: 64MiB, command: [/misbehave, exit, "3"]}
  never: {image: "misbehave:1", memory: 64MiB, command: [/misbehave, never], limits: {start: 700ms}}
  late: {image: "misbehave:1", memory: 64MiB, command: [/misbehave, late, 1s], limits: {start: 20s}}
  missing: {image: "misbehave:1", memory: 64MiB, command: [/does/not/exist]}
  nofile: {image: "misbehave:1", contract: job, memory: 64MiB, command: [/does/not/exist]}
  notaprogram: {image: "misbehave:1", contract: job, memory: 64MiB, command: [/etc/passwd]}
  greedy: {image: "misbehave:1", memory: 16MiB, command: [/misbehave, eat]}
`)
	for name, f := range map[string]failure{
		"exits at once": {"/f/start/exits", 502, "start_failed", api.StateFailed, []string{"exited with code 3", "line 19", "my last words"}, 20},
		"never listens": {"/f/start/never", 504, "start_timeout", api.StateFailed, []string{"8080", "I have better things to do"}, 20},
		"missing":       {"/f/start/missing", 502, "start_failed", api.StateFailed, []string{"/does/not/exist"}, 20},
		"missing job":   {"/f/start/nofile", 502, "start_failed", api.StateFailed, []string{"/does/not/exist"}, 20},
		"no program":    {"/f/start/notaprogram", 502, "start_failed", api.StateFailed, []string{"/etc/passwd"}, 20},
		"out of memory": {"/f/start/greedy", 502, "oom_killed", api.StateFailed, []string{"memory limit"}, 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.check(t, s)
			s.well(t, "start")
		})
	}
	t.Run("listens late", func(t *testing.T) {
		t.Parallel()
		a := s.get(t, "/f/start/late/hello").want(t, 200)
		if r := s.wantRun(t, a.run(t), api.StateSucceeded, ""); r.Start == nil || r.Start.BootMS < 500 {
			t.Errorf("the time it took to boot should be told: %+v", r.Start)
		}
	})
	t.Run("leaves no instance", func(t *testing.T) {
		t.Parallel()
		for _, i := range s.instances(t, "start") {
			if i.Function != "good" && i.Function != "late" && i.State == "hot" {
				t.Errorf("%s has a hot instance", i.Function)
			}
		}
	})
}

func TestImagesThatCannotRun(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	f := misbehave(t, "headless:1")
	f.entrypoint = nil
	data, _ := f.layout(t)
	s.does(t, "image", "load", save(t, "headless.tar", data))
	s.fails(t, 1, []string{"headless:1", "entrypoint", "command"}, "function", "create", "f", "--app", "unable", "--image", "headless:1")
	s.does(t, "function", "create", "f", "--app", "unable", "--image", "headless:1", "--command", "/misbehave", "--command", "web")
	s.get(t, "/f/unable/f/hello").want(t, 200)
	r := s.request(t.Context(), t, "PUT", "/v1/apps/unable/functions/g", strings.NewReader(`{"image":"headless:1"}`))
	r.Header.Set("Content-Type", "application/json")
	send(t, r).problem(t, 400, "image_unsupported", "entrypoint")
	r = s.request(t.Context(), t, "PUT", "/v1/apps/unable/functions/g", strings.NewReader(`{"image":"sha256:`+strings.Repeat("ab", 32)+`"}`))
	r.Header.Set("Content-Type", "application/json")
	send(t, r).problem(t, 404, "image_not_found", "abab")
}

func TestAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "answers", "good", "web")
	s.create(t, "answers", "f", "web")
	for name, f := range map[string]failure{
		"closes before an answer":  {"/f/answers/f/nothing", 502, "function_error", api.StateFailed, []string{"answers/f"}, 20},
		"garbage":                  {"/f/answers/f/garbage", 502, "function_error", api.StateFailed, []string{"HTTP"}, 20},
		"endless headers":          {"/f/answers/f/headers", 502, "function_error", api.StateFailed, []string{"64KiB", "limits.headers"}, 20},
		"exits in the middle":      {"/f/answers/f/exit", 502, "exit_code", api.StateFailed, []string{"code 7", "my last words"}, 20},
		"half of what was claimed": {"/f/answers/f/nothing", 502, "function_error", api.StateFailed, nil, 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.check(t, s)
			s.well(t, "answers")
		})
	}
	for _, path := range []string{"half", "chunk"} {
		t.Run("closes mid-answer: "+path, func(t *testing.T) {
			t.Parallel()
			a := s.get(t, "/f/answers/f/"+path)
			switch {
			case a.status == 200 && a.err == nil:
				t.Errorf("an answer that was cut off looks whole: %q", a.body)
			case a.status == 502:
				a.problem(t, 502, "function_error")
			}
			s.wantRun(t, a.run(t), api.StateFailed, "function_error")
			s.fails(t, 20, []string{"run_"}, "invoke", "answers/f", "--path", path, "-d", "")
			s.well(t, "answers")
		})
	}
	t.Run("5xx", func(t *testing.T) {
		t.Parallel()
		a := s.get(t, "/f/answers/f/status?code=503").want(t, 503)
		if a.body != "as you asked\n" || a.header.Get(api.HeaderError) != "" {
			t.Errorf("the function's own answer should come through: %+v", a)
		}
		if r := s.wantRun(t, a.run(t), api.StateFailed, "function_error"); r.Status != 503 {
			t.Errorf("the record tells status %d", r.Status)
		}
	})
	t.Run("4xx", func(t *testing.T) {
		t.Parallel()
		a := s.get(t, "/f/answers/f/status?code=404").want(t, 404)
		if r := s.wantRun(t, a.run(t), api.StateSucceeded, ""); r.Status != 404 {
			t.Errorf("the record tells status %d", r.Status)
		}
	})
}

func TestJobsThatFail(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.deploy(t, "jobs", `
functions:
  good: {image: "misbehave:1", memory: 64MiB, command: [/misbehave, web]}
  exits: {image: "misbehave:1", contract: job, memory: 64MiB, command: [/misbehave, exit, "9"]}
  eats: {image: "misbehave:1", contract: job, memory: 32MiB, command: [/misbehave, eat]}
  hangs: {image: "misbehave:1", contract: job, memory: 64MiB, timeout: 500ms, command: [/misbehave, hang]}
`)
	for name, f := range map[string]failure{
		"exit code": {"/f/jobs/exits", 502, "exit_code", api.StateFailed, []string{"code 9", "my last words"}, 20},
		"memory":    {"/f/jobs/eats", 502, "oom_killed", api.StateFailed, []string{"32MiB", "raise memory"}, 20},
		"timeout":   {"/f/jobs/hangs", 504, "timeout", api.StateTimedOut, []string{"500ms"}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.check(t, s)
			s.well(t, "jobs")
		})
	}
}

func TestMemoryPastTheLimit(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "oom", "good", "web")
	s.create(t, "oom", "f", "web", "--memory", "32MiB")
	s.get(t, "/f/oom/f/hello").want(t, 200)
	failure{"/f/oom/f/eat", 502, "oom_killed", api.StateFailed, []string{"32MiB", "raise memory"}, 20}.check(t, s)
	s.well(t, "oom")
	s.get(t, "/f/oom/f/hello").want(t, 200)
}

func TestForkBombEndsAtTheLimit(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.deploy(t, "fork", `
functions:
  good: {image: "misbehave:1", memory: 64MiB, command: [/misbehave, web]}
  web: {image: "misbehave:1", memory: 256MiB, command: [/misbehave, web], limits: {pids: 40}}
  job: {image: "misbehave:1", contract: job, memory: 256MiB, command: [/misbehave, fork], limits: {pids: 40}}
`)
	for _, target := range []string{"/f/fork/web/fork", "/f/fork/job"} {
		call := later(s.request(t.Context(), t, "POST", target, nil))
		s.well(t, "fork")
		a := within(t, "the fork bomb", patience, call).want(t, 200)
		got := decode[struct {
			Started int
			Error   string
		}](t, a.body)
		// Threads count too, and a Go program has some.
		if got.Started < 1 || got.Started >= 40 || !strings.Contains(got.Error, "resource temporarily unavailable") {
			t.Errorf("%s started %d processes, then: %s", target, got.Started, got.Error)
		}
	}
	s.well(t, "fork")
}

// A flood of log neither harms others nor holds the function up.
func TestLogFloodHarmsNobody(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "flood", "good", "web")
	s.create(t, "flood", "f", "flood 200000000", "--contract", "job")
	s.get(t, "/f/flood/good/hello").want(t, 200)
	call := later(s.request(t.Context(), t, "POST", "/f/flood/f", nil))
	calls := 0
	for done := false; !done; calls++ {
		s.well(t, "flood")
		select {
		case a := <-call:
			done = true
			a.want(t, 200)
			r := s.wantRun(t, a.run(t), api.StateSucceeded, "")
			if n := len(s.does(t, "run", "logs", r.ID)); n > 1<<20+200 || r.LogBytes != 200_000_000 {
				t.Errorf("of %d bytes %d are kept", r.LogBytes, n)
			}
		default:
		}
	}
	if calls < 2 {
		t.Errorf("only %d calls of the other function went through meanwhile", calls)
	}
}

func TestTimeoutKills(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "timeout", "good", "web")
	s.create(t, "timeout", "f", "web", "--timeout", "400ms")
	before := time.Now()
	failure{"/f/timeout/f/hang", 504, "timeout", api.StateTimedOut, []string{"400ms"}, 6}.check(t, s)
	if took := time.Since(before); took > patience {
		t.Errorf("two calls with a timeout of 400ms took %s", took)
	}
	s.well(t, "timeout")
	until(t, "the instances that hang are killed", patience, func() ([]api.Instance, bool) {
		list := s.instances(t, "timeout")
		return list, len(list) == 1 && list[0].Function == "good"
	})
	s.get(t, "/f/timeout/f/hello").want(t, 200)
}

// gone calls a function and goes away while it works.
func (s *server) gone(t *testing.T, app, name, target string) string {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	call := later(s.request(ctx, t, "POST", target, strings.NewReader("x")))
	id := s.running(t, app, name)
	leave()
	if a := within(t, "the call that was given up", patience, call); a.err == nil {
		t.Errorf("the call was answered: %+v", a)
	}
	return id
}

func TestClientThatLeavesCancels(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "gone", "good", "web")
	s.create(t, "gone", "web", "web")
	s.create(t, "gone", "job", "hang", "--contract", "job")
	s.create(t, "gone", "stuck", "stuck", "--contract", "job")
	for name, target := range map[string]string{"web": "/f/gone/web/hang", "job": "/f/gone/job", "stuck": "/f/gone/stuck"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := s.wantRun(t, s.gone(t, "gone", name, target), api.StateCancelled, "client_gone")
			if r.Message == "" {
				t.Error("the record does not say what happened")
			}
			s.well(t, "gone")
		})
	}
}

func TestRunCancel(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "cancel", "good", "web")
	s.create(t, "cancel", "web", "deaf")
	s.create(t, "cancel", "job", "hang", "--contract", "job")
	s.create(t, "cancel", "stuck", "stuck", "--contract", "job")
	for name, target := range map[string]string{"web": "/f/cancel/web/hang", "job": "/f/cancel/job", "stuck": "/f/cancel/stuck"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			call := later(s.request(t.Context(), t, "POST", target, nil))
			id := s.running(t, "cancel", name)
			began := time.Now()
			r := decode[api.Run](t, s.does(t, "run", "cancel", "--json", id))
			if r.State != api.StateCancelled || r.ID != id {
				t.Errorf("run cancel told %+v", r)
			}
			// 5 s between SIGTERM and SIGKILL.
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("the cancelling took %s", took)
			}
			p := within(t, "the answer", patience, call).problem(t, 409, "cancelled_by_user", "cancelled")
			if p.RunID != id {
				t.Errorf("the answer is about %s, not %s", p.RunID, id)
			}
			s.wantRun(t, id, api.StateCancelled, "cancelled_by_user")
			s.fails(t, 5, []string{"cancelled"}, "run", "cancel", id)
			s.well(t, "cancel")
		})
	}
}

// One that ignores SIGTERM is killed when its time is up.
func TestDeafFunctionCanBeDeleted(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "deaf", "f", "deaf")
	s.get(t, "/f/deaf/f/hello").want(t, 200)
	began := time.Now()
	s.does(t, "function", "delete", "deaf/f")
	if took := time.Since(began); took > patience {
		t.Errorf("function delete took %s", took)
	}
	s.noInstance(t, "deaf", patience)
	s.get(t, "/f/deaf/f/hello").problem(t, 404, "not_found")
}

// What a function is doing when it is deleted, it finishes.
func TestDeleteWhileRunning(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "delete", "web", "web")
	s.create(t, "delete", "job", "steps 2s", "--contract", "job")
	var calls sync.WaitGroup
	defer calls.Wait()
	for name, target := range map[string]string{"web": "/f/delete/web/slow?for=2s", "job": "/f/delete/job"} {
		call := later(s.request(t.Context(), t, "POST", target, nil))
		id := s.running(t, "delete", name)
		s.does(t, "function", "delete", "delete/"+name)
		s.get(t, "/f/delete/"+name).problem(t, 404, "not_found")
		within(t, "the call that was under way", patience, call).want(t, 200)
		s.wantRun(t, id, api.StateSucceeded, "")
		if got := s.lines(t, id); name == "job" && len(got) == 0 {
			t.Error("the log of a deleted function's run is gone")
		}
	}
	s.noInstance(t, "delete", patience)
	if runs := s.runs(t, "app=delete"); len(runs) != 2 {
		t.Errorf("the runs of deleted functions should stay: %+v", runs)
	}
}

func TestLineOfWaitingCalls(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.deploy(t, "line", `
functions:
  good: {image: "misbehave:1", memory: 64MiB, command: [/misbehave, web]}
  f: {image: "misbehave:1", memory: 64MiB, command: [/misbehave, web], instances: {max: 1}, limits: {waiting: 1, wait: 2s, start: 1s}}
`)
	s.get(t, "/f/line/f/hello").want(t, 200)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	first := later(s.request(ctx, t, "GET", "/f/line/f/hang", nil))
	s.running(t, "line", "f")
	second := later(s.request(t.Context(), t, "GET", "/f/line/f/hello", nil))
	until(t, "the second call waits", patience, func() ([]api.Run, bool) {
		list := s.runs(t, "app=line&state=queued")
		return list, len(list) == 1
	})
	full := s.get(t, "/f/line/f/hello")
	p := full.problem(t, 429, "too_many", "line/f", "limits.waiting")
	if full.header.Get("Retry-After") == "" {
		t.Errorf("a 429 should say when to try again: %v", full.header)
	}
	s.wantRun(t, p.RunID, api.StateFailed, "too_many")
	s.fails(t, 1, []string{"limits.waiting", "Try again in"}, "invoke", "line/f", "-d", "")
	s.well(t, "line")
	waited := within(t, "the call that waits", patience, second)
	waited.problem(t, 429, "too_many", "instances.max")
	if waited.header.Get("Retry-After") == "" {
		t.Errorf("a 429 should say when to try again: %v", waited.header)
	}
	leave()
	within(t, "the first call", patience, first)
	s.get(t, "/f/line/f/hello").want(t, 200)
}

func TestNodeIsFull(t *testing.T) {
	t.Parallel()
	s := start(t, options{args: []string{"--memory", "128MiB"}})
	loadMisbehave(t, s)
	s.deploy(t, "full", `
functions:
  web: {image: "misbehave:1", memory: 64MiB, command: [/misbehave, web], limits: {wait: 300ms, start: 1s}}
  job: {image: "misbehave:1", contract: job, memory: 64MiB, command: [/misbehave, cat], limits: {wait: 300ms}}
  huge: {image: "misbehave:1", memory: 256MiB, command: [/misbehave, web]}
`)
	s.get(t, "/f/full/huge").problem(t, 503, "unavailable", "256MiB", "128MiB")
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var hanging []<-chan answer
	for range 2 {
		hanging = append(hanging, later(s.request(ctx, t, "GET", "/f/full/web/hang", nil)))
	}
	until(t, "two calls are running", patience, func() ([]api.Run, bool) {
		list := s.runs(t, "app=full&state=running")
		return list, len(list) == 2
	})
	for _, target := range []string{"/f/full/web/hello", "/f/full/job"} {
		a := s.get(t, target)
		p := a.problem(t, 503, "unavailable", "64MiB", "128MiB")
		if a.header.Get("Retry-After") == "" {
			t.Errorf("a 503 of a full node should say when to try again: %v", a.header)
		}
		s.wantRun(t, p.RunID, api.StateFailed, "unavailable")
	}
	leave()
	for _, c := range hanging {
		within(t, "the calls that hang", patience, c)
	}
	s.get(t, "/f/full/web/hello").want(t, 200)
	// An idle instance makes room.
	s.get(t, "/f/full/job").want(t, 200)
}

// An instance that nobody calls ends after its time.
func TestIdleInstanceEnds(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.deploy(t, "idle", "functions:\n  f: {image: \"misbehave:1\", memory: 64MiB, command: [/misbehave, web], instances: {idle: 500ms}}\n")
	s.get(t, "/f/idle/f/hello").want(t, 200)
	if list := s.instances(t, "idle"); len(list) != 1 {
		t.Errorf("there should be one hot instance: %+v", list)
	}
	s.noInstance(t, "idle", patience)
	if a := s.get(t, "/f/idle/f/hello").want(t, 200); !strings.Contains(a.header.Get("Server-Timing"), "desc=cold") {
		t.Errorf("the next call should be cold: %v", a.header)
	}
}
