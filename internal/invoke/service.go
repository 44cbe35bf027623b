package invoke

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/pool"
	"github.com/dayfly-io/dayfly/internal/sequence"
)

// Config says what the service works with.
type Config struct {
	Catalog Catalog
	Store   Store
	Logs    LogStore
	Images  Images
	Driver  pool.Driver
	Web     Hot // the contract http
	FDK     Hot // the contract fdk
	Job     Job
	// Peaks tells the peak of memory of each run; nil for a driver that cannot.
	Peaks Peaks
	IDs   *sequence.Source
	// Memory bounds the sum of the memory limits of all instances.
	Memory core.Bytes
	// Freeze has idle instances frozen: the driver can do it.
	Freeze bool
	Log    *slog.Logger
}

// Service calls functions.
type Service struct {
	Config
	pool     *pool.Pool
	host     *host
	runs     registry
	recorder *recorder
	sampling sync.WaitGroup
	stop     context.CancelFunc
}

// New makes a service that lives until Close.
func New(ctx context.Context, c Config) *Service {
	s := &Service{Config: c}
	s.host = &host{driver: c.Driver, catalog: c.Catalog, images: c.Images, web: c.Web, fdk: c.FDK, ids: c.IDs, log: c.Log}
	s.pool = pool.New(ctx, pool.Config{Driver: c.Driver, Host: s.host, Memory: c.Memory, Freeze: c.Freeze, Log: c.Log})
	s.recorder = newRecorder(c.Store, c.Logs, &s.runs, c.Log)
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.sampling.Go(func() { s.sampler(ctx) })
	return s
}

// Close refuses new calls and ends those under way, ends all instances, and
// then writes what is pending.
func (s *Service) Close() {
	s.runs.close()
	for _, l := range s.runs.all() {
		l.cancel(errStopping)
	}
	s.pool.Close()
	s.runs.wait()
	s.stop()
	s.sampling.Wait()
	s.recorder.close()
}

var errStopping = core.Unavailable(core.ReasonServerRestarted, nil, "the server is stopping")

// Changed takes note of a function that there is, or of a change of one:
// instances that are to be kept are started, those of what is called no more
// end when they have finished.
func (s *Service) Changed(c core.Change) {
	if c.Deleted {
		s.pool.Retire(c.Definition.Function.ID, 0)
		return
	}
	s.pool.Promote(&c.Definition)
}

