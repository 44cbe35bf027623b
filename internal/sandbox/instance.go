package sandbox

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image"
	"github.com/dayfly-io/dayfly/internal/netns"
	"github.com/dayfly-io/dayfly/internal/socket"
)

// instance is a box with a function's process in it.
type instance struct {
	spec    core.InstanceSpec
	box     *box
	root    image.Rootfs
	pumps   []*pump
	feeding sync.WaitGroup
	adopted bool
	state   *stateDir // of a detached one

	death  *os.File // of an adopted one that lives: readable when init has ended
	pinned bool     // the image is held for it

	spares netns.Spares // while nothing listens in it

	ended chan struct{} // closed when the process has ended and its output is through
	gone  chan struct{} // closed when nothing of it is left
	exit  core.Exit     // set before ended is closed

	mu       sync.Mutex
	released bool // the box is being given back; nobody may use its files
	frozen   bool
	killed   bool // the process, by this driver
	left     bool // it goes on without this driver, see letGo
}

// start fills the box with the function and starts its process.
func (d *Driver) start(ctx context.Context, b *box, root image.Rootfs, spec core.InstanceSpec, stdio core.Stdio) (*instance, error) {
	in := &instance{spec: spec, box: b, root: root, pinned: true, ended: make(chan struct{}), gone: make(chan struct{})}
	cfg, err := d.process(root, spec, b)
	if err == nil {
		err = in.launch(ctx, d, cfg, stdio)
	}
	if err != nil {
		// Once the box is destroyed nothing tells of it any more.
		oom := b.group.oom() || errors.Is(err, errMemoryInUse)
		b.destroy()
		in.endPumps()
		if in.state != nil {
			_ = os.RemoveAll(in.state.path)
		}
		if oom {
			return nil, tooSmall(spec, err)
		}
		return nil, d.startError(spec, cfg, err)
	}
	b.exempt()
	return in, nil
}

// launch hands init all that it needs, and waits until it has started the
// process. After an error the box is to be destroyed.
func (in *instance) launch(ctx context.Context, d *Driver, cfg *config, stdio core.Stdio) error {
	b, spec := in.box, &in.spec
	if err := b.group.limit(limits{spec.Memory, spec.CPU, cmp.Or(spec.CPUWeight, core.DefaultCPUWeight), spec.Pids}); err != nil {
		return err
	}
	var files open
	defer files.close()
	var err error
	if spec.Detached {
		err = in.joinFiles(d, &files, cfg, stdio)
	} else {
		err = in.joinPipes(&files, stdio)
	}
	if err != nil {
		return err
	}
	for _, dir := range in.root.Layers {
		f, err := d.cloneLayer(dir, b.mapping())
		if err != nil {
			return err
		}
		files.add(f)
	}
	if err := b.mountDirectories(&files, cfg, spec.Mounts); err != nil {
		return err
	}
	memory, err := sealed("config", cfg.encode())
	if err != nil {
		return err
	}
	files.files = append([]*os.File{memory}, files.files...)
	if err := b.ctl.request(kindGo, 0, files.fds()...); err != nil {
		return err
	}
	files.close() // the pipes must end with the process
	in.runPumps()
	r, sockets, err := b.ctl.await(ctx, startTimeout)
	if sockets != nil {
		b.sockets = socket.NewDir(sockets)
	}
	if err == nil && (r.Kind != kindStarted || (sockets != nil) != (spec.SocketDir != "")) {
		err = errors.New("init said something else than that the process has started")
	}
	return err
}

func (in *instance) runPumps() {
	for _, p := range in.pumps {
		p.running = true
		go p.run()
	}
}

// endPumps returns when nothing writes to the instance's streams any more. Its
// processes have ended.
func (in *instance) endPumps() {
	for _, p := range in.pumps {
		if !p.running {
			p.drop()
		}
		<-p.done
	}
}

// open is a list of files that go to init and are closed here.
type open struct{ files []*os.File }

func (o *open) add(f ...*os.File) { o.files = append(o.files, f...) }

func (o *open) fds() []int {
	out := make([]int, len(o.files))
	for i, f := range o.files {
		out[i] = int(f.Fd())
	}
	return out
}

func (o *open) close() {
	for _, f := range o.files {
		_ = f.Close()
	}
	o.files = nil
}

