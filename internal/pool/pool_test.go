package pool_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/pool"
)

const plenty = 100 * core.GiB

func TestHot(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		def := function(1, nil)
		a, b, c := w.send(def), w.send(def), w.call(def)
		w.waiting(a, b, c)
		w.settled()
		for _, o := range []*caller{a, b, c} {
			if l := w.served(o); !l.Cold || l.Start != (core.StartPhases{Sandbox: 10 * time.Millisecond, Boot: 5 * time.Millisecond}) {
				t.Errorf("the lease of a fresh instance is %+v", l)
			}
		}
		for _, o := range []*caller{b, c, a} {
			w.p.Release(o.lease, false)
			w.after(time.Millisecond)
		}
		for i, want := range []core.InstanceID{a.lease.ID, c.lease.ID, b.lease.ID} {
			l := w.acquire(def)
			if l.ID != want || l.Cold || l.Start != (core.StartPhases{}) {
				t.Errorf("hot lease %d is %+v, want the instance used last, %d", i, l, want)
			}
		}
		if n := w.d.starts(); n != 3 {
			t.Errorf("%d instances were started for 3 callers", n)
		}
	})
}

func TestNoMoreInstancesThanCallers(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		def := function(1, nil)
		first := w.acquire(def)
		second := w.call(def) // a start begins for it
		w.after(time.Millisecond)
		w.p.Release(first, false) // and this comes first
		w.after(time.Millisecond)
		if l := w.served(second); l.ID != first.ID || l.Cold {
			t.Errorf("got %+v, want the instance that was given back", l)
		}
		third := w.call(def) // the start of before is for it now
		w.waiting(third)
		w.settled()
		w.served(third)
		if n := w.d.starts(); n != 2 {
			t.Errorf("%d instances were started for 2 callers at a time", n)
		}
	})
}

func TestLine(t *testing.T) {
	t.Parallel()
	for _, contract := range []core.Contract{core.ContractHTTP, core.ContractJob} {
		t.Run(string(contract), func(t *testing.T) {
			t.Parallel()
			inWorld(t, plenty, func(w *world) {
				def := function(1, func(s *core.Spec) { s.Contract, s.Instances.Max = contract, 2 })
				var callers []*caller
				for range 10 {
					callers = append(callers, w.call(def))
				}
				w.settled()
				for i, c := range callers {
					w.served(c)
					w.waiting(callers[min(i+2, 10):]...)
					if contract == core.ContractJob {
						c.permit.Done()
					} else {
						w.p.Release(c.lease, false)
					}
					w.settled()
				}
				if n := w.d.starts(); n > 2 || n == 2 == (contract == core.ContractJob) {
					t.Errorf("%d instances were started", n)
				}
			})
		})
	}
}

func refused(t *testing.T, err error, kind core.Kind, code core.Code, texts ...string) {
	t.Helper()
	e := core.AsError(err)
	if e.Kind != kind || e.Code != code {
		t.Errorf("the error is %s %s (%v), want %s %s", e.Kind, e.Code, err, kind, code)
	}
	for _, s := range texts {
		if !strings.Contains(e.Message, s) {
			t.Errorf("the message %q does not have %q", e.Message, s)
		}
	}
	if (kind == core.KindExhausted || kind == core.KindUnavailable) && !strings.Contains(e.Message, "stopping") && e.RetryAfter <= 0 {
		t.Errorf("the error %v does not say when to try again", err)
	}
}

func TestLineFull(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		def := function(1, func(s *core.Spec) { s.Instances.Max, s.Limits.Waiting = 1, 3 })
		w.acquire(def)
		waiting := []*caller{w.call(def), w.call(def), w.call(def)}
		c := w.call(def)
		if c.waits() {
			t.Fatal("a fourth caller joined a line for three")
		}
		refused(t, c.err, core.KindExhausted, core.CodeTooMany, "shop/f1", "limits.waiting")
		waiting[1].cancel(nil)
		w.after(0)
		w.waiting(waiting[0], waiting[2], w.call(def))
	})
}

