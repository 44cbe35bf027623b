package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/netns"
	"github.com/dayfly-io/dayfly/internal/socket"
)

// box is a container whose init runs and waits to be told what to start.
type box struct {
	id      string // of the container
	link    *link
	root    *os.File // root directory of the container; of a local engine
	netns   *os.File // likewise
	slot    int      // of our network, -1 for none
	address netip.Addr
}

// instance is a box with a function's process in it.
type instance struct {
	driver  *Driver
	spec    core.InstanceSpec
	image   string // id of its image
	config  core.ImageConfig
	box     *box
	sockets *socket.Dir
	streams sync.WaitGroup // what writes stdout and stderr
	spares  netns.Spares   // while nothing listens in it

	ended chan struct{} // closed when the process has ended and its output is through
	gone  chan struct{} // closed when nothing of it is left
	exit  core.Exit     // set before ended is closed

	mu       sync.Mutex
	released bool // the box is being given back; nobody may use its files
	frozen   bool
	killed   bool // by this driver
	seen     core.Usage
}

// boot makes a container and returns when its init runs. No code of the image
// has been executed by then.
func (d *Driver) boot(ctx context.Context, spec core.InstanceSpec, image found) (*box, error) {
	// The engine would go on with what nobody waits for: each step is waited for.
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	made, err := d.engine.api.ContainerCreate(work, d.options(spec, image))
	if err != nil {
		return nil, fmt.Errorf("make the container: %w", err)
	}
	b := &box{id: made.ID, slot: -1}
	stream, err := d.engine.api.ContainerAttach(work, b.id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		d.scrap(ctx, b)
		return nil, fmt.Errorf("attach to the container: %w", err)
	}
	b.link = join(stream.HijackedResponse)
	go b.link.run() // until the container ends, or the link is closed
	if _, err := d.engine.api.ContainerStart(work, b.id, client.ContainerStartOptions{}); err != nil {
		d.scrap(ctx, b)
		return nil, fmt.Errorf("start the container: %w", err)
	}
	select {
	case <-b.link.hello:
		return b, nil
	case <-b.link.done:
		err = fmt.Errorf("the container's init has ended at once: %w", b.link.err)
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-work.Done():
		err = errors.New("the container's init does not answer")
	}
	d.scrap(ctx, b)
	return nil, err
}

// approach opens the way to a container of a local engine.
func (d *Driver) approach(ctx context.Context, b *box) error {
	res, err := d.engine.api.ContainerInspect(ctx, b.id, client.ContainerInspectOptions{})
	if err != nil {
		return fmt.Errorf("ask for the process of a container: %w", err)
	}
	if res.Container.State == nil || res.Container.State.Pid <= 0 || len(res.Container.Args) == 0 {
		return errors.New("the engine tells no process of a container")
	}
	dir := "/proc/" + strconv.Itoa(res.Container.State.Pid)
	if b.netns, err = os.Open(dir + "/ns/net"); err != nil {
		return err
	}
	if b.root, err = os.OpenFile(dir+"/root", unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		return err //nolint:wrapcheck // it names the file
	}
	// The number may be that of another process by now, or on another machine:
	// init was given the instance's id as an argument, and is process 1 of its
	// namespace for as long as we hear it.
	line, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		return err
	}
	if string(line) != initDir+"/init\x00"+res.Container.Args[0]+"\x00" {
		return fmt.Errorf("process %d is another one here", res.Container.State.Pid)
	}
	fd, err := d.doorway.Socket(ctx, int(b.netns.Fd()), unix.AF_INET)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// scrap removes a container and all that belongs to it.
func (d *Driver) scrap(ctx context.Context, b *box) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if b.link != nil {
		_ = b.link.send(frameQuit, 0, nil)
		b.link.close()
		<-b.link.done
	}
	b.letGo(d)
	if err := d.engine.remove(ctx, b.id); err != nil {
		d.log.Warn("a container could not be removed; the next start of the server does", slog.String("container", b.id), slog.Any("error", err))
	}
}

func (b *box) letGo(d *Driver) {
	if b.slot >= 0 {
		d.network.Detach(b.slot)
		d.slots.free(b.slot)
		b.slot = -1
	}
	for _, f := range []*os.File{b.root, b.netns} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// connect gives a container of a local engine its way out.
func (d *Driver) connect(ctx context.Context, b *box) error {
	b.slot = d.slots.take(d.network.Slots())
	if b.slot < 0 {
		return core.Unavailable(core.CodeUnavailable, nil, "all %d addresses of the functions' network are in use", d.network.Slots())
	}
	link, err := d.network.Attach(ctx, int(b.netns.Fd()), b.slot)
	if err != nil {
		return err
	}
	b.address = link.Address
	return nil
}

func (d *Driver) start(ctx context.Context, spec core.InstanceSpec, image found, stdio core.Stdio) (*instance, error) {
	p, err := d.process(spec, image.config)
	if err != nil {
		return nil, err
	}
	p.stdin = stdio.Stdin != nil
	in := &instance{driver: d, spec: spec, image: image.id, config: image.config, ended: make(chan struct{}), gone: make(chan struct{})}
	if in.box, err = d.boot(ctx, spec, image); err == nil {
		if err = in.launch(ctx, p, stdio); err != nil {
			d.scrap(ctx, in.box)
			in.streams.Wait()
		}
	}
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		if errdefs.IsNotFound(err) {
			d.images.Delete(spec.Digest) // it was there once
		}
		return nil, explain(spec, p, err)
	}
	return in, nil
}

