package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/client"
	"github.com/moby/profiles/seccomp"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/netns"
	"github.com/dayfly-io/dayfly/internal/sandbox/network"
)

// Options says how the driver works.
type Options struct {
	// Dir is a directory of the driver's own.
	Dir string
	// Host is where the engine is, as DOCKER_HOST names it; "" for DOCKER_HOST
	// or else the usual socket. DOCKER_TLS_VERIFY and DOCKER_CERT_PATH are heeded.
	Host string
	// Log takes what goes wrong where no caller waits; nil means none.
	Log *slog.Logger
}

// Driver is the docker driver.
type Driver struct {
	engine  *engine
	log     *slog.Logger
	local   bool   // the engine's processes are in sight, and can be reached
	far     string // why not, as a clause
	ipv6    bool   // the engine's machine has it
	network *network.Network
	slots   slotList
	doorway *netns.Doorway
	images  sync.Map // digest to found: what cannot change
	used    sync.Map // digest to when an instance of it was last started

	starting sync.WaitGroup // calls of Start under way
	watching sync.WaitGroup // instances

	instances sync.Map // core.InstanceID to *instance

	mu    sync.Mutex
	past  []core.InstanceID // that ended, oldest first; still in instances
	ended bool
}

// keepEnded is how many instances that have ended can still be asked about.
const keepEnded = 1024

// Open connects to the engine, removes what a server that was killed has left
// there with the same Dir, and proves with a first container that it can run
// functions. The error says what is missing.
func Open(ctx context.Context, o Options) (*Driver, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the driver's directory: %w", err)
	}
	id, err := dataID(o.Dir)
	if err != nil {
		return nil, err
	}
	api, at, err := dial(ctx, o.Host)
	if err != nil {
		return nil, err
	}
	filter, err := json.Marshal(seccomp.DefaultProfile())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write down the profile of system calls: %w", err), api.Close())
	}
	d := &Driver{log: o.Log, engine: &engine{api: api, name: "dayfly-" + id, filter: string(filter), log: o.Log}}
	if err := d.open(ctx, at, id); err != nil {
		return nil, errors.Join(err, d.Close(ctx))
	}
	return d, nil
}

func (d *Driver) open(ctx context.Context, at, id string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	version, err := d.engine.api.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return fmt.Errorf("ask the Docker engine for its version: %w", err)
	}
	d.engine.arch = version.Arch
	if err := d.engine.sweep(ctx); err != nil {
		return err
	}
	if err := d.engine.bringInit(ctx); err != nil {
		return err
	}
	if err := d.prove(ctx, at); err != nil {
		return err
	}
	if d.local {
		d.network, err = network.Open(ctx, network.Config{Name: id[:8], Log: d.log})
		if err != nil {
			d.far = "the network of functions could not be made (" + err.Error() + ")"
		}
	}
	if d.network == nil {
		return d.engine.makeNetwork(ctx)
	}
	return nil
}

// prove starts a first container, of nothing but init, and finds out whether we
// see its process: then the engine is on this machine, and we can step into the
// container's network.
func (d *Driver) prove(ctx context.Context, at string) error {
	spec := core.InstanceSpec{ID: 1, Function: "init", Memory: 16 * core.MiB, CPU: core.DefaultCPU, Pids: 8, Files: 64, Network: core.NetworkNone}
	d.ipv6 = true
	c, err := d.boot(ctx, spec, found{id: d.engine.init})
	if err != nil && strings.Contains(err.Error(), "ipv6") {
		d.ipv6 = false
		c, err = d.boot(ctx, spec, found{id: d.engine.init})
	}
	if err != nil {
		return core.Unavailable(core.ReasonStartFailed, err, "the Docker engine at %s cannot run containers of functions", at)
	}
	defer d.scrap(ctx, c)
	switch {
	case !strings.HasPrefix(at, "unix:"):
		d.far = "the engine is reached by " + at + " and not by a Unix socket of this machine"
	case os.Geteuid() != 0:
		d.far = "the server does not run as root"
	default:
		d.doorway, err = netns.New()
		if err != nil {
			d.far = "the server cannot enter network namespaces (" + err.Error() + ")"
			return nil
		}
		if err := d.approach(ctx, c); err != nil {
			d.far = "the processes of the engine at " + at + " are not in sight (" + err.Error() + ")"
			return nil
		}
		d.local = true
	}
	return nil
}

