package measure

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/dayfly-io/dayfly/bench/result"
	"github.com/dayfly-io/dayfly/bench/rig"
)

// Bench is what every measure gets.
type Bench struct {
	// Program is the path of the dayfly under test.
	Program string
	// Dir is a directory of the run's own, removed after it.
	Dir string
	// PeerEnv is the environment in which peers are looked up and run.
	PeerEnv []string
	Out     *result.Writer
	Log     *slog.Logger
}

// workload builds a workload.
func (b *Bench) workload(ctx context.Context, name string) (rig.Workload, error) {
	b.Log.Info("building", "workload", name)
	return rig.BuildWorkload(ctx, b.Dir, name)
}

// server starts a server that has the images of the workloads.
func (b *Bench) server(ctx context.Context, name string, args []string, workloads ...rig.Workload) (*rig.Server, error) {
	s, err := rig.StartServer(ctx, b.Program, b.Dir, name, args...)
	if err != nil {
		return nil, err
	}
	if err := s.Load(ctx, workloads...); err != nil {
		b.stop(s)
		return nil, err
	}
	return s, nil
}

// stop stops a server whose end is not part of the measure.
func (b *Bench) stop(s *rig.Server) {
	if err := s.Stop(); err != nil {
		b.Log.Error("stopping a server did not work", "error", err)
	}
}

// recorded checks, after the server was stopped, that it recorded the calls
// that were answered: each of them, and no more than those that may have been
// under way when a load was cut off.
func (b *Bench) recorded(ctx context.Context, s *rig.Server, answered, aborted int64) error {
	if err := s.Stop(); err != nil {
		return err
	}
	rows, succeeded, err := s.Recorded(ctx)
	if err != nil {
		return err
	}
	if err := b.Out.Sample(0, "recorded", map[string]float64{
		"answered": float64(answered), "rows": float64(rows), "succeeded": float64(succeeded),
	}); err != nil {
		return err
	}
	if succeeded < answered || rows < answered || rows > answered+aborted {
		return fmt.Errorf("%d calls were answered and at most %d cut off, but %d runs are recorded, %d as succeeded",
			answered, aborted, rows, succeeded)
	}
	b.Log.Info("all calls are recorded", "answered", answered, "rows", rows, "succeeded", succeeded)
	return nil
}

// sleep waits, for the machine to come to rest.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ms gives a duration in milliseconds.
func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// us gives a duration in microseconds.
func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
