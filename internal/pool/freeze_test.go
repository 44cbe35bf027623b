package pool_test

import (
	"errors"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

func frozenAfter(d time.Duration) func(*core.Spec) {
	return func(s *core.Spec) { s.Instances.Freeze = d }
}

// state gives what an instance is listed as, "" for one that is not.
func (w *world) state(id core.InstanceID) core.InstanceState {
	for _, in := range w.p.Instances() {
		if in.ID == id {
			return in.State
		}
	}
	return ""
}

func TestIdleInstancesAreFrozen(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		w.d.thawTime = 200 * time.Microsecond
		def := function(1, nil)
		id := w.idle(def)
		w.after(99 * time.Millisecond)
		if w.d.isFrozen(id) || w.state(id) != core.InstanceHot {
			t.Fatal("it was frozen before its time")
		}
		w.after(time.Millisecond)
		if !w.d.isFrozen(id) || w.state(id) != core.InstanceFrozen || w.d.freezing != 1 {
			t.Fatalf("after 100 ms it is %s", w.state(id))
		}
		lease := w.acquire(def)
		if lease.ID != id || lease.Cold || lease.Start != (core.StartPhases{Thaw: 200 * time.Microsecond}) || w.d.isFrozen(id) {
			t.Errorf("the lease is %+v, frozen %v", lease, w.d.isFrozen(id))
		}
		w.after(time.Minute)
		if w.d.isFrozen(id) || w.state(id) != core.InstanceBusy {
			t.Error("it was frozen while it served")
		}
		w.p.Release(lease, false)
		w.after(99 * time.Millisecond)
		if again := w.acquire(def); again.ID != id || again.Start != (core.StartPhases{}) {
			t.Errorf("a lease of one that was not frozen is %+v", again)
		} else {
			w.p.Release(again, false)
		}
		w.after(time.Second)
		if in := w.p.Instances()[0]; in.Thaws != 1 || in.State != core.InstanceFrozen || in.FrozenAt.IsZero() || w.d.freezes != 2 {
			t.Errorf("it is listed as %+v after %d freezings", in, w.d.freezes)
		}
		w.after(59*time.Second - time.Millisecond)
		if w.d.count() != 1 {
			t.Error("it ended before its time")
		}
		w.after(2 * time.Millisecond)
		if g := w.d.grace(id); g != graceTime || w.d.isFrozen(id) {
			t.Errorf("it was stopped with %s, frozen: %v; it should be thawed, to end well", g, w.d.isFrozen(id))
		}
	})
}

func TestFreezingHasLimits(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{time.Minute, time.Hour} {
		inWorld(t, plenty, func(w *world) {
			w.idle(function(1, frozenAfter(after)))
			w.after(2 * time.Minute)
			if w.d.freezes != 0 || w.d.count() != 0 {
				t.Errorf("freeze %s, idle 60s: frozen %d times, %d left", after, w.d.freezes, w.d.count())
			}
		})
	}
	inWorld(t, plenty, func(w *world) {
		w.p.Freeze = false // the driver cannot
		w.idle(function(1, nil))
		w.after(2 * time.Minute)
		if w.d.freezes != 0 || w.d.freezing != 0 || w.d.count() != 0 {
			t.Errorf("without the capability: frozen %d times, %d left", w.d.freezes, w.d.count())
		}
	})
}

// A caller that comes while an instance is being frozen does not wait until it
// is.
func TestTakenWhileItIsBeingFrozen(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		w.d.freezeTime = time.Second
		def := function(1, nil)
		id := w.idle(def)
		w.after(500 * time.Millisecond)
		if w.state(id) != core.InstanceHot {
			t.Fatalf("while it is being frozen it is %s", w.state(id))
		}
		if l := w.served(w.call(def)); l.ID != id || l.Cold || w.d.isFrozen(id) || w.d.freezes != 0 {
			t.Errorf("got %+v, frozen: %v, %d times", l, w.d.isFrozen(id), w.d.freezes)
		}
		if n := w.d.starts(); n != 1 {
			t.Errorf("%d instances were started", n)
		}
	})
}

// All who share an instance wait for its thaw, and it is thawed once.
func TestThawIsShared(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		w.d.thawTime = time.Millisecond
		def := function(1, shared(3, 1))
		id := w.idle(def)
		w.settled()
		w.settled()
		a, b := w.call(def), w.call(def)
		gone := w.call(def)
		gone.cancel(errors.New("gone"))
		w.waiting(a, b)
		w.after(time.Millisecond)
		if w.served(a).ID != id || w.served(b).ID != id || gone.err == nil {
			t.Errorf("got %v and %v, and the one that left %v", a.lease, b.lease, gone.err)
		}
		if in := w.p.Instances()[0]; in.Thaws != 1 || in.State != core.InstanceBusy {
			t.Errorf("it is listed as %+v", in)
		}
		w.p.Release(a.lease, false)
		w.p.Release(b.lease, false)
		w.after(time.Second)
		if w.state(id) != core.InstanceFrozen {
			t.Errorf("when all have left it is %s", w.state(id))
		}
	})
}