func TestWaitIsBounded(t *testing.T) {
	t.Parallel()
	const wait = 10 * time.Second
	for _, tc := range []struct {
		name string
		spec func(*core.Spec)
		mem  core.Bytes
		kind core.Kind
		code core.Code
		text []string
	}{
		{"own limit", func(s *core.Spec) { s.Instances.Max = 1 }, plenty, core.KindExhausted, core.CodeTooMany, []string{"10s (limits.wait)", "all of instances.max, 1, are busy"}},
		{"own limit of a job", func(s *core.Spec) { job(s); s.Instances.Max = 1 }, plenty, core.KindExhausted, core.CodeTooMany, []string{"instances.max"}},
		{"memory", nil, 200 * core.MiB, core.KindUnavailable, core.CodeUnavailable, []string{"it needs 128MiB of memory, and 128MiB of the node's 200MiB are taken"}},
		{"memory for a job", job, 200 * core.MiB, core.KindUnavailable, core.CodeUnavailable, []string{"node's 200MiB"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, tc.mem, func(w *world) {
				def := function(1, tc.spec)
				first := w.send(def)
				<-first.done
				c := w.call(def)
				w.after(wait - time.Millisecond)
				w.waiting(c)
				w.after(time.Millisecond)
				if c.waits() {
					t.Fatal("the caller waits longer than limits.wait")
				}
				refused(t, c.err, tc.kind, tc.code, tc.text...)
				if def.Version.Spec.Contract == core.ContractJob {
					w.permits = def.Version.Spec.Memory
				}
			})
		})
	}
}

// A caller whose own instance is being started waits for that, which has a
// limit of its own; one behind busy instances does not.
func TestStartHasItsOwnTime(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		w.d.startTime = 15 * time.Second
		def := function(1, func(s *core.Spec) { s.Instances.Max, s.Limits.Start = 1, 20*time.Second })
		first, second := w.call(def), w.call(def)
		w.after(10 * time.Second)
		w.waiting(first)
		if second.waits() {
			t.Error("a caller without a start of its own waits longer than limits.wait")
		}
		refused(t, second.err, core.KindExhausted, core.CodeTooMany)
		w.after(6 * time.Second)
		w.served(first)
	})
}

// While the host prepares a start, its caller waits as long as its run may
// take; then the start has its own time.
func TestPreparationHasItsOwnTime(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name          string
		prepare, wait time.Duration
		served        bool
	}{
		{"in time", 40 * time.Second, 41 * time.Second, true},
		{"too long", 90 * time.Second, 61 * time.Second, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, plenty, func(w *world) {
				w.d.prepareTime, w.d.startTime = tc.prepare, 500*time.Millisecond
				c := w.call(function(1, func(s *core.Spec) { s.Timeout = time.Minute }))
				w.after(min(tc.prepare, time.Minute) - time.Second)
				w.waiting(c)
				w.after(tc.wait - min(tc.prepare, time.Minute) + time.Second)
				if tc.served {
					w.served(c)
				} else if c.waits() || core.AsError(c.err).Code != core.ReasonStartTimeout {
					t.Errorf("after %s the caller got %v", tc.wait, c.err)
				}
			})
		})
	}
}

func TestPreparationFails(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		boom := core.Errorf(core.KindNotFound, core.ReasonImageNotFound, "boom")
		w.d.failPrepare = boom
		c := w.call(function(1, nil))
		w.after(time.Second)
		if c.waits() || !errors.Is(c.err, boom) || w.d.starts() != 0 {
			t.Errorf("the caller got %v after %d starts", c.err, w.d.starts())
		}
	})
}

func TestStartTimeout(t *testing.T) {
	t.Parallel()
	for _, phase := range []string{"start", "boot"} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			inWorld(t, plenty, func(w *world) {
				if phase == "start" {
					w.d.startTime = time.Hour
				} else {
					w.d.bootTime = time.Hour
				}
				c := w.call(function(1, func(s *core.Spec) { s.Limits.Start = 12 * time.Second }))
				w.after(12*time.Second - time.Millisecond)
				w.waiting(c)
				w.settled()
				if c.waits() {
					t.Fatal("the caller waits longer than limits.start")
				}
				refused(t, c.err, core.KindTimeout, core.ReasonStartTimeout, "shop/f1", "12s (limits.start)")
			})
		})
	}
}

func TestTooBigForTheNode(t *testing.T) {
	t.Parallel()
	inWorld(t, 100*core.MiB, func(w *world) {
		c := w.call(function(1, nil))
		if c.waits() {
			t.Fatal("a caller waits for what can never be")
		}
		if e := core.AsError(c.err); e.Kind != core.KindUnavailable || !strings.Contains(e.Message, "needs 128MiB of memory and this node has 100MiB") {
			t.Errorf("got %v", c.err)
		}
	})
}

