package netns_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/netns"
)

// inside makes a network namespace with lo up and a listener on an address in
// it, and gives its descriptor and the port.
func inside(t *testing.T, address string) (fd int, port uint16) {
	t.Helper()
	done := make(chan error)
	var file *os.File
	go netns.OnThread(func() {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			file, err = os.Open("/proc/thread-self/ns/net")
		}
		if err == nil {
			lo, lerr := netlink.LinkByName("lo")
			if err = lerr; err == nil {
				err = netlink.LinkSetUp(lo)
			}
		}
		if err == nil {
			var l net.Listener
			if l, err = new(net.ListenConfig).Listen(context.WithoutCancel(t.Context()), "tcp", address); err == nil {
				t.Cleanup(func() { _ = l.Close() })
				port = netip.MustParseAddrPort(l.Addr().String()).Port()
			}
		}
		done <- err
	})
	if err := <-done; err != nil {
		t.Fatalf("make a network namespace (this needs root): %v", err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return int(file.Fd()), port
}

func TestDial(t *testing.T) {
	t.Parallel()
	w, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	addrs := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), {}, netip.IPv6Loopback()}
	dial := func(ctx context.Context, fd int, port uint16) (net.Conn, error) {
		return netns.Dial(ctx, addrs, port, new(netns.Spares), func(family int) (int, error) { return w.Socket(ctx, fd, family) })
	}
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		fd, port := inside(t, address)
		c, err := dial(t.Context(), fd, port)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		_ = c.Close()
		// It was inside: nothing listens there outside.
		if c, err := net.Dial("tcp", c.RemoteAddr().String()); err == nil {
			_ = c.Close()
			t.Errorf("%s: %s can be reached from everywhere", address, c.RemoteAddr())
		}
		if _, err := dial(t.Context(), fd, 1); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: where nothing listens the error is %v", address, err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if c, err := dial(ended, fd, port); err == nil {
			_ = c.Close() // it was faster
		} else if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: with an ended context the error is %v", address, err)
		}
	}
	w.Close()
	if _, err := w.Socket(t.Context(), 0, unix.AF_INET); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close the error is %v", err)
	}
}

// Who waits for a listener steps inside once for each family, and leaves no
// socket behind, however it ends.
func TestSparesAreUsedAgain(t *testing.T) {
	t.Parallel()
	fd, port := inside(t, "127.0.0.1:0")
	w, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var made []int
	spares := new(netns.Spares)
	dial := func(port uint16) (net.Conn, error) {
		addrs := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.AddrFrom4([4]byte{127, 0, 0, 2}), netip.IPv6Loopback()}
		return netns.Dial(t.Context(), addrs, port, spares, func(family int) (int, error) {
			s, err := w.Socket(t.Context(), fd, family)
			made = append(made, s)
			return s, err
		})
	}
	for range 20 {
		if _, err := dial(1); !errors.Is(err, unix.ECONNREFUSED) {
			t.Fatalf("where nothing listens the error is %v", err)
		}
	}
	if len(made) != 2 {
		t.Errorf("%d sockets were made for two families", len(made))
	}
	for range 2 { // the second finds no spare
		c, err := dial(port)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		_ = c.Close()
	}
	if len(made) != 3 {
		t.Errorf("%d sockets were made; once somebody listens none is kept", len(made))
	}
	_, _ = dial(1)
	spares.Close()
	if _, err := dial(1); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("after Close the error is %v", err)
	}
	for _, s := range made {
		// A number that is used again since is of another kind or place.
		if cookie, err := unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err == nil && cookie == cookieOf(t, w, fd) {
			t.Errorf("the socket %d is still open", s)
		}
	}
}

// cookieOf gives the kernel's mark of a network namespace.
func cookieOf(t *testing.T, w *netns.Doorway, fd int) uint64 {
	t.Helper()
	s, err := w.Socket(t.Context(), fd, unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(s) }()
	cookie, err := unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		t.Fatal(err)
	}
	return cookie
}
