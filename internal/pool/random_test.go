package pool_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/pool"
)

// history does random things to a pool, and checks after each what must
// always hold.
type history struct {
	*world
	rand    *rand.Rand
	memory  core.Bytes
	defs    []*core.Definition
	waiting []*caller
	holders []*caller
	defOf   map[*caller]*core.Definition
	peak    map[[2]int]int // callers that were there at a time, by function and version
}

func TestRandomHistories(t *testing.T) {
	t.Parallel()
	for range 60 {
		seed := rand.Uint64()
		inWorld(t, 512*core.MiB, func(w *world) {
			h := &history{world: w, rand: rand.New(rand.NewPCG(seed, 0)), memory: 512 * core.MiB, defOf: map[*caller]*core.Definition{}, peak: map[[2]int]int{}}
			w.d.freezeTime, w.d.thawTime = time.Duration(h.rand.IntN(3))*time.Millisecond, time.Duration(h.rand.IntN(3))*time.Millisecond
			for i := range 5 {
				h.defs = append(h.defs, function(i+1, func(s *core.Spec) {
					s.Memory = core.Bytes(64*(1+h.rand.IntN(6))) * core.MiB
					s.Instances.Max = h.rand.IntN(4)
					s.Limits.Waiting = 5
					s.Instances.Freeze = time.Duration(1+h.rand.IntN(20)) * time.Millisecond
					s.Concurrency.PerInstance = 1
					if i == 4 {
						job(s)
					} else if h.rand.IntN(3) == 0 {
						s.Instances.Min = max(min(1+h.rand.IntN(2), s.Instances.Max), 1)
					}
				}))
			}
			for _, def := range h.defs {
				w.promote(def)
			}
			for range 150 {
				h.step()
				h.check()
			}
			h.drain()
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		})
	}
}

func (h *history) pick(from []*caller) *caller { return from[h.rand.IntN(len(from))] }

func (h *history) step() {
	switch n := h.rand.IntN(20); {
	case n < 8:
		def := h.defs[h.rand.IntN(len(h.defs))]
		c := h.send(def)
		h.defOf[c] = def
		h.waiting = append(h.waiting, c)
		n := 0
		for _, o := range slices.Concat(h.waiting, h.holders) {
			if h.defOf[o] == def {
				n++
			}
		}
		key := [2]int{int(def.Function.ID), def.Version.Number}
		h.peak[key] = max(h.peak[key], n)
	case n < 14 && len(h.holders) > 0:
		h.giveBack(h.pick(h.holders), h.rand.IntN(4) == 0)
	case n < 15 && len(h.waiting) > 0:
		h.pick(h.waiting).cancel(nil)
	case n < 16:
		h.d.mu.Lock()
		id := core.InstanceID(h.rand.Int64N(int64(h.d.last) + 1))
		h.d.mu.Unlock()
		h.d.die(id)
	case n < 17:
		i := h.rand.IntN(len(h.defs))
		h.defs[i] = version(h.defs[i], h.defs[i].Version.Number+1)
		h.promote(h.defs[i])
	case n < 18:
		var err error
		if h.rand.IntN(3) == 0 {
			err = errors.New("boom")
		}
		h.d.fails(err, nil)
	default:
		time.Sleep(time.Duration(h.rand.Int64N(int64(20 * time.Millisecond)))) // of the bubble
	}
	if h.rand.IntN(3) > 0 {
		h.after(time.Duration(h.rand.IntN(3)) * 5 * time.Millisecond)
	}
}

func (h *history) giveBack(c *caller, kill bool) {
	for i, o := range h.holders {
		if o == c {
			h.holders = append(h.holders[:i], h.holders[i+1:]...)
			break
		}
	}
	if c.lease.ID == 0 {
		c.permit.Done()
	} else {
		h.p.Release(c.lease, kill)
	}
}

// check checks the invariants of a pool.
func (h *history) check() {
	h.Helper()
	var waiting []*caller
	jobs := core.Bytes(0)
	for _, c := range h.waiting {
		switch {
		case c.waits():
			waiting = append(waiting, c)
		case c.err == nil:
			h.holders = append(h.holders, c)
		}
	}
	h.waiting = waiting
	held := map[core.InstanceID]bool{}
	permits := map[core.FunctionID]int{}
	for _, c := range h.holders {
		if c.lease.ID == 0 {
			jobs += h.defOf[c].Version.Spec.Memory
			permits[h.defOf[c].Function.ID]++
		} else if held[c.lease.ID] {
			h.Fatalf("two have the instance %d", c.lease.ID)
		}
		held[c.lease.ID] = true
	}
	used, _ := h.p.MemoryInUse()
	h.d.mu.Lock()
	there := h.d.used
	h.d.mu.Unlock()
	if used > h.memory || there > h.memory || used < jobs {
		h.Fatalf("%s reserved, %s used by instances, %s by jobs, of %s", used, there, jobs, h.memory)
	}
	count, able := map[[2]int]int{}, map[[2]int]int{}
	for _, in := range h.p.Instances() {
		if (in.State == core.InstanceHot || in.State == core.InstanceFrozen) && held[in.ID] {
			h.Fatalf("the instance %d is listed as idle and somebody has it", in.ID)
		}
		for _, def := range h.defs {
			if def.Function.Name == in.Function {
				key := [2]int{int(def.Function.ID), in.Version}
				count[key]++
				if most := def.Version.Spec.Instances.Max; most > 0 && count[key] > most {
					h.Fatalf("there are %d instances of %s, of %d at most", count[key], in.Function, most)
				}
				if in.State != core.InstanceStopping {
					able[key]++
				}
				if least := def.Version.Spec.Instances.Min; def.Version.Number == in.Version && able[key] > max(h.peak[key], least) {
					h.Fatalf("there are %d instances of %s, and never were more than %d callers; %d are kept", able[key], in.Function, h.peak[key], least)
				}
			}
		}
	}
}

