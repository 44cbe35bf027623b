package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image"
	"github.com/dayfly-io/dayfly/internal/sandbox/network"
	"github.com/dayfly-io/dayfly/internal/sandbox/seccomp"
)

// Name is the name of this driver.
const Name = "sandbox"

// DefaultPrepared is how many sandboxes of each network are kept ready.
const DefaultPrepared = 4

// Options says how the driver works.
type Options struct {
	// Dir is a directory of the driver's own.
	Dir string
	// Images holds the images.
	Images *image.Store
	// Prepared is how many sandboxes of each network are kept ready; under 0
	// none, 0 means DefaultPrepared.
	Prepared int
	Log      *slog.Logger
}

// Driver is the sandbox driver.
type Driver struct {
	dir      string
	images   *image.Store
	log      *slog.Logger
	filter   []byte
	userns   bool
	cgroups  *cgroups
	spawner  *spawner
	network  *network.Network
	doorway  *doorway
	slots    slots
	shelves  map[core.Network]*shelf
	keeping  sync.WaitGroup
	watching sync.WaitGroup
	stop     context.CancelFunc

	instances sync.Map // core.InstanceID to *instance

	mu    sync.Mutex
	past  []core.InstanceID // that ended, oldest first; still in instances
	left  map[core.InstanceID]meta
	ended bool
}

// keepEnded is how many instances that have ended can still be asked about.
const keepEnded = 1024

// Open makes ready to run sandboxes: it removes what a server that was killed
// has left with the same Dir (but for detached instances, see Left), and
// proves with a first sandbox that this machine can do it. The error says what
// is missing.
func Open(ctx context.Context, o Options) (*Driver, error) {
	if os.Geteuid() != 0 {
		return nil, core.Unavailable(core.ReasonStartFailed, nil, "the sandbox driver needs root: start the server as root")
	}
	d := &Driver{
		dir: o.Dir, images: o.Images, log: o.Log, userns: true,
		slots: slots{used: map[int]bool{}}, left: map[core.InstanceID]meta{}, shelves: map[core.Network]*shelf{},
	}
	if err := d.open(ctx); err != nil {
		return nil, errors.Join(err, d.Close(ctx))
	}
	prepared := o.Prepared
	if prepared == 0 {
		prepared = DefaultPrepared
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	for _, mode := range []core.Network{core.NetworkEgress, core.NetworkNone} {
		s := newShelf(d, mode, max(prepared, 0))
		d.shelves[mode] = s
		if prepared > 0 {
			d.keeping.Add(1)
			go s.keep(background, &d.keeping)
		}
	}
	return d, nil
}

func (d *Driver) open(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Join(d.dir, "instances"), 0o700); err != nil {
		return fmt.Errorf("make the driver's directory: %w", err)
	}
	var err error
	if d.filter, err = seccomp.Filter(); err != nil {
		return fmt.Errorf("find the system call filter: %w", err)
	}
	name := shortName(d.dir)
	if d.cgroups, err = openCgroups(name); err != nil {
		return err
	}
	if err := d.findLeft(); err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, m := range d.left {
		kept[groupName(m.Slot)] = true
	}
	d.cgroups.sweep(func(name string) bool { return kept[name] })
	if d.doorway, err = newDoorway(); err != nil {
		return err
	}
	if d.spawner, err = newSpawner(); err != nil {
		return err
	}
	if d.network, err = network.Open(ctx, network.Config{Name: name, Log: d.log}); err != nil {
		return fmt.Errorf("set up the network of sandboxes: %w", err)
	}
	return d.prove(ctx)
}

// prove makes a first sandbox, and finds out whether layers can have their
// ids mapped into its user namespace.
func (d *Driver) prove(ctx context.Context) error {
	b, err := d.prepare(ctx, core.NetworkNone)
	if err != nil {
		return core.Unavailable(core.ReasonStartFailed, err, "this machine cannot run sandboxes")
	}
	defer b.destroy()
	f, err := d.cloneLayer(d.dir, b.userns)
	if err != nil {
		d.userns = false
		d.log.Warn("layers cannot have their ids mapped here (Linux 5.19 and a file system that allows it can): "+
			"sandboxes run without user namespaces, and root in an image becomes nobody", slog.Any("error", err))
		return nil
	}
	_ = f.Close()
	return nil
}

