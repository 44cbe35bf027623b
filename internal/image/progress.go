package image

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// layerProgress is how far a layer is.
type layerProgress struct {
	got      atomic.Int64 // bytes that are here
	unpacked atomic.Bool
}

// progress is how far a pull is. Its methods may be called concurrently.
type progress struct {
	mu     sync.Mutex
	now    core.PullProgress
	layers []*layerProgress
	// samples are of the last seconds, oldest first.
	samples []sample
}

type sample struct {
	at   time.Time
	done int64
}

// rateOver is the time over which the rate is taken.
const rateOver = 5 * time.Second

func (p *progress) begin(image string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = core.PullProgress{Image: image, Phase: core.PullResolving, Since: at}
}

// resolved notes what is to be downloaded.
func (p *progress) resolved(digest string, total core.Bytes, layers int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Digest, p.now.Phase, p.now.Total, p.now.Layers = digest, core.PullDownloading, total, layers
}

// follow takes in a layer that is under way.
func (p *progress) follow(l *layerProgress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.layers = append(p.layers, l)
}

// at gives how far the pull is at an instant.
func (p *progress) at(now time.Time) core.PullProgress {
	p.mu.Lock()
	defer p.mu.Unlock()
	var done int64
	p.now.LayersDone = 0
	for _, l := range p.layers {
		done += l.got.Load()
		if l.unpacked.Load() {
			p.now.LayersDone++
		}
	}
	p.now.Done = min(core.Bytes(done), p.now.Total)
	if p.now.Phase == core.PullDownloading && p.now.Done == p.now.Total {
		p.now.Phase = core.PullUnpacking
	}
	p.sample(now, done)
	return p.now
}

// sample takes the rate. Watchers may be many, so that samples are few.
func (p *progress) sample(now time.Time, done int64) {
	if n := len(p.samples); n == 0 || now.Sub(p.samples[n-1].at) >= watchEvery/2 {
		p.samples = append(p.samples, sample{now, done})
	}
	for len(p.samples) > 2 && now.Sub(p.samples[1].at) > rateOver {
		p.samples = p.samples[1:]
	}
	first := p.samples[0]
	if over := now.Sub(first.at); over > 0 {
		p.now.Rate = core.Bytes(float64(max(done-first.done, 0)) / over.Seconds())
	}
}
