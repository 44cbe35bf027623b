package maintain_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/maintain"
	"github.com/dayfly-io/dayfly/internal/memory"
)

// slices is a store with so many slices to forget.
type slices struct {
	mu         sync.Mutex
	runs, logs int // slices left
	endless    bool
	fails      error
	orphans    error
	asked      int
	before     time.Time

	images     int
	imagesFail error
	unused     time.Time
	space      core.Bytes
}

func (s *slices) left() (runs, logs int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs, s.logs
}

func (s *slices) EndOrphans(context.Context, time.Time) (int, error) { return 3, s.orphans }

func (s *slices) TrimRuns(_ context.Context, keep int, before time.Time) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	s.before = before
	if s.fails != nil {
		return true, s.fails
	}
	s.runs = max(s.runs-1, 0)
	return (s.runs > 0 || s.endless) && keep == 10, nil
}

func (s *slices) TrimLogs(_ context.Context, keep int64, _ time.Time) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs = max(s.logs-1, 0)
	return (s.logs > 0 || s.endless) && keep == 20, nil
}

func (s *slices) TrimImages(_ context.Context, space core.Bytes, before time.Time) (core.Pruned, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unused, s.space = before, space
	return core.Pruned{Images: make([]core.Image, s.images), Bytes: 1234}, s.imagesFail
}

func start(t *testing.T, s *slices) (*maintain.Service, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	service, err := maintain.Start(t.Context(), maintain.Config{
		Runs: s, Logs: s, Images: s, KeepImages: 2 * time.Hour, ImageSpace: 30, KeepRuns: 10, KeepFor: time.Hour, KeepLogs: 20, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return service, &log
}

func TestTrimsEveryMinuteUntilThereIsNoMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &slices{runs: 5, logs: 7}
		service, log := start(t, s)
		synctest.Wait()
		if runs, logs := s.left(); runs != 0 || logs != 0 {
			t.Errorf("%d and %d slices are left", runs, logs)
		}
		s.mu.Lock()
		s.runs, s.logs = 2, 2
		s.mu.Unlock()
		time.Sleep(time.Minute - time.Nanosecond) // of the bubble
		synctest.Wait()
		if runs, _ := s.left(); runs != 2 {
			t.Error("it did not wait a minute")
		}
		time.Sleep(time.Nanosecond) // of the bubble
		synctest.Wait()
		if runs, logs := s.left(); runs != 0 || logs != 0 {
			t.Errorf("%d and %d slices are left", runs, logs)
		}
		if want := time.Now().Add(-time.Hour); !s.before.Equal(want) {
			t.Errorf("what was made before %s was forgotten, want %s", s.before, want)
		}
		service.Close()
		if got := log.String(); !strings.Contains(got, "runs=3") || strings.Contains(got, "ERROR") {
			t.Errorf("the log is %s", got)
		}
	})
}

func TestTrimFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &slices{logs: 3, fails: errors.New("boom")}
		service, log := start(t, s)
		synctest.Wait()
		if _, logs := s.left(); logs != 0 {
			t.Error("logs were not forgotten because runs could not be")
		}
		if err := service.Trim(t.Context(), time.Now()); !errors.Is(err, s.fails) || !strings.Contains(err.Error(), "forget runs made before") {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Minute) // of the bubble
		synctest.Wait()
		service.Close()
		if s.asked != 3 || strings.Count(log.String(), "boom") != 2 {
			t.Errorf("it was tried %d times, the log is %s", s.asked, log)
		}
	})
}

func TestImagesAreTrimmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &slices{images: 2, fails: errors.New("boom"), imagesFail: errors.New("bang")}
		service, log := start(t, s)
		synctest.Wait()
		if want := time.Now().Add(-2 * time.Hour); !s.unused.Equal(want) || s.space != 30 {
			t.Errorf("images not used since %s are to go, want %s; the space is %d", s.unused, want, s.space)
		}
		if err := service.Trim(t.Context(), time.Now()); !errors.Is(err, s.fails) || !errors.Is(err, s.imagesFail) {
			t.Errorf("got %v", err)
		}
		service.Close()
		if got := log.String(); !strings.Contains(got, "images=2 bytes=1234") || !strings.Contains(got, "bang") {
			t.Errorf("the log is %s", got)
		}
	})
}

// Close ends also a store that finds ever more to forget.
func TestCloseDuringTrim(t *testing.T) {
	t.Parallel()
	s := &slices{endless: true}
	service, log := start(t, s)
	service.Close()
	if strings.Contains(log.String(), "ERROR") {
		t.Errorf("the log is %s", log)
	}
}

func TestOrphansFail(t *testing.T) {
	t.Parallel()
	s := &slices{orphans: errors.New("boom")}
	if _, err := maintain.Start(t.Context(), maintain.Config{Runs: s, Logs: s}); !errors.Is(err, s.orphans) {
		t.Errorf("got %v", err)
	}
}

func TestOverAStore(t *testing.T) {
	t.Parallel()
	runs, logs := memory.New(), memory.NewLogs()
	now := time.Now()
	var all []core.Run
	for i := range 5 {
		at := now.Add(-time.Duration(i) * time.Hour)
		all = append(all, core.Run{ID: core.RunID(core.NextID(0, at, 0)), State: core.StateSucceeded, CreatedAt: at})
	}
	all[0].State = core.StateRunning
	if err := runs.SaveRuns(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	service, err := maintain.Start(t.Context(), maintain.Config{
		Runs: runs, Logs: logs, Images: &slices{}, KeepRuns: 3, KeepFor: 90 * time.Minute, KeepLogs: 1, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	if err := service.Trim(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	got, err := runs.Runs(t.Context(), core.RunFilter{}, core.Page{})
	if err != nil || len(got.Runs) != 2 || got.Runs[0].Reason != core.ReasonServerRestarted || got.Runs[1].ID != all[1].ID {
		t.Errorf("kept are %+v, %v", got.Runs, err)
	}
}
