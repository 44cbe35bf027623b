package invoke

import (
	"context"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// The usage of an instance is read once per meterEvery on the average, and up
// to meterBurst times in a row: that costs as much as a tenth of a hot call.
const (
	meterEvery = 20 * time.Millisecond
	meterBurst = 10
)

// meter tells apart what the runs of an instance have used, one after the
// other. An instance that is called without a pause is read now and then only;
// what its runs have used is not known each, and not guessed.
type meter struct {
	last  core.Usage // of the instance, when it was last read
	exact bool       // no run has ended since without being read
	fresh bool       // the peak of memory is one since then
	left  int        // readings there may be now
	at    time.Time  // up to when left has been counted up
}

// start takes the usage so far as nobody's: it is the start's.
func (m *meter) start(u core.Usage, fresh bool, now time.Time) {
	*m = meter{last: u, exact: true, fresh: fresh, left: meterBurst, at: now}
}

// due reports whether the usage is to be read at the end of a run.
func (m *meter) due(now time.Time) bool {
	if passed := now.Sub(m.at).Truncate(meterEvery); passed > 0 {
		m.left = int(min(int64(m.left)+int64(passed/meterEvery), meterBurst))
		m.at = m.at.Add(passed)
	}
	if m.left == 0 {
		m.exact = false
		return false
	}
	m.left--
	return true
}

// end gives what the run that ends has used; zero when that is not known. That
// a process was killed for memory is told in any case, to whoever it may
// concern.
func (m *meter) end(u core.Usage) (own core.Usage, peakOfInstance bool) {
	own.OOMKills = max(u.OOMKills-m.last.OOMKills, 0)
	if m.exact {
		own.CPU, own.Throttled = max(u.CPU-m.last.CPU, 0), max(u.Throttled-m.last.Throttled, 0)
		own.PeakMemory, peakOfInstance = u.PeakMemory, !m.fresh
	}
	m.last, m.exact, m.fresh = u, true, false
	return own, peakOfInstance
}

// meterStart reads what an instance has used before its first run.
func (s *Service) meterStart(src *source, l *live) {
	u, err := s.Driver.Usage(src.id)
	if err != nil {
		return
	}
	fresh := s.resetPeak(src.id)
	src.mu.Lock()
	defer src.mu.Unlock()
	src.meter.start(u, fresh, time.Now())
	l.mu.Lock()
	defer l.mu.Unlock()
	l.base, l.based = u, true
}

// meterEnd notes what a run has used, if it can be told: not when others were
// on the instance beside it.
func (s *Service) meterEnd(src *source, l *live, alone bool) {
	src.mu.Lock()
	defer src.mu.Unlock()
	if !alone {
		src.meter.exact = false
		l.change(func(r *core.Run) { r.UsageShared = true })
		return
	}
	if !src.meter.due(time.Now()) {
		return
	}
	u, err := s.Driver.Usage(src.id)
	if err != nil {
		return
	}
	own, peakOfInstance := src.meter.end(u)
	src.meter.fresh = s.resetPeak(src.id)
	l.change(func(r *core.Run) { r.Usage, r.PeakOfInstance = own, peakOfInstance })
}

// resetPeak makes the peak of an instance one from now on, if that can be had.
func (s *Service) resetPeak(id core.InstanceID) bool {
	return s.Peaks != nil && s.Peaks.ResetPeak(id) == nil
}

// killsSeen gives how many processes of the instance were killed for memory
// before the run that is on it, as far as is known.
func (s *source) killsSeen() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.meter.last.OOMKills
}

// sampler takes samples of what runs use until ctx ends. It is one for all, so
// that short runs have nothing to do with it.
func (s *Service) sampler(ctx context.Context) {
	tick := time.NewTicker(core.SampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.sample(time.Now())
		}
	}
}

// sample notes what each run that has taken a while has used.
func (s *Service) sample(now time.Time) {
	usages := map[core.InstanceID]core.Usage{}
	for _, l := range s.runs.all() {
		id, long := l.takesLong(now)
		if !long {
			continue
		}
		u, known := usages[id]
		if !known {
			var err error
			if u, err = s.Driver.Usage(id); err != nil {
				continue
			}
			usages[id] = u
		}
		l.sample(u, now)
	}
}

// takesLong gives the instance of a run that has gone on for long enough to
// have samples.
func (l *live) takesLong(now time.Time) (core.InstanceID, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.run
	return r.Instance, r.State == core.StateRunning && r.Instance != 0 && now.Sub(r.StartedAt) >= core.SampleEvery
}

func (l *live) sample(u core.Usage, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.run.State != core.StateRunning {
		return
	}
	if !l.based { // what was used before is not known: it counts from here
		l.base, l.based = u, true
	}
	l.run.Sample(core.UsageSample{
		At: now.Sub(l.run.StartedAt).Truncate(time.Millisecond), CPU: max(u.CPU-l.base.CPU, 0), Memory: u.Memory,
	})
}
