package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/dayfly-io/dayfly/internal/core"
)

// MinToken and MaxToken bound the length of a token in bytes.
const (
	MinToken = 16
	MaxToken = 256
)

// Config says what the door is like.
type Config struct {
	// Token is what callers must show; "" for none, which is good on loopback
	// only.
	Token string
	// Loopback is set when the server listens on loopback addresses only.
	Loopback bool
	// AllowedHosts are names by which this server is called besides localhost
	// and the loopback addresses, without a port, such as "dayfly.test".
	AllowedHosts []string
}

// Service is the door. Its methods may be called concurrently.
type Service struct {
	token  bool
	digest [sha256.Size]byte
	hosts  []string
}

// The principals that come in by the two doors.
var (
	local  = core.Principal{Name: "local", Local: true}
	bearer = core.Principal{Name: "token"}
)

// New makes a door. A config that would leave it open to the network is
// refused, as are tokens too short to be worth their name.
func New(cfg Config) (*Service, error) {
	if cfg.Token == "" {
		if !cfg.Loopback {
			return nil, core.Invalid("a server that others can reach needs a token: set DAYFLY_TOKEN")
		}
		return &Service{hosts: append([]string{"localhost", "127.0.0.1", "::1"}, cfg.AllowedHosts...)}, nil
	}
	if err := checkToken(cfg.Token); err != nil {
		return nil, err
	}
	return &Service{token: true, digest: sha256.Sum256([]byte(cfg.Token))}, nil
}

func checkToken(token string) error {
	if len(token) < MinToken || len(token) > MaxToken {
		return core.Invalid("the token has %d characters; it may have %d to %d", len(token), MinToken, MaxToken)
	}
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return core.Invalid("the token has a space or a character that is not printable ASCII at place %d", i+1)
		}
	}
	return nil
}

// CheckListen refuses to listen on an address that others can reach while
// there is no token. addr is host:port as net.Listen takes it.
func CheckListen(addr, token string) error {
	loopback, err := IsLoopback(addr)
	switch {
	case err != nil:
		return err
	case token != "":
		return checkToken(token)
	case !loopback:
		return core.Invalid("%s can be reached from other machines, and no token is set: "+
			"set DAYFLY_TOKEN to %d random characters or more, or listen on 127.0.0.1", addr, MinToken)
	}
	return nil
}

// IsLoopback reports whether an address to listen on, host:port, can be
// reached from this machine only. A host name other than localhost is taken
// for one that others can reach: what it resolves to may change.
func IsLoopback(addr string) (bool, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false, core.Invalid("%q is not an address to listen on: write it as 127.0.0.1:8080", addr)
	}
	if host == "localhost" {
		return true, nil
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback(), nil
}

// Enter says who a visitor is, or why they may not come in: a [core.Error] of
// the kind unauthenticated or forbidden.
func (s *Service) Enter(_ context.Context, v core.Visit) (core.Principal, error) {
	if s.token {
		if !s.knows(v.Authorization) {
			return core.Principal{}, refuse(v.Authorization)
		}
		return bearer, nil
	}
	if !s.isOurs(v.Host) {
		return core.Principal{}, core.Errorf(core.KindForbidden, core.CodeForbidden,
			"the host %q is not one by which this server is called: use 127.0.0.1 or localhost, or add the name to the allowed hosts", v.Host)
	}
	if crossSite(v) && (v.Function || !harmless(v.Method)) {
		return core.Principal{}, core.Errorf(core.KindForbidden, core.CodeForbidden,
			"a web page of another origin%s may not call this server", of(v.Origin))
	}
	return local, nil
}

const scheme = "Bearer "

// knows compares digests, so that the time it takes tells nothing of the
// token, its length included.
func (s *Service) knows(authorization string) bool {
	if len(authorization) <= len(scheme) || !strings.EqualFold(authorization[:len(scheme)], scheme) {
		return false
	}
	token := authorization[len(scheme):]
	var buf [MaxToken]byte
	if len(token) > len(buf) {
		return false
	}
	shown := sha256.Sum256(buf[:copy(buf[:], token)])
	return subtle.ConstantTimeCompare(shown[:], s.digest[:]) == 1
}

func refuse(authorization string) error {
	if authorization == "" {
		return core.Errorf(core.KindUnauthenticated, core.CodeUnauthenticated,
			"this server asks for a token: set DAYFLY_TOKEN, or send Authorization: Bearer and the token")
	}
	return core.Errorf(core.KindUnauthenticated, core.CodeUnauthenticated,
		"the token is not the one of this server")
}

// isOurs reports whether the host of a Host header is one of ours, whatever
// its port.
func (s *Service) isOurs(host string) bool {
	name := hostName(host)
	for _, h := range s.hosts {
		if strings.EqualFold(h, name) {
			return true
		}
	}
	return false
}

// hostName takes port and brackets off.
func hostName(host string) string {
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 || (end+1 < len(host) && host[end+1] != ':') {
			return ""
		}
		return host[1:end]
	}
	if name, _, ok := strings.Cut(host, ":"); ok {
		return name
	}
	return host
}

// crossSite reports whether a browser says that a page of another origin
// makes the call. Sec-Fetch-Site is what browsers send now, Origin what they
// always have; who sends neither is no browser. A page on another port of
// this machine is another origin too.
func crossSite(v core.Visit) bool {
	switch v.FetchSite {
	case "same-origin", "none":
		return false
	case "":
	default:
		return true
	}
	if v.Origin == "" {
		return false
	}
	_, host, ok := strings.Cut(v.Origin, "://")
	return !ok || !strings.EqualFold(host, v.Host)
}

// harmless reports whether the method changes nothing (RFC 9110, 9.2.1).
func harmless(method string) bool {
	return method == "GET" || method == "HEAD" || method == "OPTIONS"
}

func of(origin string) string {
	if origin == "" {
		return ""
	}
	return fmt.Sprintf(" (%s)", origin)
}
