// Package job is the contract of the same name: one fresh instance per run.
// The request's body is the process's stdin, or its only argument; stdout is
// the answer, stderr the log, and the exit code the verdict. Any image works.
//
// The answer is kept back until the process has ended, so that a failure can
// still be told as one; a function that declares stream gets its output passed
// on as it comes, and a failure after the first byte cuts the answer off.
//
// A Contract may be used by many calls at the same time.
package job

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/dayfly-io/dayfly/internal/contract"
	"github.com/dayfly-io/dayfly/internal/core"
)

// Runner starts instances and waits for them; every driver is one.
type Runner interface {
	Start(ctx context.Context, spec core.InstanceSpec, stdio core.Stdio) (core.Instance, error)
	Wait(ctx context.Context, id core.InstanceID) (core.Exit, error)
	Stop(ctx context.Context, id core.InstanceID, grace time.Duration) error
}

// Options says how the contract works.
type Options struct {
	// Node is the name of the node, for the process's environment.
	Node string
	// Grace is how long a cancelled process has between SIGTERM and SIGKILL.
	Grace time.Duration
}

// Contract runs jobs.
type Contract struct {
	runner Runner
	opts   Options
}

// New makes a contract whose instances the runner starts.
func New(r Runner, o Options) *Contract { return &Contract{runner: r, opts: o} }

