package network_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/sandbox/network"
)

const (
	patient = 15 * time.Second       // for what has to work
	short   = 700 * time.Millisecond // for what must not, where nothing says no
)

func TestSandboxReachesOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.openForTest(t, "out")
	s := attach(t, n, 0)
	for _, to := range []string{outside, farAddress, database} {
		for _, protocol := range []string{"tcp", "udp"} {
			if err := s.echo(protocol, to+":7", patient); err != nil {
				t.Errorf("%s to %s: %v", protocol, to, err)
			}
		}
	}
	if got := s.link.MTU; got != 1400 {
		t.Errorf("MTU %d, want the uplink's 1400", got)
	}
	for reason, count := range drops(t, n) {
		if count != 0 {
			t.Errorf("%d packets dropped as %s, want none", count, reason)
		}
	}
}

// The first packet after Attach must not be lost while the kernel still brings the link up: its sender would wait a
// second before it tries again.
func TestFirstConnectionIsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.openForTest(t, "first")
	for slot := range 20 {
		s := attach(t, n, slot)
		start := time.Now()
		if err := s.echo("tcp", outside+":7", patient); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 900*time.Millisecond {
			t.Errorf("sandbox %d: first connection took %v", slot, took)
		}
	}
}

func TestSandboxResolvesNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.openForTest(t, "dns")
	s := attach(t, n, 0)
	for _, c := range []struct{ protocol, name string }{
		{"udp", "example.test"}, {"tcp", "example.test"}, {"udp then tcp", "big.example.test"},
	} {
		resolver := &net.Resolver{PreferGo: true, Dial: func(_ context.Context, protocol, _ string) (net.Conn, error) {
			if c.protocol == "tcp" {
				protocol = "tcp"
			}
			return s.dial(protocol, "", n.Nameserver().String()+":53", patient)
		}}
		got, err := resolver.LookupNetIP(t.Context(), "ip4", c.name)
		if err != nil || len(got) != 1 || got[0].Unmap().String() != answerIP {
			t.Errorf("resolve %s by %s: %v, %v; want %s", c.name, c.protocol, got, err, answerIP)
		}
	}
}

func TestSandboxIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.openForTest(t, "no")
	gateway := n.Nameserver().String()
	s, sibling := attach(t, n, 0), attach(t, n, 1)
	sibling.serveEcho("0.0.0.0:9000")
	// A published port, as container engines make them: an address of the host that leads elsewhere.
	for _, rule := range []string{
		"add table ip nat", "add chain ip nat PREROUTING { type nat hook prerouting priority dstnat; }",
		"add rule ip nat PREROUTING fib daddr type local tcp dport 8081 dnat to " + outside + ":7",
	} {
		w.host.run("nft", rule)
	}
	if err := w.host.echo("tcp", metadata+":80", patient); err != nil {
		t.Fatalf("the host itself must reach the metadata address for the test to mean anything: %v", err)
	}
	for _, c := range []struct{ protocol, to, reason string }{
		{"tcp", hostUplink + ":8080", "host"},
		{"udp", hostUplink + ":8080", "host"},
		{"tcp", hostLAN + ":8080", "host"},
		{"udp", hostLAN + ":53", "host"},
		{"tcp", gateway + ":8080", "host"},
		{"udp", gateway + ":8080", "host"},
		{"tcp", hostUplink + ":8081", "host"},
		{"udp", "192.0.2.255:8080", "host"},
		{"tcp", sibling.link.Address.String() + ":9000", "sibling"},
		{"udp", sibling.link.Address.String() + ":9000", "sibling"},
		{"tcp", metadata + ":80", "link_local"},
		{"udp", metadata + ":80", "link_local"},
		{"tcp", hostLinkLo + ":8080", "link_local"},
		{"udp", "224.0.0.1:7", "reserved"},
		{"udp", "240.0.0.1:7", "reserved"},
		{"udp", "255.255.255.255:7", "reserved"},
	} {
		before := drops(t, n)[c.reason]
		start := time.Now()
		err := s.echo(c.protocol, c.to, short)
		if err == nil {
			t.Errorf("%s to %s went through", c.protocol, c.to)
		}
		if after := drops(t, n)[c.reason]; after <= before {
			t.Errorf("%s to %s: counter %s stayed at %d (%v)", c.protocol, c.to, c.reason, after, err)
		}
		t.Logf("%s to %s: %v after %v", c.protocol, c.to, err, time.Since(start).Round(time.Millisecond))
	}
	if err := s.echo("tcp", outside+":7", patient); err != nil {
		t.Errorf("after all refusals: %v", err)
	}
}

func TestRefusalIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := attach(t, w.openForTest(t, "atonce"), 0)
	start := time.Now()
	err := s.echo("tcp", hostUplink+":8080", patient)
	if err == nil || !strings.Contains(err.Error(), unix.EHOSTUNREACH.Error()) {
		t.Errorf("connect to the host: %v, want %v", err, unix.EHOSTUNREACH)
	}
	if took := time.Since(start); took > patient/2 {
		t.Errorf("refused after %v", took)
	}
}

func TestSpoofedSourceIsDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.openForTest(t, "spoof")
	s := attach(t, n, 0)
	s.run("ip", "addr", "add", "203.0.113.77/32", "dev", "eth0")
	if err := s.echoFrom("udp", "203.0.113.77", outside+":7", short); err == nil {
		t.Error("a packet with a foreign source address came back")
	}
	if got := drops(t, n)["spoofed"]; got == 0 {
		t.Error("counter spoofed is 0")
	}
}

func TestIPv6IsOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.openForTest(t, "six")
	s := attach(t, n, 0)
	if got := s.run("ip", "-6", "addr", "show", "dev", "eth0"); got != "" {
		t.Errorf("eth0 has IPv6: %s", got)
	}
	if got := s.run("ip", "-6", "addr", "show", "dev", "lo"); !strings.Contains(got, "::1") {
		t.Error("lo has no ::1")
	}
	// Somebody with rights inside turns it on again.
	s.run("ip", "link", "set", "eth0", "addrgenmode", "eui64")
	if err := s.in(func() error {
		return exec.Command("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6").Run()
	}); err != nil {
		t.Fatal(err)
	}
	s.run("ip", "-6", "addr", "add", "fd00::2/64", "dev", "eth0", "nodad")
	conn, err := s.dial("udp", "", "[ff02::1%eth0]:7", short)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if got := drops(t, n)["ipv6"]; got == 0 {
		t.Error("counter ipv6 is 0")
	}
}

func TestOutsideCannotComeIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.openForTest(t, "in")
	s := attach(t, n, 0)
	s.serveEcho("0.0.0.0:9000")
	for _, c := range []struct{ protocol, to string }{
		{"tcp", s.link.Address.String() + ":9000"},
		{"udp", s.link.Address.String() + ":9000"},
		{"tcp", n.Nameserver().String() + ":53"},
	} {
		before := drops(t, n)["inbound"]
		if err := w.outside.echo(c.protocol, c.to, short); err == nil {
			t.Errorf("%s from outside to %s went through", c.protocol, c.to)
		}
		if after := drops(t, n)["inbound"]; after <= before {
			t.Errorf("%s from outside to %s: counter inbound stayed at %d", c.protocol, c.to, after)
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.state()
	n := w.open(t, "gone")
	if w.host.sysctl("ipv4/ip_forward") != "1" {
		t.Error("forwarding is off")
	}
	attach(t, n, 0)
	attach(t, n, 1)
	n.Detach(0)
	closeNetwork(t, n)
	closeNetwork(t, n)
	if after := w.state(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if _, err := n.Attach(t.Context(), w.outside.fd, 5); err == nil {
		t.Error("Attach after Close succeeded")
	}
}

func TestForwardingThatWasOnStaysOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.host.in(func() error {
		return exec.Command("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward").Run()
	}); err != nil {
		t.Fatal(err)
	}
	closeNetwork(t, w.open(t, "on"))
	if w.host.sysctl("ipv4/ip_forward") != "1" {
		t.Error("Close turned off forwarding that was on before Open")
	}
}

func TestForwardingIsHandedOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.state()
	a, b := w.open(t, "a"), w.open(t, "b")
	if a.Range().Overlaps(b.Range()) {
		t.Errorf("two servers have %s and %s", a.Range(), b.Range())
	}
	closeNetwork(t, a)
	if err := attach(t, b, 0).echo("tcp", outside+":7", patient); err != nil {
		t.Errorf("after another server closed: %v", err)
	}
	closeNetwork(t, b)
	if after := w.state(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestKilledServerIsSwept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.host.run("iptables-nft", "-P", "FORWARD", "DROP")
	before := w.state()
	killed := w.open(t, "kill")
	attach(t, killed, 0)
	network.Abandon(killed)
	if w.state() == before {
		t.Fatal("an abandoned network left nothing to sweep")
	}
	n := w.open(t, "kill")
	if err := attach(t, n, 0).echo("tcp", outside+":7", patient); err != nil {
		t.Errorf("after a killed server: %v", err)
	}
	closeNetwork(t, n)
	if after := w.state(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.state()
	killed := w.open(t, "dead")
	attach(t, killed, 0)
	network.Abandon(killed)
	for range 2 {
		if err := w.host.in(func() error { return network.Sweep(t.Context(), "dead") }); err != nil {
			t.Fatal(err)
		}
		if after := w.state(); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	}
}

func TestIptablesThatDrops(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		late bool
	}{{"before", false}, {"later", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			firewall := func() {
				w.host.run("iptables-nft", "-P", "FORWARD", "DROP")
				w.host.run("iptables-nft", "-P", "INPUT", "DROP")
				w.host.run("iptables-nft", "-A", "FORWARD", "-m", "addrtype", "--dst-type", "LOCAL", "-m", "comment",
					"--comment", "foreign", "-j", "REJECT")
			}
			if !c.late {
				firewall()
			}
			n := w.open(t, "fw")
			s := attach(t, n, 0)
			if c.late {
				firewall()
			}
			// TCP sends again what was dropped until our rules are there.
			if err := s.echo("tcp", outside+":7", patient); err != nil {
				t.Errorf("through a firewall that drops: %v", err)
			}
			conn, err := s.dial("tcp", "", n.Nameserver().String()+":53", patient)
			if err != nil {
				t.Errorf("to the relay, through a firewall that drops: %v", err)
			} else {
				conn.Close()
			}
			w.host.run("iptables-nft", "-C", "FORWARD", "-i", "df-fw.+",
				"-m", "comment", "--comment", "dayfly_fw in", "-j", "ACCEPT")
			t.Log(w.host.run("iptables-nft", "-S"))
			closeNetwork(t, n)
			if got := w.host.run("nft", "list", "ruleset"); strings.Contains(got, "df-fw") {
				t.Errorf("after Close: %s", got)
			}
			if got := w.host.run("iptables-nft", "-S"); !strings.Contains(got, "foreign") {
				t.Errorf("after Close the firewall's own rule is gone: %s", got)
			}
		})
	}
}

func TestNamespaceOfAnotherUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.openForTest(t, "user")
	cmd := exec.Command("cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 200000, Size: 10}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 200000, Size: 10}},
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := n.Attach(t.Context(), fd, 3); err != nil {
		t.Fatal(err)
	}
	if err := (space{t, fd}).echo("tcp", outside+":7", patient); err != nil {
		t.Error(err)
	}
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	s := bareSpace(t)
	if err := network.Loopback(s.fd); err != nil {
		t.Fatal(err)
	}
	s.serveEcho("127.0.0.1:7")
	if err := s.echo("tcp", "127.0.0.1:7", patient); err != nil {
		t.Error(err)
	}
	if err := s.echo("tcp", outside+":7", patient); err == nil {
		t.Error("a sandbox with lo only reached the outside")
	}
}

