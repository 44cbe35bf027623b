package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// A switcher is a reply whose caller can be talked to in another protocol.
type switcher interface {
	// Switch sends the header with status 101, and gives the connection.
	Switch() (net.Conn, error)
}

// tunnelIdle is how long both sides of a tunnel may be silent. Once one has
// said that it sends no more, the other may be for callerEnd or functionEnd: a
// caller may wait for an answer to all that it has sent, while a function that
// ends its side has closed the connection as a rule.
const (
	tunnelIdle  = 10 * time.Minute
	callerEnd   = 30 * time.Second
	functionEnd = 5 * time.Second
)

// offered gives the protocols that the caller offers to switch to and that
// can be passed through, "" for none. A request that offers them and cannot
// switch is answered without, as RFC 9110, 7.8 allows. HTTP/2 and TLS on the
// same connection are between neighbours, and we do not offer them.
func (x *exchange) offered(r *core.Request) string {
	if _, ok := x.reply.(switcher); !ok || !hasListed(r.Header["Connection"], "upgrade") {
		return ""
	}
	var offers []string
	for _, list := range r.Header["Upgrade"] {
		for item := range strings.SplitSeq(list, ",") {
			name, version, _ := strings.Cut(trim(item), "/")
			switch {
			case !all(name, isToken) || name == "" || !all(version, isToken):
			case strings.EqualFold(name, "h2c") || strings.EqualFold(name, "HTTP") || strings.EqualFold(name, "TLS"):
			default:
				offers = append(offers, trim(item))
			}
		}
	}
	return strings.Join(offers, ", ")
}

// chosen gives the protocol that the function switches to. It must be one
// that was offered to it.
func (x *exchange) chosen() (string, error) {
	name := ""
	for _, f := range x.fields {
		if f.name != "Upgrade" {
			continue
		}
		if name != "" {
			return "", badf("it switched protocols (101) to several")
		}
		name = f.value
	}
	switch {
	case x.upgrade == "":
		return "", badf("it switched protocols (101), which nobody asked for")
	case name == "" || !hasListed([]string{x.upgrade}, name):
		return "", badf("it switched protocols (101) to %.40q, and was asked for %.80q", name, x.upgrade)
	}
	return name, nil
}

// tunnel passes an answer with status 101 on, and then bytes both ways until
// both sides have ended.
func (x *exchange) tunnel(ctx context.Context) error {
	protocol, err := x.chosen()
	if err != nil {
		return err
	}
	to, _ := x.reply.(switcher) // offered has seen that it is one
	x.passFields()
	header := x.reply.Header()
	delete(header, "Content-Length")
	header["Connection"], header["Upgrade"] = []string{"Upgrade"}, []string{protocol}
	caller, err := to.Switch()
	if err != nil {
		return &replyError{err}
	}
	// Whatever happens from here on, neither side waits for the end of an answer.
	x.answered, x.switched, x.whole = true, true, true
	t := &tunnel{x: x, caller: caller, function: x.cn, limit: tunnelIdle, last: time.Now()}
	stop := context.AfterFunc(ctx, func() { t.close(context.Cause(ctx)) })
	defer stop()
	return t.run()
}

// An idleError means that nothing has been sent for too long.
type idleError struct{ silent time.Duration }

func (e *idleError) Error() string {
	return fmt.Sprintf("neither side of the connection sent anything for %s, so that it was closed", e.silent)
}

// A tunnel is a connection that speaks a protocol of its own.
type tunnel struct {
	x                *exchange
	caller, function net.Conn

	mu    sync.Mutex
	limit time.Duration // of silence
	last  time.Time     // something was sent
	ended [2]bool       // the caller, the function sends no more
	over  bool          // both sides have been closed
	err   error         // why, unless it was the usual end
}

// The sides of a tunnel, and how long the other may be silent after their end.
const (
	callerSide = iota
	functionSide
)

var ends = [2]time.Duration{callerEnd, functionEnd}

