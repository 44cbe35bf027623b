package invoke

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// errPullSlow is why a caller stops waiting for an image.
var errPullSlow = errors.New("the pull takes longer than the call may")

// fetch has the image of a call fetched, and gives the definition with the
// version pinned to it. Meanwhile the run says what it waits for. The caller
// waits as long as its run may take; the pull then goes on without it.
func (s *Service) fetch(ctx context.Context, l *live, def *core.Definition) (*core.Definition, error) {
	began := time.Now()
	waiting, cancel := context.WithTimeoutCause(ctx, def.Version.Spec.Timeout, errPullSlow)
	defer cancel()
	var last *core.PullProgress
	pinned, err := s.Images.Fetch(waiting, def, func(p core.PullProgress) {
		last = &p
		l.change(func(r *core.Run) { r.Waiting = &core.Waiting{For: core.WaitImage, Message: p.String(), Pull: &p} })
	})
	l.fetched = time.Since(began)
	l.change(func(r *core.Run) { r.Waiting = nil })
	switch {
	case err == nil:
		return pinned, nil
	case ctx.Err() != nil:
		return nil, waitError(ctx, err)
	case errors.Is(err, errPullSlow):
		return nil, stillPulling(def, last)
	}
	return nil, unfetched(err)
}

// The bounds of when to try again a call whose image was being pulled, in
// seconds.
const (
	leastPullRetry = 1
	mostPullRetry  = 60
)

// stillPulling tells a caller that the pull goes on without it.
func stillPulling(def *core.Definition, p *core.PullProgress) error {
	e := core.Unavailable(core.ReasonImagePullFailed, nil,
		"the image of %s/%s was not here within %s (timeout), and is still being pulled", def.App.Name, def.Function.Name, def.Version.Spec.Timeout)
	e.RetryAfter = 5
	if p != nil {
		e.Message += " (" + p.String() + ")"
		if left := p.Left(); left > 0 {
			e.RetryAfter = int(min(max(math.Ceil(left.Seconds()), leastPullRetry), mostPullRetry))
		}
	}
	e.Message += ": call again, or deploy with --pull to have the image there before the first call"
	return e
}

// unfetched gives a caller's error when the image cannot be had. It is not the
// call that is wrong, and not the function that is missing.
func unfetched(err error) error {
	e := core.AsError(err)
	if e.Kind != core.KindInvalid && e.Kind != core.KindNotFound && e.Kind != core.KindTooLarge {
		return err
	}
	switch e.Code {
	case core.ReasonImageNotFound, core.ReasonImagePullFailed, core.ReasonImageUnsupported:
		failed := *e
		failed.Kind = core.KindFunction
		return &failed
	}
	return err
}
