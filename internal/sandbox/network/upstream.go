package network

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// resolvConf is where the host says which nameservers it asks, see resolv.conf(5).
const resolvConf = "/etc/resolv.conf"

// maxNameservers is how many of them resolv.conf(5) lets a program use (MAXNS).
const maxNameservers = 3

// upstreams are the nameservers to relay to: a fixed list, or those of a file as it is now. A laptop changes its file
// with each network it joins.
type upstreams struct {
	path string // empty: fixed

	mu       sync.Mutex
	servers  []netip.AddrPort
	modified time.Time
	size     int64
}

// newUpstreams always returns something to ask; the error says why its list is empty now.
func newUpstreams(fixed []netip.AddrPort, path string) (*upstreams, error) {
	if len(fixed) > 0 {
		return &upstreams{servers: fixed}, nil
	}
	u := &upstreams{path: path}
	if err := u.refresh(); err != nil {
		return u, err
	}
	if len(u.servers) == 0 {
		return u, fmt.Errorf("%s names no nameserver", path)
	}
	return u, nil
}

// list returns the nameservers, the first to be asked first. While the file cannot be read they stay as they were.
func (u *upstreams) list() []netip.AddrPort {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.path != "" {
		_ = u.refresh() // the next query tries again
	}
	return u.servers
}

func (u *upstreams) refresh() error {
	info, err := os.Stat(u.path)
	if err != nil {
		return fmt.Errorf("look for the host's nameservers: %w", err)
	}
	if info.ModTime().Equal(u.modified) && info.Size() == u.size {
		return nil
	}
	text, err := os.ReadFile(u.path)
	if err != nil {
		return fmt.Errorf("read the host's nameservers: %w", err)
	}
	servers, err := parseResolvConf(text)
	if err != nil {
		return fmt.Errorf("read the host's nameservers from %s: %w", u.path, err)
	}
	u.servers, u.modified, u.size = servers, info.ModTime(), info.Size()
	return nil
}

// parseResolvConf returns the nameservers of a resolv.conf(5). What is no address is passed over, unless nothing else
// is there.
func parseResolvConf(text []byte) ([]netip.AddrPort, error) {
	var servers []netip.AddrPort
	var bad error
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		ip, err := netip.ParseAddr(fields[1])
		if err != nil {
			bad = errors.Join(bad, fmt.Errorf("nameserver %q is no address", fields[1]))
			continue
		}
		if len(servers) < maxNameservers {
			servers = append(servers, netip.AddrPortFrom(ip, dnsPort))
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the nameservers: %w", err)
	}
	if len(servers) == 0 {
		return nil, bad
	}
	return servers, nil
}
