package job_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// runner runs one process, which is a function.
type runner struct {
	t       *testing.T
	main    func(*process) core.Exit
	startIt func(ctx context.Context) error // nil for a start that works
	waitErr error                           // of Wait
	stopErr error                           // of Stop
	quick   bool                            // the process ends before Start returns
	ends    bool                            // the process ends by itself, before Wait looks

	begun []core.Instance
	ended []core.Exit
	log   bytes.Buffer

	process *process
	work    sync.WaitGroup
}

type process struct {
	spec   core.InstanceSpec
	stdin  io.Reader
	stdio  core.Stdio
	stop   chan struct{} // closed by Stop
	once   sync.Once
	grace  time.Duration // with which it was stopped, -1 for not
	exit   core.Exit
	exited chan struct{}
}

func newRunner(t *testing.T, main func(*process) core.Exit) *runner {
	t.Helper()
	r := &runner{t: t, main: main}
	t.Cleanup(func() {
		if r.process != nil {
			r.process.once.Do(func() { close(r.process.stop) })
		}
		r.work.Wait()
	})
	return r
}

// job gives what a call of a job has beside the call.
func (r *runner) job(call *core.Call) core.Job {
	return core.Job{
		Spec:  core.InstanceSpec{ID: call.Instance, Env: []string{"OWN=1"}},
		Log:   &r.log,
		Begun: func(in core.Instance) { r.begun = append(r.begun, in) },
		Ended: func(e core.Exit) { r.ended = append(r.ended, e) },
	}
}

func (r *runner) Start(ctx context.Context, spec core.InstanceSpec, stdio core.Stdio) (core.Instance, error) {
	if r.startIt != nil {
		if err := r.startIt(ctx); err != nil {
			return core.Instance{}, err
		}
	}
	p := &process{spec: spec, stdio: stdio, stdin: stdio.Stdin, stop: make(chan struct{}), exited: make(chan struct{}), grace: -1}
	if p.stdin == nil {
		p.stdin = bytes.NewReader(nil)
	}
	r.process = p
	r.work.Go(func() {
		defer close(p.exited)
		p.exit = r.main(p)
	})
	if r.quick {
		<-p.exited
	}
	return core.Instance{ID: spec.ID}, nil
}

func (r *runner) Wait(ctx context.Context, _ core.InstanceID) (core.Exit, error) {
	if r.waitErr != nil {
		return core.Exit{}, r.waitErr
	}
	if r.ends {
		<-r.process.exited
	}
	select {
	case <-r.process.exited:
		return r.process.exit, nil
	default:
	}
	select {
	case <-r.process.exited:
		return r.process.exit, nil
	case <-ctx.Done():
		return core.Exit{}, ctx.Err()
	}
}

func (r *runner) Stop(_ context.Context, id core.InstanceID, grace time.Duration) error {
	if id != r.process.spec.ID {
		return errors.New("another instance was stopped")
	}
	if r.stopErr != nil {
		return r.stopErr
	}
	r.process.grace = grace
	r.process.once.Do(func() { close(r.process.stop) })
	<-r.process.exited
	return nil
}

func (p *process) print(s string) { _, _ = io.WriteString(p.stdio.Stdout, s) }

// untilStopped waits for Stop, and dies of it.
func (p *process) untilStopped() core.Exit {
	<-p.stop
	return core.Exit{Code: 137, Signal: 9}
}

// reply remembers.
type reply struct {
	header core.Header
	status int
	body   bytes.Buffer
	seen   chan string // what each Write brought, when it is not nil
}

func newReply() *reply { return &reply{header: core.Header{}} }

func (r *reply) Header() core.Header { return r.header }
func (r *reply) WriteHeader(s int)   { r.status = s }
func (r *reply) Flush() error        { return nil }

func (r *reply) Write(p []byte) (int, error) {
	if r.seen != nil {
		r.seen <- string(p)
	}
	return r.body.Write(p)
}