// Serve runs one attempt to its end: every process of the instance has ended
// when it returns.
func (c *Contract) Serve(ctx context.Context, call *core.Call, j core.Job, reply core.Reply) core.Outcome {
	body, out := readBody(call)
	if out.State != "" {
		return out
	}
	spec := &call.Definition.Version.Spec
	j.Spec.Env = append(j.Spec.Env, c.env(call)...)
	stdio := core.Stdio{Stdin: bytes.NewReader(body), Stderr: j.Log}
	if spec.Args == core.ArgsBody {
		text := string(body)
		j.Spec.Argument, stdio.Stdin = &text, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sink := &sink{reply: reply, limit: int64(spec.Limits.Result), stream: spec.Stream, contentType: spec.ContentType, full: cancel}
	stdio.Stdout = sink
	in, err := c.runner.Start(ctx, j.Spec, stdio)
	if err != nil {
		return startFailed(ctx, err, len(body))
	}
	j.Begun(in)
	exit, cause := c.await(ctx, call, in.ID)
	j.Ended(exit)
	out = verdict(call, exit, cause)
	out.BytesIn = core.Bytes(len(body))
	sink.finish(&out)
	return out
}

// readBody reads what the process will be given.
func readBody(call *core.Call) ([]byte, core.Outcome) {
	limit, what := call.Definition.Version.Spec.Limits.Body, "limits.body"
	if call.Definition.Version.Spec.Args == core.ArgsBody && limit > core.MaxArgument-1 {
		// The kernel's bound on one argument, its final zero included
		// (MAX_ARG_STRLEN, execve(2)).
		limit, what = core.MaxArgument-1, "what one argument may have"
	}
	if call.Request.Body == nil {
		return nil, core.Outcome{}
	}
	tooLarge := core.Outcome{
		State: core.StateFailed, Reason: core.CodeTooLarge,
		Message: fmt.Sprintf("the body is larger than %s, which is %s", limit, what),
	}
	if call.Request.Length > int64(limit) {
		return nil, tooLarge
	}
	body, err := io.ReadAll(io.LimitReader(call.Request.Body, int64(limit)+1))
	switch {
	case err != nil:
		return nil, core.Outcome{
			State: core.StateCancelled, Reason: core.ReasonClientGone,
			Message: "the caller went away while its body was read: " + err.Error(),
		}
	case len(body) > int(limit):
		return nil, tooLarge
	case call.Definition.Version.Spec.Args == core.ArgsBody && bytes.IndexByte(body, 0) >= 0:
		return nil, core.Outcome{
			State: core.StateFailed, Reason: core.CodeInvalid,
			Message: "the body has a zero byte in it, which cannot stand in an argument",
		}
	}
	return body, core.Outcome{}
}

// await waits for the end of the process, and ends it when its time is up or
// nobody wants it any more.
func (c *Contract) await(ctx context.Context, call *core.Call, id core.InstanceID) (core.Exit, error) {
	timed, cancel := context.WithDeadlineCause(ctx, call.Deadline, errTimeout)
	defer cancel()
	exit, err := c.runner.Wait(timed, id)
	if err == nil {
		return exit, nil
	}
	cause := context.Cause(timed)
	if cause == nil {
		cause = err
	}
	grace := c.opts.Grace
	if errors.Is(cause, errTimeout) || errors.Is(cause, errTooLarge) {
		grace = 0
	}
	quiet := context.WithoutCancel(ctx)
	if err := c.runner.Stop(quiet, id, grace); err != nil && !errors.Is(err, core.ErrGone) {
		return core.Exit{Lost: true}, errors.Join(cause, err)
	}
	exit, err = c.runner.Wait(quiet, id)
	if err != nil {
		exit = core.Exit{Lost: true}
	}
	return exit, cause
}

var (
	errTimeout  = errors.New("the time of the run is up")
	errTooLarge = errors.New("the result is too large")
)

func verdict(call *core.Call, exit core.Exit, cause error) core.Outcome {
	name := call.Definition.App.Name + "/" + call.Definition.Function.Name
	spec := &call.Definition.Version.Spec
	failed := func(state core.State, reason core.Reason, format string, args ...any) core.Outcome {
		return core.Outcome{State: state, Reason: reason, Message: fmt.Sprintf(format, args...), ExitCode: exit.Code}
	}
	e, told := errors.AsType[*core.Error](cause)
	switch {
	case errors.Is(cause, errTooLarge):
		return failed(core.StateFailed, core.ReasonResultTooLarge,
			"%s printed more than %s, which is limits.result: raise it, or let the function stream", name, spec.Limits.Result)
	case errors.Is(cause, errTimeout):
		return failed(core.StateTimedOut, core.ReasonTimeout,
			"%s was killed because it did not end within its timeout of %s", name, spec.Timeout)
	case told:
		return failed(core.StateCancelled, e.Code, "%s", e.Message)
	case cause != nil:
		return failed(core.StateCancelled, core.ReasonClientGone, "%s was stopped because its caller went away", name)
	case exit.OOM:
		return failed(core.StateFailed, core.ReasonOOMKilled,
			"%s was killed because it reached its memory limit of %s: raise memory", name, spec.Memory)
	case exit.Signal != 0:
		return failed(core.StateFailed, core.ReasonSignal, "%s was killed by signal %d", name, exit.Signal)
	case exit.Lost:
		return failed(core.StateFailed, core.ReasonInternal, "%s ended and left no exit code", name)
	case exit.Code != 0:
		return failed(core.StateFailed, core.ReasonExitCode, "%s exited with code %d", name, exit.Code)
	}
	return core.Outcome{State: core.StateSucceeded}
}

func startFailed(ctx context.Context, err error, n int) core.Outcome {
	out := core.Outcome{State: core.StateFailed, Reason: core.ReasonStartFailed, Message: err.Error(), BytesIn: core.Bytes(n)}
	if e, ok := errors.AsType[*core.Error](err); ok {
		out.Reason, out.Message = e.Code, e.Message
	}
	if ctx.Err() != nil {
		out.State, out.Reason, out.Message = core.StateCancelled, core.ReasonClientGone, "the caller went away before the process was started"
		if e, ok := errors.AsType[*core.Error](context.Cause(ctx)); ok {
			out.Reason, out.Message = e.Code, e.Message
		}
	}
	return out
}

// headerVariables are the request's fields that a job is told of.
var headerVariables = map[string]string{
	"Accept":           "DAYFLY_HEADER_ACCEPT",
	"Accept-Language":  "DAYFLY_HEADER_ACCEPT_LANGUAGE",
	"Content-Encoding": "DAYFLY_HEADER_CONTENT_ENCODING",
	"Content-Language": "DAYFLY_HEADER_CONTENT_LANGUAGE",
	"Content-Type":     "DAYFLY_HEADER_CONTENT_TYPE",
	"User-Agent":       "DAYFLY_HEADER_USER_AGENT",
	"X-Request-Id":     "DAYFLY_HEADER_X_REQUEST_ID",
}

// env gives what the process learns of its run.
func (c *Contract) env(call *core.Call) []string {
	run, req := call.Run, call.Request
	env := append(contract.Env(call.Definition, c.opts.Node),
		"DAYFLY_RUN_ID="+run.ID.String(),
		"DAYFLY_ATTEMPT="+strconv.Itoa(run.Attempt),
		"DAYFLY_DEADLINE="+call.Deadline.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		"DAYFLY_TRIGGER="+run.Trigger,
		"DAYFLY_IDEMPOTENCY_KEY="+run.ID.String(),
		"TRACEPARENT="+call.Traceparent,
	)
	if run.Trigger != core.TriggerHTTP {
		return env
	}
	env = append(env, "DAYFLY_METHOD="+req.Method, "DAYFLY_PATH="+req.Path, "DAYFLY_QUERY="+req.RawQuery)
	n := len(env)
	for field, name := range headerVariables {
		if v := req.Header.Get(field); v != "" && !strings.ContainsRune(v, 0) {
			env = append(env, name+"="+v)
		}
	}
	sort.Strings(env[n:])
	return env
}

// sink takes what the process prints to stdout.
type sink struct {
	reply       core.Reply
	limit       int64
	stream      bool
	contentType string
	full        context.CancelCauseFunc

	buf      bytes.Buffer
	written  int64
	answered bool
	broken   bool
}

// Write keeps, or passes on, one piece of output.
func (s *sink) Write(p []byte) (int, error) {
	s.written += int64(len(p))
	if s.broken {
		return len(p), nil
	}
	if s.stream {
		s.pass(p)
		return len(p), nil
	}
	if s.written > s.limit {
		s.broken = true
		s.full(errTooLarge)
		return len(p), nil
	}
	s.buf.Write(p)
	return len(p), nil
}

func (s *sink) pass(p []byte) {
	if !s.answered {
		s.answered = true
		s.head(p)
	}
	if _, err := s.reply.Write(p); err != nil {
		s.broken = true
		return
	}
	if err := s.reply.Flush(); err != nil {
		s.broken = true
	}
}

func (s *sink) head(first []byte) {
	kind := s.contentType
	if kind == "" {
		kind = http.DetectContentType(first)
	}
	s.reply.Header()["Content-Type"] = []string{kind}
	s.reply.WriteHeader(http.StatusOK)
}

// finish sends the answer of a run that succeeded, and says in the outcome
// what has gone out.
func (s *sink) finish(out *core.Outcome) {
	out.BytesOut = core.Bytes(s.written)
	if out.State == core.StateSucceeded && !s.answered {
		s.answered = true
		s.reply.Header()["Content-Length"] = []string{strconv.Itoa(s.buf.Len())}
		s.head(s.buf.Bytes())
		if _, err := s.reply.Write(s.buf.Bytes()); err != nil {
			s.broken = true
		}
	}
	out.Answered = s.answered
	if s.answered {
		out.Status = http.StatusOK
		out.Cut = out.State != core.StateSucceeded
	}
}
