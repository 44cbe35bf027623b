package socket

import (
	"context"
	"net"
)

// Find opens the socket of a name, and Connect connects to what was found.
func (d *Dir) Find(name string) (int, error) { return d.find(name) }

// Connect is the second half of Dial.
func Connect(fd int, name string) (net.Conn, error) { return connect(fd, name) }

// Look is Await where the kernel has no more watches.
func (d *Dir) Look(ctx context.Context, name string) error { return d.look(ctx, name) }
