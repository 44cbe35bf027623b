package pool_test

import (
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

func shared(n, most int) func(*core.Spec) {
	return func(s *core.Spec) { s.Concurrency.PerInstance, s.Instances.Max = n, most }
}

func TestInstancesAreSharedUpToTheirCapacity(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		def := function(1, shared(3, 2))
		callers := make([]*caller, 7)
		for i := range callers {
			callers[i] = w.call(def)
		}
		w.settled()
		load := map[core.InstanceID]int{}
		for _, c := range callers[:6] {
			load[w.served(c).ID]++
		}
		w.waiting(callers[6])
		if len(load) != 2 || w.d.starts() != 2 {
			t.Fatalf("7 callers of 3 an instance, 2 instances at most: %d were started, with the loads %v", w.d.starts(), load)
		}
		for id, n := range load {
			if n != 3 {
				t.Errorf("instance %d has %d runs", id, n)
			}
		}
		freed := callers[2].lease
		w.p.Release(freed, false)
		w.after(time.Millisecond)
		if l := w.served(callers[6]); l.ID != freed.ID || l.Cold {
			t.Errorf("the place of instance %d became free, and the caller got %+v", freed.ID, l)
		}
	})
}

// An instance at work is filled before an idle one is woken.
func TestRoomIsTakenWhereThereIsWork(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		def := function(1, shared(2, 0))
		a, b, c := w.call(def), w.call(def), w.call(def)
		w.settled()
		busy := w.served(a).ID
		other := w.served(c)
		if w.served(b).ID != busy || other.ID == busy {
			t.Fatalf("three callers got %v, %v and %v", a.lease.ID, b.lease.ID, c.lease.ID)
		}
		w.p.Release(b.lease, false)
		w.p.Release(other, false)
		w.after(time.Millisecond)
		if l := w.acquire(def); l.ID != busy {
			t.Errorf("the idle instance %d was taken, and %d has room", l.ID, busy)
		}
	})
}

// An instance that is to be killed serves on those it has, and takes no more.
func TestKillWaitsForTheOthers(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		def := function(1, shared(3, 1))
		a, b := w.call(def), w.call(def)
		w.settled()
		id := w.served(a).ID
		w.p.Release(a.lease, true)
		w.settled()
		if g := w.d.grace(id); g != -1 {
			t.Fatalf("the instance was stopped with %s to go while it served another", g)
		}
		c := w.call(def)
		w.waiting(c)
		w.p.Release(w.served(b), false)
		w.settled()
		if g := w.d.grace(id); g != 0 {
			t.Errorf("the instance was stopped with %s to go", g)
		}
		if l := w.served(c); l.ID == id {
			t.Error("an instance that was to be killed was handed out")
		}
	})
}

func TestSharedInstanceIsRetiredWhenItHasNobody(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		def := function(1, shared(2, 0))
		a, b := w.call(def), w.call(def)
		w.settled()
		id := w.served(a).ID
		w.p.Retire(def.Function.ID, 2)
		w.p.Release(a.lease, false)
		w.settled()
		if w.d.grace(id) != -1 {
			t.Fatal("it was stopped while it served another")
		}
		w.p.Release(w.served(b), false)
		w.settled()
		if w.d.grace(id) != graceTime {
			t.Error("it was not stopped when it had served the last")
		}
	})
}
