package sandbox

import "github.com/dayfly-io/dayfly/internal/core"

// Capabilities says what the driver can do on this machine. It does not change
// while the driver is open.
func (d *Driver) Capabilities() core.Capabilities {
	c := core.Capabilities{
		Driver:   Name,
		Networks: []core.Network{core.NetworkEgress, core.NetworkNone},
		Sockets:  true, Freeze: true, Detach: true, Memory: true, CPU: true, Pids: true,
		CPUWeight: true, WritableRoot: true, Mounts: true,
	}
	for _, a := range d.allowed {
		c.Directories = append(c.Directories, a.HostDirectory)
	}
	if !d.userns {
		c.Missing = append(c.Missing, core.Shortcoming{
			Name: "user namespaces", Why: "layers cannot have their ids mapped here: root in an image becomes nobody",
			Remedy: "use Linux 5.19 and a data directory on a file system that can map ids, such as ext4, xfs or btrfs",
		})
	}
	return c
}
