package invoke

import (
	"encoding/hex"
	"math/rand/v2"

	"github.com/dayfly-io/dayfly/internal/core"
)

// traceparent gives the W3C trace context of a call: a new span in the
// caller's trace, or in a new one (https://www.w3.org/TR/trace-context/).
func traceparent(req *core.Request) string {
	const (
		size    = 55 // 00-{32 hex}-{16 hex}-{2 hex}
		traceAt = 3
		spanAt  = 36
	)
	var b [size]byte
	if given := req.Header.Get("Traceparent"); isTraceparent(given) {
		copy(b[:], given[:size])
		copy(b[:], "00")
	} else {
		copy(b[:], "00-00000000000000000000000000000000-0000000000000000-01")
		putHex(b[traceAt:], rand.Uint64())
		putHex(b[traceAt+16:], rand.Uint64())
	}
	putHex(b[spanAt:], rand.Uint64()|1) // a span of zeros is not valid
	return string(b[:])
}

// isTraceparent reports whether s is a trace context. Versions over 00 may have
// more at the end.
func isTraceparent(s string) bool {
	const size, zeros = 55, "00000000000000000000000000000000"
	return len(s) >= size && s[2] == '-' && s[35] == '-' && s[52] == '-' &&
		isHex(s[:2]) && isHex(s[3:35]) && isHex(s[36:52]) && isHex(s[53:size]) &&
		s[:2] != "ff" && s[3:35] != zeros && s[36:52] != zeros[:16] &&
		(len(s) == size || s[:2] != "00" && s[size] == '-')
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func putHex(to []byte, v uint64) {
	var raw [8]byte
	for i := range raw {
		raw[i] = byte(v >> (56 - 8*i))
	}
	hex.Encode(to[:16], raw[:])
}
