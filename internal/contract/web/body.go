package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// inBuffer is the size of the buffer through which answers come.
const inBuffer = 16 << 10

// fill reads more of the answer behind what is in the buffer, which grows if
// it is full; the callers bound that.
func (x *exchange) fill() error {
	switch {
	case x.r == x.w:
		x.r, x.w = 0, 0
	case x.w == len(x.in) && x.r > 0:
		x.w = copy(x.in, x.in[x.r:x.w])
		x.r = 0
	case x.w == len(x.in):
		x.in = append(x.in, make([]byte, len(x.in))...)
	}
	n, err := read(x.cn, x.in[x.w:])
	x.w += n
	if n > 0 {
		x.got = true
		return nil // an error with data comes again
	}
	return fmt.Errorf("read the answer: %w", err)
}

// more is fill for a body: what has been passed on is sent to the caller
// before the function is waited for.
func (x *exchange) more() error {
	if x.stream && x.unflushed {
		x.unflushed = false
		if err := x.reply.Flush(); err != nil {
			return &replyError{err}
		}
	}
	err := x.fill()
	if errors.Is(err, io.EOF) {
		return badf("it closed the connection after %d bytes of its answer, before the end", x.bytesOut)
	}
	return err
}

// A replyError means that the caller does not take the answer.
type replyError struct{ err error }

func (e *replyError) Error() string { return "write to the caller: " + e.err.Error() }
func (e *replyError) Unwrap() error { return e.err }

// pass hands n bytes of the buffer to the caller.
func (x *exchange) pass(n int) error {
	if n == 0 {
		return nil
	}
	m, err := x.reply.Write(x.in[x.r : x.r+n])
	x.bytesOut += int64(m)
	x.r += n
	x.unflushed = true
	if err != nil {
		return &replyError{err}
	}
	return nil
}

// answer sends head and fields to the caller.
func (x *exchange) answer() {
	x.passFields()
	x.answered = true
	x.unflushed = true
	x.reply.WriteHeader(x.head.status)
}

// readAnswer reads the answer and passes it on. Afterwards x.reusable says
// whether the connection may serve another exchange.
func (x *exchange) readAnswer(ctx context.Context) error {
	if err := x.readHead(); err != nil {
		return err
	}
	h := &x.head
	if h.status == http.StatusSwitchingProtocols {
		return x.tunnel(ctx)
	}
	x.stream = h.length < 0 || h.events
	persistent := !h.close && (h.minor > 0 || h.alive)
	switch {
	case x.call.Request.Method == http.MethodHead || h.status == http.StatusNoContent || h.status == http.StatusNotModified:
		x.answer()
		// A 204 with a length or chunks may be followed by a body all the same.
		x.reusable = persistent && (h.status != http.StatusNoContent || h.length <= 0 && !h.chunked)
		return nil
	case h.length >= 0:
		x.reusable = persistent
		return x.copyKnown(h.length)
	case h.chunked:
		x.reusable = persistent
		x.announce()
		x.answer()
		x.limitReply()
		return x.copyChunked()
	}
	x.answer()
	x.limitReply()
	return x.copyUntilClose()
}

// copyKnown passes a body with a length on. One that fits into the buffer is
// read whole first: if it breaks off, the caller can still get an error.
func (x *exchange) copyKnown(n int64) error {
	if !x.stream && n <= int64(len(x.in)-x.r) {
		for int64(x.w-x.r) < n {
			if err := x.more(); err != nil {
				return err
			}
		}
		x.whole = true
		x.answer()
		return x.pass(int(n))
	}
	x.answer()
	x.limitReply()
	return x.copyN(n)
}

func (x *exchange) copyN(n int64) error {
	for {
		part := min(n, int64(x.w-x.r))
		if err := x.pass(int(part)); err != nil {
			return err
		}
		if n -= part; n == 0 {
			return nil
		}
		if err := x.more(); err != nil {
			return err
		}
	}
}

func (x *exchange) copyUntilClose() error {
	for {
		if err := x.pass(x.w - x.r); err != nil {
			return err
		}
		if x.unflushed {
			x.unflushed = false
			if err := x.reply.Flush(); err != nil {
				return &replyError{err}
			}
		}
		if err := x.fill(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// The bounds of what is not data in a chunked body: of a size line with its
// extension, and of all overhead that is more than 16 bytes a chunk and
// twice the data, which is what net/http allows too.
const (
	maxChunkLine = 1 << 10
	maxOverhead  = 16 << 10
)

func (x *exchange) copyChunked() error {
	overhead := int64(0)
	for {
		line, err := x.chunkLine(maxChunkLine)
		if err != nil {
			return err
		}
		n, ok := parseChunk(line)
		if !ok {
			return badf("the chunk size %.40q of its answer is not valid", line)
		}
		if n == 0 {
			return x.readTrailers()
		}
		overhead = max(overhead+int64(len(line))+4-16-2*n, 0)
		if overhead > maxOverhead {
			return badf("the chunks of its answer have too much beside the data")
		}
		if err := x.copyN(n); err != nil {
			return err
		}
		end, err := x.chunkLine(maxChunkLine)
		if err != nil {
			return err
		}
		if end != "" {
			return badf("a chunk of its answer is longer than it said")
		}
	}
}

// chunkLine reads a line that ends with CRLF, of most bytes at most, without
// its end.
func (x *exchange) chunkLine(most int) (string, error) {
	for at := 0; ; {
		have := x.in[x.r:x.w]
		i := bytes.IndexByte(have[at:], '\n')
		if i < 0 {
			at = len(have)
			if at >= most {
				return "", badf("a line of its chunked answer is over %d bytes", most)
			}
			if err := x.more(); err != nil {
				return "", err
			}
			continue
		}
		end := at + i
		if end >= most {
			return "", badf("a line of its chunked answer is over %d bytes", most)
		}
		if end == 0 || have[end-1] != '\r' {
			return "", badf("a line of its chunked answer ends without a carriage return")
		}
		x.r += end + 1
		if end == 1 {
			return "", nil
		}
		return string(have[:end-1]), nil
	}
}

// parseChunk reads a chunk's size; an extension is checked and ignored.
func parseChunk(line string) (int64, bool) {
	size, extension, extended := strings.Cut(line, ";")
	if !all(extension, isValue) {
		return 0, false
	}
	if !extended {
		size = strings.TrimRight(size, " \t") // some servers pad it
	}
	// 15 digits always fit.
	if size == "" || len(size) > 15 {
		return 0, false
	}
	var n int64
	for i := range len(size) {
		d := strings.IndexByte("0123456789abcdef", lower(size[i]))
		if d < 0 {
			return 0, false
		}
		n = n<<4 | int64(d)
	}
	return n, true
}

func lower(b byte) byte {
	if 'A' <= b && b <= 'F' {
		return b + ('a' - 'A')
	}
	return b
}

// limitReply makes writes to a caller that reads nothing end with the
// deadline, where the reply can do that. Answers that fit into a buffer need
// no such limit.
func (x *exchange) limitReply() {
	if x.call.Deadline.IsZero() {
		return
	}
	if w, ok := x.reply.(interface{ SetWriteDeadline(t time.Time) error }); ok {
		_ = w.SetWriteDeadline(x.call.Deadline)
	}
}
