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
	"a frozen instance is stopped by killing it":     stopsFrozen,
	"Freeze stops the processor's use, Thaw goes on": freezes,
	"Freeze and Thaw may be called twice":            freezesTwice,
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

func (s *suite) freeze(t testing.TB, id core.InstanceID) {
	t.Helper()
	if err := s.Driver.Freeze(Context(t), id); err != nil {
		t.Fatalf("freeze: %v", err)
	}
}

func (s *suite) thaw(t testing.TB, id core.InstanceID) {
	t.Helper()
	if err := s.Driver.Thaw(Context(t), id); err != nil {
		t.Fatalf("thaw: %v", err)
	}
}

func stopsFrozen(t *testing.T, s *suite) {
	p := s.start(t, "signals", "7")
	p.Out.Await(t, "ready")
	s.freeze(t, p.ID)
	began := time.Now()
	p.Stop(Patience)
	if took := time.Since(began); took > Patience/2 {
		t.Errorf("it took %s: a frozen one cannot be asked", took)
	}
	if exit := p.Wait(); exit.Signal != 9 {
		t.Errorf("it ended with %+v, want killed", exit)
	}
}

func freezes(t *testing.T, s *suite) {
	p := s.start(t, "spin")
	p.Out.Await(t, "spinning")
	Eventually(t, "it spins", func() bool { return s.usage(t, p.ID).CPU > 20*time.Millisecond })
	s.freeze(t, p.ID)
	before := s.usage(t, p.ID).CPU
	// Another one's work is the measure of time.
	other := s.start(t, "spin")
	Eventually(t, "the other spins", func() bool { return s.usage(t, other.ID).CPU > 100*time.Millisecond })
	other.Stop(0)
	if after := s.usage(t, p.ID).CPU; after-before > 5*time.Millisecond {
		t.Errorf("while frozen it has used %s", after-before)
	}
	s.thaw(t, p.ID)
	Eventually(t, "it spins on", func() bool { return s.usage(t, p.ID).CPU > before+20*time.Millisecond })
	p.Stop(0)
}

func freezesTwice(t *testing.T, s *suite) {
	p := s.start(t, "serve", "127.0.0.1:8080")
	p.Out.Await(t, "listening")
	c := s.dial(t, p.ID, 8080)
	for range 3 {
		s.freeze(t, p.ID)
		s.freeze(t, p.ID)
		s.thaw(t, p.ID)
		s.thaw(t, p.ID)
		if got := Get(t, c, "/"); got != "hello" {
			t.Errorf("it answers %q", got)
		}
	}
	p.Stop(Patience)
}

func endsChildren(t *testing.T, s *suite) {
	// They hold the streams open: Wait returns only when they are gone.
	s.start(t, "children", "5", "6").Code(6)
}

func endsDaemons(t *testing.T, s *suite) {
	p := s.start(t, "daemon")
	p.Code(0)
}
