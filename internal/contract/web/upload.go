package web

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// An upload sends a body that is large, or of unknown length, while the
// answer is read. Its fields are the goroutine's until done is closed.
type upload struct {
	cn      *conn
	request *core.Request
	framing framing
	sent    int64
	err     error
	done    chan struct{}

	// wanted is closed when the function asks for the body, over when nobody
	// will want it any more; both are nil when it is sent unasked.
	wanted, over chan struct{}

	// failed is set before the connection is aborted for the caller's fault,
	// so that who is woken by that knows it from an abort of its own.
	failed atomic.Bool
	cut    bool // stop made an end of it; not the goroutine's
}

const uploadBuffer = 32 << 10

// The room for a chunk's size line, and for the end of its data.
const (
	chunkFront = 8
	chunkBack  = 2
)

var uploadBuffers = sync.Pool{New: func() any { return new([uploadBuffer]byte) }}

// startUpload begins to send, on demand if it waits; the caller must call
// stop.
func startUpload(cn *conn, r *core.Request, f framing, waits bool) *upload {
	u := &upload{cn: cn, request: r, framing: f, done: make(chan struct{})}
	if waits {
		u.wanted, u.over = make(chan struct{}), make(chan struct{})
	}
	go u.run()
	return u
}

// clear says that the function asks for the body. Only the first time counts.
func (u *upload) clear() {
	if u.wanted == nil {
		return
	}
	select {
	case <-u.wanted:
	default:
		close(u.wanted)
	}
}

// demandWait is how long a function that is asked whether it wants the body
// may say nothing, before it is taken for one that does not know the question.
const demandWait = time.Second

var errUnwanted = errors.New("the function answered without asking for the body")

// demanded waits until the body may be sent.
func (u *upload) demanded() bool {
	if u.wanted == nil {
		return true
	}
	t := time.NewTimer(demandWait)
	defer t.Stop()
	select {
	case <-u.wanted:
	case <-t.C:
	case <-u.over:
		return false
	}
	return true
}

func (u *upload) run() {
	defer close(u.done)
	if !u.demanded() {
		u.err = errUnwanted
		return
	}
	buf, _ := uploadBuffers.Get().(*[uploadBuffer]byte)
	defer uploadBuffers.Put(buf)
	if u.framing == chunks {
		u.err = u.sendChunked(buf[:])
	} else {
		u.err = u.sendKnown(buf[:])
	}
	if _, ok := errors.AsType[*callerError](u.err); ok {
		// The request cannot be finished, so that no answer can be waited for.
		u.failed.Store(true)
		u.cn.abort()
	}
}

func (u *upload) sendKnown(buf []byte) error {
	length := u.request.Length
	for u.sent < length {
		n, err := read(u.request.Body, buf[:min(int64(len(buf)), length-u.sent)])
		if n > 0 {
			if _, err := u.cn.Write(buf[:n]); err != nil {
				return fmt.Errorf("send the body: %w", err)
			}
			u.sent += int64(n)
		}
		if err != nil && u.sent < length {
			return bodyError(err, u.sent, length)
		}
	}
	return nil
}

func (u *upload) sendChunked(buf []byte) error {
	for {
		n, err := read(u.request.Body, buf[chunkFront:len(buf)-chunkBack])
		if n > 0 {
			if _, err := u.cn.Write(frame(buf, n)); err != nil {
				return fmt.Errorf("send the body: %w", err)
			}
			u.sent += int64(n)
		}
		if errors.Is(err, io.EOF) {
			if length := u.request.Length; u.sent < length {
				return bodyError(err, u.sent, length)
			}
			break
		}
		if err != nil {
			return &callerError{fmt.Errorf("the caller's body broke off after %d bytes: %w", u.sent, err)}
		}
	}
	if _, err := u.cn.Write(appendEnd(buf[:0], u.request)); err != nil {
		return fmt.Errorf("send the body: %w", err)
	}
	return nil
}

// frame makes a chunk around the n bytes that stand after the front of buf.
func frame(buf []byte, n int) []byte {
	var digits [chunkFront]byte
	size := strconv.AppendInt(digits[:0], int64(n), 16)
	at := chunkFront - 2 - len(size)
	copy(buf[at:], size)
	copy(buf[chunkFront-2:], "\r\n")
	copy(buf[chunkFront+n:], "\r\n")
	return buf[at : chunkFront+n+chunkBack]
}

// lateBody is how long the last bytes of a body may take to be written after
// the answer has been read whole, before the connection is given up for it.
const lateBody = 50 * time.Millisecond

// stop waits until nothing of the body is read or written any more. When the
// exchange is over, and the rest of the body is not wanted, it makes an end
// of it. It gives the error of sending; a body cut off by stop is one.
func (u *upload) stop(answered bool) error {
	if u.over != nil {
		close(u.over)
	}
	if answered {
		t := time.NewTimer(lateBody)
		select {
		case <-u.done:
		case <-t.C:
		}
		t.Stop()
	}
	select {
	case <-u.done:
	default:
		u.cut = !u.failed.Load()
		u.cn.abort()
		if r, ok := u.request.Body.(readDeadliner); ok {
			_ = r.SetReadDeadline(past)
		}
		<-u.done
	}
	return u.err
}

// A readDeadliner is a body whose Read can be made to give up.
type readDeadliner interface {
	SetReadDeadline(t time.Time) error
}

// A callerError is a fault of the one who called: the body did not come.
type callerError struct{ err error }

func (e *callerError) Error() string { return e.err.Error() }
func (e *callerError) Unwrap() error { return e.err }

func bodyError(err error, sent, length int64) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return &callerError{fmt.Errorf("the caller's body ended after %d of %d bytes: %w", sent, length, err)}
}

// maxEmpty is how often in a row a reader may give nothing and no error.
const maxEmpty = 100

// read reads something from r: it never gives 0 bytes without an error.
func read(r io.Reader, p []byte) (int, error) {
	for range maxEmpty {
		if n, err := r.Read(p); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}
