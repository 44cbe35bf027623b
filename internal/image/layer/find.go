package layer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links a path may go through; as in Linux.
const maxLinks = 40

// find gives the directory, among layers (lowest first), that holds name as
// the merged overlay shows it, and name's path in it without symbolic links.
// It is fs.ErrNotExist when a process would not find it.
func find(layers []string, name string) (layer, real string, err error) {
	left := strings.Split(path.Clean("/" + name)[1:], "/")
	at := "."
	links := 0
	for len(left) > 0 {
		part := left[0]
		left = left[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		found, err := lookup(layers, path.Join(at, part))
		if err != nil {
			return "", "", fmt.Errorf("finding %s: %w", quote(name), err)
		}
		at, layer = path.Join(at, part), found.layer
		if found.link == "" {
			continue
		}
		if links++; links > maxLinks {
			return "", "", fmt.Errorf("finding %s: %w", quote(name), unix.ELOOP)
		}
		at = path.Dir(at)
		if path.IsAbs(found.link) {
			at = "."
		}
		left = append(strings.Split(found.link, "/"), left...)
	}
	return layer, at, nil
}

// ReadFile reads a regular file of the merged overlay, up to limit bytes; a
// longer one is an error.
func ReadFile(layers []string, name string, limit int64) ([]byte, error) {
	dir, real, err := find(layers, name)
	if err != nil {
		return nil, err
	}
	if real == "." {
		return nil, fmt.Errorf("reading %s: %w", quote(name), unix.EISDIR)
	}
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the layer directory %s: %w", dir, err)
	}
	defer unix.Close(root)
	// Not to be held up by a fifo.
	fd, err := openBeneath(root, real, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", quote(name), err)
	}
	f := os.NewFile(uintptr(fd), real)
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("looking at %s: %w", quote(name), err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("reading %s: it is no regular file", quote(name))
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", quote(name), err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("reading %s: it is larger than %d bytes", quote(name), limit)
	}
	return data, nil
}

// entry is what the merged overlay has at a path.
type entry struct {
	layer string // the topmost that has it
	link  string // where it points, "" for what is no symbolic link
}

// lookup finds a path none of whose directories is a symbolic link. It goes
// down the layers from the top, component by component, as overlayfs does: a
// whiteout or a file hides what is below, an opaque directory too.
func lookup(layers []string, name string) (entry, error) { //nolint:gocognit // overlayfs' own rules, in one place
	visible := layers
	parts := strings.Split(name, "/")
	for i := range parts {
		prefix := path.Join(parts[:i+1]...)
		var next []string
		var first *entry
		for _, v := range slices.Backward(visible) {
			st, err := stat(v, prefix)
			if errors.Is(err, unix.ENOENT) {
				continue
			}
			if err != nil {
				return entry{}, err
			}
			if isWhiteout(&st.Stat_t) {
				break
			}
			if first == nil {
				first = &entry{layer: v, link: st.link}
			}
			if st.Mode&unix.S_IFMT != unix.S_IFDIR {
				break
			}
			next = append([]string{v}, next...)
			if st.opaque {
				break
			}
		}
		if first == nil {
			return entry{}, fs.ErrNotExist
		}
		if i == len(parts)-1 {
			return *first, nil
		}
		if len(next) == 0 {
			return entry{}, fs.ErrNotExist
		}
		visible = next
	}
	return entry{}, fs.ErrNotExist
}

type status struct {
	unix.Stat_t
	link   string
	opaque bool
}

func stat(layer, name string) (status, error) {
	root, err := unix.Open(layer, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return status{}, fmt.Errorf("opening the layer directory %s: %w", layer, err)
	}
	defer unix.Close(root)
	dir, err := openBeneath(root, path.Dir(name), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return status{}, err
	}
	defer unix.Close(dir)
	var s status
	base := path.Base(name)
	if err := unix.Fstatat(dir, base, &s.Stat_t, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return status{}, err
	}
	switch s.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(dir, base, buf)
		if err != nil {
			return status{}, err
		}
		s.link = string(buf[:n])
	case unix.S_IFDIR:
		var value [8]byte
		n, err := unix.Lgetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", dir, base), userOpaque, value[:])
		if err != nil && trusted {
			n, err = unix.Lgetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", dir, base), trustedOpaque, value[:])
		}
		s.opaque = err == nil && n == 1 && value[0] == 'y'
	}
	return s, nil
}
