package keepalive_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"testing/quick"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/keepalive"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestUsesFade(t *testing.T) {
	t.Parallel()
	u := keepalive.Uses{}.Add(8, start)
	for i, want := range []float64{8, 4, 2, 1} {
		if got := u.At(start.Add(time.Duration(i) * keepalive.HalfLife)); math.Abs(got-want) > 1e-9 {
			t.Errorf("after %d half-lives %g uses of 8 are left, want %g", i, got, want)
		}
	}
	if got := u.At(start.Add(-time.Hour)); got != 8 {
		t.Errorf("of a clock that was set back %g are left", got)
	}
	if got := (keepalive.Uses{}).At(start); got != 0 {
		t.Errorf("nothing was used %g times", got)
	}
}

// However uses are told apart, together they count what one sum would; none is
// negative, and none is forgotten faster than by half per half-life.
func TestUsesProperties(t *testing.T) {
	t.Parallel()
	fade := func(counts []uint8, steps []uint16) bool {
		u, now, sum := keepalive.Uses{}, start, 0.0
		for i, n := range counts {
			if i < len(steps) {
				d := time.Duration(steps[i]) * time.Second
				now = now.Add(d)
				sum *= math.Exp2(-float64(d) / float64(keepalive.HalfLife))
			}
			sum += float64(n)
			u = u.Add(int64(n), now)
		}
		got := u.At(now)
		return got >= 0 && math.Abs(got-sum) <= 1e-6*max(sum, 1)
	}
	if err := quick.Check(fade, nil); err != nil {
		t.Error(err)
	}
}

// More uses, a dearer start and less memory never make an instance worth less,
// and every worth is a number over 0.
func TestWorthProperties(t *testing.T) {
	t.Parallel()
	monotonous := func(uses uint16, more uint8, cost, dearer uint32, size, less uint32) bool {
		u, c, s := float64(uses)/16, time.Duration(cost), core.Bytes(size)
		w := keepalive.Worth(u, c, s)
		return w > 0 && !math.IsInf(w, 0) && !math.IsNaN(w) &&
			keepalive.Worth(u+float64(more), c, s) >= w &&
			keepalive.Worth(u, c+time.Duration(dearer), s) >= w &&
			keepalive.Worth(u, c, s-min(s, core.Bytes(less))) >= w
	}
	if err := quick.Check(monotonous, nil); err != nil {
		t.Error(err)
	}
}

