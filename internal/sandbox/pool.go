package sandbox

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// refillAfter is how long nobody must have taken a box before new ones are
// made: making one competes with the start that took one for processors and
// for locks of the kernel. refillTries bounds how often that is waited for.
const (
	refillAfter = 20 * time.Millisecond
	refillTries = 5
)

// shelf keeps boxes of one network ready. Who takes one gives word to refill
// it; the refilling is off everyone's path.
type shelf struct {
	d     *Driver
	mode  core.Network
	ready chan *box
	want  chan struct{}
}

func newShelf(d *Driver, mode core.Network, size int) *shelf {
	return &shelf{d: d, mode: mode, ready: make(chan *box, size), want: make(chan struct{}, 1)}
}

// take gives a ready box, or makes one when there is none.
func (s *shelf) take(ctx context.Context) (*box, error) {
	defer s.order()
	for {
		select {
		case b := <-s.ready:
			if !pidEnded(b.pidfd) {
				return b, nil
			}
			b.destroy() // somebody has killed its init while it stood here
		default:
			return s.d.prepare(ctx, s.mode)
		}
	}
}

func (s *shelf) order() {
	select {
	case s.want <- struct{}{}:
	default:
	}
}

// keep fills the shelf until ctx ends. A box that cannot be made is tried
// again later; a start that needs one meanwhile meets the error itself.
func (s *shelf) keep(ctx context.Context, wg *sync.WaitGroup) {
	defer wg.Done()
	for pause := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			s.empty()
			return
		case <-time.After(pause):
		}
		if len(s.ready) == cap(s.ready) {
			select {
			case <-ctx.Done():
			case <-s.want:
				s.quiet(ctx)
			}
			pause = 0
			continue
		}
		b, err := s.d.prepare(ctx, s.mode)
		if ctx.Err() != nil && err != nil {
			continue // cut short by the end
		}
		if err != nil {
			pause = min(pause*2+10*time.Millisecond, 5*time.Second)
			s.d.log.Warn("preparing a sandbox did not work", slog.Any("error", err), slog.Duration("retry_in", pause))
			continue
		}
		pause = 0
		s.ready <- b
	}
}

// quiet returns when nobody has taken a box for a moment, or people do not
// stop taking them.
func (s *shelf) quiet(ctx context.Context) {
	timer := time.NewTimer(refillAfter)
	defer timer.Stop()
	for range refillTries {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-s.want:
			timer.Reset(refillAfter)
		}
	}
}

func (s *shelf) empty() {
	for {
		select {
		case b := <-s.ready:
			b.destroy()
		default:
			return
		}
	}
}
