package network_test

import (
	"log/slog"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/sandbox/network"
)

// A network that is apart from the host's refuses the host's addresses, also
// those that come later.
func TestTheHostsAddressesAreFollowed(t *testing.T) {
	t.Parallel()
	behind := newSpace(t)
	n, err := network.Open(t.Context(), network.Config{
		Name: "apart", Namespace: behind.fd, Apart: true, Nameservers: []netip.AddrPort{netip.MustParseAddrPort(localDNS)},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer closeNetwork(t, n)
	set := func() string { return behind.run("nft", "list", "set", "inet", "dayfly_apart", "host_addresses") }
	await := func(address string, there bool) {
		t.Helper()
		for deadline := time.Now().Add(patient); strings.Contains(set(), address) != there; {
			if time.Now().After(deadline) {
				t.Fatalf("%s: there should be %t in %s", address, there, set())
			}
		}
	}
	// The process is in a network namespace of the tests' own.
	const later = "203.0.113.77"
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	ip("link", "set", "lo", "up")
	await("127.0.0.0", true)
	ip("addr", "add", later+"/32", "dev", "lo")
	await(later, true)
	ip("addr", "del", later+"/32", "dev", "lo")
	await(later, false)
}
