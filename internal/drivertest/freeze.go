package drivertest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// freezing is for drivers that can do it (core.Capabilities.Freeze).
var freezing = map[string]func(*testing.T, *suite){
	"a frozen instance is stopped by killing it":     stopsFrozen,
	"Freeze stops the processor's use, Thaw goes on": freezes,
	"Freeze and Thaw may be called twice":            freezesTwice,
	"Freeze with an ended context leaves it running": freezeCancelled,
	"Freeze and Thaw of many, at once":               freezesAtOnce,
	"a frozen instance is killed at once":            killsFrozen,
}

// notFreezing is for the others.
var notFreezing = map[string]func(*testing.T, *suite){
	"freezing that cannot be done is refused": func(t *testing.T, s *suite) {
		p := s.start(t, "serve", "127.0.0.1:8080")
		p.Out.Await(t, "listening")
		if err := s.Driver.Freeze(Context(t), p.ID); !core.IsKind(err, core.KindNotImplemented) {
			t.Errorf("the error is %v", err)
		}
		if got := Get(t, s.dial(t, p.ID, 8080), "/"); got != "hello" {
			t.Errorf("after that it answers %q", got)
		}
		p.Stop(Patience)
	},
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

// freezeCancelled finds the process running or frozen, as Freeze says; after
// an error it runs.
func freezeCancelled(t *testing.T, s *suite) {
	p := s.start(t, "serve", "127.0.0.1:8080")
	p.Out.Await(t, "listening")
	c := s.dial(t, p.ID, 8080)
	ended, end := context.WithCancel(Context(t))
	end()
	for range 10 {
		if s.Driver.Freeze(ended, p.ID) == nil {
			s.thaw(t, p.ID) // it was quicker than the look at the context
		}
		if got := Get(t, c, "/"); got != "hello" {
			t.Errorf("it answers %q", got)
		}
	}
	p.Stop(Patience)
}

// freezesAtOnce has some freeze and others thaw; who thaws last finds the
// process running.
func freezesAtOnce(t *testing.T, s *suite) {
	p := s.start(t, "serve", "127.0.0.1:8080")
	p.Out.Await(t, "listening")
	c := s.dial(t, p.ID, 8080)
	for range 20 {
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { _ = s.Driver.Freeze(Context(t), p.ID) }) // a Thaw may come first
			wg.Go(func() { s.thaw(t, p.ID) })
		}
		wg.Wait()
		s.thaw(t, p.ID)
		if got := Get(t, c, "/"); got != "hello" {
			t.Errorf("it answers %q", got)
		}
	}
	p.Stop(Patience)
}

func killsFrozen(t *testing.T, s *suite) {
	for range 5 {
		p := s.start(t, "spin")
		p.Out.Await(t, "spinning")
		s.freeze(t, p.ID)
		p.Stop(0)
		if exit := p.Wait(); exit.Signal != 9 {
			t.Errorf("it ended with %+v, want killed", exit)
		}
	}
}
