package drivertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/contract/fdk"
	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/socket"
)

// socketing is for drivers that reach the sockets of instances.
var socketing = map[string]func(*testing.T, *suite){
	"DialSocket reaches a socket that a kit makes":       dialsSocket,
	"the directory of sockets is the process's to write": ownsSockets,
	"DialSocket refuses what is no socket of the place":  refusesNoSocket,
	"DialSocket refuses a socket that was replaced":      refusesReplaced,
	"DialSocket does not reach a socket of the host":     refusesHostSocket,
	"AwaitSocket ends with its context":                  awaitsSocket,
	"AwaitSocket ends with the instance":                 awaitEndsWithInstance,
	"DialSocket tells who does not listen":               tellsDeaf,
	"sockets are found by instance":                      sharesSocketName,
	"the directory of sockets is bounded":                boundsSockets,
	"connections by socket end with the instance":        endsSocketConnections,
	"instances without sockets have none":                hasNoSockets,
}

// Sockets is what the server needs of a driver that reaches sockets.
type Sockets = fdk.Dialer

// socketSpec is Spec of an instance with a directory of sockets, as the
// contract fdk has it.
func (s *suite) socketSpec(how ...string) core.InstanceSpec {
	spec := Spec(s.base, append([]string{"socket"}, how...)...)
	spec.User, spec.SocketDir = "1000:1000", fdk.SocketDir
	return spec
}

// sockets starts an instance that makes a socket in some way.
func (s *suite) sockets(t *testing.T, how ...string) *Process {
	t.Helper()
	return Start(t, s.Driver, s.socketSpec(how...), nil)
}

func (s *suite) dialSocket(t *testing.T, id core.InstanceID) net.Conn {
	t.Helper()
	if err := s.Sockets.AwaitSocket(Context(t), id, fdk.SocketName); err != nil {
		t.Fatalf("await: %v", err)
	}
	var c net.Conn
	Eventually(t, "somebody listens", func() bool {
		var err error
		c, err = s.Sockets.DialSocket(Context(t), id, fdk.SocketName)
		if err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			t.Fatalf("dial: %v", err)
		}
		return err == nil
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func dialsSocket(t *testing.T, s *suite) {
	for _, how := range []string{"kit", "plain"} {
		p := s.sockets(t, how)
		if got := Get(t, s.dialSocket(t, p.ID), "/"); got != "hello" {
			t.Errorf("%s: it answers %q", how, got)
		}
	}
}

// The process is the user that the spec names, and can make what it likes.
func ownsSockets(t *testing.T, s *suite) {
	spec := s.socketSpec()
	spec.Command = []string{"/misbehave", "facts"}
	f := s.facts(t, spec)
	if !s.Can.OneUser && (f.UID != 1000 || f.GID != 1000) {
		t.Errorf("it runs as %d:%d, want 1000:1000", f.UID, f.GID)
	}
	for _, m := range f.Mounts {
		if strings.Contains(m, " "+fdk.SocketDir+" ") {
			return
		}
	}
	t.Errorf("%s is no mount of its own: %q", fdk.SocketDir, f.Mounts)
}

func refusesNoSocket(t *testing.T, s *suite) {
	for _, how := range [][]string{
		{"link", "../../secret.sock"},
		{"link", "/run/docker.sock"},
		{"link", "/proc/1/root/run/docker.sock"},
		{"link", "../iofs/" + "phonylsnr.sock"},
		{"link", "."},
		{"file"},
		{"pipe"},
		{"dir"},
	} {
		t.Run(strings.Join(how, " "), func(t *testing.T) {
			t.Parallel()
			p := s.sockets(t, how...)
			err := s.Sockets.AwaitSocket(Context(t), p.ID, fdk.SocketName)
			if _, ok := errors.AsType[*socket.Error](err); !ok {
				t.Errorf("AwaitSocket gives %v", err)
			}
			_, err = s.Sockets.DialSocket(Context(t), p.ID, fdk.SocketName)
			if _, ok := errors.AsType[*socket.Error](err); !ok {
				t.Errorf("DialSocket gives %v", err)
			}
		})
	}
	for _, name := range []string{"../x", "/etc/passwd", ".."} {
		if _, err := s.Sockets.DialSocket(Context(t), s.sockets(t, "none").ID, name); err == nil {
			t.Errorf("the name %q is dialed", name)
		}
	}
}

func refusesReplaced(t *testing.T, s *suite) {
	stdin, tell := io.Pipe()
	p := Start(t, s.Driver, s.socketSpec("replaced"), stdin)
	first := s.dialSocket(t, p.ID)
	if _, err := tell.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = tell.Close()
	p.Out.Await(t, "replaced")
	_, err := s.Sockets.DialSocket(Context(t), p.ID, fdk.SocketName)
	if _, ok := errors.AsType[*socket.Error](err); !ok {
		t.Errorf("what took its place gives %v", err)
	}
	if got := Get(t, first, "/"); got != "hello" {
		t.Errorf("the connection that was there answers %q", got)
	}
}

// The host's socket is where Docker's, or a database's, would be: on a path
// that the process knows and could name in a link.
func refusesHostSocket(t *testing.T, s *suite) {
	dir, err := os.MkdirTemp("", "host") //nolint:usetesting // short, for the 107 bytes of an address
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "h.sock")
	host, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close() })
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{path, "../.." + path, "../../../../../.." + path} {
		p := s.sockets(t, "link", target)
		p.Out.Await(t, "made")
		c, err := s.Sockets.DialSocket(Context(t), p.ID, fdk.SocketName)
		if _, ok := errors.AsType[*socket.Error](err); !ok {
			t.Errorf("a link to %s gives %v, %v", target, c, err)
		}
	}
	if err := host.SetDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if c, err := host.Accept(); err == nil {
		t.Errorf("the host's socket was connected to, by %v", c)
	}
}

