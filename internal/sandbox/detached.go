package sandbox

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image"
	"github.com/dayfly-io/dayfly/internal/sandbox/network"
)

// A detached instance has a directory of its own, named after its id:
//
//	meta.json   what the next server must know of it
//	lock        locked by its init for as long as that lives
//	out, err    what its process prints
//	exit        "code signal", put there by rename when it has ended
type stateDir struct {
	path  string
	stdio core.Stdio
}

type meta struct {
	Spec core.InstanceSpec `json:"spec"`
	Slot int               `json:"slot"`
	PID  int               `json:"pid"`
}

func (d *Driver) statePath(id core.InstanceID) string {
	return filepath.Join(d.dir, "instances", id.String())
}

// maxOutput bounds what is kept of each stream of a detached instance.
const maxOutput = 64 << 20

func (in *instance) joinFiles(d *Driver, files *open, cfg *config, stdio core.Stdio) error {
	path := d.statePath(in.spec.ID)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("make the directory of a detached instance: %w", err)
	}
	in.state = &stateDir{path: path, stdio: stdio}
	// init has no rights over the machine's files but those of its user ids.
	owner := d.ids.of(in.box.slot) + int(cfg.uid)
	stdin, err := in.state.input(stdio.Stdin)
	if err != nil {
		return err
	}
	files.add(stdin)
	for _, name := range []string{"out", "err"} {
		f, err := os.OpenFile(filepath.Join(path, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return fmt.Errorf("make an output file: %w", err)
		}
		files.add(f)
	}
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open the directory of a detached instance: %w", err)
	}
	files.add(dir)
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("make a lock file: %w", err)
	}
	files.add(lock)
	cfg.flags |= configDetached
	cfg.outLimit, cfg.errLimit = maxOutput, maxOutput
	m, err := json.Marshal(meta{Spec: in.spec, Slot: in.box.slot, PID: in.box.pid})
	if err != nil {
		return fmt.Errorf("write down a detached instance: %w", err)
	}
	return errors.Join(os.Chown(path, owner, owner), os.WriteFile(filepath.Join(path, "meta.json"), m, 0o600))
}

// input puts stdin into a file, which the process can read without a server.
func (s *stateDir) input(stdin io.Reader) (*os.File, error) {
	if stdin == nil {
		stdin = strings.NewReader("")
	}
	path := filepath.Join(s.path, "in")
	w, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make an input file: %w", err)
	}
	_, err = io.Copy(w, stdin)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("fill an input file: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open an input file: %w", err)
	}
	return f, nil
}

// exit reads how the process ended; otherwise stands when it left no word.
func (s *stateDir) exit(otherwise core.Exit) core.Exit {
	b, err := os.ReadFile(filepath.Join(s.path, "exit"))
	if err != nil {
		return otherwise
	}
	var e core.Exit
	if _, err := fmt.Sscanf(string(b), "%d %d", &e.Code, &e.Signal); err != nil {
		return otherwise
	}
	return e
}

// copyOut writes what the process has printed to its streams, and removes the
// directory.
func (s *stateDir) copyOut() {
	for name, w := range map[string]io.Writer{"out": s.stdio.Stdout, "err": s.stdio.Stderr} {
		f, err := os.Open(filepath.Join(s.path, name))
		if err != nil {
			continue
		}
		if w != nil {
			_, _ = io.Copy(w, f)
		}
		_ = f.Close()
	}
	_ = os.RemoveAll(s.path)
}

// remnant is a detached instance that a former server has left.
type remnant struct {
	meta
	root   image.Rootfs
	pinned bool     // the image is held for it
	death  *os.File // while its init lives: a pidfd that does not block
	link   network.Link
}

func (r *remnant) unpin(d *Driver) {
	if r.pinned {
		d.images.Release(r.Spec.Digest)
	}
	if r.death != nil {
		_ = r.death.Close()
	}
}

