package web

import (
	"maps"
	"slices"
	"strings"

	"github.com/dayfly-io/dayfly/internal/core"
)

// A trailerReply is a reply that can send fields behind the body.
type trailerReply interface {
	SetTrailer(fields core.Header) error
}

// forbidden are the fields that may not come behind a body, because they say
// how to read the message, where it goes, who sends it, or because Dayfly
// itself writes them (RFC 9110, 6.5.1). All of If-, Proxy- and Dayfly- are
// as well.
var forbidden = map[string]bool{
	"age": true, "authorization": true, "cache-control": true, "connection": true, "content-encoding": true,
	"content-length": true, "content-range": true, "content-type": true, "cookie": true, "date": true, "expect": true,
	"expires": true, "forwarded": true, "host": true, "keep-alive": true, "location": true, "max-forwards": true,
	"pragma": true, "range": true, "retry-after": true, "set-cookie": true, "te": true, "traceparent": true,
	"trailer": true, "transfer-encoding": true, "upgrade": true, "vary": true, "www-authenticate": true,
}

// mayTrail reports whether a field may come behind a body. Underscores count
// as hyphens, as in kept.
func mayTrail(name string) bool {
	lower := strings.ReplaceAll(strings.ToLower(name), "_", "-")
	return !forbidden[lower] &&
		!strings.HasPrefix(lower, "if-") && !strings.HasPrefix(lower, "proxy-") && !strings.HasPrefix(lower, "dayfly-")
}

// appendAnnounced appends the names of the trailers that the caller announces.
func appendAnnounced(b []byte, r *core.Request) []byte {
	if r.Trailer == nil {
		return b
	}
	first := true
	for _, name := range slices.Sorted(maps.Keys(r.Trailer())) {
		if name == "" || !all(name, isToken) || !mayTrail(name) {
			continue
		}
		if first {
			b = append(b, "Trailer: "...)
		} else {
			b = append(b, ", "...)
		}
		first = false
		b = append(b, name...)
	}
	if first {
		return b
	}
	return append(b, "\r\n"...)
}

// appendEnd appends the last chunk of a body, with the caller's trailers.
// Those that may not be there, or cannot be, are dropped.
func appendEnd(b []byte, r *core.Request) []byte {
	b = append(b, "0\r\n"...)
	if r.Trailer != nil {
		trailer := r.Trailer()
		for _, name := range slices.Sorted(maps.Keys(trailer)) {
			if name == "" || !all(name, isToken) || !mayTrail(name) {
				continue
			}
			for _, v := range trailer[name] {
				if all(v, isValue) {
					b = append(append(b, name...), ": "...)
					b = append(append(b, v...), "\r\n"...)
				}
			}
		}
	}
	return append(b, "\r\n"...)
}

// announce tells the caller which trailers the function announces.
func (x *exchange) announce() {
	if _, ok := x.reply.(trailerReply); !ok {
		return
	}
	var names []string
	for _, f := range x.fields {
		if f.name != "Trailer" {
			continue
		}
		for item := range strings.SplitSeq(f.value, ",") {
			if name := trim(item); name != "" && all(name, isToken) && mayTrail(name) {
				names = append(names, name)
			}
		}
	}
	if names != nil {
		x.reply.Header()["Trailer"] = []string{strings.Join(names, ", ")}
	}
}

// readTrailers reads the fields after the last chunk, and passes on those
// that may be there.
func (x *exchange) readTrailers() error {
	var fields core.Header
	for left, n := x.limit, 0; ; n++ {
		line, err := x.chunkLine(left)
		if err != nil {
			return err
		}
		if line == "" {
			return x.passTrailers(fields)
		}
		name, value, ok := splitField(line)
		switch left -= len(line) + 2; {
		case !ok:
			return badf("its trailer line %.80q is not valid", line)
		case left <= 0:
			return badf("the trailers of its answer are over %d bytes (limits.headers)", x.limit)
		case n == maxFields:
			return badf("its answer has more than %d trailers", maxFields)
		case !mayTrail(name) || x.namedByConnection(name):
			continue
		case fields == nil:
			fields = core.Header{}
		}
		fields[name] = append(fields[name], value)
	}
}

func (x *exchange) passTrailers(fields core.Header) error {
	x.whole = true
	to, ok := x.reply.(trailerReply)
	if !ok || len(fields) == 0 {
		return nil
	}
	if err := to.SetTrailer(fields); err != nil {
		return &replyError{err}
	}
	return nil
}
