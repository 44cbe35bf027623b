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
		flagsAt = 53
	)
	var b [size]byte
	given := req.Header.Get("Traceparent")
	if len(given) >= size && given[2] == '-' && given[35] == '-' && given[52] == '-' && given[:2] != "ff" && isHex(given[traceAt:35]) && isHex(given[flagsAt:55]) {
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
