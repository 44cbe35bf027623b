package image

import (
	"context"
	"errors"
	"sync"
	"time"
)

// flights lets those who want the same work done share it. S is what the work
// tells of itself while it goes on, V what it gives.
type flights[S, V any] struct {
	mu    sync.Mutex
	under map[string]*flight[S, V] // by key
}

// flight is work that somebody waits for. It is cancelled when nobody does
// any more.
type flight[S, V any] struct {
	tag     string
	waiting int
	cancel  context.CancelCauseFunc
	state   S
	done    chan struct{}
	value   V
	err     error
}

// errDeserted is why work ended that nobody waits for.
var errDeserted = errors.New("nobody waits for it any more")

// ask is what somebody wants done.
type ask[S, V any] struct {
	// key is that of the work. Work of one key and another tag is something
	// else that cannot go on at the same time.
	key, tag string
	// begin makes the state that is there before the work begins; nil for
	// nothing.
	begin func(state *S)
	// work does it, in a goroutine of its own.
	work func(ctx context.Context, state *S) (V, error)
	// watch looks at the state, at the beginning and then often, in the
	// goroutine of who asks; nil for not.
	watch func(state *S)
}

// watchEvery is how often a watcher is shown the state of the work.
const watchEvery = 200 * time.Millisecond

// do does the work, or waits for it where it is being done already. The work
// lives as long as life and somebody who waits; running counts it.
func (f *flights[S, V]) do(ctx, life context.Context, running *sync.WaitGroup, a ask[S, V]) (V, error) {
	for {
		fl, joined := f.join(life, running, a)
		if joined {
			return f.wait(ctx, fl, a.watch)
		}
		select {
		case <-fl.done:
		case <-ctx.Done():
			var none V
			return none, context.Cause(ctx)
		}
	}
}

// join joins the work; false when there is work of the key that cannot be
// joined.
func (f *flights[S, V]) join(life context.Context, running *sync.WaitGroup, a ask[S, V]) (*flight[S, V], bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl, ok := f.under[a.key]; ok {
		if fl.waiting == 0 || fl.tag != a.tag {
			return fl, false
		}
		fl.waiting++
		return fl, true
	}
	if f.under == nil {
		f.under = map[string]*flight[S, V]{}
	}
	fl := &flight[S, V]{tag: a.tag, waiting: 1, done: make(chan struct{})}
	f.under[a.key] = fl
	if a.begin != nil {
		a.begin(&fl.state)
	}
	ctx, cancel := context.WithCancelCause(life)
	fl.cancel = cancel
	running.Go(func() {
		defer cancel(nil)
		fl.value, fl.err = a.work(ctx, &fl.state)
		f.mu.Lock()
		delete(f.under, a.key)
		f.mu.Unlock()
		close(fl.done)
	})
	return fl, true
}

func (f *flights[S, V]) wait(ctx context.Context, fl *flight[S, V], watch func(*S)) (V, error) {
	var look <-chan time.Time
	if watch != nil {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		look = tick.C
		watch(&fl.state)
	}
	for {
		select {
		case <-fl.done:
			return fl.value, fl.err
		case <-look:
			watch(&fl.state)
		case <-ctx.Done():
			f.leave(fl)
			var none V
			return none, context.Cause(ctx)
		}
	}
}

func (f *flights[S, V]) leave(fl *flight[S, V]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.waiting--; fl.waiting == 0 {
		fl.cancel(errDeserted)
	}
}

// unless does something unless work of the key is under way, and keeps such
// work from beginning meanwhile.
func (f *flights[S, V]) unless(key string, do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.under[key]; ok {
		return nil
	}
	return do()
}
