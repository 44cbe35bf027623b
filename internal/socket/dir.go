package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Dir is a directory of sockets.
type Dir struct {
	mu      sync.RWMutex
	file    *os.File // nil once closed
	waiting map[*os.File]struct{}
}

// NewDir makes a Dir of an open directory, which it owns from then on. It may
// have been opened with O_PATH.
func NewDir(f *os.File) *Dir { return &Dir{file: f, waiting: map[*os.File]struct{}{}} }

// Open opens a directory. Whoever can write to it must not be able to replace
// it: the path is followed.
func Open(path string) (*Dir, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return NewDir(os.NewFile(uintptr(fd), path)), nil
}

// An Error says that there is something of a name, and that it is no socket to
// connect to.
type Error struct {
	Name string
	What string // what it is, after "it is"
}

func (e *Error) Error() string { return e.Name + " is " + e.What + ", and not a socket" }

// Dial connects to the socket of a name. The error is [fs.ErrNotExist] when
// there is nothing, ECONNREFUSED when nobody listens on it, EAGAIN when
// whoever listens takes no more connections, an *[Error] when it is something
// else, and [os.ErrClosed] after Close.
func (d *Dir) Dial(name string) (net.Conn, error) {
	fd, err := d.find(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	return connect(fd, name)
}

// find opens the socket of a name.
func (d *Dir) find(name string) (int, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.file == nil {
		return -1, os.ErrClosed
	}
	dir := int(d.file.Fd())
	target, err := follow(dir, name)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Openat2(dir, target, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: target, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return -1, &fs.PathError{Op: "stat", Path: target, Err: err}
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFSOCK {
		_ = unix.Close(fd)
		what := kindName(kind)
		if target != name {
			what = "a symbolic link to " + strconv.Quote(target) + ", which is " + what
		}
		return -1, &Error{name, what}
	}
	return fd, nil
}

// follow gives the name that a symbolic link leads to, or the name itself when
// it is no link. What is there in the next moment is for openat2 to see.
func follow(dir int, name string) (string, error) {
	if !plain(name) {
		return "", &Error{strconv.Quote(name), "not a plain name"}
	}
	var b [unix.PathMax]byte
	n, err := unix.Readlinkat(dir, name, b[:])
	switch {
	case errors.Is(err, unix.EINVAL):
		return name, nil
	case err != nil:
		return "", &fs.PathError{Op: "look at", Path: name, Err: err}
	}
	target := string(b[:n])
	if !plain(target) {
		return "", &Error{name, fmt.Sprintf("a symbolic link to %.200q, which is not a plain name in its directory", target)}
	}
	return target, nil
}

func plain(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

func kindName(kind uint32) string {
	switch kind {
	case unix.S_IFREG:
		return "a regular file"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFIFO:
		return "a named pipe"
	case unix.S_IFLNK:
		return "a symbolic link itself"
	}
	return "a device"
}

// connect connects to the socket of a descriptor, by the one name that nobody
// else can change.
func connect(to int, name string) (net.Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { _ = f.Close() }() // FileConn makes a copy
	at := unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(to)}
	for {
		err = unix.Connect(fd, &at)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, &fs.PathError{Op: "connect to", Path: name, Err: err}
		}
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("take over a socket: %w", err)
	}
	return c, nil
}

// Await waits until there is something of the name: nil when it is a socket,
// else the error that Dial would give. When ctx ends, the error is its cause.
func (d *Dir) Await(ctx context.Context, name string) error {
	if err := d.check(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	w, err := d.watch()
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOSPC) {
		// So many wait already that the kernel has no more watches
		// (fs.inotify.max_user_instances): look now and then.
		return d.look(ctx, name)
	}
	if err != nil {
		return err
	}
	defer d.unwatch(w)
	stop := context.AfterFunc(ctx, func() { interrupt(w) })
	defer stop()
	var events [4096]byte
	for {
		if err := d.check(name); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		_, err := w.Read(events[:]) // which names does not matter
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return tired(ctx, name)
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("wait for the socket %s: %w", name, err)
		}
	}
}

func tired(ctx context.Context, name string) error {
	return fmt.Errorf("wait for the socket %s: %w", name, context.Cause(ctx))
}

// lookEvery is the pause between two looks where nothing tells of a change.
const lookEvery = 2 * time.Millisecond

// look is Await without a watch.
func (d *Dir) look(ctx context.Context, name string) error {
	again := time.NewTicker(lookEvery)
	defer again.Stop()
	for {
		if err := d.check(name); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return tired(ctx, name)
		}
	}
}

func (d *Dir) check(name string) error {
	fd, err := d.find(name)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

// watch makes a file from which something can be read when a name has been
// made in the directory.
func (d *Dir) watch() (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch a directory: %w", err)
	}
	w := os.NewFile(uintptr(fd), "inotify")
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file == nil {
		_ = w.Close()
		return nil, os.ErrClosed
	}
	path := "/proc/self/fd/" + strconv.Itoa(int(d.file.Fd()))
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("watch a directory: %w", err)
	}
	d.waiting[w] = struct{}{}
	return w, nil
}

func (d *Dir) unwatch(w *os.File) {
	d.mu.Lock()
	delete(d.waiting, w)
	d.mu.Unlock()
	_ = w.Close()
}

func interrupt(w *os.File) { _ = w.SetReadDeadline(time.Unix(1, 0)) }

// Close lets go of the directory. What waits for it ends with [os.ErrClosed];
// connections go on.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file == nil {
		return nil
	}
	for w := range d.waiting {
		interrupt(w)
	}
	err := d.file.Close()
	d.file = nil
	return err //nolint:wrapcheck // it says what it is about
}
