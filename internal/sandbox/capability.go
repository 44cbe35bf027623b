package sandbox

import (
	"fmt"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sandbox/userns"
)

// Capabilities says what the driver can do on this machine. It does not change
// while the driver is open.
func (d *Driver) Capabilities() core.Capabilities {
	c := core.Capabilities{
		Driver:   Name,
		Networks: []core.Network{core.NetworkNone},
		Sockets:  true, Freeze: !d.cgroups.none(), Detach: !d.ids.plain,
		Memory: d.cgroups.enforces("memory"), CPU: d.cgroups.enforces("cpu"), Pids: d.cgroups.enforces("pids"),
		CPUWeight: d.cgroups.enforces("cpu"), WritableRoot: true, Mounts: !d.ids.plain,
		OneUser: d.ids.plain && d.ids.count == 1,
	}
	if d.network != nil {
		c.Networks = []core.Network{core.NetworkEgress, core.NetworkNone}
	}
	for _, a := range d.allowed {
		c.Directories = append(c.Directories, a.HostDirectory)
	}
	c.Missing = d.missing()
	return c
}

func (d *Driver) missing() []core.Shortcoming {
	var out []core.Shortcoming
	if !d.ids.userns {
		out = append(out, core.Shortcoming{
			Name: "user namespaces", Why: "layers cannot have their ids mapped here: root in an image becomes nobody",
			Remedy: "use Linux 5.19 and a data directory on a file system that can map ids, such as ext4, xfs or btrfs",
		})
	}
	if d.network == nil {
		out = append(out, d.wayOut)
	}
	if d.cgroups.lack.Why != "" {
		out = append(out, d.cgroups.lack)
	}
	if d.ids.plain {
		out = append(out, d.ids.missing(d.notice)...)
	}
	return out
}

// missing tells what a plain user's server does not do as one of root would.
func (i ids) missing(notice string) []core.Shortcoming {
	const asRoot = "run the server as root"
	out := []core.Shortcoming{
		{Name: "detach", Why: "instances cannot outlive a server that runs as a plain user", Remedy: asRoot},
		{Name: "mounts", Why: "a server that runs as a plain user cannot map the ids of directories of the host", Remedy: asRoot},
	}
	if i.count > 1 {
		return append(out, core.Shortcoming{
			Name: "ids of their own", Why: fmt.Sprintf("all instances share one range of %d user ids", i.count), Remedy: asRoot,
		})
	}
	why, remedy := WhyOneID(notice)
	return append(out, core.Shortcoming{
		Name: "user ids", Why: "every process of an instance runs as the user who runs the server, whatever user the image names (" + why + ")", Remedy: remedy,
	})
}

// WhyOneID says why a plain user's server has one user id only, and what to do.
// The notice is what Enter gave.
func WhyOneID(notice string) (why, remedy string) {
	if notice != "" {
		return notice, "see what it says when it is called by hand"
	}
	tools, err := userns.FindTools()
	if err != nil {
		return err.Error(), "see to that"
	}
	return tools.Lack()
}
