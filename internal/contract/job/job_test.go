package job_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/contract/job"
	"github.com/dayfly-io/dayfly/internal/core"
)

const runID = core.RunID(1 << 40)

func newCall(body string, change func(*core.Spec)) *core.Call {
	spec := core.Spec{Image: "i", Contract: core.ContractJob, CPU: 500}
	if change != nil {
		change(&spec)
	}
	return &core.Call{
		Run: &core.Run{ID: runID, Attempt: 2, Trigger: core.TriggerHTTP},
		Definition: &core.Definition{
			App: core.App{Name: "shop"}, Function: core.Function{Name: "resize"}, Version: core.Version{Number: 12, Spec: spec.WithDefaults()},
		},
		Instance: 7, Deadline: time.Now().Add(time.Hour), Traceparent: "00-trace",
		Request: &core.Request{Method: "POST", Path: "/a%20b", RawQuery: "x=1", Header: core.Header{}, Body: strings.NewReader(body), Length: int64(len(body))},
	}
}

func serve(t *testing.T, call *core.Call, main func(*process) core.Exit) (core.Outcome, *reply, *runner) {
	t.Helper()
	r, reply := newRunner(t, main), newReply()
	o := job.New(r, job.Options{Node: "n1", Grace: 5 * time.Second}).Serve(t.Context(), call, r.job(call), reply)
	return o, reply, r
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	result := func(n core.Bytes) func(*core.Spec) { return func(s *core.Spec) { s.Limits.Result = n } }
	stream := func(s *core.Spec) { s.Stream, s.Limits.Result = true, 3 }
	for _, tc := range []struct {
		name   string
		spec   func(*core.Spec)
		prints string
		exit   core.Exit
		want   core.Outcome
		body   string
		text   string
	}{
		{name: "success", prints: "ok", want: core.Outcome{State: core.StateSucceeded, Status: 200, BytesOut: 2, Answered: true}, body: "ok"},
		{name: "nothing", want: core.Outcome{State: core.StateSucceeded, Status: 200, Answered: true}},
		{name: "exit code", prints: "ok", exit: core.Exit{Code: 3}, want: core.Outcome{State: core.StateFailed, Reason: core.ReasonExitCode, ExitCode: 3}, text: "shop/resize exited with code 3"},
		{name: "signal", exit: core.Exit{Code: 139, Signal: 11}, want: core.Outcome{State: core.StateFailed, Reason: core.ReasonSignal, ExitCode: 139}, text: "killed by signal 11"},
		{name: "oom", exit: core.Exit{Code: 137, Signal: 9, OOM: true}, want: core.Outcome{State: core.StateFailed, Reason: core.ReasonOOMKilled, ExitCode: 137}, text: "memory limit of 128MiB: raise memory"},
		{name: "lost", exit: core.Exit{Lost: true}, want: core.Outcome{State: core.StateFailed, Reason: core.ReasonInternal}, text: "no exit code"},
		{name: "result fits", spec: result(4), prints: "1234", want: core.Outcome{State: core.StateSucceeded, Status: 200, BytesOut: 4, Answered: true}, body: "1234"},
		{name: "result too large", spec: result(4), prints: "12345", want: core.Outcome{State: core.StateFailed, Reason: core.ReasonResultTooLarge}, text: "more than 4B, which is limits.result"},
		{name: "stream", spec: stream, prints: "12345", want: core.Outcome{State: core.StateSucceeded, Status: 200, BytesOut: 5, Answered: true}, body: "12345"},
		{name: "stream of nothing", spec: stream, want: core.Outcome{State: core.StateSucceeded, Status: 200, Answered: true}},
		{name: "stream fails before", spec: stream, exit: core.Exit{Code: 1}, want: core.Outcome{State: core.StateFailed, Reason: core.ReasonExitCode, ExitCode: 1}, text: "code 1"},
		{name: "stream fails after", spec: stream, prints: "12", exit: core.Exit{Code: 1}, want: core.Outcome{State: core.StateFailed, Reason: core.ReasonExitCode, ExitCode: 1, Status: 200, BytesOut: 2, Answered: true, Cut: true}, body: "12", text: "code 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			o, reply, r := serve(t, newCall("input", tc.spec), func(p *process) core.Exit {
				in, _ := io.ReadAll(p.stdin)
				if string(in) != "input" {
					t.Errorf("stdin has %q", in)
				}
				if p.spec.Argument != nil {
					t.Errorf("there is the argument %q", *p.spec.Argument)
				}
				for i := range len(tc.prints) {
					p.print(tc.prints[i : i+1])
				}
				_, _ = io.WriteString(p.stdio.Stderr, "log")
				return tc.exit
			})
			if !strings.Contains(o.Message, tc.text) || (o.Message == "") != (o.State == core.StateSucceeded) {
				t.Errorf("the message is %q, want %q in it", o.Message, tc.text)
			}
			tc.want.Message, tc.want.BytesIn = o.Message, 5
			if o != tc.want || reply.body.String() != tc.body || reply.status != o.Status {
				t.Errorf("got  %+v with %d %q\nwant %+v with %q", o, reply.status, reply.body.String(), tc.want, tc.body)
			}
			if len(r.begun) != 1 || r.begun[0].ID != 7 || len(r.ended) != 1 || r.ended[0].Code != tc.exit.Code && o.Reason != core.ReasonResultTooLarge || r.log.String() != "log" {
				t.Errorf("begun %v, ended %v, log %q", r.begun, r.ended, r.log.String())
			}
		})
	}
}