func TestEviction(t *testing.T) {
	t.Parallel()
	inWorld(t, 4*128*core.MiB, func(w *world) {
		var idle []core.InstanceID
		for i := range 4 {
			idle = append(idle, w.idle(function(i+1, nil)))
			w.after(time.Millisecond)
		}
		w.p.Release(w.acquire(function(1, nil)), false) // now the one used last
		big := function(9, func(s *core.Spec) { s.Memory = 200 * core.MiB })
		began := time.Now()
		w.acquire(big)
		if d := time.Since(began); d > 100*time.Millisecond {
			t.Errorf("the caller waited %s for memory that idle instances had", d)
		}
		var left []core.InstanceID
		for _, in := range w.p.Instances() {
			left = append(left, in.ID)
		}
		slices.Sort(left)
		if want := []core.InstanceID{idle[0], idle[3], 5}; !slices.Equal(left, want) {
			t.Errorf("the instances %v are left, want %v: the least recently used end, and no more than needed", left, want)
		}
	})
}

// Instances that end already are counted on: no others are ended for them.
func TestEvictionIsNotOverdone(t *testing.T) {
	t.Parallel()
	inWorld(t, 4*128*core.MiB, func(w *world) {
		w.d.stopTime = time.Second
		w.idle(function(1, nil))
		w.idle(function(2, nil))
		busy := w.acquire(function(3, nil))
		w.idle(function(4, nil))
		c := w.call(function(9, nil)) // ends one
		w.p.Release(busy, false)      // need not end
		again := w.acquire(function(3, nil))
		w.p.Release(again, false)
		w.after(2 * time.Second)
		w.served(c)
		if n := len(w.p.Instances()); n != 4 || again.ID != busy.ID {
			t.Errorf("%d instances are left of 4 that fit, and %d was used again, not %d", n, again.ID, busy.ID)
		}
	})
}

func TestStarvedLineIsServed(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		free func(w *world, busy pool.Lease, permit pool.Permit)
	}{
		{"another's instance becomes idle", func(w *world, busy pool.Lease, _ pool.Permit) { w.p.Release(busy, false) }},
		{"another's instance is killed", func(w *world, busy pool.Lease, _ pool.Permit) { w.p.Release(busy, true) }},
		{"another's instance dies", func(w *world, busy pool.Lease, _ pool.Permit) { w.d.die(busy.ID) }},
		{"a job ends", func(_ *world, _ pool.Lease, permit pool.Permit) { permit.Done() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, 256*core.MiB, func(w *world) {
				busy := w.acquire(function(1, nil))
				permit := w.call(function(2, job)).permit
				c := w.call(function(3, nil))
				w.after(time.Second)
				w.waiting(c)
				tc.free(w, busy, permit)
				w.settled()
				w.served(c)
				if used, _ := w.p.MemoryInUse(); tc.name != "a job ends" && used == 256*core.MiB {
					w.permits = 128 * core.MiB
				}
			})
		})
	}
}

// When nobody waits for memory any more, nobody's instances are ended for it.
func TestStarvedCallerLeaves(t *testing.T) {
	t.Parallel()
	inWorld(t, 256*core.MiB, func(w *world) {
		one, two := w.acquire(function(1, nil)), w.acquire(function(2, nil))
		c := w.call(function(3, nil))
		c.cancel(nil)
		<-c.done
		w.p.Release(one, false)
		w.p.Release(two, false)
		w.settled()
		if n := w.d.count(); n != 2 {
			t.Errorf("%d of 2 idle instances are left", n)
		}
	})
}

func TestStartFailure(t *testing.T) {
	t.Parallel()
	for _, phase := range []string{"start", "ready"} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			inWorld(t, plenty, func(w *world) {
				boom := core.Errorf(core.KindFunction, core.ReasonStartFailed, "boom")
				if phase == "start" {
					w.d.fails(boom, nil)
				} else {
					w.d.fails(nil, boom)
				}
				w.d.startTime = time.Second
				def := function(1, func(s *core.Spec) { s.Instances.Max = 1 })
				first := w.call(def)
				w.after(500 * time.Millisecond)
				second, third := w.call(def), w.call(def)
				w.after(550 * time.Millisecond)
				if first.waits() || !errors.Is(first.err, boom) {
					t.Errorf("the one for whom the start was got %v", first.err)
				}
				w.waiting(second, third) // who came later: another start is under way for them
				fourth := w.call(def)
				w.d.fails(nil, nil)
				w.after(time.Second)
				w.served(second)
				w.waiting(third, fourth)
				w.p.Release(second.lease, false)
				w.settled()
				w.served(third)
				if n := w.d.starts(); n != 2 {
					t.Errorf("%d starts, want 2", n)
				}
			})
		})
	}
}

