package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dayfly-io/dayfly/internal/core"
)

// The least that the drivers need, and what is comfortable.
const (
	leastFree  = core.GiB
	leastFiles = 4096
	// leastYear is when this was written: a clock before it is wrong.
	leastYear = 2025
)

// Kernels from which on something works: cgroup.kill is of 5.14, the overlay of
// a user namespace of 5.11, id-mapped layers below an overlay of 5.19.
var (
	kernelLeast  = [2]int{5, 14}
	kernelMapped = [2]int{5, 19}
)

// mappable are file systems that can map ids, where the kernel can.
var mappable = []string{"ext4", "xfs", "btrfs", "tmpfs", "f2fs", "erofs", "vfat", "ntfs3"}

// Judge says what the facts mean.
func Judge(f Facts) Report {
	found := []Finding{
		kernel(f), who(f), namespaces(f), ids(f), seccomp(f), overlay(f), mapped(f),
		cgroups(f), limits(f), freezer(f), swap(f),
		links(f), translation(f), wayOut(f), forwarding(f),
	}
	fit := !slices.ContainsFunc(found, func(x Finding) bool { return x.Verdict == No })
	rest := []Finding{data(f), space(f), port(f), files(f), clock(f), engine(f)}
	r := Report{Findings: append(found, rest...)}
	blocked := slices.ContainsFunc(rest, func(x Finding) bool { return x.Verdict == No })
	switch {
	case blocked:
	case fit:
		r.Driver = "sandbox"
	case f.Docker != "":
		r.Driver = "docker"
	}
	return r
}

func older(a, b [2]int) bool { return a[0] < b[0] || a[0] == b[0] && a[1] < b[1] }

func kernel(f Facts) Finding {
	x := Finding{"kernel", OK, fmt.Sprintf("Linux %d.%d, %s", f.Kernel[0], f.Kernel[1], f.Arch), ""}
	switch {
	case older(f.Kernel, kernelLeast):
		x.Verdict, x.Remedy = No, fmt.Sprintf("use Linux %d.%d or newer", kernelLeast[0], kernelLeast[1])
	case f.Arch != "amd64" && f.Arch != "arm64":
		x.Verdict, x.Remedy = No, "use a machine of the architecture amd64 or arm64"
	}
	return x
}

func who(f Facts) Finding {
	switch {
	case !f.User.Root:
		return Finding{"user", Less, "a plain user", "run the server as root for all there is (docs/operations.md has the differences)"}
	case f.User.Missing != "":
		return Finding{"user", No, "root, but without " + f.User.Missing, "start it outside of what takes that away, such as a container"}
	}
	return Finding{"user", OK, "root", ""}
}

func namespaces(f Facts) Finding {
	const name = "user namespaces"
	why, remedy := f.User.Limits.Obstacle()
	switch {
	case f.User.Refused != "" && why != "":
		return Finding{name, No, why, remedy}
	case f.User.Refused != "":
		return Finding{name, No, f.User.Refused, "start the server as root, or outside of the container that refuses it"}
	case f.User.Root && f.User.Limits.Max == "0":
		return Finding{name, No, why, remedy}
	case f.User.Root:
		return Finding{name, OK, "each sandbox has its own", ""}
	}
	return Finding{name, OK, "the server has one, and each sandbox its own", ""}
}

func ids(f Facts) Finding {
	const name = "user ids"
	switch {
	case f.User.Root:
		return Finding{name, OK, "65,536 for each sandbox", ""}
	case f.User.Refused != "":
		return Finding{name, Note, "there is no user namespace to have any in", ""}
	case f.User.IDs <= 1:
		return Finding{name, Less, "one: every process runs as the user who runs the server (" + f.User.Lack + ")", f.User.Remedy}
	}
	return Finding{name, OK, fmt.Sprintf("%d, which all sandboxes share", f.User.IDs-1), ""}
}

// tried makes a finding of what was tried.
func (f Facts) tried(name string, good string, remedy string, trials ...Trial) Finding {
	for _, t := range trials {
		if why := f.Tried[t]; why != "" {
			if f.User.Missing != "" {
				remedy = "see what the line user says"
			}
			return Finding{name, No, string(t) + ": " + why, remedy}
		}
	}
	return Finding{name, OK, good, ""}
}

func seccomp(f Facts) Finding {
	return f.tried("seccomp", "system calls can be filtered", "use a kernel with CONFIG_SECCOMP_FILTER", TrialSeccomp)
}

func overlay(f Facts) Finding {
	x := f.tried("overlayfs", "layers can be mounted", "load it: modprobe overlay", TrialOverlay)
	if f.User.Refused != "" {
		return Finding{x.Name, Note, "not tried without a user namespace", ""}
	}
	return x
}

func mapped(f Facts) Finding {
	const name = "id-mapped mounts"
	switch {
	case !f.User.Root:
		return Finding{name, Note, "not needed: layers are unpacked for the ids that sandboxes share", ""}
	case older(f.Kernel, kernelMapped):
		return Finding{name, Less, "the kernel has none below an overlay: sandboxes run without user namespaces", "use Linux 5.19 or newer"}
	case !slices.Contains(mappable, f.Data.Type):
		return Finding{name, Less, f.Data.Type + " has none: sandboxes run without user namespaces", "put the data directory on ext4, xfs or btrfs"}
	}
	return Finding{name, OK, "layers are mounted with the ids of the sandbox, on " + f.Data.Type, ""}
}