// shortName is the same for the same directory, and another for another.
func shortName(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	sum := sha256.Sum256([]byte(dir))
	return hex.EncodeToString(sum[:4])
}

// Close ends every instance but the detached ones, and removes all that Open
// made.
func (d *Driver) Close(ctx context.Context) error {
	d.mu.Lock()
	d.ended = true
	d.mu.Unlock()
	if d.stop != nil {
		d.stop()
	}
	d.keeping.Wait()
	d.instances.Range(func(_, v any) bool {
		if in, ok := v.(*instance); ok && in.state == nil {
			in.kill()
		}
		return true
	})
	d.awaitAttached()
	if d.doorway != nil {
		d.doorway.close()
	}
	if d.spawner != nil {
		d.spawner.close()
	}
	var err error
	if d.network != nil {
		if d.detachedLive() {
			d.log.Warn("the sandboxes' network stays up for detached instances")
		} else {
			err = d.network.Close(ctx)
		}
	}
	if d.cgroups != nil {
		d.cgroups.close()
	}
	return err
}

func (d *Driver) awaitAttached() {
	d.instances.Range(func(_, v any) bool {
		if in, ok := v.(*instance); ok && in.state == nil {
			<-in.gone
		}
		return true
	})
}

func (d *Driver) detachedLive() (live bool) {
	d.instances.Range(func(_, v any) bool {
		in, ok := v.(*instance)
		if ok && in.state != nil {
			select {
			case <-in.gone:
			default:
				live = true
			}
		}
		return !live
	})
	return live
}

// Start implements the port of internal/pool.
func (d *Driver) Start(ctx context.Context, spec core.InstanceSpec, stdio core.Stdio) (core.Instance, error) {
	began := time.Now()
	root, err := d.images.Acquire(ctx, spec.Digest)
	if err != nil {
		return core.Instance{}, fmt.Errorf("find the image of %s/%s: %w", spec.App, spec.Function, err)
	}
	found := time.Now()
	shelf := d.shelves[spec.Network]
	if shelf == nil {
		d.images.Release(spec.Digest)
		return core.Instance{}, core.Invalid("the sandbox driver has no network %q", spec.Network)
	}
	b, err := shelf.take(ctx)
	if err != nil {
		d.images.Release(spec.Digest)
		return core.Instance{}, fmt.Errorf("start %s/%s: %w", spec.App, spec.Function, d.explain(err))
	}
	in, err := d.start(ctx, b, root, spec, stdio)
	if err != nil {
		b.destroy()
		d.images.Release(spec.Digest)
		_ = os.RemoveAll(d.statePath(spec.ID))
		return core.Instance{}, fmt.Errorf("start %s/%s: %w", spec.App, spec.Function, d.explain(err))
	}
	d.mu.Lock()
	if d.ended {
		d.mu.Unlock()
		b.destroy()
		d.images.Release(spec.Digest)
		return core.Instance{}, core.Unavailable(core.CodeUnavailable, nil, "the server is stopping")
	}
	d.instances.Store(spec.ID, in)
	d.watching.Go(func() { in.watch(d) })
	d.mu.Unlock()
	out := d.describe(in)
	out.StartedAt = time.Now()
	out.Start = core.StartPhases{Image: found.Sub(began), Sandbox: out.StartedAt.Sub(found)}
	return out, nil
}