// Close ends every instance and removes all that Open made. The second Close
// does nothing.
func (d *Driver) Close(ctx context.Context) error {
	d.mu.Lock()
	ended := d.ended
	d.ended = true
	d.mu.Unlock()
	if ended {
		return nil
	}
	d.starting.Wait()
	d.instances.Range(func(_, v any) bool {
		if in, ok := v.(*instance); ok {
			in.kill()
		}
		return true
	})
	d.watching.Wait()
	if d.doorway != nil {
		d.doorway.Close()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	var err error
	if d.network != nil {
		err = d.network.Close(ctx)
	}
	return errors.Join(err, d.engine.sweep(ctx), d.engine.api.Close())
}

// begin counts a call of Start, unless the driver closes; who got no error
// calls d.starting.Done.
func (d *Driver) begin() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return core.Unavailable(core.CodeUnavailable, nil, "the server is stopping")
	}
	d.starting.Add(1)
	return nil
}

// Start implements the port of internal/pool.
func (d *Driver) Start(ctx context.Context, spec core.InstanceSpec, stdio core.Stdio) (core.Instance, error) {
	began := time.Now()
	if err := d.begin(); err != nil {
		return core.Instance{}, err
	}
	defer d.starting.Done()
	if ctx.Err() != nil {
		return core.Instance{}, fmt.Errorf("start %s/%s: %w", spec.App, spec.Function, context.Cause(ctx))
	}
	image, err := d.imageOf(ctx, spec.Digest)
	if err != nil {
		return core.Instance{}, fmt.Errorf("find the image of %s/%s: %w", spec.App, spec.Function, err)
	}
	found := time.Now()
	in, err := d.start(ctx, spec, image, stdio)
	if err != nil {
		return core.Instance{}, fmt.Errorf("start %s/%s: %w", spec.App, spec.Function, err)
	}
	// Close waits for this call before it looks for instances.
	d.instances.Store(spec.ID, in)
	d.watching.Go(func() { in.watch(context.WithoutCancel(ctx), d) })
	now := time.Now()
	return core.Instance{
		ID: spec.ID, App: spec.App, Function: spec.Function, Version: spec.Version, Driver: Name,
		State: core.InstanceStarting, Memory: spec.Memory, StartedAt: now,
		Start: core.StartPhases{Image: found.Sub(began), Sandbox: now.Sub(found)},
	}, nil
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
		return nil, gone(id)
	default:
		return in, nil
	}
}

// instancesOf counts the instances of an image of which something is left.
func (d *Driver) instancesOf(id string) (n int) {
	d.instances.Range(func(_, v any) bool {
		if in, ok := v.(*instance); ok && in.image == id && !in.hasGone() {
			n++
		}
		return true
	})
	return n
}

func gone(id core.InstanceID) error {
	return fmt.Errorf("instance %s has ended: %w", id, core.ErrGone)
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
	if grace > 0 && !in.isFrozen() {
		in.signal(in.stopSignal())
		in.awaitFor(ctx, grace)
	}
	in.kill()
	// Killing is certain: the wait is for the kernel and the engine, and not
	// bounded by the caller's patience, since it promises that nothing is left.
	<-in.gone
	return nil
}

// Drain implements the port of internal/pool.
func (d *Driver) Drain(id core.InstanceID) error {
	in, err := d.find(id)
	if err != nil {
		return err
	}
	in.drain()
	return nil
}

// Usage implements the port of internal/pool.
func (d *Driver) Usage(id core.InstanceID) (core.Usage, error) {
	in, err := d.find(id)
	if err != nil {
		return core.Usage{}, err
	}
	return in.usage(), nil
}

// Freeze implements the port of internal/pool. What the process has printed
// before is written first; what it prints until it is frozen, after the thaw.
func (d *Driver) Freeze(ctx context.Context, id core.InstanceID) error {
	return d.setFrozen(ctx, id, true)
}

// Thaw implements the port of internal/pool.
func (d *Driver) Thaw(ctx context.Context, id core.InstanceID) error {
	return d.setFrozen(ctx, id, false)
}

func (d *Driver) setFrozen(ctx context.Context, id core.InstanceID, on bool) error {
	in, err := d.live(id)
	if err != nil {
		return err
	}
	if on {
		in.drain()
	}
	return in.setFrozen(ctx, on)
}

// slotList gives out the numbers of network addresses.
type slotList struct {
	mu   sync.Mutex
	used map[int]bool
	next int
}

// take gives a number below limit that is not taken, -1 when all are.
func (s *slotList) take(limit int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range limit {
		n := s.next % limit
		s.next++
		if !s.used[n] {
			if s.used == nil {
				s.used = map[int]bool{}
			}
			s.used[n] = true
			return n
		}
	}
	return -1
}

func (s *slotList) free(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.used, n)
}
