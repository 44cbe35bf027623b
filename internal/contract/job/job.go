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
	"os"
	"slices"
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
// when it returns, and nothing of the call or the reply is used any more. A
// body whose Read can wait for the caller, and a reply whose Write can, have
// the methods SetReadDeadline and SetWriteDeadline that [core.Request] and
// [core.Reply] speak of; without them such a wait is not cut short.
func (c *Contract) Serve(ctx context.Context, call *core.Call, j core.Job, reply core.Reply) core.Outcome {
	body, out := readBody(ctx, call)
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
	sink := newSink(ctx, call, reply, cancel)
	stdio.Stdout = sink
	in, err := c.start(ctx, call, j.Spec, stdio)
	if err != nil {
		out = startFailed(ctx, err)
	} else {
		j.Begun(in)
		sink.begin()
		exit, cause := c.await(ctx, call, in.ID)
		j.Ended(exit)
		if sink.overflown() {
			cause = errTooLarge // also when the process has ended by itself
		}
		out = verdict(call, exit, cause)
	}
	out.BytesIn = core.Bytes(len(body))
	sink.finish(&out)
	return out
}

// start starts the instance within the function's limit.
func (c *Contract) start(ctx context.Context, call *core.Call, spec core.InstanceSpec, stdio core.Stdio) (core.Instance, error) {
	limit := call.Definition.Version.Spec.Limits.Start
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	in, err := c.runner.Start(limited, spec, stdio)
	if _, ok := errors.AsType[*core.Error](err); err == nil || ok || limited.Err() == nil {
		return in, err
	}
	return in, &core.Error{
		Kind: core.KindTimeout, Code: core.ReasonStartTimeout, Err: err,
		Message: fmt.Sprintf("the process of %s was not started within %s (limits.start)", name(call), limit),
	}
}

func name(call *core.Call) string {
	return call.Definition.App.Name + "/" + call.Definition.Function.Name
}

// past is a deadline that makes what waits give up at once.
var past = time.Unix(1, 0)

// readBody reads what the process will be given. The outcome has a state when
// the run ends here.
func readBody(ctx context.Context, call *core.Call) ([]byte, core.Outcome) {
	if call.Request.Body == nil {
		return nil, core.Outcome{}
	}
	spec := &call.Definition.Version.Spec
	limit, what := spec.Limits.Body, "limits.body"
	if spec.Args == core.ArgsBody && limit > core.MaxArgument-1 {
		// The kernel's bound on one argument, its final zero included
		// (MAX_ARG_STRLEN, execve(2)).
		limit, what = core.MaxArgument-1, "what one argument may have"
	}
	tooLarge := core.Outcome{
		State: core.StateFailed, Reason: core.CodeTooLarge,
		Message: fmt.Sprintf("the body is larger than %s, which is %s", limit, what),
	}
	if call.Request.Length > int64(limit) {
		return nil, tooLarge
	}
	body, err := readAll(ctx, call, int64(limit)+1)
	tooLarge.BytesIn = core.Bytes(len(body))
	switch {
	case err != nil:
		return nil, bodyFailed(ctx, call, err, len(body))
	case len(body) > int(limit):
		return nil, tooLarge
	case spec.Args == core.ArgsBody && bytes.IndexByte(body, 0) >= 0:
		return nil, core.Outcome{
			State: core.StateFailed, Reason: core.CodeInvalid, BytesIn: core.Bytes(len(body)),
			Message: "the body has a zero byte in it, which cannot stand in an argument",
		}
	}
	return body, core.Outcome{}
}

// readAll reads up to limit bytes of the body, until the deadline of the call
// or the end of ctx.
func readAll(ctx context.Context, call *core.Call, limit int64) ([]byte, error) {
	if d, ok := call.Request.Body.(interface{ SetReadDeadline(t time.Time) error }); ok {
		_ = d.SetReadDeadline(call.Deadline)
		stop := context.AfterFunc(ctx, func() { _ = d.SetReadDeadline(past) })
		defer func() {
			if stop() {
				_ = d.SetReadDeadline(time.Time{})
			}
		}()
	}
	body, err := io.ReadAll(io.LimitReader(call.Request.Body, limit))
	if err == nil && int64(len(body)) < min(call.Request.Length, limit) {
		err = io.ErrUnexpectedEOF
	}
	return body, err
}

func bodyFailed(ctx context.Context, call *core.Call, err error, n int) core.Outcome {
	out := core.Outcome{BytesIn: core.Bytes(n)}
	switch {
	case ctx.Err() != nil:
		out.State, out.Reason, out.Message = stopped(context.Cause(ctx), "the caller went away while its body was read")
	case errors.Is(err, os.ErrDeadlineExceeded):
		out.State, out.Reason = core.StateTimedOut, core.ReasonTimeout
		out.Message = fmt.Sprintf("the caller did not send its body within the timeout of %s", call.Definition.Version.Spec.Timeout)
	default:
		out.State, out.Reason = core.StateCancelled, core.ReasonClientGone
		out.Message = fmt.Sprintf("the caller's body broke off after %d bytes: %s", n, err)
	}
	return out
}

// stopped gives the verdict on a run that was ended from outside: what the
// cause says, or that the caller has gone. Only a user and a caller cancel;
// whatever else ends a run makes it fail.
func stopped(cause error, gone string) (core.State, core.Reason, string) {
	e, ok := errors.AsType[*core.Error](cause)
	switch {
	case !ok:
		return core.StateCancelled, core.ReasonClientGone, gone
	case e.Code == core.ReasonCancelledByUser, e.Code == core.ReasonClientGone:
		return core.StateCancelled, e.Code, e.Message
	}
	return core.StateFailed, e.Code, e.Message
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
	cause := context.Cause(timed) // nil when the driver could not wait
	grace := c.opts.Grace
	if cause == nil || errors.Is(cause, errTimeout) || errors.Is(cause, errTooLarge) {
		grace = 0
	}
	quiet := context.WithoutCancel(ctx)
	if err := c.runner.Stop(quiet, id, grace); err != nil && !errors.Is(err, core.ErrGone) {
		return core.Exit{Lost: true}, cause
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
	name, spec := name(call), &call.Definition.Version.Spec
	failed := func(state core.State, reason core.Reason, format string, args ...any) core.Outcome {
		return core.Outcome{State: state, Reason: reason, Message: fmt.Sprintf(format, args...), ExitCode: exit.Code}
	}
	switch {
	case errors.Is(cause, errTooLarge):
		return failed(core.StateFailed, core.ReasonResultTooLarge,
			"%s printed more than %s, which is limits.result: raise it, or let the function stream", name, spec.Limits.Result)
	case errors.Is(cause, errTimeout):
		return failed(core.StateTimedOut, core.ReasonTimeout,
			"%s was killed because it did not end within its timeout of %s", name, spec.Timeout)
	case cause != nil:
		state, reason, message := stopped(cause, name+" was stopped because its caller went away")
		return failed(state, reason, "%s", message)
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

func startFailed(ctx context.Context, err error) core.Outcome {
	out := core.Outcome{State: core.StateFailed, Reason: core.ReasonStartFailed, Message: err.Error()}
	if e, ok := errors.AsType[*core.Error](err); ok {
		out.Reason, out.Message = e.Code, e.Message
	}
	if ctx.Err() != nil {
		out.State, out.Reason, out.Message = stopped(context.Cause(ctx), "the caller went away before the process was started")
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
	slices.Sort(env[n:])
	return env
}
