package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image"
	"github.com/dayfly-io/dayfly/internal/netns"
	"github.com/dayfly-io/dayfly/internal/sandbox/network"
	"github.com/dayfly-io/dayfly/internal/sandbox/seccomp"
	"github.com/dayfly-io/dayfly/internal/sandbox/userns"
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
	// Directories are those of the host that functions may mount.
	Directories []core.HostDirectory
	// Notice is what Enter gave.
	Notice string
	// Log takes what goes wrong where no caller waits; nil means none.
	Log *slog.Logger
}

// Driver is the sandbox driver.
type Driver struct {
	dir      string
	images   *image.Store
	log      *slog.Logger
	filter   []byte
	ids      ids
	cgroups  *cgroups
	spawner  *spawner
	network  *network.Network // nil where there is no way out: see wayOut
	uplink   *network.Uplink  // nil where the network is the machine's own
	wayOut   core.Shortcoming
	notice   string
	allowed  []directory
	doorway  *netns.Doorway
	slots    slots
	shelves  map[core.Network]*shelf
	starting sync.WaitGroup // calls of Start under way
	keeping  sync.WaitGroup // shelves
	watching sync.WaitGroup // instances
	stop     context.CancelFunc

	instances sync.Map // core.InstanceID to *instance

	mu    sync.Mutex
	past  []core.InstanceID // that ended, oldest first; still in instances
	left  map[core.InstanceID]*remnant
	ended bool
	stay  bool // detached instances go on without this driver
}

// keepEnded is how many instances that have ended can still be asked about.
const keepEnded = 1024