func awaitsSocket(t *testing.T, s *suite) {
	for _, how := range []string{"none", "deleted", "abstract"} {
		p := s.sockets(t, how)
		p.Out.Await(t, "made")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := s.Sockets.AwaitSocket(ctx, p.ID, fdk.SocketName); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: AwaitSocket gives %v", how, err)
		}
		if _, err := s.Sockets.DialSocket(Context(t), p.ID, fdk.SocketName); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: DialSocket gives %v", how, err)
		}
	}
}

func awaitEndsWithInstance(t *testing.T, s *suite) {
	p := s.sockets(t, "none")
	done := make(chan error, 1)
	go func() { done <- s.Sockets.AwaitSocket(Context(t), p.ID, fdk.SocketName) }()
	p.Out.Await(t, "made")
	p.Stop(0)
	if err := <-done; !errors.Is(err, core.ErrGone) {
		t.Errorf("AwaitSocket gives %v", err)
	}
	if _, err := s.Sockets.DialSocket(Context(t), p.ID, fdk.SocketName); !errors.Is(err, core.ErrGone) {
		t.Errorf("DialSocket gives %v", err)
	}
	if err := s.Sockets.AwaitSocket(Context(t), NextID(), fdk.SocketName); !errors.Is(err, core.ErrGone) {
		t.Errorf("AwaitSocket of an instance that never was gives %v", err)
	}
}

func tellsDeaf(t *testing.T, s *suite) {
	p := s.sockets(t, "bound")
	p.Out.Await(t, "made")
	if _, err := s.Sockets.DialSocket(Context(t), p.ID, fdk.SocketName); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a socket that nobody listens on gives %v", err)
	}
	p = s.sockets(t, "deaf")
	p.Out.Await(t, "made")
	for range 3 {
		c, err := s.Sockets.DialSocket(Context(t), p.ID, fdk.SocketName)
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if err != nil {
			t.Fatalf("a socket that nobody accepts on gives %v", err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Error("a socket that nobody accepts on takes every connection")
}

func sharesSocketName(t *testing.T, s *suite) {
	first, second := s.sockets(t, "kit"), s.sockets(t, "kit")
	Get(t, s.dialSocket(t, first.ID), "/print/first")
	Get(t, s.dialSocket(t, second.ID), "/print/second")
	first.Out.Await(t, "first")
	second.Out.Await(t, "second")
	if strings.Contains(first.Out.String(), "second") || strings.Contains(second.Out.String(), "first") {
		t.Error("one was dialed for the other")
	}
}

func boundsSockets(t *testing.T, s *suite) {
	p := s.sockets(t, "full")
	p.Out.Await(t, "made")
	var files, bytes int
	var made bool
	if _, err := fmt.Sscanf(p.Out.String(), "files %d bytes %d socket %t", &files, &bytes, &made); err != nil {
		t.Fatalf("it printed %q: %v", p.Out.String(), err)
	}
	if files > 1024 || bytes > int(core.MiB) {
		t.Errorf("it made %d files and %d bytes", files, bytes)
	}
	if _, err := s.Sockets.DialSocket(Context(t), p.ID, fdk.SocketName); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("DialSocket gives %v", err)
	}
}

func endsSocketConnections(t *testing.T, s *suite) {
	p := s.sockets(t, "kit")
	c := s.dialSocket(t, p.ID)
	p.Stop(0)
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("after the end %d bytes come", n)
	}
}

func hasNoSockets(t *testing.T, s *suite) {
	p := s.start(t, "sleep", "1m")
	if _, err := s.Sockets.DialSocket(Context(t), p.ID, fdk.SocketName); err == nil || errors.Is(err, core.ErrGone) {
		t.Errorf("DialSocket gives %v", err)
	}
}
