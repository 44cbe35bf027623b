package sandbox

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
)

// directory is one of the host's that functions may mount. It is opened once
// and held: what is put in its place later is not what was allowed.
type directory struct {
	core.HostDirectory
	file *os.File
	bare bool // its file system maps no ids: what everyone may read can be read
}

// openDirectories opens what an administrator has allowed.
func (d *Driver) openDirectories(allowed []core.HostDirectory) error {
	if d.ids.plain && len(allowed) > 0 {
		return core.Errorf(core.KindNotImplemented, core.CodeNotImplemented,
			"functions cannot mount directories of the host (%s) from a server that runs as a plain user: leave --allow-mount out, or start the server as root", allowed[0].Path)
	}
	for _, a := range allowed {
		fd, err := unix.Openat2(unix.AT_FDCWD, a.Path, &unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_NO_MAGICLINKS,
		})
		switch {
		case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
			return core.Invalid("the directory %s, which functions may mount as %s, is a link or no directory: name the directory itself", a.Path, a.Name)
		case err != nil:
			return core.Invalid("the directory %s, which functions may mount as %s, cannot be opened: %v", a.Path, a.Name, err)
		}
		dir := directory{HostDirectory: a, file: os.NewFile(uintptr(fd), a.Path)}
		d.allowed = append(d.allowed, dir)
		if err := dir.checkKind(); err != nil {
			return err
		}
		if _, _, err := dir.owner(!a.ReadOnly); err != nil {
			return err
		}
	}
	return nil
}

// checkKind refuses what is an interface of the kernel and no store of files.
func (a *directory) checkKind() error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(a.file.Fd()), &fs); err != nil {
		return &os.PathError{Op: "look at the file system of", Path: a.Path, Err: err}
	}
	switch int64(fs.Type) { //nolint:unconvert // it is of another type elsewhere
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEBUGFS_MAGIC,
		unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.DEVPTS_SUPER_MAGIC:
		return core.Invalid("the directory %s, which functions may mount as %s, is the kernel's own and no store of files", a.Path, a.Name)
	}
	return nil
}

// owner gives whose the directory is. Functions write as that owner and group.
// Neither may be root's: what a function puts there could be run as root.
func (a *directory) owner(writes bool) (uid, gid uint32, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(a.file.Fd()), &st); err != nil {
		return 0, 0, &os.PathError{Op: "look at", Path: a.Path, Err: err}
	}
	if writes && (st.Uid == 0 || st.Gid == 0) {
		return 0, 0, core.Invalid("the directory %[2]s, which functions may mount as %[1]s, belongs to root or its group, and so would what they write: "+
			"give it to another user and group (chown USER:GROUP), or allow it to be read only (--allow-mount %[1]s=%[2]s:ro)", a.Name, a.Path)
	}
	return st.Uid, st.Gid, nil
}

// proveDirectories finds out where ids can be mapped.
func (d *Driver) proveDirectories(b *box) error {
	for i := range d.allowed {
		a := &d.allowed[i]
		userns, err := d.userNamespace(1, 1, b.outerID(1), b.outerID(1))
		if err != nil {
			return err
		}
		f, err := a.clone(true, userns)
		_ = userns.Close()
		switch {
		case err == nil:
			_ = f.Close()
		case a.ReadOnly:
			a.bare = true
			d.log.Warn("the file system of a directory that functions may mount cannot map ids: they read what everyone may read",
				slog.String("name", a.Name), slog.String("path", a.Path), slog.Any("error", err))
		default:
			return core.Invalid("the directory %[2]s, which functions may mount as %[1]s, or one mounted in it, is on a file system that cannot map ids (%[3]v), "+
				"so that functions could not write there as its owner: allow it to be read only (--allow-mount %[1]s=%[2]s:ro)", a.Name, a.Path, err)
		}
	}
	return nil
}

func (d *Driver) closeDirectories() {
	for _, a := range d.allowed {
		_ = a.file.Close()
	}
	d.allowed = nil
}

// find gives the directory that a mount names. What was allowed when the
// function was deployed need not be now.
func (d *Driver) findDirectory(m core.Mount) (*directory, error) {
	list := make([]core.HostDirectory, len(d.allowed))
	for i := range d.allowed {
		list[i] = d.allowed[i].HostDirectory
	}
	found, err := core.FindDirectory(list, m)
	if err != nil {
		return nil, err
	}
	for i := range d.allowed {
		if d.allowed[i].Name == found.Name {
			return &d.allowed[i], nil
		}
	}
	return nil, err
}

