package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
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
	owner := in.box.firstUID() + int(cfg.uid)
	if in.box.userns == nil {
		owner = int(cfg.uid)
	}
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

// Left tells which detached instances of a former server are still there,
// running or ended; each must be adopted.
func (d *Driver) Left() []core.InstanceSpec {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]core.InstanceSpec, 0, len(d.left))
	for _, m := range d.left {
		out = append(out, m.Spec)
	}
	return out
}

// Adopt takes over a detached instance that a former server has left. What it
// has printed and will print goes to stdio when it has ended; Wait, Stop and
// Usage work as ever.
func (d *Driver) Adopt(id core.InstanceID, stdio core.Stdio) (core.Instance, error) {
	d.mu.Lock()
	m, ok := d.left[id]
	delete(d.left, id)
	d.mu.Unlock()
	if !ok {
		return core.Instance{}, fmt.Errorf("adopt instance %s: %w", id, core.ErrGone)
	}
	in := &instance{
		spec: m.Spec, adopted: true, ended: make(chan struct{}), gone: make(chan struct{}),
		state: &stateDir{path: d.statePath(id), stdio: stdio},
		box:   &box{d: d, slot: m.Slot, mode: m.Spec.Network, pid: m.PID, pidfd: -1, group: &group{c: d.cgroups, name: groupName(m.Slot)}},
	}
	if d.holdsLock(id) {
		fd, err := unix.PidfdOpen(m.PID, 0)
		if err == nil {
			in.box.pidfd = fd
		}
		if in.box.netns, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", m.PID)); err != nil {
			in.box.netns = nil
		}
	}
	d.instances.Store(id, in)
	d.watching.Go(func() { in.watch(d) })
	return d.describe(in), nil
}

// holdsLock reports whether the init of a detached instance lives.
func (d *Driver) holdsLock(id core.InstanceID) bool {
	f, err := os.Open(filepath.Join(d.statePath(id), "lock"))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// findLeft reads what former servers have left. What was not started yet when
// its server ended has nobody who will ever tell of it, and is removed.
func (d *Driver) findLeft() error {
	root := filepath.Join(d.dir, "instances")
	entries, err := os.ReadDir(root)
	if err != nil {
		return fmt.Errorf("look for detached instances: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(root, e.Name())
		var m meta
		b, err := os.ReadFile(filepath.Join(path, "meta.json"))
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		_, exitErr := os.Stat(filepath.Join(path, "exit"))
		if err != nil || (exitErr != nil && !d.holdsLock(m.Spec.ID)) {
			d.log.Warn("removing what is left of a detached instance that ended without a word", slog.String("path", path))
			_ = os.RemoveAll(path)
			continue
		}
		d.left[m.Spec.ID] = m
		d.slots.hold(m.Slot)
	}
	return nil
}
