package front

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// outBuffer is how much of an answer gathers before it is written.
const outBuffer = 8 << 10

// bodyBuffer is how much of a body without a length gathers before it is sent
// in chunks: an answer that is shorter gets a length.
const bodyBuffer = 4 << 10

// framing is how a body goes out.
type framing int

const (
	undecided framing = iota
	measured          // with a length
	chunked
	none // there may be none
)

// reply is a handler's http.ResponseWriter.
type reply struct {
	c       *conn
	header  http.Header
	out     []byte // what is to be written
	body    []byte // of a body whose framing is undecided
	framing framing
	length  int64 // that the handler told
	written int64
	isHead  bool
	begun   bool // WriteHeader was called
	open    bool // out has the head without its end
	typed   bool // the handler told a type, or an encoding
	trailer bool // the handler announced trailers
	closing bool // the connection ends with this answer
	timed   bool // there is a deadline for writing
	err     error
}

// begin makes the reply ready for the next request.
func (w *reply) begin(closing, isHead bool) {
	clear(w.header)
	out, body := w.out[:0], w.body[:0]
	if cap(out) > 4*outBuffer {
		out = nil
	}
	*w = reply{c: w.c, header: w.header, out: out, body: body, length: -1, isHead: isHead, closing: closing}
}

// Header gives the header, which may be changed until WriteHeader.
func (w *reply) Header() http.Header { return w.header }

// WriteHeader begins the answer. Interim ones (1xx) go out at once.
func (w *reply) WriteHeader(status int) {
	if w.begun {
		return
	}
	if status < 200 {
		w.out = appendStatus(w.out, status)
		before := *w
		w.appendFields()
		out := append(w.out, "\r\n"...)
		*w = before // what it says of a body is not about this one
		w.out = out
		_ = w.flush() // the next write says so again
		return
	}
	w.begun, w.open = true, true
	w.out = appendStatus(w.out, status)
	w.appendFields()
	if w.header["Date"] == nil {
		w.out = append(append(append(w.out, "Date: "...), w.c.server.today()...), "\r\n"...)
	}
	if w.closing = w.closing || w.c.server.draining.Load(); w.closing {
		w.out = append(w.out, "Connection: close\r\n"...)
	}
	if status == http.StatusNoContent || status == http.StatusNotModified {
		w.framing, w.length = none, -1
	}
	if w.length >= 0 {
		w.out = strconv.AppendInt(append(w.out, "Content-Length: "...), w.length, 10)
		w.out = append(w.out, "\r\n"...)
		if w.framing == undecided {
			w.framing = measured
		}
	}
}

// appendFields writes the header as it is, without what frames the answer;
// that is kept.
func (w *reply) appendFields() {
	for name, values := range w.header {
		switch {
		case name == "Content-Length":
			if len(values) > 0 {
				if n, err := strconv.ParseInt(values[0], 10, 64); err == nil && n >= 0 {
					w.length = n
				}
			}
			continue
		case name == "Connection":
			for _, v := range values {
				w.closing = w.closing || strings.EqualFold(v, "close")
			}
			continue
		case name == "Content-Type" || name == "Content-Encoding":
			w.typed = true
		case name == "Trailer":
			w.trailer = true
		case name == "Transfer-Encoding", strings.HasPrefix(name, http.TrailerPrefix):
			continue
		}
		w.out = appendField(w.out, name, values)
	}
}

// appendField writes a field. A name that is none is left out, and a line end
// in a value is a space, as in net/http.
func appendField(b []byte, name string, values []string) []byte {
	if name == "" || !all(name, isToken) {
		return b
	}
	for _, v := range values {
		b = append(append(b, name...), ": "...)
		at := len(b)
		b = append(b, v...)
		for i := at; i < len(b); i++ {
			if b[i] == '\r' || b[i] == '\n' {
				b[i] = ' '
			}
		}
		b = append(b, "\r\n"...)
	}
	return b
}

// appendStatus writes a status line.
func appendStatus(b []byte, status int) []byte {
	if status == http.StatusOK {
		return append(b, "HTTP/1.1 200 OK\r\n"...)
	}
	b = strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(status), 10)
	text := http.StatusText(status)
	if text == "" {
		text = "status code " + strconv.Itoa(status)
	}
	return append(append(append(b, ' '), text...), "\r\n"...)
}