// explain gives errors that the machine's state causes a code of their own.
func (d *Driver) explain(err error) error {
	if _, ok := errors.AsType[*core.Error](err); ok {
		return err
	}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return core.Unavailable(core.ReasonDiskFull, err, "the disk is full: free some space, it goes on by itself")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return &core.Error{Kind: core.KindTimeout, Code: core.ReasonStartTimeout, Message: "the sandbox was not set up in time", Err: err}
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return core.Unavailable(core.CodeUnavailable, err, "the server has too many files open: raise its limit (LimitNOFILE)")
	}
	return &core.Error{Kind: core.KindInternal, Code: core.ReasonStartFailed, Message: "the sandbox could not be set up", Err: err}
}

func (d *Driver) describe(in *instance) core.Instance {
	return core.Instance{
		ID: in.spec.ID, App: in.spec.App, Function: in.spec.Function, Version: in.spec.Version,
		Driver: Name, State: core.InstanceStarting, Memory: in.spec.Memory,
	}
}

// find gives an instance, also one that has ended not long ago.
func (d *Driver) find(id core.InstanceID) (*instance, error) {
	v, ok := d.instances.Load(id)
	if !ok {
		return nil, fmt.Errorf("instance %s: %w", id, core.ErrGone)
	}
	in, ok := v.(*instance)
	if !ok {
		return nil, fmt.Errorf("instance %s is a %T", id, v)
	}
	return in, nil
}

// live gives an instance that has not ended.
func (d *Driver) live(id core.InstanceID) (*instance, error) {
	in, err := d.find(id)
	if err != nil {
		return nil, err
	}
	select {
	case <-in.ended:
		return nil, fmt.Errorf("instance %s has ended: %w", id, core.ErrGone)
	default:
		return in, nil
	}
}

// forget keeps the last of the ended instances.
func (d *Driver) forget(in *instance) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.past = append(d.past, in.spec.ID)
	if len(d.past) > keepEnded {
		d.instances.Delete(d.past[0])
		d.past = d.past[1:]
	}
}

// Wait implements the port of internal/pool.
func (d *Driver) Wait(ctx context.Context, id core.InstanceID) (core.Exit, error) {
	in, err := d.find(id)
	if err != nil {
		return core.Exit{}, err
	}
	select {
	case <-in.ended:
		return in.exit, nil
	case <-ctx.Done():
		return core.Exit{}, fmt.Errorf("wait for instance %s: %w", id, context.Cause(ctx))
	}
}

// Stop implements the port of internal/pool.
func (d *Driver) Stop(ctx context.Context, id core.InstanceID, grace time.Duration) error {
	in, err := d.find(id)
	if err != nil {
		return err
	}
	if grace > 0 {
		in.signal(d.stopSignal(in))
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-in.ended:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	in.kill()
	// Killing is certain: the wait is for the kernel alone, and not bounded
	// by the caller's patience, since it promises that nothing is left.
	<-in.gone
	return nil
}

func (d *Driver) stopSignal(in *instance) syscall.Signal {
	if s := unix.SignalNum(in.root.Config.StopSignal); s != 0 {
		return s
	}
	return syscall.SIGTERM
}

// Drain implements the port of internal/pool.
func (d *Driver) Drain(id core.InstanceID) error {
	in, err := d.find(id)
	if err != nil {
		return err
	}
	for _, p := range in.pumps {
		p.drain()
	}
	return nil
}

// Usage implements the port of internal/pool.
func (d *Driver) Usage(id core.InstanceID) (core.Usage, error) {
	in, err := d.find(id)
	if err != nil {
		return core.Usage{}, err
	}
	select {
	case <-in.ended:
		return in.exit.Usage, nil
	default:
		return in.box.group.usage(), nil
	}
}

// Freeze implements the port of internal/pool.
func (d *Driver) Freeze(_ context.Context, id core.InstanceID) error { return d.setFrozen(id, true) }

// Thaw implements the port of internal/pool.
func (d *Driver) Thaw(_ context.Context, id core.InstanceID) error { return d.setFrozen(id, false) }

func (d *Driver) setFrozen(id core.InstanceID, on bool) error {
	in, err := d.live(id)
	if err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.released {
		return fmt.Errorf("instance %s has ended: %w", id, core.ErrGone)
	}
	return in.box.group.freeze(on)
}