// Open makes ready to run sandboxes: it removes what a server that was killed
// has left with the same Dir (but for detached instances, see Left), and
// proves with a first sandbox that this machine can do it. The error says what
// is missing.
func Open(ctx context.Context, o Options) (*Driver, error) {
	if err := checkPermission(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &Driver{
		dir: o.Dir, images: o.Images, log: o.Log, notice: o.Notice,
		slots: slots{used: map[int]bool{}}, left: map[core.InstanceID]*remnant{}, shelves: map[core.Network]*shelf{},
	}
	if err := d.open(ctx, o.Directories); err != nil {
		return nil, errors.Join(err, d.Close(ctx))
	}
	prepared := o.Prepared
	if prepared == 0 {
		prepared = DefaultPrepared
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	for _, mode := range d.Capabilities().Networks {
		s := newShelf(d, mode, max(prepared, 0))
		d.shelves[mode] = s
		if prepared > 0 {
			d.keeping.Add(1)
			go s.keep(background, &d.keeping)
		}
	}
	return d, nil
}

func (d *Driver) open(ctx context.Context, allowed []core.HostDirectory) error {
	if err := os.MkdirAll(filepath.Join(d.dir, "instances"), 0o700); err != nil {
		return fmt.Errorf("make the driver's directory: %w", err)
	}
	state, err := userns.Here()
	if err != nil {
		return fmt.Errorf("find out what user ids there are: %w", err)
	}
	d.ids = idsIn(state)
	if d.filter, err = seccomp.Filter(); err != nil {
		return fmt.Errorf("find the system call filter: %w", err)
	}
	name := shortName(d.dir)
	if d.ids.plain {
		d.cgroups = openDelegated(name)
	} else if d.cgroups, err = openCgroups(name); err != nil {
		return err
	}
	if err := d.findLeft(ctx); err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, r := range d.left {
		kept[groupName(r.Slot)] = true
	}
	d.cgroups.sweep(func(name string) bool { return kept[name] })
	if d.doorway, err = netns.New(); err != nil {
		return err
	}
	if d.spawner, err = newSpawner(); err != nil {
		return err
	}
	if err := d.connect(ctx, name); err != nil {
		return err
	}
	d.reconnect(ctx)
	if err := d.openDirectories(allowed); err != nil {
		return err
	}
	return d.prove(ctx)
}

// connect opens the network. A plain user's server works without one.
func (d *Driver) connect(ctx context.Context, name string) error {
	config := network.Config{Name: name, Log: d.log}
	if !d.ids.plain || network.Owned() {
		if err := d.openNetwork(ctx, config); err != nil {
			return fmt.Errorf("set up the network of sandboxes: %w", err)
		}
		return nil
	}
	var err error
	if d.uplink, err = network.OpenUplink(ctx, d.dir, d.log); err == nil {
		config.Namespace, config.Apart = d.uplink.Namespace(), true
		err = d.openNetwork(ctx, config)
	}
	if err == nil {
		return nil
	}
	if d.uplink != nil {
		err = errors.Join(err, d.uplink.Close())
		d.uplink = nil
	}
	d.wayOut = noWayOut(err)
	return ctx.Err()
}

// noWayOut says why a plain user's sandboxes have no network.
func noWayOut(err error) core.Shortcoming {
	s := core.Shortcoming{Name: "network", Why: err.Error(), Remedy: "see to that and start the server again, or run it as root"}
	switch {
	case errors.Is(err, network.ErrNoPasta):
		s.Remedy = "install it (the package passt)"
	case errors.Is(err, network.ErrNoTun):
		s.Remedy = "let users open it: modprobe tun, and chmod 666 /dev/net/tun, which is its usual mode"
	}
	return s
}

// openNetwork opens the network with the addresses it had last time, if it
// can: detached instances have connections from theirs.
func (d *Driver) openNetwork(ctx context.Context, config network.Config) (err error) {
	path := filepath.Join(d.dir, "network")
	if last, err := os.ReadFile(path); err == nil {
		config.Range, _ = netip.ParsePrefix(string(last))
	}
	d.network, err = network.Open(ctx, config)
	if err != nil && config.Range.IsValid() && ctx.Err() == nil {
		config.Range = netip.Prefix{} // somebody else has them by now
		d.network, err = network.Open(ctx, config)
	}
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(d.network.Range().String()), 0o600); err != nil {
		d.log.Warn("the addresses of sandboxes could not be noted for the next server", slog.Any("error", err))
	}
	return nil
}

// prove makes a first sandbox, and finds out whether layers can have their
// ids mapped into its user namespace.
func (d *Driver) prove(ctx context.Context) error {
	b, err := d.prepare(ctx, core.NetworkNone)
	if err != nil {
		return core.Unavailable(core.ReasonStartFailed, err, "this machine cannot run sandboxes")
	}
	defer b.destroy()
	f, err := d.cloneLayer(d.dir, b.mapping())
	if err != nil && !d.ids.mapped {
		return core.Unavailable(core.ReasonStartFailed, err, "this machine cannot mount layers for a plain user")
	}
	if err != nil {
		d.ids = ids{count: uidsOfBox, groups: true}
		d.log.Warn("layers cannot have their ids mapped here (Linux 5.19 and a file system that allows it can): "+
			"sandboxes run without user namespaces, and root in an image becomes nobody", slog.Any("error", err))
		return d.proveDirectories(b)
	}
	_ = f.Close()
	return d.proveDirectories(b)
}

// shortName is the same for the same directory, and another for another.
func shortName(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	sum := sha256.Sum256([]byte(dir))
	return hex.EncodeToString(sum[:4])
}

// Close ends every instance but the detached ones, which it leaves to the next
// Open of the same Dir, and removes all that Open made. What waits for an
// instance that is left is told [core.ErrGone]. The second Close does nothing.
func (d *Driver) Close(ctx context.Context) error {
	d.mu.Lock()
	ended := d.ended
	d.ended = true
	d.mu.Unlock()
	if ended {
		return nil
	}
	if d.stop != nil {
		d.stop()
	}
	d.starting.Wait()
	d.keeping.Wait()
	stay := d.endAll()
	if d.doorway != nil {
		d.doorway.Close()
	}
	if d.spawner != nil {
		d.spawner.close()
	}
	d.closeDirectories()
	var err error
	if d.network != nil {
		if stay {
			d.log.Warn("the sandboxes' network stays up for detached instances")
		} else {
			err = d.network.Close(ctx)
		}
	}
	if d.uplink != nil {
		err = errors.Join(err, d.uplink.Close())
	}
	if d.cgroups != nil && !stay {
		d.cgroups.close()
	}
	return err
}

// endAll kills what is attached, lets go of what is detached, and reports
// whether there is such. Nothing starts any more.
func (d *Driver) endAll() (stay bool) {
	d.instances.Range(func(_, v any) bool {
		in, ok := v.(*instance)
		switch {
		case !ok:
		case in.state == nil:
			in.kill()
		default:
			in.letGo()
		}
		return true
	})
	d.watching.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, r := range d.left {
		d.stay = true
		r.unpin(d)
		delete(d.left, id)
	}
	return d.stay
}

// Start implements the port of internal/pool.
func (d *Driver) Start(ctx context.Context, spec core.InstanceSpec, stdio core.Stdio) (core.Instance, error) {
	began := time.Now()
	if err := d.begin(); err != nil {
		return core.Instance{}, err
	}
	defer d.starting.Done()
	root, err := d.images.Acquire(ctx, spec.Digest)
	if err != nil {
		return core.Instance{}, fmt.Errorf("find the image of %s/%s: %w", spec.App, spec.Function, err)
	}
	found := time.Now()
	in, err := d.fill(ctx, root, spec, stdio)
	if err != nil {
		d.images.Release(spec.Digest)
		return core.Instance{}, fmt.Errorf("start %s/%s: %w", spec.App, spec.Function, d.explain(err))
	}
	// Close waits for this call before it looks for instances.
	d.instances.Store(spec.ID, in)
	d.watching.Go(func() { in.watch(d) })
	out := d.describe(in)
	out.StartedAt = time.Now()
	out.Start = core.StartPhases{Image: found.Sub(began), Sandbox: out.StartedAt.Sub(found)}
	return out, nil
}

// begin counts a call that makes an instance, unless the driver closes; who
// got no error calls d.starting.Done.
func (d *Driver) begin() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return core.Unavailable(core.CodeUnavailable, nil, "the server is stopping")
	}
	d.starting.Add(1)
	return nil
}

