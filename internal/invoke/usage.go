package invoke

import (
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
	cpu   time.Duration // of the instance, when it was last read
	exact bool          // no run has ended since without being read
	left  int           // readings there may be now
	at    time.Time     // up to when left has been counted up
}

// start takes the usage so far as nobody's: it is the start's.
func (m *meter) start(u core.Usage, now time.Time) {
	*m = meter{cpu: u.CPU, exact: true, left: meterBurst, at: now}
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

// end gives what the run that ends has used; zero when that is not known.
func (m *meter) end(u core.Usage) core.Usage {
	var own core.Usage
	if m.exact {
		own.CPU = max(u.CPU-m.cpu, 0)
	}
	m.cpu, m.exact = u.CPU, true
	return own
}

// meterStart reads what an instance has used before its first run.
func (s *Service) meterStart(src *source) {
	if u, err := s.Driver.Usage(src.id); err == nil {
		src.mu.Lock()
		defer src.mu.Unlock()
		src.meter.start(u, time.Now())
	}
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
	own := src.meter.end(u)
	l.change(func(r *core.Run) { r.Usage = own })
}