// Left tells which detached instances of a former server are still there,
// running or ended; each must be adopted. Oldest id first.
func (d *Driver) Left() []core.InstanceSpec {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]core.InstanceSpec, 0, len(d.left))
	for _, r := range d.left {
		out = append(out, r.Spec)
	}
	slices.SortFunc(out, func(a, b core.InstanceSpec) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Adopt takes over a detached instance that a former server has left. What it
// has printed and will print goes to stdio when it has ended; Wait, Stop and
// Usage work as ever. Wait tells of one whose init was killed that its exit is
// lost.
func (d *Driver) Adopt(id core.InstanceID, stdio core.Stdio) (core.Instance, error) {
	if err := d.begin(); err != nil {
		return core.Instance{}, err
	}
	defer d.starting.Done()
	d.mu.Lock()
	r, ok := d.left[id]
	delete(d.left, id)
	d.mu.Unlock()
	if !ok {
		return core.Instance{}, fmt.Errorf("adopt instance %s: %w", id, core.ErrGone)
	}
	in := &instance{
		spec: r.Spec, root: r.root, pinned: r.pinned, adopted: true, death: r.death,
		ended: make(chan struct{}), gone: make(chan struct{}),
		state: &stateDir{path: d.statePath(id), stdio: stdio},
		box: &box{
			d: d, slot: r.Slot, mode: r.Spec.Network, pid: r.PID, pidfd: -1, link: r.link,
			group: &group{c: d.cgroups, name: groupName(r.Slot)},
		},
	}
	if in.death != nil {
		in.frozen = in.box.group.frozen()
		in.box.netns, in.box.pidfd = r.open()
	}
	d.instances.Store(id, in)
	d.watching.Go(func() { in.watch(d) })
	return d.describe(in), nil
}

// open gives the network namespace and a pidfd of a remnant, nil and -1 when
// it has just ended.
func (r *remnant) open() (netns *os.File, pidfd int) {
	pidfd, err := unix.PidfdOpen(r.PID, 0)
	if err != nil {
		return nil, -1
	}
	netns, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", r.PID))
	// While init lives, or is not waited for, its number is its own.
	if err != nil || hasEnded(r.death) {
		_, _ = netns.Close(), unix.Close(pidfd)
		return nil, -1
	}
	return netns, pidfd
}

// holdsLock reports whether the init of a detached instance lives.
func holdsLock(dir string) bool {
	f, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// findLeft reads what former servers have left. What was not handed to an init
// yet when its server ended is removed.
func (d *Driver) findLeft(ctx context.Context) error {
	root := filepath.Join(d.dir, "instances")
	entries, err := os.ReadDir(root)
	if err != nil {
		return fmt.Errorf("look for detached instances: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(root, e.Name())
		r := &remnant{}
		b, err := os.ReadFile(filepath.Join(path, "meta.json"))
		if err == nil {
			err = json.Unmarshal(b, &r.meta)
		}
		if err != nil || r.Spec.ID.String() != e.Name() {
			d.log.Warn("removing what is left of a detached instance that was not started", slog.String("path", path))
			_ = os.RemoveAll(path)
			continue
		}
		r.death = lifeOf(r.PID, path)
		if r.root, err = d.images.Acquire(ctx, r.Spec.Digest); err == nil {
			r.pinned = true
		}
		d.left[r.Spec.ID] = r
		d.slots.hold(r.Slot)
	}
	d.endHalfStarted()
	return nil
}

// lifeOf gives a pidfd of the init that holds the lock of a state directory,
// nil when none does. The number is init's when the lock is still held after
// the pidfd was opened.
func lifeOf(pid int, dir string) *os.File {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	if !holdsLock(dir) {
		_ = f.Close()
		return nil
	}
	return f
}

// endHalfStarted kills inits that had not taken their lock yet when their
// server ended: they were taken for dead, and would start late.
func (d *Driver) endHalfStarted() {
	alive := map[int]bool{}
	for _, r := range d.left {
		alive[r.Slot] = alive[r.Slot] || r.death != nil
	}
	for _, r := range d.left {
		if !alive[r.Slot] {
			_ = (&group{c: d.cgroups, name: groupName(r.Slot)}).kill()
		}
	}
}

// reconnect gives detached instances their links again: the network that the
// former server made is removed when a new one is opened.
func (d *Driver) reconnect(ctx context.Context) {
	for _, r := range d.left {
		if r.death == nil || r.Spec.Network == core.NetworkNone {
			continue
		}
		netns, pidfd := r.open()
		if netns == nil {
			continue
		}
		link, err := d.network.Attach(ctx, int(netns.Fd()), r.Slot)
		if err != nil {
			d.log.Warn("a detached instance stays without network", slog.String("instance", r.Spec.ID.String()), slog.Any("error", err))
		}
		r.link = link
		_, _ = netns.Close(), unix.Close(pidfd)
	}
}