func TestSlots(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.openForTest(t, "slots")
	attach(t, n, 7)
	for _, slot := range []int{-1, n.Slots(), 7} {
		if _, err := n.Attach(t.Context(), w.outside.fd, slot); err == nil {
			t.Errorf("Attach with slot %d succeeded", slot)
		}
	}
	last := attach(t, n, n.Slots()-1)
	if !n.Range().Contains(last.link.Address) || n.Range().Contains(last.link.Address.Next().Next()) {
		t.Errorf("the last slot has %s of %s", last.link.Address, n.Range())
	}
	// A slot may be taken again while its port is still being deleted, and the address works at once.
	for range 3 {
		n.Detach(7)
		s := attach(t, n, 7)
		if err := s.echo("tcp", outside+":7", patient); err != nil {
			t.Fatal(err)
		}
	}
	n.Detach(7)
	if err := n.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(w.host.run("ip", "-o", "link"), "master df-slots."); got != 1 {
		t.Errorf("%d ports left, want that of the last slot", got)
	}
}

// One bridge has room for 1,023 ports. Sandboxes on different ones meet the
// same world, and not each other.
func TestMoreSandboxesThanABridgeHasPorts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.openForTest(t, "many")
	const many = 1100
	shown := map[int]sandbox{} // by slot
	for slot := range many {
		if slot%500 == 0 || slot == many-1 {
			shown[slot] = attach(t, n, slot)
			continue
		}
		s := unownedSpace(t)
		t.Cleanup(s.close)
		if _, err := n.Attach(t.Context(), s.fd, slot); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(w.host.run("ip", "-o", "link", "show", "type", "bridge"), "df-many."); got != 3 {
		t.Errorf("there are %d bridges", got)
	}
	for _, s := range shown {
		s.serveEcho("0.0.0.0:9000")
	}
	for slot, s := range shown {
		if err := s.echo("tcp", outside+":7", patient); err != nil {
			t.Errorf("the sandbox of slot %d does not reach the outside: %v", slot, err)
		}
		for other, o := range shown {
			if other == slot {
				continue
			}
			if err := s.echo("tcp", o.link.Address.String()+":9000", patient); !errors.Is(err, unix.EHOSTUNREACH) {
				t.Errorf("from slot %d to slot %d: %v", slot, other, err)
			}
		}
	}
	if err := n.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := w.host.run("ip", "-o", "link"); strings.Contains(left, "df") {
		t.Errorf("links are left: %s", left)
	}
}

func TestFailedAttachLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.openForTest(t, "fail")
	s := attach(t, n, 0)
	if _, err := n.Attach(t.Context(), s.fd, 1); err == nil {
		t.Fatal("a namespace was attached twice")
	}
	if err := n.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(w.host.run("ip", "-o", "link"), "master df-fail"); got != 1 {
		t.Errorf("%d ports, want 1", got)
	}
	attach(t, n, 1)
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.openForTest(t, "many")
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 25 {
				s := bareSpace(t)
				if _, err := n.Attach(t.Context(), s.fd, worker); err != nil {
					t.Errorf("worker %d, round %d: %v", worker, i, err)
					return
				}
				n.Detach(worker)
			}
		})
	}
	wg.Wait()
	if err := n.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.host.run("ip", "-o", "link"); strings.Contains(got, "master df-many") {
		t.Errorf("ports left: %s", got)
	}
}

// The product works in the namespace of its process; here that is the one TestMain made.
func TestOwnNamespace(t *testing.T) { //nolint:paralleltest // there is one
	n, err := network.Open(t.Context(), network.Config{Name: "own"})
	if err != nil {
		t.Fatal(err)
	}
	s := attach(t, n, 0)
	conn, err := s.dial("tcp", "", n.Nameserver().String()+":53", patient)
	if err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
	closeNetwork(t, n)
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Name, "df") {
			t.Errorf("Close left the link %s", l.Name)
		}
	}
}

func TestOpenRefusesBadNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "thirteenchars", "a b", "a/b", "é"} {
		if _, err := network.Open(t.Context(), network.Config{Name: name, Namespace: bareSpace(t).fd}); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
}