// Call calls a function and answers to reply. It returns when the run has
// ended and neither request nor reply is used any more. The error is nil when
// the reply is whole, whatever the function answered in it; otherwise it says
// what is to be answered, or, when the run was answered in part, why it was
// cut off. A run that was never made has no id.
func (s *Service) Call(ctx context.Context, p core.Principal, app, function, trigger string, req *core.Request, reply core.RunReply) (core.Run, error) {
	def, err := s.Catalog.Find(app, function)
	if err != nil {
		return core.Run{}, err
	}
	if err := s.recorder.ready(); err != nil {
		return core.Run{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := s.open(p, def, trigger, req, cancel)
	if !s.runs.add(l.run.ID, l) {
		return core.Run{}, errStopping
	}
	defer s.runs.returned(l.run.ID)
	if !s.Images.Ready(def) {
		if def, err = s.fetch(ctx, l, def); err != nil {
			return s.settle(l, core.Outcome{}, err)
		}
	}
	call := &core.Call{Run: &l.run, Definition: def, Request: req, Traceparent: traceparent(req)}
	var out core.Outcome
	if def.Version.Spec.Contract == core.ContractJob {
		out, err = s.callJob(ctx, l, call, reply)
	} else {
		out, err = s.callHot(ctx, l, call, reply)
	}
	return s.settle(l, out, err)
}

// open makes the run of a call.
func (s *Service) open(p core.Principal, def *core.Definition, trigger string, req *core.Request, cancel context.CancelCauseFunc) *live {
	l := &live{cancel: cancel}
	l.log.limit, l.log.percent, l.log.held = def.Version.Spec.Limits.Log, -1, &s.recorder.held
	l.run = core.Run{
		ID: core.RunID(s.IDs.Next()), AppID: def.App.ID, FunctionID: def.Function.ID,
		App: def.App.Name, Function: def.Function.Name, Version: def.Version.Number,
		State: core.StateQueued, Trigger: trigger, Principal: p.Name, Attempt: 1,
		Method: req.Method, Path: req.Path, CreatedAt: time.Now().Truncate(time.Microsecond), Progress: -1,
	}
	return l
}

// begin notes that the process has the run now.
func (l *live) begin(id core.InstanceID, cold bool, start core.StartPhases, reply core.RunReply) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.run
	r.State, r.StartedAt = core.StateRunning, time.Now().Truncate(time.Microsecond)
	if cold {
		start.Image += l.fetched
	}
	r.Instance, r.Cold, r.Start = id, cold, start
	reply.Begin(r)
}

// callHot passes a call to a hot instance, or to one that becomes it.
func (s *Service) callHot(ctx context.Context, l *live, call *core.Call, reply core.RunReply) (core.Outcome, error) {
	lease, err := s.pool.Acquire(ctx, call.Definition)
	if err != nil {
		return core.Outcome{}, waitError(ctx, err)
	}
	src := s.host.source(lease.ID)
	src.begin(l, l.run.ID)
	l.begin(lease.ID, lease.Cold, lease.Start, reply)
	if lease.Cold {
		s.recorder.add(l)
		s.meterStart(src, l)
	}
	call.Instance = lease.ID
	call.Deadline = l.run.StartedAt.Add(call.Definition.Version.Spec.Timeout)
	out := s.host.contract(call.Definition).Serve(ctx, call, reply)
	shares := call.Definition.Version.Spec.Concurrency.PerInstance > 1
	if shares && out.State == core.StateCancelled {
		out.Kill = false // its connection is cut; the others go on
	}
	if out.Reason == core.ReasonFunctionError && out.Kill {
		s.explainEnd(ctx, call, src.killsSeen(), &out) // which also waits for all that it printed
	}
	if err := s.Driver.Drain(lease.ID); err != nil {
		out.Kill = true
	}
	s.meterEnd(src, l, src.end(l.run.ID))
	s.pool.Release(lease, out.Kill)
	return out, nil
}

// exitPatience is how long a failed call waits to learn whether the process
// under it has ended.
const exitPatience = 50 * time.Millisecond

// explainEnd gives the outcome the reason that the process of the instance
// has ended, if that is why the call failed. seen is how many processes of it
// were killed for memory before.
func (s *Service) explainEnd(ctx context.Context, call *core.Call, seen int, out *core.Outcome) {
	quiet := context.WithoutCancel(ctx)
	patient, cancel := context.WithTimeout(quiet, exitPatience)
	defer cancel()
	exit, err := s.Driver.Wait(patient, call.Instance)
	if err != nil && call.Definition.Version.Spec.Concurrency.PerInstance > 1 {
		return // it goes on, and serves others
	}
	if err != nil {
		// It goes on, or takes its time to die. It is ended in any case; what
		// can still be told then is whether it had reached its memory limit.
		if err := s.Driver.Stop(quiet, call.Instance, 0); err != nil {
			return
		}
		if exit, err = s.Driver.Wait(quiet, call.Instance); err != nil || exit.Usage.OOMKills <= seen {
			return
		}
		exit.OOM = true
	}
	if exit.Lost {
		return
	}
	name := call.Definition.App.Name + "/" + call.Definition.Function.Name
	if exit.Usage.OOMKills > 0 && exit.Usage.OOMKills <= seen {
		exit.OOM = false // what was killed for memory, was before
	}
	switch {
	case exit.OOM:
		out.Reason = core.ReasonOOMKilled
		out.Message = name + " was killed because it reached its memory limit of " + call.Definition.Version.Spec.Memory.String() + ": raise memory"
	case exit.Signal != 0:
		out.Reason, out.Message = core.ReasonSignal, "the process of "+name+" ended during the call: "+exit.String()
	default:
		out.Reason, out.Message = core.ReasonExitCode, "the process of "+name+" ended during the call: "+exit.String()
	}
	out.ExitCode = exit.Code
}

// callJob runs a call in an instance of its own.
func (s *Service) callJob(ctx context.Context, l *live, call *core.Call, reply core.RunReply) (core.Outcome, error) {
	permit, err := s.pool.Admit(ctx, call.Definition)
	if err != nil {
		return core.Outcome{}, waitError(ctx, err)
	}
	defer permit.Done()
	spec := s.host.spec(call.Definition)
	src := &source{id: spec.ID}
	src.begin(l, l.run.ID)
	l.based = true // the instance has used nothing yet
	// The time counts from here, since the process is told of it when it
	// starts.
	call.Instance, call.Deadline = spec.ID, time.Now().Add(call.Definition.Version.Spec.Timeout)
	out := s.Job.Serve(ctx, call, core.Job{
		Spec: spec,
		Log:  stream{src, core.StreamStderr},
		Begun: func(in core.Instance) {
			l.begin(in.ID, true, in.Start, reply)
			s.recorder.add(l)
		},
		Ended: func(exit core.Exit) {
			l.change(func(r *core.Run) { r.Usage, r.ExitCode = exit.Usage, exit.Code })
		},
	}, reply)
	src.end(l.run.ID)
	return out, nil
}

// waitError gives the error of a caller that waited in vain.
func waitError(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	cause := context.Cause(ctx)
	if _, ok := errors.AsType[*core.Error](cause); ok {
		return cause
	}
	return errClientGone
}

var errClientGone = core.Errorf(core.KindTimeout, core.ReasonClientGone, "the caller went away while the call waited for an instance")

// settle ends the run. err is that of a call that never got to the function.
func (s *Service) settle(l *live, out core.Outcome, err error) (core.Run, error) {
	if err != nil {
		out = outcomeOf(err)
	}
	l.mu.Lock()
	r := &l.run
	if r.Usage.OOMKills > 0 && out.Reason != core.ReasonOOMKilled {
		out.Message = strings.TrimPrefix(out.Message+"; a process of the instance was killed because the memory limit was reached: raise memory", "; ")
	}
	r.State, r.Reason, r.Message = out.State, out.Reason, out.Message
	r.Status, r.BytesIn, r.BytesOut = out.Status, out.BytesIn, out.BytesOut
	if out.ExitCode != 0 {
		r.ExitCode = out.ExitCode
	}
	r.FinishedAt = time.Now().Truncate(time.Microsecond)
	run := *r
	l.mu.Unlock()
	l.log.end() // who waits for this finds the run ended
	run.LogBytes = l.log.size()
	run.Progress, run.ProgressText = l.log.progress()
	if err == nil {
		err = s.failure(l, run, out)
	}
	s.recorder.add(l)
	return run, err
}

// outcomeOf gives the outcome of a run that ended before it began.
func outcomeOf(err error) core.Outcome {
	e := core.AsError(err)
	out := core.Outcome{State: core.StateFailed, Reason: e.Code, Message: e.Message}
	switch e.Code {
	case core.ReasonClientGone, core.ReasonCancelledByUser:
		out.State = core.StateCancelled
	}
	return out
}

// failure gives the error that a waiting caller is told, nil when the reply is
// whole.
func (s *Service) failure(l *live, run core.Run, out core.Outcome) error {
	if out.State == core.StateSucceeded && !out.Cut || out.Answered && !out.Cut {
		return nil
	}
	kind := core.KindFunction
	switch {
	case out.State == core.StateTimedOut, out.Reason == core.ReasonStartTimeout:
		kind = core.KindTimeout
	case out.Reason == core.CodeTooLarge:
		kind = core.KindTooLarge
	case out.Reason == core.CodeInvalid:
		kind = core.KindInvalid
	case out.Reason == core.CodeNotImplemented:
		kind = core.KindNotImplemented
	case out.Reason == core.ReasonDiskFull, out.Reason == core.CodeUnavailable, out.Reason == core.ReasonServerRestarted:
		kind = core.KindUnavailable
	case out.Reason == core.ReasonInternal:
		kind = core.KindInternal
	case out.State == core.StateCancelled:
		kind = core.KindConflict
	}
	message := out.Message
	if tail := l.log.tail(); tail != "" && out.State == core.StateFailed {
		message += "\nthe last it printed:\n" + tail
	}
	return &core.Error{Kind: kind, Code: run.Reason, Message: message}
}
