package sandbox

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ShortName is the name of a directory's driver in the machine.
var ShortName = shortName

// KillSpawner ends the process that clones inits, as if by accident.
func (d *Driver) KillSpawner() error {
	d.spawner.mu.Lock()
	defer d.spawner.mu.Unlock()
	return unix.Kill(d.spawner.pid, unix.SIGKILL)
}

// InitOf gives the number of an instance's init.
func (d *Driver) InitOf(id interface{ String() string }) int {
	pid := 0
	d.instances.Range(func(_, v any) bool {
		if in, ok := v.(*instance); ok && in.spec.ID.String() == id.String() {
			pid = in.box.pid
		}
		return true
	})
	return pid
}

// Range gives the addresses of the sandboxes.
func (d *Driver) Range() string { return d.network.Range().String() }

// Ready gives the numbers of the inits of the boxes on the shelves, which are
// taken off, and puts the boxes back.
func (d *Driver) Ready() []int {
	var pids []int
	for _, s := range d.shelves {
		var boxes []*box
		for len(s.ready) > 0 {
			boxes = append(boxes, <-s.ready)
		}
		for _, b := range boxes {
			pids = append(pids, b.pid)
			s.ready <- b
		}
	}
	return pids
}

// BreakCgroups makes that no cgroup can be made.
func (d *Driver) BreakCgroups() (mend func()) {
	was := d.cgroups.unified
	d.cgroups.unified = strings.Join([]string{was, "gone", strconv.Itoa(1)}, "/")
	return func() { d.cgroups.unified = was }
}

// RemoveCgroup removes a cgroup whose processes have ended.
var RemoveCgroup = removeCgroup