func (in *instance) joinPipes(files *open, stdio core.Stdio) error {
	stdin, err := feed(stdio.Stdin, &in.feeding)
	if err != nil {
		return err
	}
	files.add(stdin)
	for _, w := range []io.Writer{stdio.Stdout, stdio.Stderr} {
		p, theirs, err := newPump(w)
		if err != nil {
			return err
		}
		in.pumps = append(in.pumps, p)
		files.add(theirs)
	}
	// Directory and lock are a detached one's; init ignores these two.
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	again, err := os.Open(os.DevNull)
	if err != nil {
		_ = null.Close()
		return err
	}
	files.add(null, again)
	return nil
}

// cloneLayer gives a detached mount of a layer's directory, in which ids are
// those of the user namespace.
func (d *Driver) cloneLayer(dir string, userns *os.File) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_NO_AUTOMOUNT)
	if err != nil {
		return nil, &os.PathError{Op: "clone the mount of", Path: dir, Err: err}
	}
	f := os.NewFile(uintptr(fd), dir)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID}
	if userns != nil {
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(userns.Fd())
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		_ = f.Close()
		return nil, &os.PathError{Op: "map the ids of", Path: dir, Err: err}
	}
	return f, nil
}

// startError says what a failed start means to the owner of the function.
func (d *Driver) startError(spec core.InstanceSpec, cfg *config, err error) error {
	step, ok := errors.AsType[*stepError](err)
	if !ok {
		return err
	}
	name := spec.App + "/" + spec.Function
	explain := func(code core.Code, text string) error {
		return &core.Error{Kind: core.KindFunction, Code: code, Message: text, Err: err}
	}
	program := cfg.args[0]
	switch {
	case step.step == "exec" && step.err == syscall.E2BIG:
		return explain(core.ReasonStartFailed, "the arguments and environment of "+name+
			" are larger than the kernel takes: 128 KiB for each, 2 MiB for all")
	case step.step == "exec" && (step.err == syscall.ENOENT || step.err == syscall.ENOTDIR):
		return explain(core.ReasonStartFailed, "the image of "+name+" has no program "+program+
			" (or the interpreter that it names is missing): check entrypoint, cmd and command")
	case step.step == "exec" && step.err == syscall.EACCES:
		return explain(core.ReasonStartFailed, "the program "+program+" in the image of "+name+" may not be executed: check its mode")
	case step.step == "exec" && step.err == syscall.ENOEXEC:
		return explain(core.ReasonImageUnsupported, "the program "+program+" in the image of "+name+
			" is not one that this machine can execute: it is for another architecture, or a script without a #! line")
	case step.step == "attach a directory of the host" && step.which < len(spec.Mounts):
		return explain(core.ReasonStartFailed, mountRefused(name, spec.Mounts[step.which], step.err))
	case step.step == "enter the working directory":
		return explain(core.ReasonStartFailed, "the working directory "+cfg.dir+" of the image of "+name+" cannot be entered: "+step.err.Error())
	case step.err == syscall.ENOMEM:
		return tooSmall(spec, err)
	}
	return explain(core.ReasonStartFailed, "the sandbox of "+name+" could not be set up: "+step.Error())
}

// tooSmall says that a start failed for memory.
func tooSmall(spec core.InstanceSpec, err error) error {
	return &core.Error{Kind: core.KindFunction, Code: core.ReasonOOMKilled, Err: err, Message: "the memory limit " + spec.Memory.String() +
		" of " + spec.App + "/" + spec.Function + " is too small to start it: raise memory"}
}

// watch waits for the end of the process and takes everything down.
func (in *instance) watch(d *Driver) {
	exit := in.awaitExit()
	in.mu.Lock()
	left := in.left
	in.mu.Unlock()
	if left {
		in.part(d)
		return
	}
	in.box.reap()
	in.endPumps()
	if in.state != nil {
		exit = in.state.exit(exit)
	}
	exit.Usage = in.box.wholeUsage()
	exit.OOM = !in.wasKilled() && exit.ByOOM(exit.Usage.OOMKills)
	exit.At = time.Now()
	if in.state != nil {
		in.state.copyOut()
	}
	in.exit = exit
	close(in.ended)
	in.mu.Lock()
	in.released = true
	in.mu.Unlock()
	in.close()
	in.box.release()
	in.unpin(d)
	d.forget(in)
	close(in.gone)
}

