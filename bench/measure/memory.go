package measure

import (
	"context"
	"fmt"
	"time"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/bench/load"
	"github.com/dayfly-io/dayfly/bench/rig"
)

// MemoryOptions are how much of it is measured.
type MemoryOptions struct {
	// Calls is how many calls are made in all, in ten steps after the first
	// 2,000.
	Calls       int64
	Connections int
	// Settle is the rest before each look.
	Settle time.Duration
}

// firstCalls is after how many calls the memory is first looked at.
const firstCalls = 2000

// MemoryVariant names the look after so many calls.
func MemoryVariant(calls int64) string { return fmt.Sprintf("after %d calls", calls) }

// Memory measures what the server has in memory, idle and after calls.
func Memory(ctx context.Context, b *Bench, o MemoryOptions) error {
	hello, err := b.workload(ctx, "hello")
	if err != nil {
		return err
	}
	// Before the image is loaded, too.
	s, err := b.server(ctx, "server", nil)
	if err != nil {
		return err
	}
	defer b.stop(s)
	if err := b.look(ctx, s, "after start", 0, 0, o.Settle); err != nil {
		return err
	}
	if err := s.Load(ctx, hello); err != nil {
		return err
	}
	t, err := s.Deploy(ctx, "hot", api.Spec{Image: hello.Name, Instances: api.InstanceBounds{Idle: api.Duration(time.Hour)}})
	if err != nil {
		return err
	}
	if err := b.look(ctx, s, MemoryVariant(0), 0, 0, o.Settle); err != nil {
		return err
	}
	made, began := int64(0), time.Now()
	steps := []int64{min(firstCalls, o.Calls)}
	for i := int64(1); i <= 10; i++ {
		steps = append(steps, o.Calls*i/10)
	}
	for _, until := range steps {
		if until <= made {
			continue
		}
		r, err := load.Own{}.Count(ctx, t, o.Connections, until-made)
		if err == nil && r.Errors > 0 {
			err = fmt.Errorf("%d calls were not answered well: %w", r.Errors, r.ErrorCause)
		}
		if err != nil {
			return err
		}
		made = until
		b.Log.Info("memory", "calls", made, "per_second", int(r.PerSecond), "since", time.Since(began).Round(time.Second))
		if err := b.look(ctx, s, MemoryVariant(made), made, r.PerSecond, o.Settle); err != nil {
			return err
		}
	}
	return b.recorded(ctx, s, made, 0)
}

func (b *Bench) look(ctx context.Context, s *rig.Server, variant string, calls int64, rate float64, settle time.Duration) error {
	busy, err := rig.MemoryOf(s.PID())
	if err != nil {
		return err
	}
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	m, err := rig.MemoryOf(s.PID())
	if err != nil {
		return err
	}
	return b.Out.Sample(0, variant, map[string]float64{
		"calls": float64(calls), "per_second": rate, "busy_rss_bytes": float64(busy.Resident),
		"rss_bytes": float64(m.Resident), "anon_bytes": float64(m.Anonymous), "peak_bytes": float64(m.Peak),
	})
}