// endHead ends the head; first is the beginning of the body.
func (w *reply) endHead(first []byte) {
	if !w.open {
		return
	}
	w.open = false
	if !w.typed && len(first) > 0 && w.framing != none {
		w.out = appendField(w.out, "Content-Type", []string{http.DetectContentType(first)})
	}
	if w.framing == chunked && !w.isHead {
		w.out = append(w.out, "Transfer-Encoding: chunked\r\n"...)
	}
	w.out = append(w.out, "\r\n"...)
}

// Write sends a part of the body.
func (w *reply) Write(p []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case len(p) == 0:
		return 0, w.err
	case w.framing == none:
		return 0, http.ErrBodyNotAllowed
	case w.length >= 0 && w.written+int64(len(p)) > w.length:
		w.closing = w.closing || !w.isHead // the handler does not know what it says
		return 0, http.ErrContentLength
	}
	w.written += int64(len(p))
	switch {
	case w.framing == measured:
		w.endHead(p)
		return w.add(p)
	case w.framing == undecided && len(w.body)+len(p) <= bodyBuffer:
		w.body = append(w.body, p...)
		return len(p), w.err
	}
	if err := w.intoChunks(p); err != nil {
		return 0, err
	}
	return len(p), w.chunk(p)
}

// add writes p behind what is there, at once when that is much.
func (w *reply) add(p []byte) (int, error) {
	if w.isHead {
		return len(p), w.err
	}
	if len(w.out)+len(p) <= outBuffer {
		w.out = append(w.out, p...)
		return len(p), w.err
	}
	if err := w.flush(); err != nil {
		return 0, err
	}
	n, err := w.c.nc.Write(p)
	if err != nil {
		w.err = err
	}
	return n, w.err
}

// intoChunks decides that the body goes out in chunks, if nothing has been
// decided.
func (w *reply) intoChunks(next []byte) error {
	if w.framing != undecided {
		return w.err
	}
	w.framing = chunked
	first := w.body
	if len(first) == 0 {
		first = next
	}
	w.endHead(first)
	return w.chunk(w.body)
}

// chunk adds a chunk.
func (w *reply) chunk(p []byte) error {
	if w.isHead || len(p) == 0 {
		return w.err
	}
	w.out = strconv.AppendInt(w.out, int64(len(p)), 16)
	w.out = append(append(append(w.out, "\r\n"...), p...), "\r\n"...)
	if len(w.out) > outBuffer {
		return w.flush()
	}
	return w.err
}

// flush writes what has gathered.
func (w *reply) flush() error {
	if w.err == nil && len(w.out) > 0 {
		_, w.err = w.c.nc.Write(w.out)
	}
	w.out = w.out[:0]
	return w.err
}

// Flush is FlushError for those who cannot hear of errors.
func (w *reply) Flush() { _ = w.FlushError() }

// FlushError sends what has been written so far.
func (w *reply) FlushError() error {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	if err := w.intoChunks(nil); err != nil {
		return err
	}
	w.endHead(nil)
	return w.flush()
}

// SetWriteDeadline bounds how long the caller may take to read the answer.
func (w *reply) SetWriteDeadline(t time.Time) error {
	w.timed = true
	return w.c.nc.SetWriteDeadline(t)
}

// finish sends the rest of the answer.
func (w *reply) finish() error {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	switch w.framing {
	case undecided:
		if w.trailer || w.hasTrailers() {
			if err := w.intoChunks(nil); err != nil {
				return err
			}
			w.endChunks()
			break
		}
		if !w.isHead || len(w.body) > 0 {
			w.out = strconv.AppendInt(append(w.out, "Content-Length: "...), int64(len(w.body)), 10)
			w.out = append(w.out, "\r\n"...)
		}
		w.framing = measured
		w.endHead(w.body)
		if !w.isHead {
			w.out = append(w.out, w.body...)
		}
	case measured:
		w.endHead(nil)
		// What was promised and has not come cannot be made up for.
		w.closing = w.closing || !w.isHead && w.written < w.length
	case chunked:
		w.endChunks()
	case none:
		w.endHead(nil)
	}
	return w.flush()
}

func (w *reply) hasTrailers() bool {
	for name := range w.header {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			return true
		}
	}
	return false
}

// endChunks writes the last chunk and the trailers: those under the prefix,
// and the announced ones.
func (w *reply) endChunks() {
	if w.isHead {
		return
	}
	w.out = append(w.out, "0\r\n"...)
	for name, values := range w.header {
		if rest, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			w.out = appendField(w.out, rest, values)
		}
	}
	for _, list := range w.header["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			switch name {
			case "Transfer-Encoding", "Content-Length", "Trailer":
			default:
				w.out = appendField(w.out, name, w.header[name])
			}
		}
	}
	w.out = append(w.out, "\r\n"...)
}
