package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"

	"github.com/dayfly-io/dayfly/internal/core"
)

// A badAnswerError is a fault of the function: what it sent is not an answer.
type badAnswerError struct{ what string }

func (e *badAnswerError) Error() string { return e.what }

func badf(format string, args ...any) error {
	return &badAnswerError{fmt.Sprintf(format, args...)}
}

// A field is one line of an answer's head.
type field struct{ name, value string }

// A head is what the head of an answer says of its framing.
type head struct {
	status  int
	length  int64 // -1 when no Content-Length is there
	chunked bool
	minor   int  // of HTTP/1.x
	close   bool // Connection: close
	alive   bool // Connection: keep-alive
	events  bool // text/event-stream
}

// maxFields is how many fields an answer may have; the limit of bytes alone
// would let through tens of thousands of tiny ones, each with its overhead.
const maxFields = 1000

// readHead reads and checks the head of the final answer. Of interim ones,
// whose bytes count to the limit as well, 100 sets off the body that waits for
// it, 103 is passed on, and others are skipped.
func (x *exchange) readHead() error {
	left := x.limit
	for {
		end, err := x.headEnd(left)
		if err != nil {
			return err
		}
		left -= end
		text := string(x.in[x.r : x.r+end])
		x.r += end
		if err := x.parseHead(text); err != nil {
			return err
		}
		switch {
		case x.head.status >= 200 || x.head.status == http.StatusSwitchingProtocols:
			return nil
		case x.head.status == http.StatusContinue && x.cleared != nil:
			x.cleared()
		case x.head.status == http.StatusEarlyHints:
			x.hint()
		}
	}
}

// headEnd reads until the empty line after a head, and gives the number of
// bytes from x.r on.
func (x *exchange) headEnd(limit int) (int, error) {
	start, at := 0, 0 // of the line, and where the search goes on
	for {
		have := x.in[x.r:x.w]
		i := bytes.IndexByte(have[at:], '\n')
		if i >= 0 {
			line := have[start : at+i]
			start = at + i + 1
			at = start
			if start > limit {
				return 0, x.headTooLarge()
			}
			if len(line) == 0 || len(line) == 1 && line[0] == '\r' {
				return start, nil
			}
			continue
		}
		at = len(have)
		if at >= limit {
			return 0, x.headTooLarge()
		}
		if err := x.fill(); err != nil {
			if errors.Is(err, io.EOF) && at > 0 {
				return 0, badf("it closed the connection in the middle of the answer's head")
			}
			return 0, err
		}
	}
}

func (x *exchange) headTooLarge() error {
	return badf("the head of its answer is over %s (limits.headers)", core.Bytes(x.limit))
}

// parseHead takes a head apart. Lines end with CRLF or, as simple servers
// send them, LF.
func (x *exchange) parseHead(text string) error {
	x.head = head{length: -1}
	x.fields = x.fields[:0]
	line, text, _ := strings.Cut(text, "\n")
	if err := x.parseStatus(strings.TrimSuffix(line, "\r")); err != nil {
		return err
	}
	for {
		line, text, _ = strings.Cut(text, "\n")
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			break
		}
		name, value, ok := splitField(line)
		if !ok {
			return badf("its header line %.80q is not valid", line)
		}
		if len(x.fields) == maxFields {
			return badf("its answer has more than %d header fields", maxFields)
		}
		x.fields = append(x.fields, field{name, value})
		if err := x.noteField(name, value); err != nil {
			return err
		}
	}
	h := &x.head
	switch {
	case h.chunked && h.length >= 0:
		return badf("its answer has both Content-Length and Transfer-Encoding")
	case h.chunked && h.minor == 0:
		return badf("its answer has Transfer-Encoding in HTTP/1.0")
	}
	return nil
}

// parseStatus reads "HTTP/1.1 200 OK"; the reason, and the space before it,
// may be missing.
func (x *exchange) parseStatus(line string) error {
	const form = len("HTTP/1.1 200")
	if len(line) < form || !strings.HasPrefix(line, "HTTP/1.") || line[8] != ' ' ||
		line[7] != '0' && line[7] != '1' || len(line) > form && line[form] != ' ' {
		return badf("its answer begins with %.80q, which is not HTTP/1.1", line)
	}
	status := 0
	for _, d := range []byte(line[9:form]) {
		if d < '0' || d > '9' {
			return badf("its answer begins with %.80q, which has no status", line)
		}
		status = status*10 + int(d-'0')
	}
	if status < 100 {
		return badf("its answer has the status %03d", status)
	}
	if !all(line[form:], isValue) {
		return badf("its status line %.80q is not valid", line)
	}
	x.head.status, x.head.minor = status, int(line[7]-'0')
	return nil
}

// noteField keeps what a field says of the framing.
func (x *exchange) noteField(name, value string) error {
	h := &x.head
	switch name {
	case "Content-Length":
		n, ok := parseLength(value)
		if !ok {
			return badf("its Content-Length %.40q is not a number of bytes", value)
		}
		if h.length >= 0 && h.length != n {
			return badf("its answer has two lengths, %d and %d", h.length, n)
		}
		h.length = n
	case "Transfer-Encoding":
		if h.chunked || !strings.EqualFold(value, "chunked") {
			return badf("its Transfer-Encoding is %.40q; only chunked, once, is understood", value)
		}
		h.chunked = true
	case "Connection":
		one := []string{value}
		h.close = h.close || hasListed(one, "close")
		h.alive = h.alive || hasListed(one, "keep-alive")
	case "Content-Type":
		const events = "text/event-stream"
		h.events = len(value) >= len(events) && strings.EqualFold(value[:len(events)], events)
	case "Trailer":
		one := []string{value}
		if hasListed(one, "Content-Length") || hasListed(one, "Transfer-Encoding") || hasListed(one, "Trailer") {
			return badf("its Trailer field %.80q names one that cannot be there", value)
		}
	}
	return nil
}

// parseLength reads a decimal number that fits into an int64, digits only and
// in one way only: others compare lengths as text.
func parseLength(s string) (int64, bool) {
	if s == "" || s[0] == '0' && len(s) > 1 {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		d := int64(s[i]) - '0'
		if d < 0 || d > 9 || n > (1<<63-1-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// hint passes an interim answer with status 103 on (RFC 8297).
func (x *exchange) hint() {
	header := x.reply.Header()
	ours := maps.Clone(header)
	x.passFields()
	delete(header, "Content-Length")
	x.reply.WriteHeader(http.StatusEarlyHints)
	clear(header)
	maps.Copy(header, ours)
}

// passFields puts the fields that are end to end into the reply. They come
// after what is there already, so that a function can add to a security
// policy of ours but cannot take its place.
func (x *exchange) passFields() {
	into := x.reply.Header()
	values := make([]string, len(x.fields))
	length := false
	for i, f := range x.fields {
		switch {
		case f.name == "Content-Length":
			// Several were the same; and one on an answer that has no body and
			// was not asked with HEAD has no meaning.
			if length || x.head.status == http.StatusNoContent {
				continue
			}
			length = true
		case f.name == "Dayfly-Run-Id" || hopByHop(f.name) || x.namedByConnection(f.name):
			continue
		}
		if had := into[f.name]; had != nil {
			into[f.name] = append(had, f.value)
			continue
		}
		values[i] = f.value
		into[f.name] = values[i : i+1 : i+1]
	}
}

func (x *exchange) namedByConnection(name string) bool {
	for _, f := range x.fields {
		if f.name == "Connection" && hasListed([]string{f.value}, name) {
			return true
		}
	}
	return false
}
