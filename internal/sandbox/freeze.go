package sandbox

import (
	"context"
	"errors"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// freezeTimeout is how long the kernel may take to stop every process of an
// instance. One that is in the middle of a system call that cannot be
// interrupted stops after it.
const freezeTimeout = time.Second

// errThawed is told to who freezes an instance that is thawed meanwhile.
var errThawed = errors.New("it was thawed meanwhile")

// freeze stops every process of the instance, and returns when they have.
// After an error they go on. in.mu is held only for moments, so that thawing
// and killing do not wait for the freezing.
func (in *instance) freeze(ctx context.Context) error {
	if err := in.setFrozen(true); err != nil {
		return err
	}
	err := in.awaitFrozen(ctx)
	if err == nil || errors.Is(err, errThawed) || errors.Is(err, core.ErrGone) {
		return err
	}
	return errors.Join(err, in.setFrozen(false))
}

// thaw lets the processes of the instance go on. A freezing that is under way
// is given up.
func (in *instance) thaw() error { return in.setFrozen(false) }

// setFrozen says whether the processes of the instance are to be stopped. The
// cgroup is another sandbox's when this one has been released.
func (in *instance) setFrozen(on bool) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.released {
		return core.ErrGone
	}
	err := in.box.group.setFrozen(on)
	if err == nil {
		in.frozen = on
	}
	return err
}

// isStopped reports whether every process of the instance has been stopped.
func (in *instance) isStopped() (bool, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.released:
		return false, core.ErrGone
	case !in.frozen:
		return false, errThawed
	}
	return in.box.group.isStopped()
}

// awaitFrozen returns when every process of the instance has been stopped. It
// looks again and again: the kernel's notification comes up to 10 ms late
// (CGROUP_FILE_NOTIFY_MIN_INTV).
func (in *instance) awaitFrozen(ctx context.Context) error {
	for wait, began := time.Duration(0), time.Now(); ; {
		if stopped, err := in.isStopped(); stopped || err != nil {
			return err
		}
		if time.Since(began) > freezeTimeout {
			return errors.New("it is not frozen after " + freezeTimeout.String())
		}
		if wait = wait*2 + 5*time.Microsecond; wait < 20*time.Microsecond {
			continue
		}
		timer := time.NewTimer(min(wait, time.Millisecond))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}
