package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sandbox/network"
	"github.com/dayfly-io/dayfly/internal/socket"
)

// Dial opens a TCP connection to a port of the instance, from inside its
// network namespace: to 127.0.0.1, else to the instance's own address, else
// to ::1. While nothing listens there the error is ECONNREFUSED.
func (d *Driver) Dial(ctx context.Context, id core.InstanceID, port int) (net.Conn, error) {
	in, err := d.live(id)
	if err != nil {
		return nil, err
	}
	addrs := [3]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), in.box.link.Address, netip.IPv6Loopback()}
	for _, a := range addrs {
		if !a.IsValid() {
			continue
		}
		var c net.Conn
		if c, err = d.dial(ctx, in, netip.AddrPortFrom(a, uint16(port))); err == nil {
			return c, nil
		}
		if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.EAFNOSUPPORT) {
			break
		}
		err = unix.ECONNREFUSED
	}
	return nil, fmt.Errorf("connect to port %d of instance %s: %w", port, id, err)
}

func (d *Driver) dial(ctx context.Context, in *instance, to netip.AddrPort) (net.Conn, error) {
	family, addr := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(to.Port()), Addr: [4]byte(to.Addr().AsSlice())})
	if to.Addr().Is6() {
		family, addr = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	fd, err := d.doorway.socket(ctx, in, family)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "instance")
	defer func() { _ = f.Close() }() // FileConn makes a copy
	if err := connect(ctx, fd, addr); err != nil {
		return nil, err
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("take over a socket: %w", err)
	}
	return c, nil
}

// AwaitSocket implements the port of internal/contract/fdk.
func (d *Driver) AwaitSocket(ctx context.Context, id core.InstanceID, name string) error {
	dir, err := d.socketsOf(id)
	if err != nil {
		return err
	}
	return socketError(id, dir.Await(ctx, name))
}

// DialSocket implements the port of internal/contract/fdk.
func (d *Driver) DialSocket(_ context.Context, id core.InstanceID, name string) (net.Conn, error) {
	dir, err := d.socketsOf(id)
	if err != nil {
		return nil, err
	}
	c, err := dir.Dial(name)
	return c, socketError(id, err)
}

func (d *Driver) socketsOf(id core.InstanceID) (*socket.Dir, error) {
	in, err := d.live(id)
	if err != nil {
		return nil, err
	}
	if in.box.sockets == nil {
		return nil, core.Invalid("the instance %s has no directory of sockets", id)
	}
	return in.box.sockets, nil
}

// socketError says that an instance is gone, whose directory was closed.
func socketError(id core.InstanceID, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrClosed):
		return fmt.Errorf("instance %s has ended: %w", id, core.ErrGone)
	}
	return fmt.Errorf("reach a socket of instance %s: %w", id, err)
}

// connect joins a socket that does not block. Inside one machine's loopback
// the answer is there at once; the wait is for the rest.
func connect(ctx context.Context, fd int, addr unix.Sockaddr) error {
	err := unix.Connect(fd, addr)
	for errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.EINTR) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if _, perr := unix.Poll(p, 10); perr != nil && !errors.Is(perr, unix.EINTR) {
			return fmt.Errorf("wait for a connection: %w", perr)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if p[0].Revents != 0 {
			n, gerr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if gerr != nil {
				return fmt.Errorf("ask for the state of a connection: %w", gerr)
			}
			if n == 0 {
				return nil
			}
			err = unix.Errno(n)
		}
	}
	return err
}

// doorway makes sockets inside the network namespaces of instances. A socket
// belongs for good to the namespace it was made in, so that it is enough to
// step in for a moment. One thread does the stepping and nothing else: setns
// changes the thread for good, and a thread that may be in any namespace must
// not run anybody's code.
type doorway struct {
	asks chan socketAsk
	stop chan struct{}
	wg   sync.WaitGroup
}

type socketAsk struct {
	netns  int
	family int
	answer chan socketAnswer
}

type socketAnswer struct {
	fd  int
	err error
}

func newDoorway() (*doorway, error) {
	w := &doorway{asks: make(chan socketAsk), stop: make(chan struct{})}
	ready := make(chan error)
	w.wg.Add(1)
	go network.OnThread(func() {
		defer w.wg.Done()
		home, err := emptyHome()
		ready <- err
		if err != nil {
			return
		}
		defer func() { _ = home.Close() }()
		for {
			select {
			case <-w.stop:
				return
			case a := <-w.asks:
				fd, err := socketIn(a.netns, int(home.Fd()), a.family)
				a.answer <- socketAnswer{fd, err}
			}
		}
	})
	if err := <-ready; err != nil {
		w.wg.Wait()
		return nil, err
	}
	return w, nil
}

// emptyHome moves the thread into a network namespace of its own, and gives
// that: between two visits a thread has to be somewhere, and who is root of a
// user namespace only may not go back to the machine's own network.
func emptyHome() (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open a network namespace: %w", err)
	}
	return home, nil
}

func socketIn(netns, home, family int) (int, error) {
	if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
		return -1, fmt.Errorf("enter the network namespace: %w", err)
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	// Do not stay: a thread inside keeps the namespace alive.
	if herr := unix.Setns(home, unix.CLONE_NEWNET); herr != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("leave the network namespace: %w", herr)
	}
	if err != nil {
		return -1, fmt.Errorf("make a socket: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	return fd, nil
}

func (w *doorway) socket(ctx context.Context, in *instance, family int) (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.released {
		return -1, core.ErrGone
	}
	a := socketAsk{netns: int(in.box.netns.Fd()), family: family, answer: make(chan socketAnswer, 1)}
	select {
	case w.asks <- a:
	case <-w.stop:
		return -1, core.ErrGone
	case <-ctx.Done():
		return -1, fmt.Errorf("enter the network namespace: %w", context.Cause(ctx))
	}
	r := <-a.answer
	return r.fd, r.err
}

func (w *doorway) close() {
	close(w.stop)
	w.wg.Wait()
}