// part leaves a detached instance to the next server.
func (in *instance) part(d *Driver) {
	in.mu.Lock()
	in.released = true
	in.mu.Unlock()
	in.close()
	in.box.forget()
	in.unpin(d)
	d.instances.Delete(in.spec.ID)
	d.mu.Lock()
	d.stay = true
	d.mu.Unlock()
	close(in.ended)
	close(in.gone)
}

func (in *instance) close() {
	in.spares.Close()
	if in.death != nil {
		_ = in.death.Close()
	}
}

func (in *instance) unpin(d *Driver) {
	if in.pinned {
		d.images.Release(in.spec.Digest)
	}
}

// letGo makes watch leave the instance as it is. What has ended by then, but
// has not been told yet, the next server tells.
func (in *instance) letGo() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.left = true
	switch {
	case in.released:
	case in.death != nil:
		_ = in.death.SetReadDeadline(time.Unix(1, 0))
	case in.box.ctl.conn != nil:
		in.box.ctl.interrupt()
	}
}

// awaitExit waits for init's report, or for its end without one, or until the
// instance is let go.
func (in *instance) awaitExit() core.Exit {
	lost := core.Exit{Lost: true, Code: 255}
	killed := core.Exit{Code: 128 + int(syscall.SIGKILL), Signal: int(syscall.SIGKILL)}
	if in.adopted {
		if in.death != nil {
			awaitEnd(in.death)
		}
		in.mu.Lock()
		defer in.mu.Unlock()
		if in.killed {
			return killed
		}
		return lost
	}
	in.mu.Lock()
	if in.left {
		in.mu.Unlock()
		return lost
	}
	_ = in.box.ctl.conn.SetReadDeadline(time.Time{})
	in.mu.Unlock()
	for {
		r, err := in.box.ctl.read()
		switch {
		case err != nil: // killed as a whole
			return killed
		case r.Kind == kindExited:
			return core.Exit{Code: int(r.Code), Signal: int(r.Signal)}
		}
	}
}

// awaitEnd waits until the process of a pidfd that does not block has ended,
// or the file's deadline.
func awaitEnd(pidfd *os.File) {
	if raw, err := pidfd.SyscallConn(); err == nil {
		_ = raw.Read(func(fd uintptr) bool { return pidEnded(int(fd)) })
	}
}

// hasEnded reports whether the process of a pidfd has ended. It does not
// change the mode of the file, as Fd would.
func hasEnded(pidfd *os.File) (ended bool) {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return true
	}
	err = raw.Control(func(fd uintptr) { ended = pidEnded(int(fd)) })
	return ended || err != nil
}

// pidEnded reports whether the process of a pidfd has ended (pidfd_open(2)).
func pidEnded(pidfd int) bool {
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
}

// parted reports whether the instance was left to the next server. It is
// known once ended is closed.
func (in *instance) parted() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.left && in.exit.At.IsZero()
}

func (in *instance) isFrozen() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.frozen
}

// signal asks init to pass a signal on to the function's process.
func (in *instance) signal(s syscall.Signal) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.released {
		return
	}
	if in.box.ctl.conn == nil {
		_ = unix.PidfdSendSignal(in.box.pidfd, s, nil, 0)
		return
	}
	_ = in.box.ctl.request(kindSignal, uint32(s))
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

// killFunction kills every process of a detached instance but init, which has
// yet to write down the exit, and what is in the pipes.
func (in *instance) killFunction() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.released {
		return
	}
	in.killed = true
	for _, pid := range in.box.group.processes() {
		if pid == in.box.pid {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it has ended
		}
		// The number may have become another's before it was opened.
		if slices.Contains(in.box.group.processes(), pid) {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		_ = unix.Close(fd)
	}
	if in.frozen {
		in.frozen = false
		_ = in.box.group.setFrozen(false)
	}
}

func (in *instance) wasKilled() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.killed
}

// kill ends every process of the instance.
func (in *instance) kill() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.released {
		return
	}
	in.killed = true
	if in.box.group.kill() != nil {
		_ = unix.PidfdSendSignal(in.box.pidfd, unix.SIGKILL, nil, 0)
	}
}
