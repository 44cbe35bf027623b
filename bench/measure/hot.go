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
	// Instances are the bounds of instances that are measured.
	Instances []int
	// Client makes the load; nil means wrk, else our own.
	Client load.Client
}

// Direct is the variant without us in between.
const Direct = "direct"

// HotVariant names a variant: a bound of instances and a number of callers.
func HotVariant(instances, clients int) string {
	return fmt.Sprintf("%s, %d clients", hotServer(instances), clients)
}

// DirectVariant names the one that goes straight to the program.
func DirectVariant(clients int) string { return fmt.Sprintf("%s, %d clients", Direct, clients) }

func hotServer(instances int) string { return fmt.Sprintf("instances.max %d", instances) }

// hotTarget is what is called in turn.
type hotTarget struct {
	load.Target
	name  string
	plain bool
}

// Hot measures calls of instances that are there against calls of the same
// program without us.
func Hot(ctx context.Context, b *Bench, o HotOptions) error {
	if o.Client == nil {
		o.Client = load.Own{}
		if wrk, err := load.FindWrk(); err == nil {
			o.Client = wrk
		}
	}
	if err := b.Out.Note("client: %s", o.Client.Name()); err != nil {
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
	defer func() {
		if err := direct.Close(); err != nil {
			b.Log.Error("ending the plain program did not work", "error", err)
		}
	}()
	targets := []hotTarget{{direct.Target, Direct, true}}
	for _, n := range o.Instances {
		t, err := s.Deploy(ctx, fmt.Sprintf("hot-%d", n), api.Spec{
			Image: hello.Name, CPU: float64(runtime.NumCPU()),
			Instances: api.InstanceBounds{Max: n, Idle: api.Duration(time.Hour)},
		})
		if err != nil {
			return err
		}
		targets = append(targets, hotTarget{t, hotServer(n), false})
	}
	answered, aborted, err := b.hotRounds(ctx, s, targets, o)
	if err != nil {
		return err
	}
	return b.recorded(ctx, s, answered, aborted)
}

// hotRounds gives how many calls of ours were answered, and how many may have
// been cut off.
func (b *Bench) hotRounds(ctx context.Context, s *rig.Server, targets []hotTarget, o HotOptions) (answered, aborted int64, err error) {
	count := func(t hotTarget, r load.Result) {
		if !t.plain {
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
				values, r, err := hotOnce(ctx, s, t, clients, duration, o.Client)
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

func hotOnce(ctx context.Context, s *rig.Server, t hotTarget, clients int, d time.Duration, c load.Client) (map[string]float64, load.Result, error) {
	before, err := rig.CPUOf(s.PID())
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
	after, err := rig.CPUOf(s.PID())
	if err != nil {
		return nil, r, err
	}
	values := map[string]float64{
		"requests": float64(r.Requests), "seconds_s": r.Seconds, "per_second": r.PerSecond, "p50_us": us(r.P50), "p99_us": us(r.P99),
	}
	if !t.plain {
		values["server_cpu_us_per_request"] = us(after-before) / float64(r.Requests)
	}
	return values, r, nil
}