// checkMounts refuses mounts of what is not allowed.
func (d *Driver) checkMounts(spec core.InstanceSpec) error {
	if len(spec.Mounts) > core.MaxMounts {
		return core.Errorf(core.KindInvalid, core.ReasonStartFailed, "%s/%s has %d mounts; %d are possible",
			spec.App, spec.Function, len(spec.Mounts), core.MaxMounts)
	}
	for _, m := range spec.Mounts {
		a, err := d.findDirectory(m)
		if err == nil {
			_, _, err = a.owner(!m.ReadOnly)
		}
		if err != nil {
			return core.Errorf(core.KindFunction, core.ReasonStartFailed, "%s/%s cannot be started: %s",
				spec.App, spec.Function, core.AsError(err).Message)
		}
	}
	return nil
}

// mountDirectories adds a detached mount of each directory to what init gets.
func (b *box) mountDirectories(files *open, cfg *config, mounts []core.Mount) error {
	for _, m := range mounts {
		a, err := b.d.findDirectory(m)
		if err != nil {
			return err
		}
		f, err := b.mountDirectory(a, cfg, m.ReadOnly)
		if err != nil {
			return err
		}
		files.add(f)
	}
	return nil
}

// nogroup stands for the group of a directory to be read whose own is root's.
const nogroup = 65534

// mountDirectory clones a directory such that the function's user is its
// owner: in the instance the owner's files are the user's, and what the user
// writes is the owner's on the host. Files of others are nobody's. A directory
// of root's has no id mapped, and all is nobody's.
func (b *box) mountDirectory(a *directory, cfg *config, readOnly bool) (*os.File, error) {
	uid, gid, err := a.owner(!readOnly)
	if err != nil {
		return nil, err
	}
	if a.bare || uid == 0 {
		return a.clone(readOnly, nil)
	}
	if gid == 0 {
		gid = nogroup
	}
	userns, err := b.d.userNamespace(uid, gid, b.outerID(cfg.uid), b.outerID(cfg.gid))
	if err != nil {
		return nil, err
	}
	defer func() { _ = userns.Close() }()
	return a.clone(readOnly, userns)
}

// outerID gives what a user or group of the instance is on the host.
func (b *box) outerID(id uint32) uint32 {
	return uint32(b.d.ids.of(b.slot)) + id
}

// clone gives a detached mount of the directory and all that is mounted in it
// now. What is mounted there later does not come along.
func (a *directory) clone(readOnly bool, userns *os.File) (*os.File, error) {
	const whole = unix.AT_EMPTY_PATH | unix.AT_RECURSIVE
	fd, err := unix.OpenTree(int(a.file.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_NO_AUTOMOUNT|whole)
	if err != nil {
		return nil, &os.PathError{Op: "clone the mount of", Path: a.Path, Err: err}
	}
	f := os.NewFile(uintptr(fd), a.Path)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID, Propagation: unix.MS_PRIVATE}
	if readOnly || a.ReadOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if !a.Exec {
		attr.Attr_set |= unix.MOUNT_ATTR_NOEXEC
	}
	if userns != nil {
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(userns.Fd())
	}
	if err := unix.MountSetattr(fd, "", whole, &attr); err != nil {
		_ = f.Close()
		return nil, &os.PathError{Op: "set up a mount of", Path: a.Path, Err: err}
	}
	return f, nil
}

// userNamespace makes a user namespace that says which user and group of the
// file system are which of the host's (mount_setattr(2), MOUNT_ATTR_IDMAP). A
// process has to be in it when it is made; it ends at once.
func (d *Driver) userNamespace(uid, gid, outerUID, outerGID uint32) (*os.File, error) {
	ctl, theirs, err := newChannel()
	if err != nil {
		return nil, err
	}
	defer ctl.close()
	pid, pidfd, err := d.spawner.spawn(theirs, nil, spawnUserns|spawnAlone, uint32(os.Geteuid()))
	_ = theirs.Close()
	if err != nil {
		return nil, fmt.Errorf("make a user namespace: %w", err)
	}
	defer func() {
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		wait(pid)
		_ = unix.Close(pidfd)
	}()
	proc := "/proc/" + strconv.Itoa(pid)
	f, err := os.Open(proc + "/ns/user")
	if err != nil {
		return nil, fmt.Errorf("open a user namespace: %w", err)
	}
	if err := errors.Join(
		put(proc+"/uid_map", fmt.Sprintf("%d %d 1\n", uid, outerUID)),
		put(proc+"/gid_map", fmt.Sprintf("%d %d 1\n", gid, outerGID)),
	); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// mountRefused says why a directory could not be put where a function wants it.
func mountRefused(function string, m core.Mount, err syscall.Errno) string {
	switch err {
	case syscall.ELOOP:
		return "the mount " + m.Name + " of " + function + " cannot be put at " + m.Path +
			", since a symbolic link of the image is on the way: choose another path"
	case syscall.ENOTDIR:
		return "the mount " + m.Name + " of " + function + " cannot be put at " + m.Path +
			", since a file of the image is there: choose another path"
	}
	return "the mount " + m.Name + " of " + function + " cannot be put at " + m.Path + ": " + err.Error()
}
