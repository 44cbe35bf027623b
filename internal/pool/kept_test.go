package pool_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

func keeps(n int) func(*core.Spec) { return func(s *core.Spec) { s.Instances.Min = n } }

// promote makes a version the one that is called.
func (w *world) promote(def *core.Definition) {
	w.d.mu.Lock()
	w.d.called[def.Function.ID] = def.Version.Number
	w.d.mu.Unlock()
	w.p.Promote(def)
}

// remove deletes a function.
func (w *world) remove(def *core.Definition) {
	w.d.mu.Lock()
	w.d.called[def.Function.ID] = -1
	w.d.mu.Unlock()
	w.p.Retire(def.Function.ID, 0)
}

func (w *world) kept(def *core.Definition, ready int, texts ...string) core.Kept {
	w.Helper()
	k := w.p.Kept(def)
	if k.Want != def.Version.Spec.Instances.Min || k.Ready != ready {
		w.Errorf("%+v are kept, want %d ready", k, ready)
	}
	if len(texts) == 0 && k.Problem != "" {
		w.Errorf("there is a problem: %s", k.Problem)
	}
	for _, s := range texts {
		if !strings.Contains(k.Problem, s) {
			w.Errorf("the problem is %q, want %q in it", k.Problem, s)
		}
	}
	return k
}

func TestKeptInstances(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		def := function(1, keeps(2))
		w.promote(def)
		w.kept(def, 0)
		w.settled()
		w.kept(def, 2)
		if l := w.served(w.call(def)); l.Cold || w.d.starts() != 2 {
			t.Errorf("the first call got %+v after %d starts", l, w.d.starts())
		} else {
			w.p.Release(l, false)
		}
		// Two callers more than are kept: what is over goes when it is idle.
		calls := []*caller{w.call(def), w.call(def), w.call(def), w.call(def)}
		w.settled()
		for _, c := range calls {
			w.p.Release(w.served(c), false)
		}
		w.after(2 * time.Hour)
		if n := w.d.count(); n != 2 {
			t.Errorf("%d instances are there after two hours without a call, want those that are kept", n)
		}
		if used, _ := w.p.MemoryInUse(); used != 2*def.Version.Spec.Memory {
			t.Errorf("%s are reserved", used)
		}
		for _, in := range w.p.Instances() {
			if in.State != core.InstanceFrozen {
				t.Errorf("a kept instance without a call is %s", in.State)
			}
		}
		w.remove(def)
		w.settled()
		if n := w.p.Lines(); n != 0 || w.d.count() != 0 {
			t.Errorf("after the deletion there are %d instances and %d lines", w.d.count(), n)
		}
	})
}

// One that dies is replaced: at once when it had lived well, with growing
// pauses when they keep dying, and it is told why.
func TestKeptInstancesThatDie(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		def := function(1, keeps(1))
		w.promote(def)
		w.after(2 * time.Minute)
		die := func() {
			w.d.die(w.p.Instances()[0].ID)
			w.after(w.d.stopTime)
		}
		die()
		w.settled()
		w.kept(def, 1)
		if n := w.d.starts(); n != 2 {
			t.Fatalf("%d starts after a death at a good age", n)
		}
		for i, seconds := range []int{1, 2, 4, 8} {
			pause := time.Duration(seconds) * time.Second
			die()
			k := w.kept(def, 0, "ended by itself after", "exited with code 0")
			if left := time.Until(k.RetryAt); left > pause || left < pause-w.d.stopTime {
				t.Errorf("death %d: the next start is in %s, want about %s", i+1, left, pause)
			}
			w.after(pause - 2*w.d.stopTime)
			if n := w.d.starts(); n != 2+i {
				t.Errorf("death %d: there are %d starts before the pause is over", i+1, n)
			}
			w.settled()
			w.kept(def, 1, "ended by itself")
		}
		w.after(3 * time.Minute)
		w.kept(def, 1)
	})
}

func TestKeptInstancesThatDoNotStart(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		w.d.fails(nil, core.Errorf(core.KindFunction, core.ReasonStartFailed, "boom"))
		def := function(1, keeps(3))
		w.promote(def)
		w.settled()
		w.kept(def, 0, "the last start did not work: boom")
		w.after(10 * time.Minute)
		if n := w.d.starts(); n < 10 || n > 60 {
			t.Errorf("%d starts in ten minutes", n)
		}
		// A caller does not wait for the pause.
		n := w.d.starts()
		c := w.call(def)
		w.settled()
		if c.waits() || c.err == nil || w.d.starts() == n {
			t.Errorf("a caller waits: %v, got %v", c.waits(), c.err)
		}
		w.d.fails(nil, nil)
		w.after(time.Minute)
		w.kept(def, 3, "boom")
		w.after(3 * time.Minute)
		w.kept(def, 3)
	})
}