// A result over the limit ends the process, at once.
func TestResultTooLargeEndsTheProcess(t *testing.T) {
	t.Parallel()
	o, _, r := serve(t, newCall("", func(s *core.Spec) { s.Limits.Result = 10 }), func(p *process) core.Exit {
		p.print(strings.Repeat("x", 11))
		return p.untilStopped()
	})
	if o.Reason != core.ReasonResultTooLarge || r.process.grace != 0 {
		t.Errorf("got %+v, and the process was stopped with %s", o, r.process.grace)
	}
}

// Nor is the first part of it the answer when the process ended before it
// could be ended.
func TestResultTooLargeOfAProcessThatEnded(t *testing.T) {
	t.Parallel()
	call := newCall("", func(s *core.Spec) { s.Limits.Result = 10 })
	r, reply := newRunner(t, func(p *process) core.Exit {
		p.print("1234567890")
		p.print("1")
		return core.Exit{}
	}), newReply()
	r.ends = true
	o := job.New(r, job.Options{}).Serve(t.Context(), call, r.job(call), reply)
	if o.State != core.StateFailed || o.Reason != core.ReasonResultTooLarge || o.Answered || reply.status != 0 {
		t.Errorf("got %+v with %q", o, reply.body.String())
	}
}

func TestGrace(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spec  func(*core.Call)
		cause error
		want  time.Duration
	}{
		"timeout": {spec: func(c *core.Call) { c.Deadline = time.Now().Add(time.Millisecond) }},
		"cancel":  {cause: core.Errorf(core.KindConflict, core.ReasonCancelledByUser, "by me"), want: 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			call := newCall("", nil)
			if tc.spec != nil {
				tc.spec(call)
			}
			r := newRunner(t, func(p *process) core.Exit {
				if tc.cause != nil {
					cancel(tc.cause)
				}
				return p.untilStopped()
			})
			o := job.New(r, job.Options{Grace: 5 * time.Second}).Serve(ctx, call, r.job(call), newReply())
			if r.process.grace != tc.want || o.State == core.StateSucceeded {
				t.Errorf("the process was stopped with %s, and %+v", r.process.grace, o)
			}
		})
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	args := func(s *core.Spec) { s.Args = core.ArgsBody }
	small := func(s *core.Spec) { s.Limits.Body = 4 }
	for _, tc := range []struct {
		name   string
		body   string
		spec   func(*core.Spec)
		length int64 // when it is not the body's
		reason core.Reason
		text   string
	}{
		{name: "fits", body: "1234", spec: small},
		{name: "too large", body: "12345", spec: small, reason: core.CodeTooLarge, text: "larger than 4B, which is limits.body"},
		{name: "too large, length not told", body: "12345", spec: small, length: -1, reason: core.CodeTooLarge, text: "limits.body"},
		{name: "shorter than told", body: "123", spec: small, length: 4, reason: core.ReasonClientGone, text: "after 3 bytes"},
		{name: "argument", body: "an argument\n", spec: args},
		{name: "empty argument", spec: args},
		{name: "longest argument", body: strings.Repeat("x", 128<<10-1), spec: args},
		{name: "argument too long", body: strings.Repeat("x", 128<<10), spec: args, reason: core.CodeTooLarge, text: "one argument"},
		{name: "argument over the limit", body: "12345", spec: func(s *core.Spec) { args(s); small(s) }, reason: core.CodeTooLarge, text: "limits.body"},
		{name: "zero byte", body: "a\x00b", spec: args, reason: core.CodeInvalid, text: "zero byte"},
		{name: "zero byte on stdin", body: "a\x00b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			call := newCall(tc.body, tc.spec)
			if tc.length != 0 {
				call.Request.Length = tc.length
			}
			o, _, r := serve(t, call, func(p *process) core.Exit {
				in, _ := io.ReadAll(p.stdin)
				if call.Definition.Version.Spec.Args == "" {
					if string(in) != tc.body || p.spec.Argument != nil {
						t.Errorf("stdin has %q, the argument is %v", in, p.spec.Argument)
					}
				} else if len(in) != 0 || p.spec.Argument == nil || *p.spec.Argument != tc.body {
					t.Errorf("stdin has %q, the argument is %v", in, p.spec.Argument)
				}
				return core.Exit{}
			})
			if o.Reason != tc.reason || !strings.Contains(o.Message, tc.text) || (r.process == nil) != (tc.reason != "") || o.Answered != (tc.reason == "") {
				t.Errorf("got %+v, a process was started: %v", o, r.process != nil)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		call := newCall("", nil)
		call.Request.Body, call.Request.Length = nil, 0
		if o, _, _ := serve(t, call, func(*process) core.Exit { return core.Exit{} }); o.State != core.StateSucceeded {
			t.Errorf("got %+v", o)
		}
	})
}

