package drivertest

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The addresses of the tests' world: those that RFC 5737 keeps for
// documentation, and the metadata address of clouds. No packet leaves it.
const (
	hostAddress    = "192.0.2.1"
	outsideAddress = "192.0.2.2"
	metadata       = "169.254.169.254"
	hostName       = "db.example."
	hostNameIs     = "203.0.113.200"
)

// Surroundings is the world that [MakeWorld] makes.
var Surroundings = World{
	Outside: outsideAddress + ":7",
	Forbidden: map[string]string{
		"the host": hostAddress + ":8080", "the host's link-local address": "169.254.7.7:8080",
		"another address of the host": "198.51.100.1:8080", "metadata": metadata + ":80",
	},
	Name: hostName, Address: hostNameIs,
}

// MakeWorld makes, around the network namespace of the tests, a host with an
// uplink to another machine that has echo servers and a nameserver.
func MakeWorld() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	outside, err := newNamespace()
	if err != nil {
		return err
	}
	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "out0", PeerNamespace: netlink.NsFd(outside.Fd())}
	veth.Name = "up0"
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("join host and outside: %w", err)
	}
	if err := setUp("up0", hostAddress+"/24", "169.254.7.7/32", "198.51.100.1/32"); err != nil {
		return err
	}
	via := &netlink.Route{Gw: net.ParseIP(outsideAddress)}
	if err := netlink.RouteAdd(via); err != nil {
		return err
	}
	err = within(outside, func() error {
		err := setUp("out0", outsideAddress+"/24", metadata+"/32")
		return errors.Join(err, serveEcho(outsideAddress+":7"), serveEcho(metadata+":80"), serveDNS(outsideAddress+":53"))
	})
	// What sandboxes may reach or not is for the tests to say, also the
	// nameserver: the mount namespace is theirs.
	return errors.Join(err, serveEcho("0.0.0.0:8080"), ReplaceFile("/etc/resolv.conf", "nameserver "+outsideAddress+"\n"))
}

func newNamespace() (*os.File, error) {
	type made struct {
		f   *os.File
		err error
	}
	result := make(chan made)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- made{err: err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		result <- made{f, err}
	}()
	m := <-result
	return m.f, m.err
}

// within runs fn on a thread inside a network namespace.
func within(netns *os.File, fn func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(netns.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- err
			return
		}
		result <- fn()
	}()
	return <-result
}

func setUp(name string, addresses ...string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("give %s the address %s: %w", name, a, err)
		}
	}
	return netlink.LinkSetUp(link)
}

// ReplaceFile puts a text where a file of the machine is, for this mount
// namespace.
func ReplaceFile(path, text string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	f, err := os.CreateTemp("", "dayfly-test-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(text)
	return errors.Join(err, f.Chmod(0o644), f.Close(), unix.Mount(f.Name(), path, "", unix.MS_BIND, ""))
}

// serveEcho sends each line back, for as long as the tests run.
func serveEcho(at string) error {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp4", at)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				line, err := bufio.NewReader(c).ReadString('\n')
				if err == nil {
					_, _ = io.WriteString(c, line)
				}
			}()
		}
	}()
	return nil
}

// serveDNS answers that every name has the address hostNameIs.
func serveDNS(at string) error {
	l, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp4", at)
	if err != nil {
		return err
	}
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := l.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = l.WriteTo(dnsAnswer(b[:n]), from)
		}
	}()
	return nil
}

// dnsAnswer makes the response to a query with one question (RFC 1035).
func dnsAnswer(query []byte) []byte {
	end := 12
	for query[end] != 0 {
		end += 1 + int(query[end])
	}
	m := append([]byte(nil), query[:end+5]...)
	m[2] |= 0x80
	m[3] = 0x80
	copy(m[6:12], make([]byte, 6)) // no answer, authority or additional records yet
	if binary.BigEndian.Uint16(query[end+1:]) == 1 {
		m[7] = 1
		m = append(m, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
		m = append(m, net.ParseIP(hostNameIs).To4()...)
	}
	return m
}