func TestDiesWhileFrozen(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		def := function(1, nil)
		id := w.idle(def)
		w.settled()
		w.d.die(id)
		c := w.send(def) // before or after the pool has seen it
		w.settled()
		if l := w.served(c); l.ID == id || !l.Cold {
			t.Errorf("got %+v, and it was dead", l)
		}
		if got := w.p.Instances(); len(got) != 1 {
			t.Errorf("there are %v", got)
		}
	})
}

// One that cannot be thawed is ended, and its caller gets another.
func TestThawFails(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		def := function(1, nil)
		id := w.idle(def)
		w.settled()
		w.d.failThaw = errors.New("boom")
		c := w.call(def)
		w.settled()
		if l := w.served(c); l.ID == id || !l.Cold {
			t.Errorf("got %+v", l)
		}
		if g := w.d.grace(id); g != 0 {
			t.Errorf("the one that cannot be thawed was stopped with %s", g)
		}
	})
}

// One that cannot be frozen stays as it is, and is not tried again and again.
func TestFreezeFails(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		w.d.failFreeze = errors.New("boom")
		def := function(1, nil)
		id := w.idle(def)
		w.after(30 * time.Second)
		if w.d.freezing != 1 || w.state(id) != core.InstanceHot {
			t.Errorf("it was tried %d times, and is %s", w.d.freezing, w.state(id))
		}
		l := w.acquire(def)
		if l.ID != id || l.Start != (core.StartPhases{}) {
			t.Errorf("got %+v", l)
		}
		w.d.failFreeze = nil
		w.p.Release(l, false)
		w.settled()
		if w.state(id) != core.InstanceFrozen {
			t.Errorf("after its next run it is %s", w.state(id))
		}
	})
}

// Frozen instances are ended like others: for memory at once, with a version
// or the pool after a thaw.
func TestStopsOfFrozenInstances(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		freeze time.Duration // how long freezing takes
		end    func(w *world, def *core.Definition)
		grace  time.Duration
	}{
		{"retired", 0, func(w *world, def *core.Definition) { w.p.Retire(def.Function.ID, 2) }, graceTime},
		{"retired meanwhile", time.Second, func(w *world, def *core.Definition) { w.p.Retire(def.Function.ID, 2) }, graceTime},
		{"evicted", 0, func(w *world, _ *core.Definition) { w.acquire(function(2, nil)) }, 0},
		{"evicted meanwhile", time.Second, func(w *world, _ *core.Definition) { w.acquire(function(2, nil)) }, 0},
		{"closed", 0, func(w *world, _ *core.Definition) { w.p.Close(); w.closed = true }, graceTime},
		{"closed meanwhile", time.Second, func(w *world, _ *core.Definition) { w.p.Close(); w.closed = true }, graceTime},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, 200*core.MiB, func(w *world) {
				w.d.freezeTime = tc.freeze
				def := function(1, nil)
				id := w.idle(def)
				w.after(200 * time.Millisecond)
				began := time.Now()
				tc.end(w, def)
				w.settled()
				if g := w.d.grace(id); g != tc.grace || time.Since(began) > 200*time.Millisecond {
					t.Errorf("it was stopped with %s after %s", g, time.Since(began))
				}
				if tc.grace > 0 && w.d.isFrozen(id) {
					t.Error("it was frozen when it was told to end")
				}
			})
		})
	}
}

// Two thousand idle instances cost no goroutine each beyond the one that waits
// for its end, and are frozen a few at a time.
func TestManyFrozen(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		w.d.freezeTime = 100 * time.Microsecond
		for i := range 500 {
			c := w.send(function(i+1, func(s *core.Spec) { s.Memory = 4 * core.MiB }))
			go func() {
				<-c.done
				w.p.Release(c.lease, false)
			}()
		}
		w.after(2 * time.Second)
		for _, in := range w.p.Instances() {
			if in.State != core.InstanceFrozen {
				t.Fatalf("%s is %s", in.Function, in.State)
			}
		}
		if w.d.mostFreezing > 4 {
			t.Errorf("%d were frozen at a time", w.d.mostFreezing)
		}
		w.after(time.Minute)
		if n := w.d.count(); n != 0 {
			t.Errorf("%d are there after their time", n)
		}
	})
}