// The first byte of a stream goes out before the process ends.
func TestStreamIsNotKeptBack(t *testing.T) {
	t.Parallel()
	call := newCall("", func(s *core.Spec) { s.Stream = true })
	reply := newReply()
	reply.seen = make(chan string)
	heard := make(chan struct{})
	r := newRunner(t, func(p *process) core.Exit {
		p.print("first")
		<-heard
		p.print("second")
		return core.Exit{}
	})
	done := make(chan core.Outcome)
	go func() { done <- job.New(r, job.Options{}).Serve(t.Context(), call, r.job(call), reply) }()
	if got := <-reply.seen; got != "first" {
		t.Errorf("got %q", got)
	}
	close(heard)
	if got := <-reply.seen; got != "second" {
		t.Errorf("got %q", got)
	}
	if o := <-done; o.State != core.StateSucceeded || o.BytesOut != 11 || reply.header["Content-Length"] != nil {
		t.Errorf("got %+v, %v", o, reply.header)
	}
}

// The caller is told which run it is with the header, so that nothing may go
// out before that is known.
func TestStreamWaitsForTheWordOfItsStart(t *testing.T) {
	t.Parallel()
	call := newCall("", func(s *core.Spec) { s.Stream = true })
	reply := newReply()
	r := newRunner(t, func(p *process) core.Exit {
		p.print("early")
		return core.Exit{}
	})
	r.quick = true
	j, begun := r.job(call), false
	j.Begun = func(core.Instance) {
		begun = true
		if reply.status != 0 || reply.body.Len() > 0 {
			t.Errorf("%d and %q went out before the run had begun", reply.status, reply.body.String())
		}
	}
	o := job.New(r, job.Options{}).Serve(t.Context(), call, j, reply)
	if !begun || o.State != core.StateSucceeded || reply.body.String() != "early" || o.BytesOut != 5 {
		t.Errorf("got %+v, %q", o, reply.body.String())
	}
}

func TestContentType(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ declared, prints, want string }{
		{"", "hello", "text/plain; charset=utf-8"},
		{"", "", "text/plain; charset=utf-8"},
		{"", `{"a":1}`, "text/plain; charset=utf-8"},
		{"", "\x00\x01\x02", "application/octet-stream"},
		{"", "\x89PNG\x0D\x0A\x1A\x0A", "application/octet-stream"},
		{"image/png", "\x89PNG\x0D\x0A\x1A\x0A", "image/png"},
		{"application/json", "hello", "application/json"},
	} {
		for _, stream := range []bool{false, true} {
			_, reply, _ := serve(t, newCall("", func(s *core.Spec) { s.ContentType, s.Stream = tc.declared, stream }), func(p *process) core.Exit {
				if tc.prints != "" {
					p.print(tc.prints)
				}
				return core.Exit{}
			})
			if got := reply.header.Get("Content-Type"); got != tc.want {
				t.Errorf("%q declared and %q printed, stream %v: got %q, want %q", tc.declared, tc.prints, stream, got, tc.want)
			}
			if got := reply.header.Get("Content-Length"); !stream && got != fmt.Sprint(len(tc.prints)) {
				t.Errorf("the length of %q is said to be %q", tc.prints, got)
			}
		}
	}
}