// The instances that a new version keeps are up before the old ones end.
func TestKeptInstancesOfANewVersion(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		one := function(1, keeps(2))
		w.promote(one)
		w.settled()
		w.d.startTime = time.Second
		two := version(one, 2)
		w.promote(two)
		w.after(time.Second)
		if n := w.d.count(); n != 4 {
			t.Errorf("%d instances while the new ones start", n)
		}
		w.settled()
		w.kept(two, 2)
		if n := w.d.count(); n != 2 {
			t.Errorf("%d instances when the new ones are up", n)
		}
		for _, in := range w.p.Instances() {
			if in.Version != 2 {
				t.Errorf("an instance is of version %d", in.Version)
			}
		}
		// Back again, and forth before that is done.
		w.promote(one)
		w.after(100 * time.Millisecond)
		w.promote(two)
		w.after(3 * time.Second)
		w.kept(two, 2)
		if n := w.d.count(); n != 2 {
			t.Errorf("%d instances after a rollback that was taken back", n)
		}
		// To one that keeps none.
		three := version(function(1, nil), 3)
		w.promote(three)
		w.settled()
		if n := w.d.count(); n != 0 {
			t.Errorf("%d instances are there of versions that are not called", n)
		}
	})
}

// Old instances do not wait for new ones that do not come.
func TestOldVersionsGoWhenNewOnesFail(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		memory core.Bytes
		err    error
		new    int // that are there in the end
		text   string
	}{
		{"start", plenty, errors.New("boom"), 0, "did not work"},
		{"memory", 3 * 128 * core.MiB, nil, 2, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, tc.memory, func(w *world) {
				one := function(1, keeps(2))
				w.promote(one)
				w.settled()
				w.d.fails(tc.err, nil)
				two := version(one, 2)
				w.promote(two)
				w.after(500 * time.Millisecond)
				if tc.text != "" {
					w.kept(two, tc.new, tc.text)
				} else {
					w.kept(two, tc.new)
				}
				if n := w.d.count(); n != tc.new {
					t.Errorf("%d instances are there", n)
				}
			})
		})
	}
}

// What is kept is neither ended for others nor does its want of memory keep
// others waiting.
func TestKeptInstancesAndMemory(t *testing.T) {
	t.Parallel()
	inWorld(t, 4*128*core.MiB, func(w *world) {
		kept := function(1, keeps(2))
		w.promote(kept)
		w.settled()
		busy := w.acquire(function(2, nil))
		more := function(3, keeps(3))
		w.promote(more)
		w.settled()
		w.kept(more, 1, "wait for memory", "shop/f3 needs 128MiB", "512MiB of the node's 512MiB")
		w.kept(kept, 2)
		c := w.call(function(4, nil))
		w.after(time.Second)
		w.waiting(c)
		w.p.Release(busy, false)
		w.settled()
		w.kept(kept, 2)
		w.after(20 * time.Second)
		if c.waits() {
			t.Error("the caller waits for ever")
		}
	})
}

// What is to be kept and never fits ends nobody's instances.
func TestKeptInstancesThatNeverFit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		memory core.Bytes
		text   string
	}{{600 * core.MiB, "needs 600MiB of memory and this node has 512MiB"}, {300 * core.MiB, "they wait for memory"}} {
		inWorld(t, 512*core.MiB, func(w *world) {
			w.promote(function(1, keeps(2)))
			w.settled()
			large := function(2, func(s *core.Spec) { s.Instances.Min, s.Memory = 1, tc.memory })
			w.promote(large)
			id := w.idle(function(3, nil))
			w.after(30 * time.Second)
			w.kept(large, 0, tc.text)
			if w.state(id) == "" {
				t.Error("an idle instance was ended for one that does not fit nevertheless")
			}
		})
	}
}

// Who comes with the definition of a version that is called no more is served,
// and nothing is kept for others.
func TestOldVersionLeavesNothing(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		one := function(1, nil)
		w.promote(version(one, 2))
		w.p.Release(w.acquire(one), false)
		w.settled()
		if n := w.p.Lines(); n != 0 || w.d.count() != 0 {
			t.Errorf("%d lines, %d instances are left of a version that is not called", n, w.d.count())
		}
	})
}

// A version that is called again keeps its instances again.
func TestVersionThatComesBack(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		one, two := function(1, nil), version(function(1, nil), 2)
		w.promote(one)
		l := w.acquire(one)
		w.promote(two)
		w.promote(one)
		w.p.Release(l, false)
		w.settled()
		if again := w.acquire(one); again.ID != l.ID {
			t.Errorf("got %+v, and %d should be there", again, l.ID)
		}
	})
}
