package sandbox

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// process says what init is to start, from what the image and the function
// want.
func (d *Driver) process(root image.Rootfs, spec core.InstanceSpec, b *box) (*config, error) {
	c := root.Config
	args := c.Process(spec.Command, spec.Argument)
	if len(args) == 0 || args[0] == "" {
		return nil, core.Errorf(core.KindInvalid, core.ReasonImageUnsupported,
			"the image of %s/%s has neither entrypoint nor cmd: set command", spec.App, spec.Function)
	}
	if err := d.check(root, spec, args); err != nil {
		return nil, err
	}
	if err := d.checkMounts(spec); err != nil {
		return nil, err
	}
	user, err := d.images.User(root, cmp.Or(spec.User, c.User))
	if err != nil {
		return nil, fmt.Errorf("find the user of the image: %w", err)
	}
	uid, gid, groups := user.UID, user.GID, user.Groups
	switch {
	case d.ids.count == 1:
		uid, gid, groups = 0, 0, nil // there is no other id
	case d.ids.userns && int(slices.Max(append([]uint32{uid, gid}, groups...))) >= d.ids.count:
		return nil, core.Errorf(core.KindInvalid, core.ReasonImageUnsupported,
			"the image of %s/%s runs as user %d, group %d, with the groups %d; a sandbox has the ids up to %d",
			spec.App, spec.Function, uid, gid, groups, d.ids.count-1)
	case !d.ids.userns && uid == 0:
		// Without a user namespace root would be the machine's own.
		uid, gid, groups = 65534, 65534, nil
	}
	hostname := hostname(spec)
	out := &config{
		layers: len(root.Layers), args: args, env: environment(c.Env, spec.Env, user.Home, hostname),
		groups: groups, uid: uid, gid: gid, files: uint32(spec.Files), rootKiB: uint32(spec.Root.Writable / core.KiB),
		dir: c.WorkingDir, hostname: hostname + "\n", filter: d.filter,
		sockets: spec.SocketDir, resolv: "# no network\n", hosts: "127.0.0.1\tlocalhost\n::1\tlocalhost\n",
	}
	if out.dir == "" {
		out.dir = "/"
	}
	if out.rootKiB == 0 {
		out.flags |= configReadOnly
	}
	for _, m := range spec.Mounts {
		out.mounts = append(out.mounts, m.Path)
	}
	if d.ids.userns {
		out.flags |= configUserns
	}
	if spec.Tmp != core.DefaultLimits.Tmp {
		out.tmpKiB = uint32(max(spec.Tmp/core.KiB, 1))
	}
	if b.link.Address.IsValid() {
		out.resolv = "nameserver " + b.link.Gateway.String() + "\n"
		out.hosts += b.link.Address.String() + "\t" + hostname + "\n"
	} else {
		out.hosts += "127.0.0.1\t" + hostname + "\n"
	}
	return out, nil
}

// maxLayers is how many layers init mounts (map_config in pid1/src/init.c), one
// more than Docker makes.
const maxLayers = 128

// check refuses what init could not be told, or could not do.
func (d *Driver) check(root image.Rootfs, spec core.InstanceSpec, args []string) error {
	if len(root.Layers) > maxLayers {
		return core.Errorf(core.KindInvalid, core.ReasonImageUnsupported,
			"the image of %s/%s has %d layers; a sandbox has room for %d", spec.App, spec.Function, len(root.Layers), maxLayers)
	}
	if spec.Detached && d.ids.plain {
		return core.Errorf(core.KindNotImplemented, core.CodeNotImplemented, "%s/%s is to outlive the server, which it cannot when that runs as a plain user", spec.App, spec.Function)
	}
	if spec.SocketDir != "" && (spec.Detached || !filepath.IsAbs(spec.SocketDir) || filepath.Clean(spec.SocketDir) != spec.SocketDir) {
		return core.Invalid("the directory of sockets %q of %s/%s must be an absolute path, of an instance that does not outlive the server",
			spec.SocketDir, spec.App, spec.Function)
	}
	for _, list := range [][]string{args, root.Config.Env, spec.Env, {root.Config.WorkingDir, spec.SocketDir}} {
		if i := slices.IndexFunc(list, func(s string) bool { return strings.ContainsRune(s, 0) }); i >= 0 {
			return core.Errorf(core.KindInvalid, core.ReasonStartFailed,
				"an argument, variable or working directory of %s/%s has a zero byte in it, which no process can be given",
				spec.App, spec.Function)
		}
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil && uint64(spec.Files) > files.Max {
		return core.Errorf(core.KindUnavailable, core.ReasonStartFailed,
			"%s/%s wants %d open files and the server itself may have %d: raise its limit (LimitNOFILE)",
			spec.App, spec.Function, spec.Files, files.Max)
	}
	return nil
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
	if name == "" {
		return "function"
	}
	return name
}

// environment joins the image's variables and the function's; later ones win.
func environment(ofImage, ofFunction []string, home, hostname string) []string {
	base := []string{"PATH=" + defaultPath, "HOME=" + home, "HOSTNAME=" + hostname}
	at := make(map[string]int, len(base)+len(ofImage)+len(ofFunction))
	var env []string
	for _, list := range [][]string{base, ofImage, ofFunction} {
		for _, kv := range list {
			k, _, ok := strings.Cut(kv, "=")
			if !ok || k == "" {
				continue
			}
			if i, seen := at[k]; seen {
				env[i] = kv
				continue
			}
			at[k] = len(env)
			env = append(env, kv)
		}
	}
	return env
}