func (t *tunnel) run() error {
	deadline := t.x.call.Deadline
	for _, c := range []net.Conn{t.caller, t.function} {
		if err := c.SetWriteDeadline(deadline); err != nil {
			return fmt.Errorf("set the deadline of a tunnel: %w", err)
		}
	}
	var up sync.WaitGroup
	up.Go(func() {
		buf, _ := uploadBuffers.Get().(*[uploadBuffer]byte)
		defer uploadBuffers.Put(buf)
		t.x.bytesIn = t.flow(t.caller, t.function, callerSide, buf[:])
	})
	// What came with the head belongs to the new protocol.
	early := t.x.in[t.x.r:t.x.w]
	t.x.r = t.x.w
	if len(early) == 0 || t.write(t.caller, functionSide, early) {
		t.x.bytesOut = int64(len(early)) + t.flow(t.function, t.caller, functionSide, t.x.in)
	}
	up.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// close ends both sides. Only the first reason counts: what fails afterwards
// fails for this.
func (t *tunnel) close(err error) {
	t.mu.Lock()
	if !t.over {
		t.over, t.err = true, err
	}
	t.mu.Unlock()
	_ = t.caller.Close()
	_ = t.function.Close()
}

// flow passes on what one side sends, and gives how many bytes that was.
func (t *tunnel) flow(from, to net.Conn, side int, buf []byte) (passed int64) {
	if err := t.arm(from); err != nil {
		t.close(err)
		return 0
	}
	for {
		n, err := read(from, buf)
		if n > 0 {
			if !t.write(to, side, buf[:n]) {
				return passed
			}
			passed += int64(n)
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF):
			t.end(to, side)
			return passed
		case errors.Is(err, os.ErrDeadlineExceeded):
			if err = t.arm(from); err == nil {
				continue
			}
		}
		t.close(t.fault(err, side))
		return passed
	}
}

// write gives the other side what one has sent; false when it does not take
// it. One that has ended closed its connection as a whole, then: that is no
// fault.
func (t *tunnel) write(to net.Conn, side int, p []byte) bool {
	t.touch()
	_, err := to.Write(p)
	t.touch()
	if err == nil {
		return true
	}
	other := functionSide - side
	t.mu.Lock()
	gone := t.ended[other]
	t.mu.Unlock()
	err = t.fault(err, other)
	if gone {
		err = nil
	}
	t.close(err)
	return false
}

// fault says whose an error is; nil for silence after one side's end, which
// is an end as any other.
func (t *tunnel) fault(err error, side int) error {
	idle, ok := errors.AsType[*idleError](err)
	switch {
	case ok && idle.silent != tunnelIdle:
		return nil
	case ok || side == functionSide:
		return err
	}
	return &replyError{err}
}

func (t *tunnel) touch() {
	t.mu.Lock()
	t.last = time.Now()
	t.mu.Unlock()
}

// end notes that a side sends no more, and tells the other.
func (t *tunnel) end(to net.Conn, side int) {
	t.mu.Lock()
	t.ended[side] = true
	t.limit, t.last = ends[side], time.Now()
	both := t.ended[callerSide] && t.ended[functionSide]
	t.mu.Unlock()
	c, ok := to.(interface{ CloseWrite() error })
	if both || !ok || errors.Is(c.CloseWrite(), errors.ErrUnsupported) {
		t.close(nil)
		return
	}
	// Any other error means that it is closing as well. It is read meanwhile,
	// with the long limit.
	_ = t.arm(to)
}

// arm sets when a read that gets nothing is to give up; the error says that
// it has been long enough.
func (t *tunnel) arm(c net.Conn) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	until := t.last.Add(t.limit)
	if d := t.x.call.Deadline; !d.IsZero() && d.Before(until) {
		if !time.Now().Before(d) {
			return os.ErrDeadlineExceeded
		}
		until = d
	} else if !time.Now().Before(until) {
		return &idleError{t.limit}
	}
	return c.SetReadDeadline(until)
}
