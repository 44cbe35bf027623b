package sandbox_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/drivertest"
	"github.com/dayfly-io/dayfly/internal/sandbox"
)

func iptables(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("iptables", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("iptables %q (package iptables): %v: %s", args, err, out)
	}
	return string(out)
}

// forwarding sets the kernel's switch and gives how it was.
func forwarding(t testing.TB, to string) (was string) {
	t.Helper()
	const path = "/proc/sys/net/ipv4/ip_forward"
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(to), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// A Docker daemon sets the policy of FORWARD to DROP: what our sandboxes send
// passes all the same, whichever of the two was there first. Not parallel: its
// rules are for all of the network namespace.
func TestBesideDockerd(t *testing.T) {
	before := iptables(t, "-S", "FORWARD")
	// It sets the policy to DROP when it is the one to turn forwarding on.
	was := forwarding(t, "0")
	f := fixtureIn(t, t.TempDir())
	f.openImages(t)
	digest := f.asUser(t, "")
	reaches := func(when string, f *fixture) {
		t.Helper()
		spec := drivertest.Spec(digest, "dial", drivertest.Surroundings.Outside)
		spec.Network = core.NetworkEgress
		got := map[string]string{}
		drivertest.Start(t, f.driver, spec, nil).JSON(&got)
		if got[drivertest.Surroundings.Outside] != "mayfly" {
			t.Errorf("%s an instance is answered %q; the rules are\n%s", when, got, iptables(t, "-S", "FORWARD"))
		}
	}
	_, stop := drivertest.Dockerd(t)
	rules := iptables(t, "-S", "FORWARD")
	if !strings.Contains(rules, "-P FORWARD DROP") {
		t.Fatalf("dockerd has not set FORWARD to DROP:\n%s", rules)
	}
	f.driver = f.openDriver(t, sandbox.Options{})
	drivertest.Eventually(t, "our rules are there", func() bool {
		return strings.Contains(iptables(t, "-S", "FORWARD"), "df-"+sandbox.ShortName(f.sandboxDir()))
	})
	reaches("after dockerd", f)
	stop()
	_, stop = drivertest.Dockerd(t)
	reaches("before dockerd", f)
	closeDriver(t, f.driver)
	if now := iptables(t, "-S"); strings.Contains(now, "df-") {
		t.Errorf("after Close our rules are still there:\n%s", now)
	}
	if now := iptables(t, "-S", "FORWARD"); !strings.Contains(now, "-P FORWARD DROP") || !strings.Contains(now, "DOCKER-USER") {
		t.Errorf("Close has taken dockerd's rules away:\n%s", now)
	}
	stop()
	forwarding(t, was)
	for _, args := range []string{"-P FORWARD ACCEPT", "-F", "-X", "-t nat -F", "-t nat -X"} {
		iptables(t, strings.Fields(args)...)
	}
	if now := iptables(t, "-S", "FORWARD"); now != before {
		t.Errorf("FORWARD was\n%s\nand is\n%s", before, fmt.Sprint(now))
	}
}
