package web

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// framing is how a request's body goes out.
type framing int

const (
	noBody   framing = iota
	inlined          // with the head, in one write
	wrapped          // with the head, in one write, as one chunk
	measured         // behind the head, with a length
	chunks           // behind the head, in chunks
)

// streamed reports whether the body is sent while the answer is read.
func (f framing) streamed() bool { return f >= measured }

// framingOf chooses how a request's body goes out. Trailers need chunks, also
// where the length is known, which HTTP/2 allows; a body that is sent on
// demand cannot go with the head.
func framingOf(r *core.Request, chunked bool) framing {
	switch {
	case r.Body == nil || r.Length == 0:
		return noBody
	case r.Length < 0 || r.Trailer != nil && len(r.Trailer()) > 0:
		return chunks
	case r.Length > inlineBody || expects(r):
		if chunked {
			return chunks
		}
		return measured
	case chunked:
		return wrapped
	}
	return inlined
}

// expects reports whether the caller wants to be told that its body is wanted
// (RFC 9110, 10.1.1).
func expects(r *core.Request) bool {
	v := r.Header["Expect"]
	return v != nil && hasListed(v, "100-continue")
}

// appendHead appends the request's line and fields as the function sees them,
// with the empty line. The error is a [core.Error] of kind invalid when
// something in the request cannot be sent.
func (x *exchange) appendHead(b []byte) ([]byte, error) {
	call, r := x.call, x.call.Request
	b, err := appendLine(b, r)
	if err != nil {
		return b, err
	}
	if !all(call.Run.Trigger, isValue) || !all(call.Traceparent, isValue) {
		return b, core.Invalid("the trigger %.80q or the trace context %.80q of the run cannot be passed to a function", call.Run.Trigger, call.Traceparent)
	}
	b = appendOwn(b, call)
	if b, err = appendForwarded(b, r); err != nil {
		return b, err
	}
	if b, err = appendFields(b, call); err != nil {
		return b, err
	}
	if x.upgrade != "" {
		b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
		b = append(append(b, x.upgrade...), "\r\n"...)
	}
	if x.expects {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	switch x.framing {
	case noBody:
		// A method that usually has a body says that there is none, as net/http's
		// client does.
		if r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch {
			b = append(b, "Content-Length: 0\r\n"...)
		}
	case inlined, measured:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, r.Length, 10)
		b = append(b, "\r\n"...)
	case chunks, wrapped:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		b = appendAnnounced(b, r)
	}
	return append(b, "\r\n"...), nil
}

func appendLine(b []byte, r *core.Request) ([]byte, error) {
	method, path, host := r.Method, r.Path, r.Host
	if method == "" {
		method = "GET"
	}
	if path == "" {
		path = "/"
	}
	if host == "" {
		host = "localhost" // a run that no HTTP request started has none
	}
	switch {
	case method == "CONNECT" || !all(method, isToken):
		return b, core.Invalid("the method %.40q cannot be passed to a function", method)
	case path[0] != '/' || !all(path, isTarget) || strings.IndexByte(path, '?') >= 0:
		return b, core.Invalid("the path %.80q cannot be passed to a function: it must begin with / and be escaped", path)
	case !all(r.RawQuery, isTarget):
		return b, core.Invalid("the query %.80q cannot be passed to a function: it must be escaped", r.RawQuery)
	case !all(host, isHost):
		return b, core.Invalid("the host %.80q cannot be passed to a function", host)
	}
	b = append(append(append(b, method...), ' '), path...)
	if r.RawQuery != "" {
		b = append(append(b, '?'), r.RawQuery...)
	}
	b = append(b, " HTTP/1.1\r\nHost: "...)
	return append(append(b, host...), "\r\n"...), nil
}

// appendOwn appends what Dayfly says of the run.
func appendOwn(b []byte, call *core.Call) []byte {
	b = append(b, "Dayfly-Run-Id: "...)
	b = append(b, call.Run.ID.String()...)
	b = append(b, "\r\nDayfly-Attempt: "...)
	b = strconv.AppendInt(b, int64(call.Run.Attempt), 10)
	if !call.Deadline.IsZero() {
		b = append(b, "\r\nDayfly-Deadline: "...)
		b = appendTime(b, call.Deadline)
	}
	b = append(b, "\r\nDayfly-Trigger: "...)
	b = append(b, call.Run.Trigger...)
	if call.Traceparent != "" {
		b = append(b, "\r\nTraceparent: "...)
		b = append(b, call.Traceparent...)
	}
	return append(b, "\r\n"...)
}

