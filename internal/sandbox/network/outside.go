package network

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// setHost is the set with the addresses of the host, in the table of a network that is apart from it. There the routing
// tables that know them are not at hand.
const setHost = "host_addresses"

// span is a range of IPv4 addresses, both ends included.
type span struct{ first, last uint32 }

// lookOutside tells what the host holds, and makes the MTU fit its way out.
func (n *Network) lookOutside(nameservers []netip.AddrPort) ([]holding, error) {
	h, err := n.outside.handle()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	n.mtu = min(n.mtu, uplinkMTU(h))
	return holdings(h, nameservers)
}

// hostAddresses lists what the host takes for its own, and the broadcast addresses of its networks: all that its
// table of local routes has, as the kernel asks that in a network that is not apart.
func hostAddresses(ns namespace) ([]span, error) {
	h, err := ns.handle()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	routes, err := listed(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_LOCAL}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list the addresses of the host: %w", err)
	}
	var all []span
	for _, r := range routes {
		if r.Dst == nil || r.Type != unix.RTN_LOCAL && r.Type != unix.RTN_BROADCAST {
			continue
		}
		ip := r.Dst.IP.To4()
		ones, bits := r.Dst.Mask.Size()
		if ip == nil || bits != 32 {
			continue
		}
		first := binary.BigEndian.Uint32(ip)
		all = append(all, span{first, first | uint32(1<<(32-ones)-1)})
	}
	return merge(all), nil
}

// lastUnicast is the last address before multicast: what is above is refused anyway.
const lastUnicast = 223<<24 | 1<<24 - 1

// merge sorts spans and joins those that touch: a set of the kernel's takes no overlaps.
func merge(all []span) []span {
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	var out []span
	for _, s := range all {
		if s.first > lastUnicast {
			break
		}
		s.last = min(s.last, lastUnicast)
		if n := len(out); n > 0 && s.first <= out[n-1].last+1 {
			out[n-1].last = max(out[n-1].last, s.last)
			continue
		}
		out = append(out, s)
	}
	return out
}

// hostSet names the set. Its number is one of its transaction alone; the library would count them for all connections,
// without a lock.
func hostSet(t *nftables.Table) *nftables.Set {
	return &nftables.Set{Table: t, Name: setHost, ID: 1, KeyType: nftables.TypeIPAddr, Interval: true}
}

func elements(spans []span) []nftables.SetElement {
	out := make([]nftables.SetElement, 0, 2*len(spans))
	for _, s := range spans {
		out = append(out,
			nftables.SetElement{Key: binary.BigEndian.AppendUint32(nil, s.first)},
			nftables.SetElement{Key: binary.BigEndian.AppendUint32(nil, s.last+1), IntervalEnd: true})
	}
	return out
}

// addHostSet makes the set, with what it has to have now.
func (n *Network) addHostSet(s *ruleset) error {
	spans, err := hostAddresses(n.outside)
	if err != nil {
		return err
	}
	if err := s.conn.AddSet(hostSet(s.table), elements(spans)); err != nil {
		return fmt.Errorf("make the set of the host's addresses: %w", err)
	}
	return nil
}

func destinationIn(set string) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: destinationOffset, Len: 4},
		&expr.Lookup{SourceRegister: register, SetName: set},
	}
}

// lookout keeps the set as the host's addresses are: at once when the kernel tells of one that comes or goes, and now
// and then besides.
type lookout struct {
	n       *Network
	last    []span
	changes chan netlink.AddrUpdate
	stop    chan struct{}
	done    chan struct{}
}

func newLookout(n *Network) (*lookout, error) {
	l := &lookout{n: n, changes: make(chan netlink.AddrUpdate), stop: make(chan struct{}), done: make(chan struct{})}
	if err := n.outside.do(func() error { return netlink.AddrSubscribe(l.changes, l.stop) }); err != nil {
		return nil, fmt.Errorf("watch the addresses of the host: %w", err)
	}
	// What has come between the making of the set and the watch.
	if err := l.look(); err != nil {
		close(l.stop)
		return nil, err
	}
	go l.run()
	return l, nil
}

func (l *lookout) close() {
	close(l.stop)
	<-l.done
}

func (l *lookout) run() {
	defer close(l.done)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	changes := l.changes
	var last string
	for {
		select {
		case <-l.stop:
			for changes != nil { // its sender ends with the channel
				if _, more := <-changes; !more {
					return
				}
			}
			return
		case _, more := <-changes:
			if !more {
				changes = nil // the kernel lost count; the tick goes on
			}
		case <-tick.C:
		}
		err := l.look()
		if err != nil && err.Error() != last {
			last = err.Error()
			l.n.log.Warn("sandboxes may reach new addresses of the host: they cannot be looked at", slog.Any("error", err))
		}
	}
}

// look makes the set what it should be, in one transaction.
func (l *lookout) look() error {
	spans, err := hostAddresses(l.n.outside)
	if err != nil || slices.Equal(spans, l.last) {
		return err
	}
	conn, err := l.n.space.nftables()
	if err != nil {
		return err
	}
	defer hangUp(conn)
	set := hostSet(table(l.n.name))
	conn.FlushSet(set)
	if err := conn.SetAddElements(set, elements(spans)); err != nil {
		return fmt.Errorf("renew the set of the host's addresses: %w", err)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("renew the set of the host's addresses: %w", err)
	}
	l.last = spans
	return nil
}
