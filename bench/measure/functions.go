package measure

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/bench/load"
	"github.com/dayfly-io/dayfly/bench/rig"
)

// FunctionsOptions are how much of it is measured.
type FunctionsOptions struct {
	// Few and Many are the numbers of registered functions that are compared.
	Few, Many int
	// Starts is how often each server is started, Rounds and Calls how often
	// one function of each is called.
	Starts, Rounds, Calls int
}

// FunctionsVariant names the server with so many functions.
func FunctionsVariant(n int) string { return fmt.Sprintf("%d functions", n) }

// deployers is how many functions are deployed at once: writes gather into
// transactions.
const deployers = 64

// Functions measures the start of a server that has many functions, and calls
// of one of them, against a server that has few.
func Functions(ctx context.Context, b *Bench, o FunctionsOptions) error {
	hello, err := b.workload(ctx, "hello")
	if err != nil {
		return err
	}
	for _, n := range []int{o.Few, o.Many} {
		began := time.Now()
		if err := b.register(ctx, hello, n); err != nil {
			return err
		}
		b.Log.Info("functions registered", "functions", n, "took", time.Since(began).Round(time.Millisecond))
	}
	servers := map[int]*rig.Server{}
	for start := range o.Starts {
		for _, n := range []int{o.Few, o.Many} {
			s, err := b.timedStart(ctx, start, n)
			if err != nil {
				return err
			}
			if start == o.Starts-1 {
				defer b.stop(s)
				servers[n] = s
				continue
			}
			if err := s.Stop(); err != nil {
				return err
			}
		}
	}
	return b.callOneOf(ctx, servers, o)
}

func functionName(i int) string { return fmt.Sprintf("f%06d", i) }

// register fills the data directory of a server that is started again.
func (b *Bench) register(ctx context.Context, hello rig.Workload, n int) error {
	s, err := b.server(ctx, FunctionsVariant(n), nil, hello)
	if err != nil {
		return err
	}
	var next atomic.Int64
	var mu sync.Mutex
	var first error
	var wg sync.WaitGroup
	for range deployers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && ctx.Err() == nil; i = next.Add(1) - 1 {
				_, err := s.Deploy(ctx, functionName(int(i)), api.Spec{
					Image: hello.Name, Env: map[string]string{"NUMBER": fmt.Sprint(i)}, Instances: api.InstanceBounds{Idle: api.Duration(time.Hour)},
				})
				if err != nil {
					mu.Lock()
					first = err
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	if first != nil {
		b.stop(s)
		return first
	}
	return s.Stop()
}

// timedStart starts a server on its directory and tells what that took, from
// before its process is made until it says that it is ready.
func (b *Bench) timedStart(ctx context.Context, start, n int) (*rig.Server, error) {
	began := time.Now()
	s, err := rig.StartServer(ctx, b.Program, b.Dir, FunctionsVariant(n))
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	m, err := rig.MemoryOf(s.PID())
	if err == nil {
		err = b.Out.Sample(start, FunctionsVariant(n), map[string]float64{"start_ms": ms(took), "rss_bytes": float64(m.Resident)})
	}
	if err != nil {
		b.stop(s)
		return nil, err
	}
	b.Log.Info("started", "functions", n, "took", took.Round(time.Millisecond))
	return s, nil
}

// callOneOf calls one function of each server in turn.
func (b *Bench) callOneOf(ctx context.Context, servers map[int]*rig.Server, o FunctionsOptions) error {
	numbers := []int{o.Few, o.Many}
	for round := -1; round < o.Rounds; round++ {
		for i := range numbers {
			n := numbers[(i+max(round, 0))%2]
			t := load.Target{Address: servers[n].Address, Path: "/f/" + rig.App + "/" + functionName(n/2)}
			r, err := load.Own{}.Count(ctx, t, 1, int64(o.Calls))
			if err == nil && r.Errors > 0 {
				err = fmt.Errorf("%d calls were not answered well: %w", r.Errors, r.ErrorCause)
			}
			if err != nil {
				return err
			}
			if round < 0 {
				continue // the first call is cold
			}
			if err := b.Out.Sample(round, FunctionsVariant(n), map[string]float64{
				"per_second": r.PerSecond, "p50_us": us(r.P50), "p99_us": us(r.P99),
			}); err != nil {
				return err
			}
		}
	}
	return nil
}