// launch has init start the function's process. After an error the box is to be
// scrapped.
func (in *instance) launch(ctx context.Context, p process, stdio core.Stdio) error {
	d, b := in.driver, in.box
	if d.local {
		if err := d.approach(ctx, b); err != nil {
			return err
		}
		if in.spec.Network == core.NetworkEgress && d.network != nil {
			if err := d.connect(ctx, b); err != nil {
				return err
			}
		}
		if err := in.openSockets(); err != nil {
			return err
		}
	}
	for id, w := range map[int]io.Writer{channelStdout: stdio.Stdout, channelStderr: stdio.Stderr} {
		if w == nil {
			w = io.Discard
		}
		in.streams.Go(func() { _ = b.link.std[id].pump(w) })
	}
	stdin := b.link.std[channelStdin]
	if err := b.link.send(frameConfig, 0, p.encode()); err != nil {
		return err
	}
	select {
	case err := <-b.link.started:
		if err != nil {
			return err
		}
	case <-b.link.done:
		return fmt.Errorf("the container has ended: %w", b.link.err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if stdio.Stdin != nil {
		// Nobody waits for it: it ends when stdin does, or with a write after
		// the process has.
		go func() {
			_, _ = stdin.ReadFrom(stdio.Stdin)
			_ = b.link.send(frameEnd, channelStdin, nil)
		}()
	}
	return nil
}

// openSockets opens the directory in which the function makes its sockets. It
// is a file system of its own, made by the runtime beneath the image's root; no
// link of the image is followed.
func (in *instance) openSockets() error {
	if in.spec.SocketDir == "" {
		return nil
	}
	fd, err := unix.Openat2(int(in.box.root.Fd()), strings.TrimPrefix(in.spec.SocketDir, "/"), &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return fmt.Errorf("open the directory of sockets: %w", err)
	}
	in.sockets = socket.NewDir(os.NewFile(uintptr(fd), in.spec.SocketDir))
	return nil
}

// watch waits for the end of the process and takes everything down.
func (in *instance) watch(ctx context.Context, d *Driver) {
	l := in.box.link
	exit := in.awaitExit(ctx)
	in.streams.Wait()
	exit.At = time.Now()
	in.exit = exit
	close(in.ended)
	in.mu.Lock()
	in.released = true
	in.mu.Unlock()
	in.spares.Close()
	if in.sockets != nil {
		_ = in.sockets.Close()
	}
	_ = l.send(frameQuit, 0, nil)
	<-l.done // with init all connections into the container end
	l.close()
	in.box.letGo(d)
	work, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// The engine removes it by itself; that it has is what we wait for.
	if err := d.engine.awaitRemoval(work, in.box.id); err != nil {
		err = d.engine.remove(ctx, in.box.id)
		if err != nil {
			d.log.Warn("a container could not be removed; the next start of the server does", slog.String("container", in.box.id), slog.Any("error", err))
		}
	}
	d.forget(in)
	close(in.gone)
}

// awaitExit waits for init's report, or for its end without one.
func (in *instance) awaitExit(ctx context.Context) core.Exit {
	l := in.box.link
	var r report
	select {
	case r = <-l.exit:
	case <-l.done:
		select {
		case r = <-l.exit:
		default:
			return in.lost(ctx)
		}
	}
	exit := core.Exit{Code: r.code, Signal: r.signal, Usage: r.usage}
	exit.OOM = !in.wasKilled() && exit.ByOOM(r.usage.OOMKills)
	return exit
}

// lost tells how an instance ended of which init can tell no more.
func (in *instance) lost(ctx context.Context) core.Exit {
	usage := in.last()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if in.wasKilled() {
		_ = in.driver.engine.remove(ctx, in.box.id)
		return core.Exit{Code: 128 + int(syscall.SIGKILL), Signal: int(syscall.SIGKILL), Usage: usage}
	}
	exit := core.Exit{Lost: true, Code: 255, Usage: usage}
	res, err := in.driver.engine.api.ContainerInspect(ctx, in.box.id, client.ContainerInspectOptions{})
	if err == nil && res.Container.State != nil && !res.Container.State.Running {
		s := res.Container.State
		exit = core.Exit{Code: s.ExitCode, OOM: s.OOMKilled, Usage: usage}
		if s.ExitCode > 128 {
			exit.Signal = s.ExitCode - 128
		}
	}
	_ = in.driver.engine.remove(ctx, in.box.id)
	return exit
}

func (in *instance) hasEnded() bool {
	select {
	case <-in.ended:
		return true
	default:
		return false
	}
}

func (in *instance) hasGone() bool {
	select {
	case <-in.gone:
		return true
	default:
		return false
	}
}

func (in *instance) wasKilled() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.killed
}

// last gives what was learned last of what the instance uses.
func (in *instance) last() core.Usage {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.seen
}

func (in *instance) stopSignal() syscall.Signal {
	name := in.config.StopSignal
	if n, err := strconv.Atoi(name); err == nil && n > 0 && n <= 64 {
		return syscall.Signal(n)
	}
	if s := unix.SignalNum(name); s != 0 {
		return s
	}
	if s := unix.SignalNum("SIG" + name); s != 0 {
		return s
	}
	return syscall.SIGTERM
}

func (in *instance) signal(s syscall.Signal) { _ = in.box.link.send(frameSignal, uint32(s), nil) }

func (in *instance) isFrozen() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.frozen
}

