package web

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/dayfly-io/dayfly/internal/contract"
	"github.com/dayfly-io/dayfly/internal/core"
)

// Dialer opens a connection to a port of an instance, from inside the
// instance's network, on whatever address the process listens. Drivers
// implement it. The error is ECONNREFUSED while nothing listens, and
// [core.ErrGone] when there is no such instance (any more). Connections that
// are no syscall.Conn work, but are not kept.
type Dialer interface {
	Dial(ctx context.Context, id core.InstanceID, port int) (net.Conn, error)
}

// Options are the knobs of a [Contract]; the zero value is good.
type Options struct {
	// Node is the name of this machine, for DAYFLY_NODE.
	Node string
	// MaxIdle is how many idle connections are kept per instance; 0 means 64.
	MaxIdle int
	// KeepIdle is how long an idle connection is used again; 0 means one
	// second. See the package's comment for why it is so short.
	KeepIdle time.Duration
	// Chunked sends every body in chunks, also one whose length is known.
	Chunked bool
	// Place is what messages call the place where the process listens; "" means
	// its port.
	Place string
}

const (
	defaultMaxIdle  = 64
	defaultKeepIdle = time.Second
)

// Contract talks to web servers in instances.
type Contract struct {
	dialer Dialer
	opts   Options
	shards [shardCount]shard
}

// New makes a contract that reaches instances by the dialer.
func New(d Dialer, opts Options) *Contract {
	if opts.MaxIdle <= 0 {
		opts.MaxIdle = defaultMaxIdle
	}
	if opts.KeepIdle <= 0 {
		opts.KeepIdle = defaultKeepIdle
	}
	return &Contract{dialer: d, opts: opts}
}

// Prepare adds to the spec of an instance what the contract needs.
func (c *Contract) Prepare(def *core.Definition, spec *core.InstanceSpec) {
	spec.Env = append(spec.Env, c.Env(def)...)
}

// Env gives what an instance gets in its environment, as K=V: what
// [contract.Env] gives, PORT, and Knative's K_SERVICE, K_REVISION and
// K_CONFIGURATION.
func (c *Contract) Env(def *core.Definition) []string {
	name := def.Function.Name
	return append(contract.Env(def, c.opts.Node),
		"PORT="+strconv.Itoa(portOf(def)),
		"K_SERVICE="+name,
		fmt.Sprintf("K_REVISION=%s-%05d", name, def.Version.Number),
		"K_CONFIGURATION="+name,
	)
}

func portOf(def *core.Definition) int {
	if def.Version.Spec.Port != 0 {
		return def.Version.Spec.Port
	}
	return core.DefaultPort
}

// The steps in which Ready looks. The pause is a twentieth of the time waited
// so far, so that what is found late is found late by five percent at most.
const (
	firstPause = 150 * time.Microsecond
	lastPause  = 5 * time.Millisecond
)

// Ready waits until something listens on the port of the instance, and keeps
// the connection that told so for the first request. The error is that of
// the dialer when the instance is gone ([core.ErrGone]), a [core.Error] with
// the code start_timeout when ctx's deadline passes, and ctx's cause when it
// is cancelled.
func (c *Contract) Ready(ctx context.Context, id core.InstanceID, port int) error {
	began := time.Now()
	for {
		cn, err := c.dial(ctx, id, port)
		if err == nil {
			c.keep(cn)
			return nil
		}
		if errors.Is(err, core.ErrGone) {
			return fmt.Errorf("wait for port %d of %s: %w", port, id, err)
		}
		if ctx.Err() != nil {
			return notReady(ctx, err, id, port, time.Since(began))
		}
		pause(ctx, min(max(time.Since(began)/20, firstPause), lastPause))
	}
}

func pauseTimer(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func notReady(ctx context.Context, last error, id core.InstanceID, port int, waited time.Duration) error {
	cause := context.Cause(ctx)
	if !errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("wait for port %d of %s: %w", port, id, cause)
	}
	return &core.Error{
		Kind: core.KindTimeout, Code: core.ReasonStartTimeout, Err: last,
		Message: fmt.Sprintf("nothing listened on port %d within %s: the web server in the image must listen on $PORT; "+
			"a slow starter needs a longer limits.start", port, waited.Round(time.Millisecond)),
	}
}

// Disconnect closes the idle connections of an instance, which goes on to
// serve.
func (c *Contract) Disconnect(id core.InstanceID) {
	s := c.shard(id)
	s.mu.Lock()
	var idle []*conn
	if l := s.lines[id]; l != nil {
		idle, l.idle = l.idle, nil
	}
	s.mu.Unlock()
	closeAll(idle)
}

// Forget closes the idle connections of an instance that is gone, or is given
// no more calls. Those in use are closed when their requests end.
func (c *Contract) Forget(id core.InstanceID) {
	s := c.shard(id)
	s.mu.Lock()
	l := s.lines[id]
	var idle []*conn
	if l != nil {
		delete(s.lines, id)
		idle, l.idle, l.gone = l.idle, nil, true
	}
	s.mu.Unlock()
	closeAll(idle)
}
