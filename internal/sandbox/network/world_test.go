package network_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/sandbox/network"
)

// Addresses of the tests' world (RFC 5737 documentation networks, and one private one). No packet leaves it.
const (
	hostUplink = "192.0.2.1"
	hostLAN    = "198.51.100.1"
	outside    = "192.0.2.2"
	farAddress = "203.0.113.9"
	database   = "10.9.8.7"
	metadata   = "169.254.169.254"
	hostLinkLo = "169.254.7.7"
	localDNS   = "127.0.0.53:53"
	answerIP   = "203.0.113.200"
)

// space is a network namespace; its descriptor ends with the test.
type space struct {
	t  testing.TB
	fd int
}

// newSpace makes a network namespace with lo up.
func newSpace(t testing.TB) space {
	t.Helper()
	s := bareSpace(t)
	s.run("ip", "link", "set", "lo", "up")
	return s
}

func bareSpace(t testing.TB) space {
	t.Helper()
	s := unownedSpace(t)
	t.Cleanup(s.close)
	return s
}

// unownedSpace makes a namespace that its caller closes.
func unownedSpace(t testing.TB) space {
	t.Helper()
	type made struct {
		fd  int
		err error
	}
	result := make(chan made)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- made{err: err}
			return
		}
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		result <- made{fd, err}
	}()
	m := <-result
	if m.err != nil {
		t.Fatalf("make a network namespace: %v", m.err)
	}
	return space{t, m.fd}
}

func (s space) close() { unix.Close(s.fd) }

// in runs fn on a thread inside the namespace.
func (s space) in(fn func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(s.fd, unix.CLONE_NEWNET); err != nil {
			result <- err
			return
		}
		result <- fn()
	}()
	return <-result
}

// try runs a tool in the namespace and returns what it printed.
func (s space) try(tool string, args ...string) (string, error) {
	s.t.Helper()
	packages := map[string]string{"ip": "iproute2", "nft": "nftables", "iptables-nft": "iptables"}
	path, err := exec.LookPath(tool)
	if err != nil {
		s.t.Fatalf("%s is missing: install the package %s", tool, packages[tool])
	}
	var out []byte
	err = s.in(func() (err error) {
		out, err = exec.Command(path, args...).CombinedOutput()
		return err
	})
	return string(out), err
}

func (s space) run(tool string, args ...string) string {
	s.t.Helper()
	out, err := s.try(tool, args...)
	if err != nil {
		s.t.Fatalf("%s %s: %v: %s", tool, strings.Join(args, " "), err, out)
	}
	return out
}

func (s space) sysctl(path string) string {
	s.t.Helper()
	var b []byte
	if err := s.in(func() (err error) { b, err = os.ReadFile("/proc/sys/net/" + path); return err }); err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// dial connects from inside the namespace; from is the source address or empty.
func (s space) dial(protocol, from, to string, limit time.Duration) (net.Conn, error) {
	var conn net.Conn
	err := s.in(func() (err error) {
		d := net.Dialer{Timeout: limit}
		if from != "" {
			ip := net.ParseIP(from)
			if protocol == "udp" {
				d.LocalAddr = &net.UDPAddr{IP: ip}
			} else {
				d.LocalAddr = &net.TCPAddr{IP: ip}
			}
		}
		conn, err = d.Dial(protocol, to)
		return err
	})
	return conn, err
}

// echo sends a word and wants it back.
func (s space) echo(protocol, to string, limit time.Duration) error {
	return s.echoFrom(protocol, "", to, limit)
}

func (s space) echoFrom(protocol, from, to string, limit time.Duration) error {
	conn, err := s.dial(protocol, from, to, limit)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("mayfly")); err != nil {
		return err
	}
	b := make([]byte, 6)
	if _, err := io.ReadFull(conn, b); err != nil {
		return err
	}
	if string(b) != "mayfly" {
		return errors.New("another answer: " + string(b))
	}
	return nil
}

// serveEcho answers TCP and UDP at an address of the namespace until the test ends.
func (s space) serveEcho(at string) {
	s.t.Helper()
	var tcp net.Listener
	var udp net.PacketConn
	err := s.in(func() (err error) {
		if tcp, err = net.Listen("tcp4", at); err != nil {
			return err
		}
		udp, err = net.ListenPacket("udp4", at)
		return err
	})
	if err != nil {
		s.t.Fatalf("serve echo at %s: %v", at, err)
	}
	s.t.Cleanup(func() { tcp.Close(); udp.Close() })
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			go func() { defer conn.Close(); io.Copy(conn, conn) }()
		}
	}()
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			udp.WriteTo(b[:n], from)
		}
	}()
}