func cgroups(f Facts) Finding {
	const name = "cgroups"
	switch {
	case !f.Cgroup.Unified && f.User.Root:
		return Finding{name, No, "no cgroup2 file system is mounted", "mount one (mount -t cgroup2 none /sys/fs/cgroup/unified) or boot with systemd"}
	case !f.Cgroup.Unified:
		return Finding{name, Less, "no cgroup2 file system is mounted", "boot with systemd"}
	case f.Cgroup.Legacy:
		return Finding{name, OK, "version 2, with controllers in version 1 (hybrid)", ""}
	}
	return Finding{name, OK, "version 2", ""}
}

func limits(f Facts) Finding {
	const name = "limits"
	missing := slices.DeleteFunc([]string{"memory", "cpu", "pids"}, func(c string) bool { return slices.Contains(f.Cgroup.Controllers, c) })
	if len(missing) == 0 {
		return Finding{name, OK, "of memory, processor and processes", ""}
	}
	x := Finding{name, Less, "none of " + strings.Join(missing, ", ") + ": " + f.Cgroup.Lack, f.Cgroup.Remedy}
	if f.User.Root {
		x.Verdict = No
	}
	return x
}

func freezer(f Facts) Finding {
	const name = "freezer"
	switch {
	case f.User.Root && f.Cgroup.Unified, len(f.Cgroup.Controllers) > 0:
		return Finding{name, OK, "idle instances can be frozen", ""}
	}
	if f.User.Root {
		return Finding{name, No, "there is no cgroup2 file system to freeze instances in", "see what the line cgroups says"}
	}
	return Finding{name, Less, "idle instances stay awake: there is no cgroup of the server's own", f.Cgroup.Remedy}
}

func swap(f Facts) Finding {
	if !slices.Contains(f.Cgroup.Controllers, "memory") {
		return Finding{"swap", Note, "there is no memory limit that could count it", ""}
	}
	if f.Cgroup.Swap {
		return Finding{"swap", OK, "memory limits count it", ""}
	}
	return Finding{"swap", Note, "memory limits do not count it: with swap on, functions may use more than their limit", ""}
}

func links(f Facts) Finding {
	return f.network(f.tried("bridge and veth", "can be made", "load them: modprobe bridge veth", TrialBridge, TrialVeth))
}

func translation(f Facts) Finding {
	return f.network(f.tried("nftables", "can be used", "load it: modprobe nf_tables", TrialNft))
}

// network says of what only egress needs that a plain user's server runs
// without.
func (f Facts) network(x Finding) Finding {
	switch {
	case f.User.Refused != "":
		return Finding{x.Name, Note, "not tried without a user namespace", ""}
	case x.Verdict == No && !f.User.Root:
		x.Verdict = Less
	}
	return x
}

func wayOut(f Facts) Finding {
	const name = "way out"
	switch {
	case f.User.Root:
		return Finding{name, OK, "functions have the networks egress and none", ""}
	case f.Uplink == "":
		return Finding{name, OK, "by pasta: functions have the networks egress and none", ""}
	}
	remedy := "install it (the package passt)"
	if strings.Contains(f.Uplink, "/dev/net/tun") {
		remedy = "let users open it: modprobe tun, and chmod 666 /dev/net/tun"
	}
	return Finding{name, Less, "functions have the network none only: " + f.Uplink, remedy}
}

func forwarding(f Facts) Finding {
	switch {
	case f.Forwarding:
		return Finding{"forwarding", OK, "is on", ""}
	case f.User.Root:
		return Finding{"forwarding", OK, "is off; a server turns it on while it runs", ""}
	}
	return Finding{"forwarding", Note, "is off; a plain user's server does not need it", ""}
}

func data(f Facts) Finding {
	x := Finding{"data directory", OK, f.Data.Path + ", on " + f.Data.Type, ""}
	if f.Data.Denied != "" {
		x.Verdict, x.Found, x.Remedy = No, f.Data.Path+": "+f.Data.Denied, "name another with --data, or give it to the user"
	}
	return x
}

func space(f Facts) Finding {
	x := Finding{"free space", OK, fmt.Sprintf("%.1f GiB", float64(f.Data.Free)/float64(core.GiB)), ""}
	if f.Data.Free < leastFree {
		x.Verdict, x.Remedy = Less, "make room: images and the history are kept there"
	}
	return x
}

func port(f Facts) Finding {
	if f.InUse != "" {
		return Finding{"address", No, f.InUse, "name another with --listen, or see whether a server runs already"}
	}
	return Finding{"address", OK, f.Listen + " is free", ""}
}

func files(f Facts) Finding {
	x := Finding{"open files", OK, fmt.Sprintf("%d for a process", f.Files), ""}
	if f.Files < leastFiles {
		x.Verdict, x.Remedy = Less, "raise the limit (LimitNOFILE, ulimit -Hn): some ten for each live instance, and two for each connection"
	}
	return x
}

func clock(f Facts) Finding {
	text := f.Now.UTC().Format("2006-01-02 15:04:05") + " UTC"
	switch {
	case f.Now.Year() < leastYear:
		return Finding{"clock", Less, text, "set it: ids of runs are made of the time"}
	case !f.Synced:
		return Finding{"clock", Note, text + ", kept by nothing that the kernel knows of", ""}
	}
	return Finding{"clock", OK, text + ", synchronized", ""}
}

func engine(f Facts) Finding {
	if f.Docker != "" {
		return Finding{"docker engine", Note, "answers, with the API " + f.Docker, ""}
	}
	return Finding{"docker engine", Note, f.NoDocker, ""}
}