// All who waited when a start was made hear of its failure, without one try
// for each.
func TestStartFailureIsToldToAll(t *testing.T) {
	t.Parallel()
	inWorld(t, 128*core.MiB, func(w *world) {
		busy := w.acquire(function(1, nil))
		def := function(2, nil)
		callers := []*caller{w.call(def), w.call(def), w.call(def)}
		boom := core.Errorf(core.KindFunction, core.ReasonStartFailed, "boom")
		w.d.fails(boom, nil)
		w.p.Release(busy, false)
		w.settled()
		for _, c := range callers {
			if c.waits() || !errors.Is(c.err, boom) {
				t.Errorf("a caller got %v", c.err)
			}
		}
		if n := w.d.starts(); n != 2 {
			t.Errorf("%d starts, want 1 besides that of the other function", n)
		}
	})
}

func TestStartOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		def := function(1, nil)
		first := w.call(def)
		gone := errors.New("gone")
		first.cancel(gone)
		<-first.done
		if !errors.Is(first.err, gone) {
			t.Errorf("the caller who left got %v, want the cause of its context", first.err)
		}
		second := w.call(def)
		w.settled()
		if l := w.served(second); !l.Cold || w.d.starts() != 1 {
			t.Errorf("got %+v after %d starts", l, w.d.starts())
		}
	})
}

func TestDeadInstance(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		def := function(1, func(s *core.Spec) { s.Instances.Max = 1 })
		idle := w.idle(def)
		w.d.die(idle)
		w.settled()
		busy := w.acquire(def)
		if busy.ID == idle || !busy.Cold {
			t.Errorf("got %+v after the idle instance died", busy)
		}
		c := w.call(def)
		w.d.die(busy.ID)
		w.settled()
		if l := w.served(c); l.ID == busy.ID || !l.Cold {
			t.Errorf("got %+v after the busy instance died", l)
		}
		w.p.Release(busy, false) // by the caller under whom it died
		w.after(time.Second)
		if got := w.p.Instances(); len(got) != 1 || got[0].ID != c.lease.ID {
			t.Errorf("there are %v", got)
		}
	})
}

// An instance that dies in the moment it is ready leaves nothing behind.
func TestDeadAtBirth(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		for range 50 {
			c := w.send(function(1, nil))
			time.Sleep(15 * time.Millisecond) // of the bubble: the end of the boot
			w.d.mu.Lock()
			id := w.d.last
			w.d.mu.Unlock()
			w.d.die(id)
			w.settled()
			w.served(c)
		}
		if got := w.p.Instances(); len(got) != 0 {
			t.Errorf("instances that died are listed: %v", got)
		}
	})
}

func TestKill(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		def := function(1, func(s *core.Spec) { s.Instances.Max = 1 })
		lease := w.acquire(def)
		c := w.call(def)
		w.p.Release(lease, true)
		w.settled()
		if l := w.served(c); l.ID == lease.ID {
			t.Error("an instance that was to be killed was handed out")
		}
		if g := w.d.grace(lease.ID); g != 0 {
			t.Errorf("it was given %s", g)
		}
	})
}

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		short, long := w.idle(function(1, nil)), w.idle(function(2, func(s *core.Spec) { s.Instances.Idle = time.Hour }))
		w.after(59 * time.Second)
		if n := w.d.count(); n != 2 {
			t.Fatalf("%d instances are there before their time is up", n)
		}
		w.after(3 * time.Second)
		if got := w.p.Instances(); len(got) != 1 || got[0].ID != long || w.d.grace(short) != graceTime {
			t.Errorf("there are %v, and the other was stopped with %s", got, w.d.grace(short))
		}
	})
}

func TestRetire(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		w.d.startTime = time.Second
		old := function(1, func(s *core.Spec) { s.Instances.Max = 2 })
		idle, busy := w.send(old), w.acquire(old)
		<-idle.done
		w.p.Release(idle.lease, false)
		other, kept := w.idle(function(2, nil)), w.idle(version(old, 2))
		w.p.Retire(1, 2)
		w.settled()
		if w.d.grace(idle.lease.ID) != graceTime || w.d.grace(busy.ID) != -1 || w.d.grace(other) != -1 || w.d.grace(kept) != -1 {
			t.Errorf("only the idle instance of the old version ends at once: %v", w.d.graces)
		}
		// Who came by then is served still.
		first, second := w.call(old), w.call(old)
		w.p.Release(busy, false)
		w.after(0)
		if l := w.served(first); l.ID != busy.ID {
			t.Errorf("got %+v, want the busy instance", l)
		}
		w.after(1100 * time.Millisecond)
		w.served(second)
		w.p.Release(first.lease, false)
		w.p.Release(second.lease, false)
		w.settled()
		if n := w.d.count(); n != 2 || w.d.grace(busy.ID) != graceTime {
			t.Errorf("%d instances are left, want those of the other function and the new version", n)
		}
		w.p.Retire(1, 0)
		w.settled()
		if got := w.p.Instances(); len(got) != 1 || got[0].ID != other {
			t.Errorf("after the deletion there are %v", got)
		}
	})
}