// The environment is that of contracts/dayfly.md: "What the process gets".
func TestEnv(t *testing.T) {
	t.Parallel()
	call := newCall("", nil)
	call.Deadline = time.Date(2999, 1, 2, 3, 4, 5, 678_900_000, time.FixedZone("", 3600))
	call.Request.Header = core.Header{
		"Content-Type": {"text/csv"}, "Accept": {"a/b", "c/d"}, "Accept-Language": {"de"}, "Content-Encoding": {"gzip"}, "Content-Language": {"en"},
		"User-Agent": {"curl"}, "X-Request-Id": {"7"}, "Authorization": {"secret"}, "Cookie": {"secret"}, "X-Forwarded-For": {"secret"}, "Proxy": {"secret"},
	}
	ours := []string{
		"OWN=1",
		"DAYFLY_APP=shop", "DAYFLY_FUNCTION=resize", "DAYFLY_VERSION=12", "DAYFLY_MEMORY=134217728", "DAYFLY_CPU=0.5", "DAYFLY_NODE=n1",
		"DAYFLY_RUN_ID=" + runID.String(), "DAYFLY_ATTEMPT=2", "DAYFLY_DEADLINE=2999-01-02T02:04:05.678Z", "DAYFLY_TRIGGER=http",
		"DAYFLY_IDEMPOTENCY_KEY=" + runID.String(), "TRACEPARENT=00-trace",
	}
	http := []string{
		"DAYFLY_METHOD=POST", "DAYFLY_PATH=/a%20b", "DAYFLY_QUERY=x=1",
		"DAYFLY_HEADER_ACCEPT=a/b", "DAYFLY_HEADER_ACCEPT_LANGUAGE=de", "DAYFLY_HEADER_CONTENT_ENCODING=gzip", "DAYFLY_HEADER_CONTENT_LANGUAGE=en",
		"DAYFLY_HEADER_CONTENT_TYPE=text/csv", "DAYFLY_HEADER_USER_AGENT=curl", "DAYFLY_HEADER_X_REQUEST_ID=7",
	}
	exit := func(*process) core.Exit { return core.Exit{} }
	_, _, r := serve(t, call, exit)
	if want := slices.Concat(ours, http); !slices.Equal(r.process.spec.Env, want) {
		t.Errorf("got  %q\nwant %q", r.process.spec.Env, want)
	}
	call.Run.Trigger, call.Request.Body = core.TriggerAPI, nil
	call.Request.Length = 0
	_, _, r = serve(t, call, exit)
	ours[10] = "DAYFLY_TRIGGER=api"
	if !slices.Equal(r.process.spec.Env, ours) {
		t.Errorf("got  %q\nwant %q", r.process.spec.Env, ours)
	}
}

func TestStartFailures(t *testing.T) {
	t.Parallel()
	const slow = 20 * time.Millisecond
	for _, tc := range []struct {
		name   string
		start  func(ctx context.Context) error
		cancel bool
		state  core.State
		reason core.Reason
		text   string
	}{
		{"code", func(context.Context) error {
			return fmt.Errorf("start: %w", core.Errorf(core.KindNotFound, core.ReasonImageNotFound, "no such image"))
		}, false, core.StateFailed, core.ReasonImageNotFound, "no such image"},
		{"no code", func(context.Context) error { return errors.New("boom") }, false, core.StateFailed, core.ReasonStartFailed, "boom"},
		{"too long", func(ctx context.Context) error {
			<-ctx.Done()
			return fmt.Errorf("wait: %w", ctx.Err())
		}, false, core.StateFailed, core.ReasonStartTimeout, "20ms (limits.start)"},
		{"cancelled", func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}, true, core.StateCancelled, core.ReasonCancelledByUser, "by me"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			call := newCall("in", func(s *core.Spec) { s.Limits.Start = time.Hour })
			if tc.cancel {
				cancel(core.Errorf(core.KindConflict, core.ReasonCancelledByUser, "by me"))
			} else {
				call.Definition.Version.Spec.Limits.Start = slow
			}
			r := newRunner(t, nil)
			r.startIt = tc.start
			o := job.New(r, job.Options{}).Serve(ctx, call, r.job(call), newReply())
			if o.State != tc.state || o.Reason != tc.reason || !strings.Contains(o.Message, tc.text) || o.Answered || o.BytesIn != 2 {
				t.Errorf("got %+v", o)
			}
			if len(r.begun)+len(r.ended) != 0 {
				t.Error("a process was said to have begun or ended")
			}
		})
	}
}

// What a driver cannot tell is our fault, and nobody's cancelling.
func TestDriverFailures(t *testing.T) {
	t.Parallel()
	call := newCall("", func(s *core.Spec) { s.Stream = true })
	reply := newReply()
	r := newRunner(t, func(p *process) core.Exit {
		<-p.stop
		p.print("too late")
		return core.Exit{}
	})
	r.waitErr, r.stopErr = errors.New("boom"), errors.New("bang")
	o := job.New(r, job.Options{}).Serve(t.Context(), call, r.job(call), reply)
	if o.State != core.StateFailed || o.Reason != core.ReasonInternal || o.Answered {
		t.Errorf("got %+v", o)
	}
	// The process, which could not be ended, prints still.
	r.process.once.Do(func() { close(r.process.stop) })
	r.work.Wait()
	if reply.status != 0 || reply.body.Len() != 0 {
		t.Errorf("after the end the reply was used: %q", reply.body.String())
	}
}
