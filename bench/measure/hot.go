package measure

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/bench/load"
	"github.com/dayfly-io/dayfly/bench/peer"
	"github.com/dayfly-io/dayfly/bench/rig"
)

// HotOptions are how much of it is measured.
type HotOptions struct {
	Rounds   int
	Duration time.Duration // of one variant in one round
	Warm     time.Duration
	Clients  []int
	// Shapes are the bounds that are measured.
	Shapes []HotShape
	// Client makes the load; nil means wrk, else our own.
	Client load.Client
}

// HotShape is how many instances there may be, and how many requests each
// takes at a time.
type HotShape struct{ Instances, PerInstance int }

// HotMain is the shape whose ratios are judged.
var HotMain = HotShape{Instances: 4, PerInstance: 32}

// Direct is the variant without us in between, Proxy the one with a plain
// proxy of net/http there.
const (
	Direct = "direct"
	Proxy  = "net/http proxy"
)

// String names the variant, to which the number of callers comes.
func (s HotShape) String() string {
	return fmt.Sprintf("instances.max %d, per_instance %d", s.Instances, s.PerInstance)
}

// hotTarget is what is called in turn.
type hotTarget struct {
	load.Target
	name string
	ours bool
	pid  int // of the process in between, 0 for none
}

// Hot measures calls of instances that are there against calls of the same
// program without us, and through a plain proxy.
func Hot(ctx context.Context, b *Bench, o HotOptions) error {
	if err := b.chooseClient(&o); err != nil {
		return err
	}
	hello, err := b.workload(ctx, "hello")
	if err != nil {
		return err
	}
	s, err := b.server(ctx, "server", []string{"--keep-runs", "1000000000"}, hello)
	if err != nil {
		return err
	}
	defer b.stop(s)
	plain, err := peer.NewPlain(hello.Program)
	if err != nil {
		return err
	}
	direct, err := plain.Stay(ctx)
	if err != nil {
		return err
	}
	defer b.end(direct)
	proxy, err := peer.StayProxy(ctx, direct.Address)
	if err != nil {
		return err
	}
	defer b.end(proxy)
	targets := []hotTarget{{direct.Target, Direct, false, 0}, {proxy.Target, Proxy, false, proxy.PID()}}
	for _, shape := range o.Shapes {
		t, err := s.Deploy(ctx, fmt.Sprintf("hot-%d-%d", shape.Instances, shape.PerInstance), api.Spec{
			Image: hello.Name, CPU: float64(runtime.NumCPU()),
			Instances:   api.InstanceBounds{Max: shape.Instances, Idle: api.Duration(time.Hour)},
			Concurrency: api.Concurrency{PerInstance: shape.PerInstance},
		})
		if err != nil {
			return err
		}
		targets = append(targets, hotTarget{t, shape.String(), true, s.PID()})
	}
	answered, aborted, err := b.hotRounds(ctx, targets, o)
	if err != nil {
		return err
	}
	return b.recorded(ctx, s, answered, aborted)
}

// end ends a program that stayed.
func (b *Bench) end(t *peer.Target) {
	if err := t.Close(); err != nil {
		b.Log.Error("ending a program did not work", "error", err)
	}
}

// hotRounds gives how many calls of ours were answered, and how many may have
// been cut off.
func (b *Bench) hotRounds(ctx context.Context, targets []hotTarget, o HotOptions) (answered, aborted int64, err error) {
	count := func(t hotTarget, r load.Result) {
		if t.ours {
			answered, aborted = answered+r.Requests, aborted+r.Aborted
		}
	}
	for round := -1; round < o.Rounds; round++ {
		duration := o.Duration
		if round < 0 {
			duration = o.Warm
		}
		for _, clients := range o.Clients {
			for i := range targets {
				t := targets[(i+max(round, 0))%len(targets)]
				values, r, err := hotOnce(ctx, t, clients, duration, o.Client)
				if err != nil {
					return 0, 0, err
				}
				count(t, r)
				if round < 0 {
					continue
				}
				b.Log.Info("hot", "round", round+1, "target", t.name, "clients", clients, "per_second", int(r.PerSecond))
				if err := b.Out.Sample(round, fmt.Sprintf("%s, %d clients", t.name, clients), values); err != nil {
					return 0, 0, err
				}
			}
		}
	}
	return answered, aborted, nil
}

// cpu gives the processor time of what is in between.
func (t hotTarget) cpu() (time.Duration, error) {
	if t.pid == 0 {
		return 0, nil
	}
	return rig.CPUOf(t.pid)
}

func hotOnce(ctx context.Context, t hotTarget, clients int, d time.Duration, c load.Client) (map[string]float64, load.Result, error) {
	before, err := t.cpu()
	if err != nil {
		return nil, load.Result{}, err
	}
	r, err := c.Run(ctx, t.Target, clients, d)
	if err == nil && r.Errors > 0 {
		err = fmt.Errorf("%d of %d calls were not answered well: %w", r.Errors, r.Errors+r.Requests, r.ErrorCause)
	}
	if err != nil {
		return nil, r, fmt.Errorf("%s, %d clients: %w", t.name, clients, err)
	}
	after, err := t.cpu()
	if err != nil {
		return nil, r, err
	}
	values := map[string]float64{
		"requests": float64(r.Requests), "seconds_s": r.Seconds, "per_second": r.PerSecond, "p50_us": us(r.P50), "p99_us": us(r.P99),
	}
	if t.pid != 0 {
		values["server_cpu_us_per_request"] = us(after-before) / float64(r.Requests)
	}
	return values, r, nil
}
