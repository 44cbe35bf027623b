package fdk

import (
	"context"
	"net"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Dialer reaches the Unix sockets that an instance makes in its
// [core.InstanceSpec.SocketDir]. A name may be a symbolic link to another
// plain name in that directory, and to nothing else; what leads out of it, or
// is no socket, is an error of the type *socket.Error. No connection is ever
// made to a socket of anybody but the instance. Drivers implement it, and
// package socket has what they need.
type Dialer interface {
	// AwaitSocket waits until there is something of the name. It is nil when
	// that is a socket, *socket.Error when not, [core.ErrGone] when the
	// instance ends first, and the cause of ctx when that does.
	AwaitSocket(ctx context.Context, id core.InstanceID, name string) error
	// DialSocket connects, without waiting. The error is fs.ErrNotExist when
	// there is nothing, ECONNREFUSED when nobody listens, EAGAIN when whoever
	// listens takes no more connections, *socket.Error when it is no socket,
	// [core.ErrGone] when there is no such instance (any more).
	DialSocket(ctx context.Context, id core.InstanceID, name string) (net.Conn, error)
}

// The socket of an instance (fn: api/agent/call.go and its iofs).
const (
	// SocketDir is where the instance's directory of sockets is.
	SocketDir = "/tmp/iofs"
	// SocketName is the name under which the process listens.
	SocketName = "lsnr.sock"
)
