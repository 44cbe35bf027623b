package docker

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/dayfly-io/dayfly/internal/core"
)

const (
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// minMemory is the least that the engine takes as a limit.
	minMemory = 6 * core.MiB
	// initFiles is how many files init itself may have open besides those of a
	// function: mostly connections into the container.
	initFiles = slots
	// socketsSize and socketsInodes bound the directory of sockets.
	socketsSize   = 256 * core.KiB
	socketsInodes = 256
)

// options says how the container of an instance is made.
func (d *Driver) options(spec core.InstanceSpec, image found) client.ContainerCreateOptions {
	init := false // ours
	pids := int64(spec.Pids) + 1
	memory := int64(spec.Memory)
	host := &container.HostConfig{
		AutoRemove: true, Init: &init,
		LogConfig:   container.LogConfig{Type: "none"},
		NetworkMode: "none", IpcMode: container.IPCModePrivate, CgroupnsMode: container.CgroupnsModePrivate,
		CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges", "seccomp=" + d.engine.filter}, ReadonlyRootfs: true,
		ShmSize: memory, Tmpfs: map[string]string{"/tmp": tmpfs("1777", spec.Tmp)},
		Mounts:     []mount.Mount{{Type: mount.TypeVolume, Source: d.engine.init, Target: initDir, ReadOnly: true, VolumeOptions: &mount.VolumeOptions{NoCopy: true}}},
		DNS:        []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})},
		DNSSearch:  []string{"."}, // the engine's own search list is nobody's business
		ExtraHosts: []string{hostname(spec) + ":127.0.0.1"},
		Resources: container.Resources{
			Memory: memory, MemorySwap: memory, NanoCPUs: int64(spec.CPU) * 1_000_000, CPUShares: shares(spec.CPUWeight), PidsLimit: &pids,
			Ulimits: []*container.Ulimit{
				{Name: "nofile", Soft: int64(spec.Files + initFiles), Hard: int64(spec.Files + initFiles)},
				{Name: "core"},
				{Name: "memlock"},
			},
		},
	}
	if d.ipv6 { // for programs that listen on ::1; other links have none
		host.Sysctls = map[string]string{"net.ipv6.conf.lo.disable_ipv6": "0"}
	}
	for _, dir := range image.volumes {
		if dir = path.Clean("/" + dir); dir != "/tmp" {
			host.Tmpfs[dir] = tmpfs("755", spec.Tmp) // else the engine makes a volume on its disk
		}
	}
	if spec.SocketDir != "" {
		host.Tmpfs[spec.SocketDir] = tmpfs("1777", socketsSize) + fmt.Sprintf(",noexec,nr_inodes=%d", socketsInodes)
	}
	switch {
	case spec.Network != core.NetworkEgress:
	case d.network != nil:
		host.DNS = []netip.Addr{d.network.Nameserver()}
	default:
		host.NetworkMode, host.DNS, host.DNSSearch = container.NetworkMode(d.engine.name), nil, nil
	}
	return client.ContainerCreateOptions{
		Name: d.engine.name + "-" + spec.ID.String(),
		Config: &container.Config{
			Image: image.id, Entrypoint: []string{initDir + "/init", spec.ID.String()}, Cmd: []string{}, WorkingDir: "/",
			User: spec.User, Hostname: hostname(spec),
			OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true,
			Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
			Labels:      map[string]string{labelData: d.engine.name, labelInstance: spec.ID.String()},
		},
		HostConfig: host, NetworkingConfig: &network.NetworkingConfig{},
	}
}

func tmpfs(mode string, size core.Bytes) string {
	return fmt.Sprintf("rw,nosuid,nodev,exec,mode=%s,size=%d", mode, max(size, 4*core.KiB))
}

// shares gives a weight as the engine takes it: 1024 is the usual, and 2 the
// least.
func shares(w core.CPUWeight) int64 {
	return max(int64(cmp.Or(w, core.DefaultCPUWeight))*1024/int64(core.DefaultCPUWeight), 2)
}

// process says what init is to start, from what the image and the function
// want.
func (d *Driver) process(spec core.InstanceSpec, image core.ImageConfig) (process, error) {
	p := process{
		args: image.Process(spec.Command, spec.Argument), dir: cmp.Or(image.WorkingDir, "/"), files: spec.Files,
		env: environment(image.Env, spec.Env, hostname(spec)), path: defaultPath,
	}
	for _, kv := range p.env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			p.path = v
		}
	}
	if len(p.args) == 0 || p.args[0] == "" {
		return p, core.Errorf(core.KindInvalid, core.ReasonImageUnsupported,
			"the image of %s/%s has neither entrypoint nor cmd: set command", spec.App, spec.Function)
	}
	if len(spec.Mounts) > 0 || spec.Root.Writable > 0 {
		return p, core.Errorf(core.KindNotImplemented, core.CodeNotImplemented,
			"%s/%s wants mounts or a writable root, which the driver docker does not have: leave them out", spec.App, spec.Function)
	}
	if spec.Memory < minMemory {
		return p, &core.Error{
			Kind: core.KindFunction, Code: core.ReasonOOMKilled,
			Message: "the memory limit " + spec.Memory.String() + " of " + spec.App + "/" + spec.Function +
				" is too small to start it, a Docker engine takes " + minMemory.String() + " and more: raise memory",
		}
	}
	if spec.SocketDir != "" && (!path.IsAbs(spec.SocketDir) || path.Clean(spec.SocketDir) != spec.SocketDir) {
		return p, core.Invalid("the directory of sockets %q of %s/%s must be an absolute path", spec.SocketDir, spec.App, spec.Function)
	}
	size := 0
	for _, list := range [][]string{p.args, p.env, {p.dir}} {
		for _, s := range list {
			if strings.ContainsRune(s, 0) {
				return p, core.Errorf(core.KindInvalid, core.ReasonStartFailed,
					"an argument, variable or working directory of %s/%s has a zero byte in it, which no process can be given",
					spec.App, spec.Function)
			}
			size += len(s) + 1
		}
	}
	if size > maxConfig/2 {
		return p, core.Errorf(core.KindInvalid, core.ReasonStartFailed,
			"the arguments and environment of %s/%s are larger than the kernel takes: 128 KiB for each, 2 MiB for all", spec.App, spec.Function)
	}
	return p, nil
}

// hostname is the function's name, as far as host names allow.
func hostname(spec core.InstanceSpec) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-':
			return r
		case r == '_':
			return '-'
		}
		return -1
	}, spec.Function)
	name = strings.Trim(name[:min(len(name), 63)], "-")
	return cmp.Or(name, "function")
}

// environment joins the image's variables and the function's; later ones win.
// HOME is added by init, which knows the user.
func environment(ofImage, ofFunction []string, hostname string) []string {
	env := []string{"PATH=" + defaultPath, "HOSTNAME=" + hostname}
	for _, kv := range slices.Concat(ofImage, ofFunction) {
		k, _, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			continue
		}
		if i := slices.IndexFunc(env, func(s string) bool { return strings.HasPrefix(s, k+"=") }); i >= 0 {
			env[i] = kv
		} else {
			env = append(env, kv)
		}
	}
	return env
}
