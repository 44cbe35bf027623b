package layer

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
)

// maxPath is the longest path in a layer, in bytes: PATH_MAX of Linux less
// room for where the layer is mounted. Since no directory is deeper than its
// path is long, removing a layer needs no more than half as many open files.
const maxPath = 4096 - 256

// impliedMode is that of a directory that a tar uses and does not name; the
// same as Docker's.
const impliedMode = 0o755

// tree is the directory of a layer. Paths are relative and clean; "." is the
// directory itself.
type tree struct {
	root int
	// kernelPath is what the kernel calls root, to tell where a symbolic
	// link has led.
	kernelPath string
	// dir is the directory that was opened last, as tars name the entries of
	// one directory together. real is its path without symbolic links.
	dir        int
	name, real string
	// made is told of each directory that was made on the way.
	made func(real string) error
}

func openTree(dir string, made func(real string) error) (*tree, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the layer directory %s: %w", dir, err)
	}
	kernelPath, err := fdPath(fd)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("finding the path of the layer directory %s: %w", dir, err)
	}
	return &tree{root: fd, kernelPath: kernelPath, dir: -1, made: made}, nil
}

func (t *tree) close() {
	t.forget()
	_ = unix.Close(t.root)
}

// forget drops the directory that is held open. What is removed from the tree
// is always in that directory, never on its path, so that it stays right.
func (t *tree) forget() {
	if t.dir >= 0 {
		_ = unix.Close(t.dir)
	}
	t.dir, t.name, t.real = -1, "", ""
}

// take gives the directory that is held open to the caller, who closes it.
func (t *tree) take() int {
	fd := t.dir
	t.dir, t.name, t.real = -1, "", ""
	return fd
}

func (t *tree) hold(fd int, name, real string) {
	t.forget()
	t.dir, t.name, t.real = fd, name, real
}

// open opens a directory; the descriptor stays the tree's own and lasts until
// the next call. With create, what is missing is made.
func (t *tree) open(name string, create bool) (fd int, real string, err error) {
	if t.dir >= 0 && t.name == name {
		return t.dir, t.real, nil
	}
	fd, err = openBeneath(t.root, name, unix.O_PATH|unix.O_DIRECTORY)
	if err == nil {
		t.hold(fd, name, name)
		return fd, name, nil
	}
	again := errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR)
	if !again || name == "." {
		return -1, "", failure(err, "opening the directory", name)
	}
	if err := t.step(name, create); err != nil {
		return -1, "", err
	}
	return t.dir, t.real, nil
}

// step opens the last component of name, whose parent may have to be made or
// may be reached through a symbolic link.
func (t *tree) step(name string, create bool) error {
	parent, real, err := t.open(path.Dir(name), create)
	if err != nil {
		return err
	}
	base := path.Base(name)
	real = path.Join(real, base)
	if len(real) > maxPath {
		return failure(unix.ENAMETOOLONG, "opening the directory", name)
	}
	var st unix.Stat_t
	err = unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT) && create:
		if err := t.imply(parent, base, real); err != nil {
			return err
		}
	case err != nil:
		return failure(err, "looking at", name)
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return t.follow(name, real)
	case isWhiteout(&st) && create:
		if err := unix.Unlinkat(parent, base, 0); err != nil {
			return failure(err, "replacing the whiteout of", name)
		}
		if err := t.imply(parent, base, real); err != nil {
			return err
		}
		if err := setOpaque(parent, base); err != nil {
			return failure(err, "marking as opaque", name)
		}
	}
	fd, err := openBeneath(parent, base, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOTDIR) {
		return core.Invalid("the layer has a file at %s and an entry below it; it cannot be both file and directory", quote(name))
	}
	if err != nil {
		return failure(err, "opening the directory", name)
	}
	t.hold(fd, name, real)
	return nil
}

func (t *tree) imply(parent int, base, real string) error {
	if err := unix.Mkdirat(parent, base, 0o700); err != nil {
		return failure(err, "making the directory", real)
	}
	return t.made(real)
}

// follow opens the directory to which a symbolic link leads, seen as in a
// chroot to the layer.
func (t *tree) follow(name, link string) error {
	fd, err := unix.Openat2(t.root, link, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return core.Invalid("the layer has an entry below %s, a symbolic link that leads to no directory of the layer", quote(name))
	}
	full, err := fdPath(fd)
	if err != nil {
		_ = unix.Close(fd)
		return failure(err, "finding where the link leads", name)
	}
	real, ok := strings.CutPrefix(full, t.kernelPath)
	if !ok || real != "" && real[0] != '/' {
		_ = unix.Close(fd)
		return core.Invalid("the layer has the symbolic link %s, which leads outside it", quote(name))
	}
	t.hold(fd, name, path.Clean("./"+strings.TrimPrefix(real, "/")))
	return nil
}

// openBeneath opens a path without leaving dir and without following any
// symbolic link.
func openBeneath(dir int, name string, flags uint64) (int, error) {
	for {
		fd, err := unix.Openat2(dir, name, &unix.OpenHow{
			Flags:   flags | unix.O_CLOEXEC | unix.O_NOFOLLOW,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
		})
		// EAGAIN: a rename somewhere on the machine raced with the walk.
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		return fd, err
	}
}

func fdPath(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd), buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// remove removes name in dir and what is below it.
func remove(dir int, name string) error {
	err := unix.Unlinkat(dir, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	if err := empty(dir, name); err != nil {
		return err
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

func empty(dir int, name string) error {
	fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, 32<<10)
	removed := false
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil {
			return err
		}
		if n <= 0 && !removed {
			return nil
		}
		if n <= 0 {
			// Removing while reading may have hidden some: look again.
			if _, err := unix.Seek(fd, 0, io.SeekStart); err != nil {
				return err
			}
			removed = false
			continue
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, child := range names {
			if err := remove(fd, child); err != nil {
				return err
			}
			removed = true
		}
	}
}

// isWhiteout reports whether overlayfs takes the file for a whiteout.
func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// failure tells what a system call's error means for the layer: a full disk,
// something in the tar that no file system takes, or trouble of the machine.
func failure(err error, doing, name string) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return fmt.Errorf("%s %s: %w", doing, quote(name), err)
	}
	switch errno {
	case unix.ENOSPC, unix.EDQUOT:
		return core.Unavailable(core.ReasonDiskFull, err, "the disk is full: %s %s needs more space", doing, quote(name))
	case unix.ENAMETOOLONG, unix.ELOOP, unix.ENOTDIR, unix.EISDIR, unix.EINVAL, unix.EILSEQ, unix.EMLINK, unix.ENOENT:
		return &core.Error{
			Kind: core.KindInvalid, Code: core.CodeInvalid, Err: err,
			Message: fmt.Sprintf("the layer has an entry that the file system does not take: %s %s", doing, quote(name)),
		}
	}
	return fmt.Errorf("%s %s: %w", doing, quote(name), err)
}

// quote gives a name from a tar as it can be shown: quoted, and cut when it
// is long.
func quote(name string) string {
	const most = 200
	if len(name) > most {
		return fmt.Sprintf("%q... (%d bytes)", name[:most], len(name))
	}
	return fmt.Sprintf("%q", name)
}
