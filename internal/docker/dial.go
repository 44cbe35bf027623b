package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/netns"
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
	var c net.Conn
	if d.local {
		addrs := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), in.box.address, netip.IPv6Loopback()}
		c, err = netns.Dial(ctx, addrs, uint16(port), &in.spares, func(family int) (int, error) { return in.socket(ctx, family) })
	} else {
		c, err = in.carried(ctx, port)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to port %d of instance %s: %w", port, id, err)
	}
	return c, nil
}

// socket makes a socket in the instance's network namespace.
func (in *instance) socket(ctx context.Context, family int) (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.released {
		return -1, core.ErrGone
	}
	fd, err := in.driver.doorway.Socket(ctx, int(in.box.netns.Fd()), family)
	if errors.Is(err, net.ErrClosed) {
		return -1, core.ErrGone
	}
	return fd, err
}

// carried opens a connection that init makes, and that goes through the stream
// which the engine carries.
func (in *instance) carried(ctx context.Context, port int) (net.Conn, error) {
	c, err := in.box.link.open(ctx, port, "")
	if errors.Is(err, errLinkLost) {
		return nil, core.ErrGone
	}
	if err != nil {
		return nil, err
	}
	ours, theirs, err := pair()
	if err != nil {
		in.box.link.shut(c)
		return nil, err
	}
	go in.box.link.carry(c, ours) // until either side has gone
	return theirs, nil
}

// pair gives two ends of a connection.
func pair() (*net.UnixConn, *net.UnixConn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, ferr := net.FileConn(f)
		_ = f.Close() // FileConn makes a copy
		err = errors.Join(err, ferr)
		conns[i], _ = c.(*net.UnixConn)
	}
	if err != nil {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	return conns[0], conns[1], nil
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
	if in.sockets == nil {
		return nil, core.Invalid("the instance %s has no directory of sockets that can be reached", id)
	}
	return in.sockets, nil
}

// socketError says that an instance is gone, whose directory was closed.
func socketError(id core.InstanceID, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrClosed):
		return gone(id)
	}
	return fmt.Errorf("reach a socket of instance %s: %w", id, err)
}
