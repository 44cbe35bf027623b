package web

import (
	"net/textproto"
	"strings"
)

// What a byte may be in a field (RFC 9110, 5.5 and 5.6.2).
const (
	isUpper  byte = 1 << iota // token, and a capital letter
	isLower                   // token, and a small letter
	isOther                   // any other token character
	isValue                   // may stand in a value
	isHost                    // may stand in Host
	isTarget                  // may stand in a request target
	isToken  = isUpper | isLower | isOther
)

var class = func() (t [256]byte) {
	for b := range 256 {
		if b == '\t' || b >= ' ' && b != 0x7f {
			t[b] |= isValue
		}
		if b > ' ' && b != 0x7f && b != '#' {
			t[b] |= isTarget
		}
		switch {
		case 'A' <= b && b <= 'Z':
			t[b] |= isUpper | isHost
		case 'a' <= b && b <= 'z':
			t[b] |= isLower | isHost
		case '0' <= b && b <= '9':
			t[b] |= isOther | isHost
		}
	}
	for _, b := range []byte("!#$%&'*+-.^_`|~") {
		t[b] |= isOther
	}
	for _, b := range []byte("!$%&'()*+,-.:;=[]_~@") {
		t[b] |= isHost
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

// splitField takes a field line apart. The name comes out canonical.
func splitField(line string) (name, value string, ok bool) {
	first, canonical := true, true
	for i := range len(line) {
		b := line[i]
		k := class[b]
		switch {
		case k&isUpper != 0:
			canonical = canonical && first
			first = false
		case k&isLower != 0:
			canonical = canonical && !first
			first = false
		case k&isOther != 0:
			first = b == '-'
		case b == ':' && i > 0:
			name, value = line[:i], trim(line[i+1:])
			if !all(value, isValue) {
				return "", "", false
			}
			if !canonical {
				name = textproto.CanonicalMIMEHeaderKey(name)
			}
			return name, value, true
		default:
			return "", "", false
		}
	}
	return "", "", false
}

// trim takes away optional whitespace (RFC 9110, 5.6.3).
func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// hasListed reports whether one of the comma-separated lists has the token,
// without regard to case.
func hasListed(lists []string, token string) bool {
	for _, list := range lists {
		for list != "" {
			var item string
			item, list, _ = strings.Cut(list, ",")
			if strings.EqualFold(trim(item), token) {
				return true
			}
		}
	}
	return false
}

// hopByHop reports whether a field is between neighbours only (RFC 9110,
// 7.6.1), apart from what Connection names.
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return strings.HasPrefix(name, "Proxy-")
}
