package network //nolint:testpackage // it tests the inside

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// exampleQuery asks for A of a.b with id 0x1234.
var exampleQuery = []byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 1, 'b', 0, 0, 1, 0, 1}

func answerTo(query []byte) []byte {
	m := slices.Clone(query)
	m[2] |= responseBit
	return m
}

// nameserver answers UDP queries at a free port of 127.0.0.1 as fn says; nil is no answer.
func nameserver(t *testing.T, fn func(query []byte) [][]byte) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			for _, m := range fn(slices.Clone(b[:n])) {
				conn.WriteToUDPAddrPort(m, from)
			}
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// ask sends one query to a relay over the nameservers and returns its answer.
func ask(t *testing.T, servers ...netip.AddrPort) []byte {
	t.Helper()
	probe, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	at := probe.LocalAddr().(*net.UDPAddr).AddrPort()
	probe.Close()
	names := &upstreams{servers: servers}
	r, err := newRelay(0, 0, at, names, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	conn, err := net.Dial("udp4", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write(exampleQuery); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// These need 127.0.0.1 of the tests' namespace.
func loopbackUp(t *testing.T) {
	t.Helper()
	self, err := os.Open(ownNamespace)
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	if err := Loopback(int(self.Fd())); err != nil {
		t.Fatal(err)
	}
}

func TestRelayAsksTheNext(t *testing.T) {
	t.Parallel()
	loopbackUp(t)
	good := nameserver(t, func(q []byte) [][]byte { return [][]byte{answerTo(q)} })
	silent := nameserver(t, func([]byte) [][]byte { return nil })
	closed := netip.MustParseAddrPort("127.0.0.1:1")
	got := ask(t, closed, silent, good)
	if !answers(got, exampleQuery) || got[3]&responseCode != 0 {
		t.Errorf("answer %x", got)
	}
}

func TestRelayPassesOverForeignAnswers(t *testing.T) {
	t.Parallel()
	loopbackUp(t)
	server := nameserver(t, func(q []byte) [][]byte {
		otherID, otherName, noResponse := answerTo(q), answerTo(q), slices.Clone(q)
		otherID[0]++
		otherName[13] = 'x'
		right := append(answerTo(q), 0xff)
		return [][]byte{{1}, otherID, otherName, noResponse, right}
	})
	if got := ask(t, server); got[len(got)-1] != 0xff {
		t.Errorf("answer %x", got)
	}
}

func TestRelaySaysThatNobodyAnswered(t *testing.T) {
	t.Parallel()
	loopbackUp(t)
	for _, servers := range [][]netip.AddrPort{nil, {netip.MustParseAddrPort("127.0.0.1:1")}} {
		got := ask(t, servers...)
		if !answers(got, exampleQuery) || got[3]&responseCode != serverFailure {
			t.Errorf("with nameservers %v: answer %x, want SERVFAIL", servers, got)
		}
	}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	a, b, c := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	q := newQuota(3, 2)
	for i, step := range []struct {
		of   netip.Addr
		want bool
	}{{a, true}, {a, true}, {a, false}, {b, true}, {c, false}} {
		if got := q.take(step.of); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
	q.free(a)
	if !q.take(c) {
		t.Error("what was given back cannot be taken")
	}
	q.free(a)
	q.free(b)
	q.free(c)
	if q.used != 0 || len(q.by) != 0 {
		t.Errorf("%d used by %v after all was given back", q.used, q.by)
	}
}

func TestResolvConf(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string, at int64) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Unix(at, 0), time.Unix(at, 0)); err != nil {
			t.Fatal(err)
		}
	}
	u, err := newUpstreams(nil, path)
	if err == nil {
		t.Error("no file, no error")
	}
	write("# nameserver 10.0.0.9\nsearch example.test\nnameserver 127.0.0.53\nnameserver nonsense\nnameserver\tfe80::1%eth0\n"+
		"nameserver 10.0.0.2 # second\nnameserver 10.0.0.3\n", 1)
	want := []netip.AddrPort{
		netip.MustParseAddrPort("127.0.0.53:53"), netip.MustParseAddrPort("[fe80::1%eth0]:53"),
		netip.MustParseAddrPort("10.0.0.2:53"),
	}
	if got := u.list(); !slices.Equal(got, want) {
		t.Errorf("list %v, want %v", got, want)
	}
	write("nameserver 10.0.0.4\n", 2)
	want = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.4:53")}
	if got := u.list(); !slices.Equal(got, want) {
		t.Errorf("after a change: list %v, want %v", got, want)
	}
	write("nameserver nonsense\n", 3)
	if got := u.list(); !slices.Equal(got, want) {
		t.Errorf("after a bad change: list %v, want what it was, %v", got, want)
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add(answerTo(exampleQuery), exampleQuery)
	f.Fuzz(func(t *testing.T, m, query []byte) {
		if !isQuery(query) {
			return
		}
		answers(m, query)
		if _, whole := questionEnd(query); whole && !answers(failure(query), query) {
			t.Errorf("our own failure does not answer %x", query)
		}
	})
}

func FuzzParseMessages(f *testing.F) {
	f.Add([]byte{16, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, b []byte) {
		messages, err := parseMessages(b)
		if err == nil {
			for _, m := range messages {
				_, _ = linkIndex(m.data)
				isUp(m.data)
			}
		}
	})
}
