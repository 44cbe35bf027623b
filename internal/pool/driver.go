package pool

import (
	"context"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Driver makes instances. All its methods may be called concurrently, also
// for one instance. What it starts lasts until Stop, or until its process
// ends by itself and Wait has told so; then nothing of it is left: no
// process, no mount, no cgroup, no namespace, no link.
//
// An instance that the driver does not have (any more) is [core.ErrGone].
// Every implementation runs the suite of internal/drivertest.
type Driver interface {
	// Start starts the process of an instance and returns when it has been
	// executed; whether it listens is the contract's question. Errors are
	// [core.Error] with one of the codes image_not_found, image_unsupported,
	// start_failed, disk_full. When ctx ends first, nothing is left.
	Start(ctx context.Context, spec core.InstanceSpec, stdio core.Stdio) (core.Instance, error)
	// Wait waits until the instance's process has ended and all its output
	// has been written to its streams, and tells how. It may be called by
	// many and answers at once for an instance that ended not long ago.
	Wait(ctx context.Context, id core.InstanceID) (core.Exit, error)
	// Stop asks the process to end (SIGTERM, or the image's own stop signal),
	// kills what is left of the instance after grace (at once when grace is
	// 0), and returns when nothing of it is left. A frozen instance is killed.
	Stop(ctx context.Context, id core.InstanceID, grace time.Duration) error
	// Drain returns when all that the process has printed so far has been
	// written to its streams.
	Drain(id core.InstanceID) error
	// Usage tells what the instance has used so far.
	Usage(id core.InstanceID) (core.Usage, error)
	// Freeze stops the instance from using the processor, and returns when it
	// has stopped. After an error, also that of ctx, it goes on. Thaw undoes
	// it, and gives up a Freeze that is under way. Neither does anything when
	// that is how the instance is. Drivers that cannot do it say so in
	// [core.Capabilities], and are not asked.
	Freeze(ctx context.Context, id core.InstanceID) error
	Thaw(ctx context.Context, id core.InstanceID) error
}