// appendTime appends the time as RFC 3339 with milliseconds, in UTC. It is
// some four times as fast as time.Time.AppendFormat with a layout.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = appendDigits(b, year, 4)
	b = appendDigits(append(b, '-'), int(month), 2)
	b = appendDigits(append(b, '-'), day, 2)
	b = appendDigits(append(b, 'T'), hour, 2)
	b = appendDigits(append(b, ':'), minute, 2)
	b = appendDigits(append(b, ':'), second, 2)
	b = appendDigits(append(b, '.'), t.Nanosecond()/1e6, 3)
	return append(b, 'Z')
}

func appendDigits(b []byte, n, width int) []byte {
	at := len(b)
	b = append(b, "0000"[:width]...)
	for i := at + width - 1; i >= at; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return b
}

// appendForwarded appends the chain of RFC 7239: what the caller said of
// those before it, then the caller as Dayfly saw it.
func appendForwarded(b []byte, r *core.Request) ([]byte, error) {
	b = append(b, "Forwarded: "...)
	for _, chain := range r.Header["Forwarded"] {
		if !all(chain, isValue) {
			return b, badField("Forwarded")
		}
		// A quote left open would swallow our part.
		if chain = trim(chain); chain != "" && balanced(chain) {
			b = append(append(b, chain...), ", "...)
		}
	}
	b = append(b, "for="...)
	b = appendNode(b, r.Remote)
	if r.Host != "" {
		b = append(b, ";host="...)
		b = appendQuoted(b, r.Host)
	}
	if r.Scheme == "http" || r.Scheme == "https" {
		b = append(b, ";proto="...)
		b = append(b, r.Scheme...)
	}
	return append(b, "\r\n"...), nil
}

func balanced(s string) bool {
	open := false
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if open {
				i++
			}
		case '"':
			open = !open
		}
	}
	return !open
}

func appendNode(b []byte, remote string) []byte {
	addr, err := netip.ParseAddrPort(remote)
	if err != nil {
		return append(b, "unknown"...)
	}
	ip := addr.Addr().Unmap().WithZone("")
	if ip.Is4() {
		return ip.AppendTo(b)
	}
	b = append(b, `"[`...)
	b = ip.AppendTo(b)
	return append(b, `]"`...)
}

// appendQuoted appends a host, in quotes where it is no token.
func appendQuoted(b []byte, host string) []byte {
	if all(host, isToken) {
		return append(b, host...)
	}
	b = append(b, '"')
	b = append(b, host...) // no byte of isHost needs a backslash
	return append(b, '"')
}

// appendFields appends the caller's own fields that are end to end.
func appendFields(b []byte, call *core.Call) ([]byte, error) {
	r := call.Request
	connection := r.Header["Connection"]
	for name, values := range r.Header {
		if name == "" || hopByHop(name) || kept(name, call) {
			continue
		}
		if connection != nil && hasListed(connection, name) {
			continue
		}
		if !all(name, isToken) {
			return b, badField(name)
		}
		for _, v := range values {
			if !all(v, isValue) {
				return b, badField(name)
			}
			b = append(append(b, name...), ": "...)
			b = append(append(b, v...), "\r\n"...)
		}
	}
	if hasListed(r.Header["Te"], "trailers") {
		b = append(b, "Te: trailers\r\n"...)
	}
	return b, nil
}

func badField(name string) error {
	return core.Invalid("the header field %.80q cannot be passed to a function: its name or value has bytes that may not be there", name)
}

// kept reports whether a field is not passed on because Dayfly itself writes
// it, or answers it. Underscores count as hyphens, since what makes
// environment variables of fields takes them for the same.
func kept(name string, call *core.Call) bool {
	switch len(name) {
	case 4:
		return sameField(name, "Host")
	case 6:
		return sameField(name, "Expect")
	case 9:
		return sameField(name, "Forwarded")
	case 11:
		return call.Traceparent != "" && sameField(name, "Traceparent")
	case 13:
		return sameField(name, "Dayfly-Run-Id")
	case 14:
		return sameField(name, "Content-Length") || sameField(name, "Dayfly-Attempt") || sameField(name, "Dayfly-Trigger")
	case 15:
		return sameField(name, "Dayfly-Deadline")
	case 17:
		return sameField(name, "Transfer-Encoding")
	}
	return false
}

// sameField compares without regard to case, with _ for -.
func sameField(name, own string) bool {
	for i := range len(own) {
		a, b := name[i], own[i]
		if a == '_' {
			a = '-'
		}
		if a|0x20 != b|0x20 {
			return false
		}
	}
	return true
}