// fill takes a box and starts the function in it.
func (d *Driver) fill(ctx context.Context, root image.Rootfs, spec core.InstanceSpec, stdio core.Stdio) (*instance, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	shelf := d.shelves[spec.Network]
	if shelf == nil && spec.Network != core.NetworkEgress {
		return nil, core.Invalid("the sandbox driver has no network %q", spec.Network)
	}
	if shelf == nil {
		return nil, core.Errorf(core.KindNotImplemented, core.CodeNotImplemented,
			"the network %q cannot be had here (%s): %s", spec.Network, d.wayOut.Why, d.wayOut.Remedy)
	}
	b, err := shelf.take(ctx)
	if err != nil {
		return nil, err
	}
	return d.start(ctx, b, root, spec, stdio)
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
	return &core.Error{Kind: core.KindInternal, Code: core.ReasonStartFailed, Message: "the sandbox could not be set up: " + err.Error(), Err: err}
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
		if in.parted() {
			return core.Exit{}, fmt.Errorf("instance %s is left to the next server: %w", id, core.ErrGone)
		}
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
	if grace > 0 && !in.isFrozen() {
		in.signal(d.stopSignal(in))
		in.awaitFor(ctx, grace)
	}
	if in.state != nil {
		in.killFunction()
		in.awaitFor(context.WithoutCancel(ctx), lastWords)
	}
	in.kill()
	// Killing is certain: the wait is for the kernel alone, and not bounded
	// by the caller's patience, since it promises that nothing is left.
	<-in.gone
	if in.parted() {
		return fmt.Errorf("instance %s is left to the next server: %w", id, core.ErrGone)
	}
	return nil
}

// lastWords is how long init of a detached instance, whose function has been
// killed, may take to write down what was printed.
const lastWords = 2 * time.Second

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
	now := in.box.usage()
	select {
	case <-in.ended:
		// The group may have been removed while it was looked at.
		return in.exit.Usage, nil
	default:
		return now, nil
	}
}

// ResetPeak makes the peak of memory that Usage tells one from now on. The
// error says that this kernel cannot (it can with the memory controller of
// cgroup version 1, and since Linux 6.12 with that of version 2).
func (d *Driver) ResetPeak(id core.InstanceID) error {
	in, err := d.live(id)
	if err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.released {
		return fmt.Errorf("instance %s has ended: %w", id, core.ErrGone)
	}
	return in.box.group.resetPeak()
}

// Freeze implements the port of internal/pool.
func (d *Driver) Freeze(ctx context.Context, id core.InstanceID) error {
	in, err := d.live(id)
	if err != nil {
		return err
	}
	if err := in.freeze(ctx); err != nil {
		return fmt.Errorf("freeze instance %s: %w", id, err)
	}
	return nil
}

// Thaw implements the port of internal/pool.
func (d *Driver) Thaw(_ context.Context, id core.InstanceID) error {
	in, err := d.live(id)
	if err != nil {
		return err
	}
	if err := in.thaw(); err != nil {
		return fmt.Errorf("thaw instance %s: %w", id, err)
	}
	return nil
}
