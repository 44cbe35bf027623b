package measure

import (
	"context"
	"fmt"
	"time"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/bench/load"
	"github.com/dayfly-io/dayfly/bench/rig"
)

// FrozenOptions are how much of it is measured.
type FrozenOptions struct {
	// Instances is how many are held, in Steps; Thaws is how many of them are
	// called then, each once.
	Instances, Steps, Thaws int
	// Settle is the rest before each look.
	Settle time.Duration
}

// frozenMemory is the memory limit of one of the instances: all of them have
// to fit into what the machine gives to instances.
const frozenMemory = 8 * api.MiB

// The variants of frozen.
const (
	FrozenHeld = "held"
	FrozenThaw = "thaw"
)

// Frozen measures what a server has in memory that holds many frozen
// instances, and calls that thaw one of them. Each instance is that of a
// function of its own, with a network.
func Frozen(ctx context.Context, b *Bench, o FrozenOptions) error {
	hello, err := b.workload(ctx, "hello")
	if err != nil {
		return err
	}
	s, err := b.server(ctx, "server", nil, hello)
	if err != nil {
		return err
	}
	defer b.stop(s)
	targets := make([]load.Target, o.Instances)
	for i := range targets {
		targets[i], err = s.Deploy(ctx, functionName(i), api.Spec{
			Image: hello.Name, Memory: frozenMemory, Instances: api.InstanceBounds{Idle: api.Duration(24 * time.Hour)},
		})
		if err != nil {
			return err
		}
	}
	if err := b.hold(ctx, s, 0, o.Settle); err != nil {
		return err
	}
	// After the rest: the server closes a connection that says nothing at first.
	conn, err := load.Dial(s.Address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is under way
	for step := range o.Steps {
		for _, t := range targets[o.Instances*step/o.Steps : o.Instances*(step+1)/o.Steps] {
			if _, err := ask(conn, t); err != nil {
				return err
			}
		}
		if err := b.hold(ctx, s, o.Instances*(step+1)/o.Steps, o.Settle); err != nil {
			return err
		}
	}
	for i := range o.Thaws {
		a, err := ask(conn, targets[i*o.Instances/o.Thaws])
		if err != nil {
			return err
		}
		// The next call of it finds it thawed: the difference is the thaw.
		again, err := ask(conn, targets[i*o.Instances/o.Thaws])
		if err != nil {
			return err
		}
		if err := b.Out.Sample(0, FrozenThaw, map[string]float64{"frozen_us": us(a), "hot_us": us(again)}); err != nil {
			return err
		}
	}
	return nil
}

// ask makes a call and tells how long its first byte took.
func ask(c *load.Conn, t load.Target) (time.Duration, error) {
	a, err := c.Do(load.Request("GET", t.Path, t.Address))
	if err == nil && a.Status != 200 {
		err = fmt.Errorf("status %d: %.200s", a.Status, a.Body)
	}
	if err != nil {
		return 0, fmt.Errorf("call %s: %w", t.URL(), err)
	}
	return a.First, nil
}

// hold waits until so many instances are frozen, and looks at the server.
func (b *Bench) hold(ctx context.Context, s *rig.Server, want int, settle time.Duration) error {
	if err := s.AwaitInstances(ctx, "frozen", want); err != nil {
		return err
	}
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	m, err := rig.MemoryOf(s.PID())
	if err != nil {
		return err
	}
	before, err := rig.CPUOf(s.PID())
	if err != nil {
		return err
	}
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	after, err := rig.CPUOf(s.PID())
	if err != nil {
		return err
	}
	b.Log.Info("frozen", "instances", want, "rss_bytes", m.Resident)
	return b.Out.Sample(0, FrozenHeld, map[string]float64{
		"instances": float64(want), "rss_bytes": float64(m.Resident), "anon_bytes": float64(m.Anonymous),
		"idle_cpu_percent": 100 * (after - before).Seconds() / settle.Seconds(),
	})
}
