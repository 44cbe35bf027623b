package front

import (
	"net/http"
	"net/textproto"
	"strings"
)

// What a byte may be.
const (
	isUpper byte = 1 << iota // of a token, and a capital letter
	isLower                  // of a token, and a small letter
	isOther                  // any other character of a token
	isValue                  // in the value of a field
	isHost                   // in Host
	isPath                   // in a path, where it means itself (net/url escapes none of them)
	isQuery                  // in a query
	isToken = isUpper | isLower | isOther
)

var class = func() (t [256]byte) {
	for b := range 256 {
		if b == '\t' || b >= ' ' && b != 0x7f {
			t[b] |= isValue
		}
		if b > ' ' && b < 0x7f && b != '#' {
			t[b] |= isQuery
		}
		switch {
		case 'A' <= b && b <= 'Z':
			t[b] |= isUpper | isHost | isPath
		case 'a' <= b && b <= 'z':
			t[b] |= isLower | isHost | isPath
		case '0' <= b && b <= '9':
			t[b] |= isOther | isHost | isPath
		}
	}
	for _, b := range []byte("!#$%&'*+-.^_`|~") {
		t[b] |= isOther
	}
	for _, b := range []byte("-.:[]_") {
		t[b] |= isHost
	}
	for _, b := range []byte("/-_.~$&+,:;=@") {
		t[b] |= isPath
	}
	return t
}()

// all reports whether every byte of s is of one of the classes.
func all(s string, classes byte) bool {
	for i := range len(s) {
		if class[s[i]]&classes == 0 {
			return false
		}
	}
	return true
}

// maxHead and maxBody are the sizes of a plain request, in bytes, and
// maxFields how many fields it may have.
const (
	maxHead   = 8 << 10
	maxBody   = 16 << 10
	maxFields = 64
)

// methods are those of plain requests.
var methods = map[string]bool{
	http.MethodGet: true, http.MethodHead: true, http.MethodPost: true, http.MethodPut: true,
	http.MethodPatch: true, http.MethodDelete: true, http.MethodOptions: true,
}

// head is what the head of a plain request says. It is used again and again.
type head struct {
	method      string
	target      string
	path, query string
	host        string
	header      http.Header
	length      int64
	close       bool
	values      [maxFields]string // what header points to
}

// parse reads a head with the empty line at its end; false when it is not
// plain. What it finds are parts of text.
func (h *head) parse(text, prefix string) bool {
	clear(h.header)
	h.host, h.length, h.close = "", 0, false
	rest, ok := h.parseLine(text, prefix)
	if !ok {
		return false
	}
	for n := 0; ; n++ {
		line, after, ok := strings.Cut(rest, "\r\n")
		switch {
		case !ok:
			return false
		case line == "":
			return after == "" && h.host != ""
		case n == maxFields:
			return false
		}
		rest = after
		name, value, ok := split(line)
		if !ok || !h.note(name, value) {
			return false
		}
		if name == "Host" {
			continue
		}
		if had := h.header[name]; had != nil {
			h.header[name] = append(had, value)
			continue
		}
		h.values[n] = value
		h.header[name] = h.values[n : n+1 : n+1]
	}
}

// parseLine reads the request line, and gives what comes behind it.
func (h *head) parseLine(text, prefix string) (rest string, ok bool) {
	method, rest, _ := strings.Cut(text, " ")
	target, rest, _ := strings.Cut(rest, " ")
	rest, ok = strings.CutPrefix(rest, "HTTP/1.1\r\n")
	if !ok || !methods[method] || !strings.HasPrefix(target, prefix) {
		return "", false
	}
	path, query, asked := strings.Cut(target, "?")
	if !all(path, isPath) || !all(query, isQuery) || asked && query == "" {
		return "", false
	}
	h.method, h.target, h.path, h.query = method, target, path, query
	return rest, true
}

// note keeps what a field says of the message; false when that makes the
// request one for net/http.
func (h *head) note(name, value string) bool {
	switch name {
	case "Host":
		if h.host != "" || value == "" || !all(value, isHost) {
			return false
		}
		h.host = value
	case "Content-Length":
		n, ok := parseLength(value)
		if !ok || h.header["Content-Length"] != nil {
			return false
		}
		h.length = n
	case "Connection":
		if h.header["Connection"] != nil {
			return false
		}
		h.close = strings.EqualFold(value, "close")
		return h.close || strings.EqualFold(value, "keep-alive")
	case "Transfer-Encoding", "Upgrade", "Expect", "Trailer", "Pragma", "Proxy-Connection", "Http2-Settings":
		return false
	}
	return true
}

// parseLength reads a number of bytes that a plain request may have.
func parseLength(s string) (int64, bool) {
	if s == "" || len(s) > len("16384") || s[0] == '0' && len(s) > 1 {
		return 0, false
	}
	n := int64(0)
	for i := range len(s) {
		d := int64(s[i]) - '0'
		if d < 0 || d > 9 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, n <= maxBody
}

// split takes a field line apart. The name comes out canonical.
func split(line string) (name, value string, ok bool) {
	first, canonical := true, true
	for i := range len(line) {
		k := class[line[i]]
		switch {
		case k&isUpper != 0:
			canonical = canonical && first
			first = false
		case k&isLower != 0:
			canonical = canonical && !first
			first = false
		case k&isOther != 0:
			first = line[i] == '-'
		case line[i] == ':' && i > 0:
			name, value = line[:i], strings.Trim(line[i+1:], " \t")
			if !canonical {
				name = textproto.CanonicalMIMEHeaderKey(name)
			}
			return name, value, all(value, isValue)
		default:
			return "", "", false
		}
	}
	return "", "", false
}
