package sandbox

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image"
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

	ended chan struct{} // closed when the process has ended and its output is through
	gone  chan struct{} // closed when nothing of it is left
	exit  core.Exit     // set before ended is closed

	mu       sync.Mutex
	released bool // the box is being given back; nobody may use its files
}

// start fills the box with the function and starts its process.
func (d *Driver) start(ctx context.Context, b *box, root image.Rootfs, spec core.InstanceSpec, stdio core.Stdio) (*instance, error) {
	in := &instance{spec: spec, box: b, root: root, ended: make(chan struct{}), gone: make(chan struct{})}
	cfg, err := d.process(root, spec, b)
	if err != nil {
		return nil, err
	}
	if err := b.group.limit(limits{spec.Memory, spec.CPU, spec.Pids}); err != nil {
		return nil, err
	}
	var files open
	defer files.close()
	if spec.Detached {
		err = in.joinFiles(d, &files, cfg, stdio)
	} else {
		err = in.joinPipes(&files, stdio)
	}
	if err != nil {
		return nil, err
	}
	for _, dir := range root.Layers {
		f, err := d.cloneLayer(dir, b.userns)
		if err != nil {
			return nil, err
		}
		files.add(f)
	}
	memory, err := sealed("config", cfg.encode())
	if err != nil {
		return nil, err
	}
	files.files = append([]*os.File{memory}, files.files...)
	if err := b.ctl.request(kindGo, 0, files.fds()...); err != nil {
		return nil, err
	}
	for _, p := range in.pumps {
		go p.run()
	}
	files.close() // the pipes must end with the process
	r, err := b.ctl.await(deadlineOf(ctx, startTimeout))
	if err == nil && r.Kind != kindStarted {
		err = errors.New("init said something else than that the process has started")
	}
	if err != nil {
		return nil, d.startError(spec, cfg, err)
	}
	return in, nil
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
		return err //nolint:wrapcheck // it names the file
	}
	again, err := os.Open(os.DevNull)
	if err != nil {
		_ = null.Close()
		return err //nolint:wrapcheck // it names the file
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
	case step.step == "exec" && (step.err == syscall.ENOENT || step.err == syscall.ENOTDIR):
		return explain(core.ReasonStartFailed, "the image of "+name+" has no program "+program+
			" (or the interpreter that it names is missing): check entrypoint, cmd and command")
	case step.step == "exec" && step.err == syscall.EACCES:
		return explain(core.ReasonStartFailed, "the program "+program+" in the image of "+name+" may not be executed: check its mode")
	case step.step == "exec" && step.err == syscall.ENOEXEC:
		return explain(core.ReasonImageUnsupported, "the program "+program+" in the image of "+name+
			" is not one that this machine can execute: it is for another architecture, or a script without a #! line")
	case step.step == "enter the working directory":
		return explain(core.ReasonStartFailed, "the working directory "+cfg.dir+" of the image of "+name+" cannot be entered: "+step.err.Error())
	case step.err == syscall.ENOMEM:
		return explain(core.ReasonOOMKilled, "the memory limit "+spec.Memory.String()+" of "+name+" is too small to start it: raise memory")
	}
	return explain(core.ReasonStartFailed, "the sandbox of "+name+" could not be set up")
}

// watch waits for the end of the process and takes everything down.
func (in *instance) watch(d *Driver) {
	exit := in.awaitExit()
	if in.adopted {
		awaitPidfd(in.box.pidfd)
	} else {
		in.box.reap()
	}
	for _, p := range in.pumps {
		<-p.done
	}
	if in.state != nil {
		exit = in.state.exit(exit)
		in.state.copyOut()
	}
	exit.Usage = in.box.group.usage()
	exit.OOM = exit.Code != 0 && in.box.group.oom()
	exit.At = time.Now()
	in.exit = exit
	close(in.ended)
	in.mu.Lock()
	in.released = true
	in.mu.Unlock()
	in.box.release()
	d.images.Release(in.spec.Digest)
	d.forget(in)
	close(in.gone)
}

// awaitExit waits for init's report, or for its end without one.
func (in *instance) awaitExit() core.Exit {
	if in.box.ctl.conn == nil { // adopted: nobody to hear from
		awaitPidfd(in.box.pidfd)
		return core.Exit{Lost: true, Code: 255}
	}
	for {
		r, err := in.box.ctl.await(time.Time{})
		switch {
		case err != nil: // killed as a whole
			return core.Exit{Code: 128 + int(syscall.SIGKILL), Signal: int(syscall.SIGKILL)}
		case r.Kind == kindExited:
			return core.Exit{Code: int(r.Code), Signal: int(r.Signal)}
		}
	}
}

// awaitPidfd waits until the process of a pidfd has ended.
func awaitPidfd(fd int) {
	for {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, -1); err == nil || !errors.Is(err, unix.EINTR) {
			return
		}
	}
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

// kill ends every process of the instance.
func (in *instance) kill() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.released {
		return
	}
	if in.box.group.kill() != nil {
		_ = unix.PidfdSendSignal(in.box.pidfd, unix.SIGKILL, nil, 0)
	}
}
