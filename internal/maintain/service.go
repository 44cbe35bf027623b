package maintain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Config says what is kept.
type Config struct {
	Runs   Store
	Logs   LogStore
	Images ImageStore
	// KeepRuns is how many runs are kept, KeepFor how long a run and its log
	// are; whichever ends first. KeepLogs is how many bytes of logs.
	KeepRuns int
	KeepFor  time.Duration
	KeepLogs int64
	// KeepImages is how long an image is kept that nothing uses, ImageSpace
	// how much all images may take.
	KeepImages time.Duration
	ImageSpace core.Bytes
	Log        *slog.Logger
}

// The defaults of what is kept.
const (
	DefaultKeepRuns = 1_000_000
	DefaultKeepFor  = 7 * 24 * time.Hour
	DefaultKeepLogs = 10 << 30

	DefaultKeepImages = 7 * 24 * time.Hour
	DefaultImageSpace = 20 * core.GiB
)

// Service keeps the data directory in bounds.
type Service struct {
	cfg  Config
	stop context.CancelFunc
	done sync.WaitGroup
}

// every is how often there is something to forget.
const every = time.Minute

// Start ends the runs that a former server left unfinished, and then forgets
// what is too old until Close.
func Start(ctx context.Context, c Config) (*Service, error) {
	n, err := c.Runs.EndOrphans(ctx, time.Now())
	if err != nil {
		return nil, fmt.Errorf("end the runs of the server before: %w", err)
	}
	if n > 0 {
		c.Log.Info("runs were interrupted by the end of the server before", slog.Int("runs", n))
	}
	s := &Service{cfg: c}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.done.Go(func() { s.run(ctx) })
	return s, nil
}

// Close ends the service.
func (s *Service) Close() {
	s.stop()
	s.done.Wait()
}

func (s *Service) run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := s.Trim(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.cfg.Log.Error("forgetting old runs did not work; trying again", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Trim forgets what is beyond its bounds at the instant now. What one store
// cannot forget does not keep the other from it: on a full disk either may be
// what makes room.
func (s *Service) Trim(ctx context.Context, now time.Time) error {
	before := now.Add(-s.cfg.KeepFor)
	runs := all(ctx, func() (bool, error) { return s.cfg.Runs.TrimRuns(ctx, s.cfg.KeepRuns, before) })
	if runs != nil {
		runs = fmt.Errorf("forget runs made before %s: %w", before.Format(time.RFC3339), runs)
	}
	logs := all(ctx, func() (bool, error) { return s.cfg.Logs.TrimLogs(ctx, s.cfg.KeepLogs, before) })
	if logs != nil {
		logs = fmt.Errorf("forget logs made before %s: %w", before.Format(time.RFC3339), logs)
	}
	images := s.trimImages(ctx, now)
	return errors.Join(runs, logs, images)
}

func (s *Service) trimImages(ctx context.Context, now time.Time) error {
	before := now.Add(-s.cfg.KeepImages)
	pruned, err := s.cfg.Images.TrimImages(ctx, s.cfg.ImageSpace, before)
	if len(pruned.Images) > 0 {
		s.cfg.Log.Info("images were removed that nothing used", slog.Int("images", len(pruned.Images)), slog.Int64("bytes", int64(pruned.Bytes)))
	}
	if err != nil {
		return fmt.Errorf("forget images not used since %s: %w", before.Format(time.RFC3339), err)
	}
	return nil
}

// all does slices of work until there is no more, or ctx ends.
func all(ctx context.Context, slice func() (more bool, err error)) error {
	for {
		more, err := slice()
		if err != nil || !more {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}
