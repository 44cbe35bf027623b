package drivertest

import (
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

var stopping = map[string]func(*testing.T, *suite){
	"Stop asks with SIGTERM and takes the exit code": stopsGently,
	"Stop asks with the image's own signal":          stopsWithSignal,
	"Stop kills what ignores it when its time is up": stopsStubborn,
	"Stop without grace kills at once":               stopsAtOnce,
	"Stop with an ended context kills at once":       stopsCancelled,
	"Stop can be called by many":                     stopsForMany,
	"children end with the process":                  endsChildren,
	"daemons end with the process":                   endsDaemons,
}

// gate is a reader that waits until it is opened, and then ends.
type gate struct {
	once sync.Once
	c    chan struct{}
}

func newGate() *gate  { return &gate{c: make(chan struct{})} }
func (g *gate) open() { g.once.Do(func() { close(g.c) }) }
func (g *gate) Read([]byte) (int, error) {
	<-g.c
	return 0, io.EOF
}

func stopsGently(t *testing.T, s *suite) {
	p := s.start(t, "signals", "7")
	p.Out.Await(t, "ready")
	p.Stop(Patience)
	p.Code(7)
	if got := p.Out.String(); got != "ready\nterminated\n" {
		t.Errorf("it printed %q", got)
	}
}

func stopsWithSignal(t *testing.T, s *suite) {
	for signal, word := range map[string]string{"SIGINT": "interrupt", "SIGUSR1": "user defined signal 1"} {
		config := core.ImageConfig{Entrypoint: []string{"/misbehave"}, StopSignal: signal}
		p := Start(t, s.Driver, Spec(s.image(t, config), "signals", "8"), nil)
		p.Out.Await(t, "ready")
		p.Stop(Patience)
		p.Code(8)
		if got := p.Out.String(); got != "ready\n"+word+"\n" {
			t.Errorf("%s: it printed %q", signal, got)
		}
	}
}

func stopsStubborn(t *testing.T, s *suite) {
	p := s.start(t, "signals", "ignore")
	p.Out.Await(t, "ready")
	const grace = 300 * time.Millisecond
	began := time.Now()
	p.Stop(grace)
	if took := time.Since(began); took < grace {
		t.Errorf("it was killed after %s, before its grace of %s was over", took, grace)
	}
	if exit := p.Wait(); exit.Signal != 9 || exit.Code != 137 {
		t.Errorf("it ended with %+v, want killed", exit)
	}
	if got := p.Out.String(); got != "ready\nterminated\n" {
		t.Errorf("it printed %q, want to have been asked first", got)
	}
}

func stopsAtOnce(t *testing.T, s *suite) {
	p := s.start(t, "signals", "7")
	p.Out.Await(t, "ready")
	p.Stop(0)
	if exit := p.Wait(); exit.Signal != 9 || p.Out.String() != "ready\n" {
		t.Errorf("it ended with %+v and printed %q, want killed unasked", exit, p.Out.String())
	}
}

func stopsCancelled(t *testing.T, s *suite) {
	p := s.start(t, "signals", "ignore")
	p.Out.Await(t, "ready")
	ctx, cancel := contextWithCancel(t)
	cancel()
	if err := s.Driver.Stop(ctx, p.ID, time.Hour); err != nil {
		t.Errorf("stop: %v", err)
	}
	if exit := p.Wait(); exit.Signal != 9 {
		t.Errorf("it ended with %+v, want killed", exit)
	}
}

func stopsForMany(t *testing.T, s *suite) {
	p := s.start(t, "signals", "7")
	p.Out.Await(t, "ready")
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := s.Driver.Stop(Context(t), p.ID, Patience); err != nil && !errors.Is(err, core.ErrGone) {
				t.Errorf("stop: %v", err)
			}
		})
	}
	wg.Wait()
	p.Code(7)
}

func endsChildren(t *testing.T, s *suite) {
	// They hold the streams open: Wait returns only when they are gone.
	s.start(t, "children", "5", "6").Code(6)
}

func endsDaemons(t *testing.T, s *suite) {
	p := s.start(t, "daemon")
	p.Code(0)
}