// A start for a version that is replaced meanwhile serves who waited for it.
func TestRetireDuringStart(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		def := function(1, nil)
		c, gone := w.call(def), w.call(def)
		w.p.Retire(1, 2)
		gone.cancel(nil)
		w.settled()
		w.served(c)
		w.p.Release(c.lease, false)
		w.settled()
		if n := w.d.starts(); n != 2 || w.d.count() != 0 {
			t.Errorf("%d starts and %d instances left, want 2 and none", n, w.d.count())
		}
	})
}

func TestJobs(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		def := function(1, func(s *core.Spec) { job(s); s.Instances.Max = 2 })
		a, b, c := w.call(def), w.call(def), w.call(def)
		w.served(a)
		w.served(b)
		w.waiting(c)
		w.p.Retire(1, 2) // nothing of a permit changes by it
		a.permit.Done()
		w.after(0)
		w.served(c)
		b.permit.Done()
		c.permit.Done()
		if used, _ := w.p.MemoryInUse(); used != 0 || w.d.starts() != 0 {
			t.Errorf("%s are reserved, %d instances started", used, w.d.starts())
		}
		w.served(w.call(def))
		w.permits = def.Version.Spec.Memory
	})
}

// A line that holds nothing is forgotten, and nobody can come to it any more:
// what it held would be out of reach of Retire and Close.
func TestEmptyLineIsForgotten(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		def := function(1, job)
		if !w.p.Meet(def, func() { w.call(def).permit.Done() }) {
			t.Error("a caller came to a line that is out of the pool")
		}
		w.idle(function(2, nil))
		if n := w.p.Lines(); n != 1 {
			t.Errorf("there are %d lines, want that of the idle instance", n)
		}
		w.after(2 * time.Minute)
		w.call(function(3, func(s *core.Spec) { s.Memory = 2 * plenty })) // is refused
		if n := w.p.Lines(); n != 0 {
			t.Errorf("there are %d lines that hold nothing", n)
		}
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	inWorld(t, 128*4*core.MiB, func(w *world) {
		max1 := func(s *core.Spec) { s.Instances.Max = 1 }
		w.idle(function(1, nil))
		busy := w.acquire(function(2, max1))
		w.d.startTime = time.Second
		callers := []*caller{w.call(function(2, max1)), w.call(function(3, nil)), w.call(function(4, job)), w.call(function(5, nil))}
		w.served(callers[2])
		w.permits = 128 * core.MiB
		w.p.Close()
		w.closed = true
		w.after(0)
		callers = append(slices.Delete(callers, 2, 3), w.call(function(1, nil)), w.call(function(6, job)))
		for i, c := range callers {
			if c.waits() || !strings.Contains(core.AsError(c.err).Message, "stopping") {
				t.Errorf("caller %d: waits %v, error %v", i, c.waits(), c.err)
			}
		}
		w.p.Release(busy, false)
		w.p.Retire(1, 0)
	})
}

func TestInstances(t *testing.T) {
	t.Parallel()
	inWorld(t, plenty, func(w *world) {
		w.idle(function(1, nil))
		w.after(time.Second)
		w.acquire(version(function(2, func(s *core.Spec) { s.Memory = core.GiB }), 7))
		began := time.Now()
		got := w.p.Instances()
		if len(got) != 2 {
			t.Fatalf("got %v", got)
		}
		start := core.StartPhases{Sandbox: 10 * time.Millisecond, Boot: 5 * time.Millisecond}
		want := []core.Instance{
			{
				ID: 1, App: "shop", Function: "f1", Version: 1, State: core.InstanceFrozen, Memory: 128 * core.MiB, Served: 1,
				StartedAt: began.Add(-time.Second - 20*time.Millisecond), UsedAt: began.Add(-time.Second - 15*time.Millisecond),
				FrozenAt: began.Add(-time.Second + 85*time.Millisecond), Start: start,
			},
			{
				ID: 2, App: "shop", Function: "f2", Version: 7, State: core.InstanceBusy, Memory: core.GiB,
				StartedAt: began.Add(-5 * time.Millisecond), Start: start,
			},
		}
		if !slices.Equal(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	})
}
