package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

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
	addrs := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), in.box.link.Address, netip.IPv6Loopback()}
	c, err := netns.Dial(ctx, addrs, uint16(port), &in.spares, func(family int) (int, error) { return d.socket(ctx, in, family) })
	if err != nil {
		return nil, fmt.Errorf("connect to port %d of instance %s: %w", port, id, err)
	}
	return c, nil
}

// socket makes a socket in the network namespace of an instance.
func (d *Driver) socket(ctx context.Context, in *instance, family int) (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.released {
		return -1, core.ErrGone
	}
	fd, err := d.doorway.Socket(ctx, int(in.box.netns.Fd()), family)
	if errors.Is(err, net.ErrClosed) {
		return -1, core.ErrGone
	}
	return fd, err
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
