package docker

import "github.com/dayfly-io/dayfly/internal/core"

// Name is the name of this driver.
const Name = "docker"

// Capabilities says what the driver can do with this engine. It does not change
// while the driver is open.
func (d *Driver) Capabilities() core.Capabilities {
	c := core.Capabilities{
		Driver:   Name,
		Networks: []core.Network{core.NetworkEgress, core.NetworkNone},
		Sockets:  d.local, Freeze: true, Memory: true, CPU: true, Pids: true, CPUWeight: true,
		Missing: []core.Shortcoming{{
			Name: "writable root", Why: "an engine would put it on its disk, without a bound",
		}},
	}
	if d.network == nil {
		c.Missing = append(c.Missing, core.Shortcoming{
			Name: "isolation", Why: d.far + ": functions with the network egress reach the addresses of the engine's machine and its metadata service",
			Remedy: "run the server as root on the machine of the engine and reach it by its Unix socket, or keep such traffic out with a firewall there",
		})
	}
	if !d.local {
		c.Missing = append(c.Missing, core.Shortcoming{
			Name: "sockets", Why: d.far, Remedy: "run the server as root on the machine of the engine and reach it by its Unix socket",
		})
	}
	return c
}