// awaitFor waits until the process has ended, for so long at the most.
func (in *instance) awaitFor(ctx context.Context, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-in.ended:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// lastWords is how long init may take to tell of the end of a process that it
// was asked to kill. It does more than the engine would: it passes on what was
// printed, and says what was used.
const lastWords = 2 * time.Second

// kill ends every process of the instance.
func (in *instance) kill() {
	in.mu.Lock()
	if in.released {
		in.mu.Unlock()
		return
	}
	in.killed = true
	frozen := in.frozen
	in.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience) //nolint:forbidigo // nobody's patience bounds it
	defer cancel()
	if !frozen {
		in.signal(syscall.SIGKILL)
		in.awaitFor(ctx, lastWords)
	}
	if in.hasEnded() {
		return
	}
	if err := in.driver.engine.remove(ctx, in.box.id); err != nil {
		in.driver.log.Warn("a container could not be removed", slog.String("container", in.box.id), slog.Any("error", err))
		in.box.link.close() // init ends when it hears nothing more
	}
}

// drain returns when all that was printed has been written.
func (in *instance) drain() {
	l := in.box.link
	if in.isFrozen() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience) //nolint:forbidigo // the port has no context
	defer cancel()
	if _, err := l.ask(ctx, frameDrain); err != nil {
		return // all there is comes with its end
	}
	l.std[channelStdout].drain()
	l.std[channelStderr].drain()
}

// usage asks init, or the engine while init is frozen.
func (in *instance) usage() core.Usage {
	ctx, cancel := context.WithTimeout(context.Background(), patience) //nolint:forbidigo // the port has no context
	defer cancel()
	now, ok := in.ask(ctx)
	if in.hasEnded() {
		return in.exit.Usage
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if ok {
		now.CPU = max(now.CPU, in.seen.CPU)
		now.PeakMemory = max(now.PeakMemory, in.seen.PeakMemory)
		now.OOMKills = max(now.OOMKills, in.seen.OOMKills)
		in.seen = now
	}
	return in.seen
}

func (in *instance) ask(ctx context.Context) (core.Usage, bool) {
	if in.isFrozen() {
		return in.askEngine(ctx)
	}
	data, err := in.box.link.ask(ctx, frameUsage)
	if err != nil {
		return core.Usage{}, false
	}
	r, err := decodeReport(data)
	return r.usage, err == nil
}

func (in *instance) askEngine(ctx context.Context) (core.Usage, bool) {
	res, err := in.driver.engine.api.ContainerStats(ctx, in.box.id, client.ContainerStatsOptions{})
	if err != nil {
		return core.Usage{}, false
	}
	defer func() { _ = res.Body.Close() }()
	var s container.StatsResponse
	if err := json.NewDecoder(res.Body).Decode(&s); err != nil {
		return core.Usage{}, false
	}
	return core.Usage{
		CPU: time.Duration(s.CPUStats.CPUUsage.TotalUsage), Throttled: time.Duration(s.CPUStats.ThrottlingData.ThrottledTime),
		Memory: core.Bytes(s.MemoryStats.Usage), PeakMemory: core.Bytes(s.MemoryStats.MaxUsage),
	}, true
}

// pauseTries is how often more it is tried to pause a container.
const pauseTries = 3

func (in *instance) pause(ctx context.Context, on bool) (err error) {
	if on {
		_, err = in.driver.engine.api.ContainerPause(ctx, in.box.id, client.ContainerPauseOptions{})
	} else {
		_, err = in.driver.engine.api.ContainerUnpause(ctx, in.box.id, client.ContainerUnpauseOptions{})
	}
	return err //nolint:wrapcheck // the caller's
}

// setFrozen pauses the container or lets it go on.
func (in *instance) setFrozen(ctx context.Context, on bool) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.released {
		return gone(in.spec.ID)
	}
	if in.frozen == on {
		return nil
	}
	ctx = context.WithoutCancel(ctx) // the engine would do it nevertheless
	err := in.pause(ctx, on)
	// runc gives up on a process that is busy with the freezer of cgroup v1.
	for try := 0; err != nil && try < pauseTries && !in.hasEnded(); try++ {
		err = in.pause(ctx, on)
	}
	if in.hasEnded() {
		return gone(in.spec.ID)
	}
	if err != nil {
		return fmt.Errorf("pause instance %s, or let it go on: %w", in.spec.ID, err)
	}
	in.frozen = on
	return nil
}
