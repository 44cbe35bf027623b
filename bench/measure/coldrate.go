package measure

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/bench/load"
	"github.com/dayfly-io/dayfly/bench/peer"
	"github.com/dayfly-io/dayfly/bench/rig"
)

// ColdRateOptions are how much of it is measured.
type ColdRateOptions struct {
	Rounds      int
	Duration    time.Duration // of one variant in one round
	Connections int
	// Functions is how many http functions of each network take turns.
	Functions int
}

// rateVariant is one way to start and end instances.
type rateVariant struct {
	name    string
	paths   []string // of functions, called in turn
	next    atomic.Int64
	request func(path string) []byte
}

// ColdRate measures how many instances can be started, used once and taken
// down again per second. What is still there when the time is up does not
// count; afterwards everything must be gone.
func ColdRate(ctx context.Context, b *Bench, o ColdRateOptions) error {
	before, err := rig.Count()
	if err != nil {
		return err
	}
	hello, err := b.workload(ctx, "hello")
	if err != nil {
		return err
	}
	job, err := b.workload(ctx, "job")
	if err != nil {
		return err
	}
	s, err := b.server(ctx, "server", nil, hello, job)
	if err != nil {
		return err
	}
	defer b.stop(s)
	variants, err := rateVariants(ctx, s, hello.Name, job.Name, o.Functions)
	if err != nil {
		return err
	}
	if err := b.census(ctx, "census, idle before"); err != nil {
		return err
	}
	var answered int64
	for round := range o.Rounds {
		for _, v := range variants {
			n, err := b.rate(ctx, s, round, v, o)
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			answered += n
		}
		if err := b.plainRate(ctx, round, hello.Program, o); err != nil {
			return err
		}
	}
	if err := b.census(ctx, "census, idle after"); err != nil {
		return err
	}
	if err := b.recorded(ctx, s, answered, 0); err != nil {
		return err
	}
	return b.leftOver(before)
}

// leftOver compares with the census before any server ran.
func (b *Bench) leftOver(before rig.Census) error {
	after, err := rig.Count()
	if err != nil {
		return err
	}
	return errors.Join(b.Out.Sample(0, "census, before the server", before.Values()),
		b.Out.Sample(0, "census, after the server", after.Values()))
}

func (b *Bench) census(ctx context.Context, variant string) error {
	// Prepared sandboxes are filled up, links are removed in the background.
	if err := sleep(ctx, 3*time.Second); err != nil {
		return err
	}
	c, err := rig.Count()
	if err != nil {
		return err
	}
	return b.Out.Sample(0, variant, c.Values())
}

func rateVariants(ctx context.Context, s *rig.Server, hello, job string, functions int) ([]*rateVariant, error) {
	var out []*rateVariant
	request := func(path string) []byte { return load.Request("GET", path, s.Address) }
	for _, network := range []string{api.NetworkEgress, api.NetworkNone} {
		v := &rateVariant{name: "job, " + network, request: request}
		t, err := s.Deploy(ctx, "job-"+network, api.Spec{Image: job, Contract: api.ContractJob, Network: network})
		if err != nil {
			return nil, err
		}
		v.paths = []string{t.Path}
		out = append(out, v)
		v = &rateVariant{name: "http, " + network, request: request}
		for i := range functions {
			// An instance is ended at the first look after its one call;
			// there is one every second.
			t, err := s.Deploy(ctx, fmt.Sprintf("http-%s-%d", network, i), api.Spec{
				Image: hello, Network: network, Memory: 32 * api.MiB,
				Instances: api.InstanceBounds{Idle: api.Duration(time.Millisecond)},
			})
			if err != nil {
				return nil, err
			}
			v.paths = append(v.paths, t.Path)
		}
		out = append(out, v)
	}
	return out, nil
}

// tally is what one connection's worker saw.
type tally struct {
	calls, hot int64
	err        error
}

// rate makes cold calls for a while, and gives how many were answered.
func (b *Bench) rate(ctx context.Context, s *rig.Server, round int, v *rateVariant, o ColdRateOptions) (int64, error) {
	if err := sleep(ctx, time.Second); err != nil {
		return 0, err
	}
	tallies := make([]tally, o.Connections)
	var wg sync.WaitGroup
	began := time.Now()
	for i := range tallies {
		wg.Go(func() { tallies[i] = v.work(ctx, s.Address, began.Add(o.Duration)) })
	}
	wg.Wait()
	took := time.Since(began)
	alive, err := s.AwaitNoInstances(ctx)
	if err != nil {
		return 0, err
	}
	gone := time.Since(began)
	var sum tally
	for _, t := range tallies {
		sum.calls, sum.hot, sum.err = sum.calls+t.calls, sum.hot+t.hot, errors.Join(sum.err, t.err)
	}
	if sum.err != nil {
		return 0, sum.err
	}
	cycles := sum.calls - sum.hot - int64(alive)
	b.Log.Info("coldrate", "variant", v.name, "round", round+1, "per_second", float64(cycles)/took.Seconds())
	return sum.calls, b.Out.Sample(round, v.name, map[string]float64{
		"calls": float64(sum.calls), "hot": float64(sum.hot), "alive_at_end": float64(alive), "seconds_s": took.Seconds(),
		"all_gone_s": gone.Seconds(), "cycles_per_second": float64(cycles) / took.Seconds(),
	})
}

func (v *rateVariant) work(ctx context.Context, address string, end time.Time) tally {
	var t tally
	c, err := load.Dial(address)
	if err != nil {
		return tally{err: err}
	}
	defer func() { _ = c.Close() }() // nothing is under way
	for time.Now().Before(end) && ctx.Err() == nil {
		path := v.paths[int(v.next.Add(1)-1)%len(v.paths)]
		a, err := c.Do(v.request(path))
		if err == nil && (a.Status != 200 || len(a.Body) != 200) {
			err = fmt.Errorf("call %s: status %d: %s", path, a.Status, a.Body)
		}
		if err != nil {
			t.err = err
			return t
		}
		t.calls++
		if !strings.Contains(a.Header("Server-Timing"), "desc=cold") {
			t.hot++
		}
	}
	t.err = ctx.Err()
	return t
}

// plainRate measures the same with plain processes, for the scale.
func (b *Bench) plainRate(ctx context.Context, round int, program string, o ColdRateOptions) error {
	var cycles atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, o.Connections)
	began := time.Now()
	for i := range errs {
		wg.Go(func() {
			p, err := peer.NewPlain(program)
			for err == nil && ctx.Err() == nil && time.Since(began) < o.Duration {
				if _, err = p.Cycle(ctx); err == nil {
					cycles.Add(1)
				}
			}
			errs[i] = err
		})
	}
	wg.Wait()
	took := time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return b.Out.Sample(round, "plain fork+exec", map[string]float64{
		"calls": float64(cycles.Load()), "seconds_s": took.Seconds(), "cycles_per_second": float64(cycles.Load()) / took.Seconds(),
	})
}
