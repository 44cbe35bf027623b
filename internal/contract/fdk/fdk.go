package fdk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/dayfly-io/dayfly/internal/contract"
	"github.com/dayfly-io/dayfly/internal/contract/web"
	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/socket"
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

// The socket of an instance, and its user, as in Fn (api/agent/call.go,
// api/agent/drivers/docker/cookie.go).
const (
	// SocketDir is where the instance's directory of sockets is.
	SocketDir = "/tmp/iofs"
	// SocketName is the name under which the process listens.
	SocketName = "lsnr.sock"
	// User is whom the process runs as, whatever the image says.
	User = "1000:1000"
)

const (
	socketPath = SocketDir + "/" + SocketName
	place      = "the socket " + socketPath
)

// Options are the knobs of a [Contract]; the zero value is good.
type Options struct {
	// Node is the name of this machine, for DAYFLY_NODE.
	Node string
}

// Contract talks to functions that are made with a kit of the Fn Project.
type Contract struct {
	dialer Dialer
	node   string
	web    *web.Contract
}

// New makes a contract that reaches instances by the dialer.
func New(d Dialer, opts Options) *Contract {
	return &Contract{dialer: d, node: opts.Node, web: web.New(sockets{d}, web.Options{MaxIdle: 1, Chunked: true, Place: place})}
}

// sockets is the dialer of package web, which knows ports.
type sockets struct{ Dialer }

// Dial connects to the instance's one socket. One that is not there, or takes
// nobody, is what a port is that nobody listens on.
func (s sockets) Dial(ctx context.Context, id core.InstanceID, _ int) (net.Conn, error) {
	c, err := s.DialSocket(ctx, id, SocketName)
	_, notSocket := errors.AsType[*socket.Error](err)
	if notSocket || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EAGAIN) {
		err = fmt.Errorf("%w (%w)", err, syscall.ECONNREFUSED)
	}
	return c, err
}

// Prepare adds to the spec of an instance what the contract needs: user,
// directory of sockets, and in the environment what [contract.Env] gives and
// what Fn sets, with Fn's own spellings.
func (c *Contract) Prepare(def *core.Definition, spec *core.InstanceSpec) {
	spec.User, spec.SocketDir = User, SocketDir
	megabytes := max(def.Version.Spec.Memory/core.MiB, 1)
	spec.Env = append(append(spec.Env, contract.Env(def, c.node)...),
		"FN_LISTENER=unix:"+socketPath,
		"FN_FORMAT=http-stream", // kits but that for Go end at once without
		"FN_TYPE=sync",
		"FN_APP_ID="+def.App.ID.String(),
		"FN_FN_ID="+def.Function.ID.String(),
		"FN_APP_NAME="+def.App.Name,
		"FN_FN_NAME="+def.Function.Name,
		"FN_MEMORY="+strconv.FormatInt(int64(megabytes), 10),
		"FN_LOGFRAME_NAME="+core.LogFrame,
		"FN_LOGFRAME_HDR=Fn-Call-Id",
	)
}

// Ready waits until the process listens, and keeps the connection that told so
// for the first request. The error is that of the dialer when the instance is
// gone ([core.ErrGone]), a [core.Error] with the code start_failed when there
// is something else in the socket's place, one with the code start_timeout
// when ctx's deadline passes, and ctx's cause when it is cancelled. The
// contract has no port.
func (c *Contract) Ready(ctx context.Context, id core.InstanceID, _ int) error {
	began := time.Now()
	err := c.dialer.AwaitSocket(ctx, id, SocketName)
	if err == nil {
		err = c.web.Ready(ctx, id, 0)
	}
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*socket.Error](err); ok {
		return &core.Error{
			Kind: core.KindFunction, Code: core.ReasonStartFailed, Err: err,
			Message: "the function cannot be reached: in " + SocketDir + ", " + e.Error() +
				"; a function of the contract fdk makes a socket there, or a link to one beside it",
		}
	}
	if errors.Is(err, core.ErrGone) || !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return fmt.Errorf("wait for the socket of %s: %w", id, err)
	}
	return late(err, time.Since(began))
}

func late(err error, waited time.Duration) error {
	what := "nothing made " + place
	switch {
	case errors.Is(err, syscall.EAGAIN):
		what = "nothing accepted connections on " + place
	case errors.Is(err, syscall.ECONNREFUSED):
		what = "nothing listened on " + place + ", which is there,"
	}
	return &core.Error{
		Kind: core.KindTimeout, Code: core.ReasonStartTimeout, Err: err,
		Message: fmt.Sprintf("%s within %s: the image must hold a function made with a kit of the Fn Project, which listens "+
			"where FN_LISTENER says; a slow starter needs a longer limits.start", what, waited.Round(time.Millisecond)),
	}
}

// Disconnect closes the idle connection of an instance, which goes on to
// serve.
func (c *Contract) Disconnect(id core.InstanceID) { c.web.Disconnect(id) }

// Forget closes the idle connection of an instance that is gone.
func (c *Contract) Forget(id core.InstanceID) { c.web.Forget(id) }