func TestCost(t *testing.T) {
	t.Parallel()
	if got := keepalive.Cost(0, time.Second); got != time.Second {
		t.Errorf("of one start the cost is %s", got)
	}
	cost := time.Second
	for range 20 {
		cost = keepalive.Cost(cost, 100*time.Millisecond)
	}
	if cost < 100*time.Millisecond || cost > 105*time.Millisecond {
		t.Errorf("after 20 starts of 100 ms the cost is %s", cost)
	}
	between := func(a, b uint32) bool {
		x, y := time.Duration(a)+1, time.Duration(b)+1
		got := keepalive.Cost(x, y)
		return got >= min(x, y) && got <= max(x, y)
	}
	if err := quick.Check(between, nil); err != nil {
		t.Error(err)
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	b, now := keepalive.Backoff{}, start
	if !b.Next().IsZero() || b.Recent(now) {
		t.Error("nothing has failed, and there is a pause")
	}
	for _, seconds := range []int{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		want := time.Duration(seconds) * time.Second
		b = b.Fail(now)
		if got := b.Next().Sub(now); got != want {
			t.Errorf("the pause is %s, want %s", got, want)
		}
		now = b.Next()
	}
	if !b.Recent(now.Add(keepalive.Steady)) || b.Recent(now.Add(keepalive.Steady+1)) {
		t.Error("a failure is told of until its pause and a minute are over")
	}
	if b = b.Fail(now.Add(keepalive.Steady + 1)); b.Next().Sub(now.Add(keepalive.Steady+1)) != time.Second {
		t.Error("after a steady time the pauses begin anew")
	}
}

// fn is a function of a trace.
type fn struct {
	size core.Bytes
	cost time.Duration
	rate float64 // calls per second
	next time.Time

	idle     bool
	since    time.Time
	uses     keepalive.Uses
	priority float64
}

// result is what a policy cost.
type result struct {
	cold int
	time time.Duration // of the starts
}

// play plays a trace of calls against a memory, with one instance per
// function, none of which is busy when another call comes. What is ended for
// others is what less says.
//
// With shift, other functions become the popular ones every now and then.
func play(seed uint64, memory core.Bytes, shift time.Duration, less func(a, b *fn) bool) (r result) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	fns := make([]*fn, 80)
	for i := range fns {
		fns[i] = &fn{
			size: core.Bytes(64<<rnd.IntN(5)) * core.MiB,
			cost: time.Duration(5*math.Pow(400, rnd.Float64())) * time.Millisecond, // 5 ms to 2 s
			rate: 2 / float64(1+i),                                                 // Zipf
		}
		fns[i].next = start.Add(exp(rnd, fns[i].rate))
	}
	clock, used, shifts := 0.0, core.Bytes(0), 1
	for now := start; now.Sub(start) < 40*time.Minute; {
		f := fns[0]
		for _, o := range fns {
			if o.next.Before(f.next) {
				f = o
			}
		}
		now = f.next
		if shift > 0 && now.Sub(start) > time.Duration(shifts)*shift {
			shifts++
			for i := range fns {
				fns[i].rate = 2 / float64(1+(i+13*shifts)%len(fns))
			}
		}
		f.next = now.Add(exp(rnd, f.rate))
		if !f.idle {
			r.cold++
			r.time += f.cost
			for used+f.size > memory {
				var worst *fn
				for _, o := range fns {
					if o.idle && (worst == nil || less(o, worst)) {
						worst = o
					}
				}
				worst.idle = false
				used -= worst.size
				clock = max(clock, worst.priority)
			}
			f.idle, f.uses = true, keepalive.Uses{}
			used += f.size
		}
		f.since = now
		f.uses = f.uses.Add(1, now)
		f.priority = clock + keepalive.Worth(f.uses.At(now), f.cost, f.size)
	}
	return r
}

func exp(rnd *rand.Rand, rate float64) time.Duration {
	return time.Duration(rnd.ExpFloat64() / rate * float64(time.Second))
}

// Against ending what was used least recently: fewer cold starts, and less
// time of callers spent in them.
func TestFewerColdStartsThanLRU(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		memory core.Bytes
		shift  time.Duration
	}{{2 * core.GiB, 0}, {4 * core.GiB, 0}, {8 * core.GiB, 0}, {4 * core.GiB, 10 * time.Minute}, {4 * core.GiB, 5 * time.Minute}} {
		var lru, own result
		for seed := range uint64(3) {
			a := play(seed, tc.memory, tc.shift, func(a, b *fn) bool { return a.since.Before(b.since) })
			b := play(seed, tc.memory, tc.shift, func(a, b *fn) bool { return a.priority < b.priority })
			if b.time >= a.time {
				t.Errorf("%+v, trace %d: starts took %s, by LRU %s", tc, seed, b.time, a.time)
			}
			lru.cold, lru.time, own.cold, own.time = lru.cold+a.cold, lru.time+a.time, own.cold+b.cold, own.time+b.time
		}
		t.Logf("memory %s, shifts %s: cold starts %d (LRU %d), time in starts %s (LRU %s)", tc.memory, tc.shift, own.cold, lru.cold,
			own.time.Round(time.Second), lru.time.Round(time.Second))
		if own.cold >= lru.cold || float64(own.time) > 0.8*float64(lru.time) {
			t.Errorf("%+v: %d starts of %s, by LRU %d of %s: not fewer, or not a fifth less", tc, own.cold, own.time, lru.cold, lru.time)
		}
	}
}
