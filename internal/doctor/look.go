package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/docker"
	"github.com/dayfly-io/dayfly/internal/sandbox"
	"github.com/dayfly-io/dayfly/internal/sandbox/network"
	"github.com/dayfly-io/dayfly/internal/sandbox/userns"
)

// Look finds out what there is. As a plain user it goes where a server would
// go, into a user namespace: the program is started again for that, so that it
// must be called first.
func Look(ctx context.Context, o Options) (Facts, error) {
	notice, refused := sandbox.Enter()
	f := Facts{Arch: runtime.GOARCH, Listen: o.Listen, Now: o.Now(), Tried: map[Trial]string{}}
	var err error
	if f.User, err = lookAtUser(notice, refused); err != nil {
		return Facts{}, err
	}
	groups := sandbox.LookAtGroups(!f.User.Root)
	f.Cgroup = Cgroup{
		Unified: groups.Unified, Controllers: groups.Limits, Legacy: groups.Legacy, Swap: groups.Swap,
		Lack: groups.Lack.Why, Remedy: groups.Lack.Remedy,
	}
	f.Kernel, err = kernelVersion()
	if err != nil {
		return Facts{}, err
	}
	if f.User.Refused == "" {
		f.tryAll()
	}
	f.Tried[TrialSeccomp] = said(trySeccomp())
	b, _ := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	f.Forwarding = strings.TrimSpace(string(b)) == "1"
	if !f.User.Root && !network.Owned() {
		f.Uplink = said(network.CheckUplink())
	}
	if f.Data, err = lookAtDirectory(o.Data); err != nil {
		return Facts{}, err
	}
	f.InUse = said(tryListen(ctx, o.Listen))
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil {
		f.Files = files.Max
	}
	f.Synced = isSynced()
	if f.Docker, err = docker.Find(ctx, o.DockerHost); err != nil {
		f.NoDocker = core.AsError(err).Message
	}
	return f, nil
}

// said gives the text of an error, "" for none.
func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func lookAtUser(notice string, refused error) (User, error) {
	state, err := userns.Here()
	if err != nil {
		return User{}, fmt.Errorf("look at the user: %w", err)
	}
	u := User{Root: state.Initial && os.Geteuid() == 0, IDs: state.IDs, Limits: userns.FindLimits()}
	switch {
	case refused != nil:
		u.Refused = "a user namespace is refused"
		if cause := errors.Unwrap(refused); cause != nil {
			u.Refused = cause.Error()
		}
	case u.Root:
		u.Missing = sandbox.MissingCapabilities()
	case u.IDs <= 1:
		u.Lack, u.Remedy = sandbox.WhyOneID(notice)
	}
	return u, nil
}

func kernelVersion() (v [2]int, err error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return v, fmt.Errorf("ask for the kernel's version: %w", err)
	}
	release := unix.ByteSliceToString(name.Release[:])
	if _, err := fmt.Sscanf(release, "%d.%d", &v[0], &v[1]); err != nil {
		return v, fmt.Errorf("read the kernel's version %q: %w", release, err)
	}
	return v, nil
}

// The names of file systems, by the numbers that statfs(2) gives them.
var fileSystems = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlayfs", unix.NFS_SUPER_MAGIC: "nfs", unix.F2FS_SUPER_MAGIC: "f2fs", unix.FUSE_SUPER_MAGIC: "fuse",
	unix.V9FS_MAGIC: "9p", 0x2fc12fc1: "zfs",
}

// lookAtDirectory looks at a directory, or at the nearest above it that is
// there.
func lookAtDirectory(path string) (Directory, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Directory{}, fmt.Errorf("find the data directory: %w", err)
	}
	d := Directory{Path: path}
	for at := path; ; at = filepath.Dir(at) {
		var st unix.Statfs_t
		err := unix.Statfs(at, &st)
		if errors.Is(err, fs.ErrNotExist) && at != "/" {
			continue
		}
		if err != nil {
			d.Type, d.Denied = "an unknown file system", err.Error()
			return d, nil //nolint:nilerr // it is a finding
		}
		d.Type = fileSystems[int64(st.Type)] //nolint:unconvert // it is of another type elsewhere
		if d.Type == "" {
			d.Type = fmt.Sprintf("a file system of the kind %#x", st.Type)
		}
		d.Free = core.Bytes(st.Bavail) * core.Bytes(st.Bsize)
		d.Denied = said(unix.Access(at, unix.W_OK|unix.X_OK))
		return d, nil
	}
}

func tryListen(ctx context.Context, address string) error {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return err //nolint:wrapcheck // it names the address
	}
	return l.Close() //nolint:wrapcheck // never in practice
}

// isSynced reports whether the kernel is told that its clock is right
// (adjtimex(2)).
func isSynced() bool {
	const unsynced = 0x40 // STA_UNSYNC
	var t unix.Timex
	_, err := unix.Adjtimex(&t)
	return err == nil && t.Status&unsynced == 0
}