// serveDNS answers A queries with answerIP, by UDP and TCP. By UDP it says "truncated" to names that begin with "big".
func (s space) serveDNS(at string) {
	s.t.Helper()
	var tcp net.Listener
	var udp net.PacketConn
	err := s.in(func() (err error) {
		if tcp, err = net.Listen("tcp4", at); err != nil {
			return err
		}
		udp, err = net.ListenPacket("udp4", at)
		return err
	})
	if err != nil {
		s.t.Fatalf("serve DNS at %s: %v", at, err)
	}
	s.t.Cleanup(func() { tcp.Close(); udp.Close() })
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			udp.WriteTo(dnsAnswer(b[:n], true), from)
		}
	}()
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for {
					var size [2]byte
					if _, err := io.ReadFull(conn, size[:]); err != nil {
						return
					}
					q := make([]byte, binary.BigEndian.Uint16(size[:]))
					if _, err := io.ReadFull(conn, q); err != nil {
						return
					}
					a := dnsAnswer(q, false)
					conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
				}
			}()
		}
	}()
}

// dnsAnswer makes the response to a query with one question.
func dnsAnswer(query []byte, mayTruncate bool) []byte {
	end := 12
	for query[end] != 0 {
		end += 1 + int(query[end])
	}
	kind := binary.BigEndian.Uint16(query[end+1:])
	m := append([]byte(nil), query[:end+5]...)
	m[2] |= 0x80
	m[3] = 0x80
	copy(m[6:12], make([]byte, 6)) // no answer, authority or additional records yet
	switch {
	case mayTruncate && strings.HasPrefix(string(query[13:]), "big"):
		m[2] |= 0x02
	case kind == 1:
		m[7] = 1
		m = append(m, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
		m = append(m, netip.MustParseAddr(answerIP).AsSlice()...)
	}
	return m
}

// world is a host with an uplink to an outside, and what runs there.
type world struct {
	host, outside space
}

func newWorld(t testing.TB) world {
	t.Helper()
	w := world{host: newSpace(t), outside: newSpace(t)}
	// The outside's end is made in its namespace through the descriptor: /proc/self is the tool's own process.
	err := w.host.in(func() error {
		cmd := exec.Command("ip", "link", "add", "up0", "type", "veth", "peer", "name", "out0", "netns", "/proc/self/fd/3")
		cmd.ExtraFiles = []*os.File{os.NewFile(dup(t, w.outside.fd), "outside")}
		defer cmd.ExtraFiles[0].Close()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("join host and outside (package iproute2): %v: %s", err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"link add lan0 type bridge",
		"addr add " + hostUplink + "/24 dev up0", "addr add " + hostLAN + "/24 dev lan0",
		"addr add " + hostLinkLo + "/32 dev lan0",
		"link set up0 mtu 1400", "link set up0 up", "link set lan0 up", "route add default via " + outside,
	} {
		w.host.run("ip", strings.Fields(line)...)
	}
	for _, line := range []string{
		"link add far type bridge", "link set far up",
		"addr add " + outside + "/24 dev out0", "addr add " + farAddress + "/32 dev far",
		"addr add " + database + "/32 dev far", "addr add " + metadata + "/32 dev far",
		"link set out0 mtu 1400", "link set out0 up",
		// The way an outsider on the host's network would try to get in.
		"route add 100.64.0.0/10 via " + hostUplink,
	} {
		w.outside.run("ip", strings.Fields(line)...)
	}
	// The kernel leaves it to a worker to say that a link is up.
	for deadline := time.Now().Add(patient); strings.Contains(w.host.run("ip", "-o", "link", "show", "up0"), "NO-CARRIER"); {
		if time.Now().After(deadline) {
			t.Fatal("the uplink does not come up")
		}
	}
	// One server for each address: with UDP a server on all of them would answer from the first.
	for _, address := range []string{outside, farAddress, database} {
		w.outside.serveEcho(address + ":7")
	}
	w.outside.serveEcho(metadata + ":80")
	w.host.serveEcho("0.0.0.0:8080")
	w.host.serveDNS(localDNS)
	return w
}

func dup(t testing.TB, fd int) uintptr {
	t.Helper()
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return uintptr(copied)
}

// state is all a network could leave behind in the host.
func (w world) state() string {
	return w.host.run("ip", "-o", "link") + w.host.run("ip", "-4", "route") + w.host.run("nft", "list", "ruleset") +
		"ip_forward " + w.host.sysctl("ipv4/ip_forward")
}

// open opens a network on the host; it does not close it.
func (w world) open(t testing.TB, name string) *network.Network {
	t.Helper()
	n, err := network.Open(t.Context(), network.Config{
		Name:        name,
		Nameservers: []netip.AddrPort{netip.MustParseAddrPort(localDNS)},
		Log:         slog.New(slog.NewTextHandler(t.Output(), nil)),
		Namespace:   w.host.fd,
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (w world) openForTest(t testing.TB, name string) *network.Network {
	t.Helper()
	n := w.open(t, name)
	t.Cleanup(func() { closeNetwork(t, n) })
	return n
}

func closeNetwork(t testing.TB, n *network.Network) {
	t.Helper()
	if err := n.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// sandbox is a namespace that is attached.
type sandbox struct {
	space
	link network.Link
}

func attach(t testing.TB, n *network.Network, slot int) sandbox {
	t.Helper()
	s := bareSpace(t)
	link, err := n.Attach(t.Context(), s.fd, slot)
	if err != nil {
		t.Fatal(err)
	}
	return sandbox{s, link}
}

func drops(t testing.TB, n *network.Network) map[string]uint64 {
	t.Helper()
	d, err := n.Drops(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}