// drain lets all callers come to their end: every one is served or refused
// within its limits, and all memory but that of idle instances is free.
func (h *history) drain() {
	h.Helper()
	h.d.fails(nil, nil)
	for _, def := range h.defs {
		if def.Version.Spec.Instances.Min > 0 {
			h.remove(def) // or there may be starts without callers
		}
	}
	for range 200 {
		h.settled()
		h.check()
		if len(h.waiting) == 0 && len(h.holders) == 0 {
			break
		}
		for len(h.holders) > 0 {
			h.giveBack(h.holders[0], false)
		}
	}
	if len(h.waiting) > 0 || len(h.holders) > 0 {
		h.Errorf("%d callers wait, %d hold something, when all others have gone", len(h.waiting), len(h.holders))
	}
	var idle core.Bytes
	for _, in := range h.p.Instances() {
		if in.State != core.InstanceHot && in.State != core.InstanceFrozen {
			h.Errorf("when all have gone an instance is %s", in.State)
		}
		idle += in.Memory
	}
	if used, _ := h.p.MemoryInUse(); used != idle {
		h.Errorf("when all have gone %s are reserved, and idle instances have %s", used, idle)
	}
	for _, def := range h.defs {
		h.remove(def)
	}
	h.after(2 * time.Minute)
	if used, _ := h.p.MemoryInUse(); used != 0 {
		h.Errorf("long after all have gone %s are reserved", used)
	}
}

// Callers whose time ends in the moment of their turn leak nothing.
func TestGrantAndCancelAtOnce(t *testing.T) {
	t.Parallel()
	for _, spec := range []func(*core.Spec){nil, job} {
		inWorld(t, 256*core.MiB, func(w *world) {
			def := function(1, spec)
			var callers sync.WaitGroup
			for i := range 400 {
				callers.Go(func() {
					// The boot ends 15 ms after the start, and each has its turn for 1 ms.
					time.Sleep(time.Duration(i) * time.Millisecond) // of the bubble
					ctx, cancel := context.WithTimeout(w.Context(), time.Duration(i%20)*time.Millisecond)
					defer cancel()
					if spec == nil {
						if lease, err := w.p.Acquire(ctx, def); err == nil {
							time.Sleep(time.Millisecond) // of the bubble
							w.p.Release(lease, i%7 == 0)
						}
					} else if permit, err := w.p.Admit(ctx, def); err == nil {
						time.Sleep(10 * time.Millisecond) // of the bubble
						permit.Done()
					}
				})
			}
			callers.Wait()
			w.settled()
			want := core.Bytes(0)
			for range w.p.Instances() {
				want += def.Version.Spec.Memory
			}
			if used, _ := w.p.MemoryInUse(); used != want || w.d.peak > 256*core.MiB {
				t.Errorf("%s are reserved, %s by instances; at most %s were used", used, want, w.d.peak)
			}
		})
	}
}

// Everything at once, in real time, while the pool is closed.
func TestCloseRaces(t *testing.T) {
	t.Parallel()
	for round := range 20 {
		d := newDriver()
		d.startTime, d.bootTime, d.stopTime = 100*time.Microsecond, 0, 100*time.Microsecond
		p := pool.New(t.Context(), pool.Config{
			Driver: d, Host: d, Memory: 512 * core.MiB, Freeze: true, Grace: time.Millisecond, Log: slog.New(slog.DiscardHandler),
		})
		var callers sync.WaitGroup
		begun := make(chan struct{}, 1000)
		for i := range 8 {
			callers.Go(func() {
				def := function(i%4+1, nil)
				if i%4 == 3 {
					def = function(4, job)
				}
				for n := 0; ; n++ {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n%4)*100*time.Microsecond+time.Millisecond)
					err := use(ctx, p, def, n)
					cancel()
					if err != nil && !errors.Is(err, context.DeadlineExceeded) {
						return // closed
					}
					select {
					case begun <- struct{}{}:
					default:
					}
					if n%10 == 9 {
						p.Retire(def.Function.ID, 2)
					}
				}
			})
		}
		for range 10 * round {
			<-begun
		}
		p.Close()
		callers.Wait()
		if used, _ := p.MemoryInUse(); used != 0 || d.used != 0 || d.peak > 512*core.MiB || len(p.Instances()) != 0 {
			t.Fatalf("after Close %s are reserved, %s used (%s at most), %d instances listed", used, d.used, d.peak, len(p.Instances()))
		}
	}
}

func use(ctx context.Context, p *pool.Pool, def *core.Definition, n int) error {
	if def.Version.Spec.Contract == core.ContractJob {
		permit, err := p.Admit(ctx, def)
		if err == nil {
			permit.Done()
		}
		return err
	}
	lease, err := p.Acquire(ctx, def)
	if err == nil {
		p.Release(lease, n%5 == 0)
	}
	return err
}
