package core

import "slices"

// Capabilities says what a driver can do on this node, found out when it was
// opened. What it cannot do is refused when a function asks for it, not
// discovered when it is called.
type Capabilities struct {
	// Driver is the driver's name.
	Driver string
	// Networks are those that instances can have.
	Networks []Network
	// Sockets is set when the server reaches Unix sockets that instances make
	// ([InstanceSpec.SocketDir]): the contract fdk needs it.
	Sockets bool
	// Freeze is set when instances can be frozen.
	Freeze bool
	// Detach is set when instances can outlive the server.
	Detach bool
	// Memory, CPU and Pids are set when these limits are enforced. Where they
	// are not, functions run without, and Missing says so.
	Memory, CPU, Pids bool
	// OneUser is set when every process runs as the same user, whichever the
	// image or the function names; Missing says why.
	OneUser bool
	// WritableRoot is set when instances can have a root to write to whose size
	// is bounded ([InstanceSpec.Root]).
	WritableRoot bool
	// CPUWeight is set when instances share the processors by weight. Where
	// they do not, functions run without, and Missing says so.
	CPUWeight bool
	// Mounts is set when instances can have directories of the host, and
	// Directories has those that are allowed.
	Mounts      bool
	Directories []HostDirectory
	// Missing tells what this node could do and does not.
	Missing []Shortcoming
}

// Shortcoming is something that a driver does not do on this node, or does
// less well than it could.
type Shortcoming struct {
	Name   string // what is missing, one word or two
	Why    string // what was found, as a clause
	Remedy string // what a person can do, as an imperative; "" when nothing helps
}

// Check refuses a spec that asks for what the driver cannot do:
// [KindNotImplemented], with what to do.
func (c Capabilities) Check(s Spec) error {
	if !slices.Contains(c.Networks, s.Network) {
		return c.refuse("the network %q cannot be had from the driver %s here: choose one of %v%s",
			s.Network, c.Driver, c.Networks, c.remedy("network"))
	}
	if s.Contract == ContractFDK && !c.Sockets {
		return c.refuse("the driver %[2]s cannot reach the Unix sockets by which functions of the contract %[1]s listen: "+
			"use another driver, or the contract http%[3]s", s.Contract, c.Driver, c.remedy("sockets"))
	}
	if s.Root.Writable > 0 && !c.WritableRoot {
		return c.refuse("a writable root cannot be had from the driver %s here: leave root out, and write to /tmp%s",
			c.Driver, c.remedy("writable root"))
	}
	return c.checkMounts(s)
}

func (c Capabilities) checkMounts(s Spec) error {
	if len(s.Mounts) > 0 && !c.Mounts {
		return c.refuse("mounts cannot be had from the driver %s here: leave mounts out%s", c.Driver, c.remedy("mounts"))
	}
	for _, m := range s.Mounts {
		if _, err := FindDirectory(c.Directories, m); err != nil {
			return err
		}
	}
	return nil
}

func (c Capabilities) refuse(format string, args ...any) error {
	return Errorf(KindNotImplemented, CodeNotImplemented, format, args...)
}

// remedy gives what is known of a shortcoming, to end a sentence with.
func (c Capabilities) remedy(name string) string {
	for _, m := range c.Missing {
		if m.Name != name {
			continue
		}
		if m.Remedy == "" {
			return " (" + m.Why + ")"
		}
		return " (" + m.Why + ": " + m.Remedy + ")"
	}
	return ""
}

// Names lists what can be done, for people and programs: a name for each
// network, as network_egress, and for each of the rest that is set.
func (c Capabilities) Names() []string {
	names := []string{}
	for _, n := range c.Networks {
		names = append(names, "network_"+string(n))
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"sockets", c.Sockets},
		{"freeze", c.Freeze},
		{"detach", c.Detach},
		{"limit_memory", c.Memory},
		{"limit_cpu", c.CPU},
		{"limit_pids", c.Pids},
		{"users", !c.OneUser && c.Driver != ""},
		{"weight_cpu", c.CPUWeight},
		{"writable_root", c.WritableRoot},
		{"mounts", c.Mounts},
	} {
		if f.set {
			names = append(names, f.name)
		}
	}
	return names
}
