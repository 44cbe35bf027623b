package socket_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/socket"
)

const name = "lsnr.sock"

// place is a directory that somebody writes to, beside one that they must not
// reach.
type place struct {
	path, outside string
	dir           *socket.Dir
}

func newPlace(t *testing.T) place {
	t.Helper()
	root, err := os.MkdirTemp("", "sock") //nolint:usetesting // short, for the 107 bytes of an address
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	p := place{path: filepath.Join(root, "in"), outside: filepath.Join(root, "out")}
	if err := errors.Join(os.Mkdir(p.path, 0o755), os.Mkdir(p.outside, 0o755)); err != nil {
		t.Fatal(err)
	}
	if p.dir, err = socket.Open(p.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.dir.Close() })
	return p
}

func (p place) in(name string) string { return filepath.Join(p.path, name) }

// listen makes a socket that says a word to whoever connects.
func listen(t *testing.T, path, word string) {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, word)
			_ = c.Close()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
}

func hears(t *testing.T, c net.Conn, want string) {
	t.Helper()
	defer c.Close()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != want {
		t.Errorf("the peer says %q, %v; want %q", got, err, want)
	}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// The names are those that the kits of the Fn Project use.
func TestDialFollowsALinkToAPlainName(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"", "phonylsnr.sock", "lsnr.sock.tmp", "qhdyrkslwe.sock", "@abstract"} {
		p := newPlace(t)
		if target == "" {
			listen(t, p.in(name), "it")
		} else {
			listen(t, p.in("")+"/"+target, "it")
			if err := os.Symlink(target, p.in(name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.dir.Await(within(t), name); err != nil {
			t.Fatal(err)
		}
		c, err := p.dir.Dial(name)
		if err != nil {
			t.Fatal(err)
		}
		hears(t, c, "it")
	}
}

func TestDialRefuses(t *testing.T) {
	t.Parallel()
	link := func(target string) func(*testing.T, place) {
		return func(t *testing.T, p place) {
			t.Helper()
			listen(t, filepath.Join(p.outside, "s"), "secret")
			if err := os.Symlink(strings.ReplaceAll(target, "OUT", p.outside), p.in(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for what, spoil := range map[string]func(*testing.T, place){
		"a link upwards":         link("../out/s"),
		"an absolute link":       link("OUT/s"),
		"a link to itself, deep": link("./lsnr.sock"),
		"a link to the parent":   link(".."),
		"a link to the place":    link("."),
		"a link below":           link("sub/s"),
		"a magic link":           link("/proc/self/fd/3"),
		"two links": func(t *testing.T, p place) {
			t.Helper()
			link("middle")(t, p)
			if err := os.Symlink("../out/s", p.in("middle")); err != nil {
				t.Fatal(err)
			}
		},
		"a regular file": func(t *testing.T, p place) {
			t.Helper()
			if err := os.WriteFile(p.in(name), nil, 0o666); err != nil {
				t.Fatal(err)
			}
		},
		"a directory": func(t *testing.T, p place) {
			t.Helper()
			if err := os.Mkdir(p.in(name), 0o777); err != nil {
				t.Fatal(err)
			}
		},
		"a named pipe": func(t *testing.T, p place) {
			t.Helper()
			if err := unix.Mkfifo(p.in(name), 0o666); err != nil {
				t.Fatal(err)
			}
		},
		"a link to a file": func(t *testing.T, p place) {
			t.Helper()
			link("file")(t, p)
			if err := os.WriteFile(p.in("file"), nil, 0o666); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			spoil(t, p)
			for _, err := range []error{p.dir.Await(within(t), name), func() error { _, err := p.dir.Dial(name); return err }()} {
				if e, ok := errors.AsType[*socket.Error](err); !ok || e.Name != name {
					t.Errorf("the error is %v", err)
				}
			}
		})
	}
}

func TestDialRefusesNamesWithAPath(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	listen(t, filepath.Join(p.outside, "s"), "secret")
	for _, n := range []string{"../out/s", "/etc", "", ".", "..", "a\x00b"} {
		if _, err := p.dir.Dial(n); err == nil {
			t.Errorf("%q is dialed", n)
		}
	}
}

// What has been looked at is what is connected, whatever takes its place.
func TestDialConnectsToWhatItLookedAt(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	listen(t, p.in("mine"), "mine")
	listen(t, filepath.Join(p.outside, "s"), "secret")
	if err := os.Symlink("mine", p.in(name)); err != nil {
		t.Fatal(err)
	}
	fd, err := p.dir.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, n := range []string{"mine", name} {
		if err := os.Symlink("../out/s", p.in("next")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(p.in("next"), p.in(n)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := socket.Connect(fd, name)
	if err != nil {
		t.Fatal(err)
	}
	hears(t, c, "mine")
	if _, err := p.dir.Dial(name); err == nil {
		t.Error("the replaced one is dialed")
	}
}

func TestDialWhileTheNameIsReplaced(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	listen(t, p.in("mine"), "mine")
	listen(t, filepath.Join(p.outside, "s"), "secret")
	stop := make(chan struct{})
	var flipping sync.WaitGroup
	flipping.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			target := "mine"
			if i%2 == 0 {
				target = "../out/s"
			}
			_ = os.Symlink(target, p.in("next"))
			_ = os.Rename(p.in("next"), p.in(name))
		}
	})
	for good, bad, ctx := 0, 0, within(t); good < 500 || bad < 500; {
		c, err := p.dir.Dial(name)
		if err == nil {
			good++
			hears(t, c, "mine")
			continue
		}
		bad++
		if _, ok := errors.AsType[*socket.Error](err); !ok && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EAGAIN) || ctx.Err() != nil {
			t.Errorf("after %d good ones the error is %v", good, err)
			break
		}
	}
	close(stop)
	flipping.Wait()
}

func TestDialTellsWhatIsMissing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	if _, err := p.dir.Dial(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there gives %v", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: p.in(name)}); err != nil {
		t.Fatal(err)
	}
	if err := p.dir.Await(within(t), name); err != nil {
		t.Fatal(err)
	}
	if _, err := p.dir.Dial(name); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("nobody listening gives %v", err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a backlog of 0 takes one
		c, err := p.dir.Dial(name)
		if err != nil {
			if !errors.Is(err, unix.EAGAIN) {
				t.Errorf("nobody accepting gives %v", err)
			}
			return
		}
		defer c.Close()
	}
	t.Error("all were taken")
}

func TestAwait(t *testing.T) {
	t.Parallel()
	for how, await := range map[string]func(*socket.Dir, context.Context, string) error{"told": (*socket.Dir).Await, "looking": (*socket.Dir).Look} {
		p := newPlace(t)
		done := make(chan error, 1)
		go func() { done <- await(p.dir, within(t), name) }()
		if err := os.Symlink("late", p.in(name)); err != nil { // leads nowhere yet
			t.Fatal(err)
		}
		if err := os.WriteFile(p.in("other"), nil, 0o666); err != nil {
			t.Fatal(err)
		}
		listen(t, p.in("late"), "late")
		if err := <-done; err != nil {
			t.Errorf("%s: %v", how, err)
		}
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { done <- await(p.dir, ctx, "never") }()
		cancel(gone)
		if err := <-done; !errors.Is(err, gone) {
			t.Errorf("%s: the end of ctx gives %v", how, err)
		}
		go func() { done <- await(p.dir, within(t), "never") }()
		if err := p.dir.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: Close gives %v", how, err)
		}
		if _, err := p.dir.Dial(name); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: Dial after Close gives %v", how, err)
		}
		if err := p.dir.Close(); err != nil {
			t.Error(err)
		}
	}
}
