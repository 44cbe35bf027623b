package pool_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// A large function gets memory though small ones, of which there are always
// some that wait, fit first.
func TestLargeFunctionIsNotStarved(t *testing.T) {
	t.Parallel()
	inWorld(t, core.GiB, func(w *world) {
		stop := make(chan struct{})
		halt := sync.OnceFunc(func() { close(stop) })
		defer halt()
		var served atomic.Int64
		for i := range 12 {
			// Each call is of another function, so that each needs memory.
			go func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					def := function(100+i+12*n, func(s *core.Spec) { s.Memory = 128 * core.MiB })
					l, err := w.p.Acquire(w.Context(), def)
					time.Sleep(time.Second) // of the bubble
					if err == nil {
						w.p.Release(l, false)
						served.Add(1)
					}
				}
			}()
		}
		w.after(5 * time.Second)
		before := served.Load()
		large := function(1, func(s *core.Spec) { s.Memory = 900 * core.MiB })
		c := w.send(large)
		w.after(4 * time.Second)
		w.p.Release(w.served(c), true)
		w.after(10 * time.Second)
		halt()
		if n := served.Load() - before; n < 20 {
			t.Errorf("%d calls of small functions were served meanwhile", n)
		}
		w.after(3 * time.Second)
	})
}

// One that wants more than becomes free does not keep the others from it for
// ever: they take turns.
func TestWhatCannotBeSatisfiedDoesNotBlock(t *testing.T) {
	t.Parallel()
	inWorld(t, core.GiB, func(w *world) {
		w.acquire(function(1, func(s *core.Spec) { s.Memory = 512 * core.MiB })) // for ever
		large := function(2, func(s *core.Spec) { s.Memory = 800 * core.MiB })
		var callers sync.WaitGroup
		for i := range 2 { // so that there is always one that waits
			callers.Go(func() {
				time.Sleep(time.Duration(i) * 4 * time.Second) // of the bubble
				for range 20 {
					c := w.send(large)
					time.Sleep(9 * time.Second) // of the bubble
					c.cancel(nil)
					<-c.done
					if c.err == nil {
						t.Error("it was served")
					}
				}
			})
		}
		late := 0
		for i := range 30 {
			time.Sleep(4 * time.Second) // of the bubble
			c := w.send(function(10+i, nil))
			<-c.done
			if c.err != nil {
				late++
				continue
			}
			w.p.Release(c.lease, true)
		}
		callers.Wait()
		if late > 0 {
			t.Errorf("%d of 30 calls of small functions got no memory, and half of it was free", late)
		}
	})
}

// Who waits gets memory in the order of coming, by turns if it wants more than
// one instance.
func TestMemoryGoesInOrder(t *testing.T) {
	t.Parallel()
	inWorld(t, 256*core.MiB, func(w *world) {
		one, two := w.acquire(function(1, nil)), w.acquire(function(2, nil))
		a, b, c := function(3, nil), function(4, nil), function(5, nil)
		first, second := w.call(a), w.call(a)
		third, fourth := w.call(b), w.call(c)
		w.p.Release(one, true)
		w.settled()
		w.served(first)
		w.waiting(second, third, fourth)
		w.p.Release(two, true)
		w.settled()
		w.served(third)
		w.waiting(second, fourth)
		w.p.Release(third.lease, true)
		w.settled()
		w.served(fourth)
		w.waiting(second)
	})
}

// What is ended for others is what saves the least: rarely called, quickly
// started, large.
func TestEvictionChoosesWhatIsWorthLeast(t *testing.T) {
	t.Parallel()
	inWorld(t, core.GiB, func(w *world) {
		put := func(id, calls int, start time.Duration, memory core.Bytes) core.InstanceID {
			w.d.mu.Lock()
			w.d.startTime = start
			w.d.mu.Unlock()
			def := function(id, func(s *core.Spec) { s.Memory = memory })
			var in core.InstanceID
			for range calls {
				in = w.idle(def)
			}
			return in
		}
		slow := put(1, 1, time.Second, 128*core.MiB)
		often := put(2, 10, 100*time.Millisecond, 128*core.MiB)
		large := put(3, 1, 100*time.Millisecond, 512*core.MiB)
		plain := put(4, 1, 100*time.Millisecond, 128*core.MiB)
		w.idle(function(5, nil)) // fits
		var gone []core.InstanceID
		for i := range 3 {
			before := w.p.Instances()
			w.acquire(function(10+i, func(s *core.Spec) { s.Memory = 250 * core.MiB }))
			for _, in := range before {
				if w.state(in.ID) == "" {
					gone = append(gone, in.ID)
				}
			}
		}
		if len(gone) < 3 || gone[0] != large || w.state(slow) == "" && w.state(often) != "" {
			t.Errorf("of %d (slow), %d (often), %d (large) and %d these went, in order: %v", slow, often, large, plain, gone)
		}
	})
}
