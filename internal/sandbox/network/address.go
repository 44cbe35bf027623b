package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
)

// shared is the block of RFC 6598 (carrier-grade NAT). Hardly a private network uses it, so it is tried first, but who
// does use it (a carrier, an overlay network) often filters the whole block: one host address in it rules it out.
var shared = netip.MustParsePrefix("100.64.0.0/10")

// minBits is the shortest prefix that counts as a network somebody is in. A shorter one is a default route, also where
// it comes in halves as with many VPNs.
const minBits = 8

// widest is the prefix of the largest range: the bridges of a larger one have numbers that do not fit their names.
const widest = 14

// maxBits leaves room for the network, the gateway, the broadcast address and a handful of sandboxes.
const maxBits = 29

// holding is a network that the host has to do with, and why.
type holding struct {
	prefix netip.Prefix
	why    string
}

// candidates are the ranges to choose from, in order.
func candidates() []netip.Prefix {
	var all []netip.Prefix
	for second := range 64 {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(64 + second)}), 16))
	}
	for second := 200; second < 255; second++ {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(second)}), 16))
	}
	for second := 16; second < 32; second++ {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(second)}), 16))
	}
	return all
}

// chooseRange returns the wanted range, or if it is zero the first candidate that overlaps nothing the host holds.
func chooseRange(wanted netip.Prefix, held []holding) (netip.Prefix, error) {
	if wanted.IsValid() {
		wanted = wanted.Masked()
		if !wanted.Addr().Is4() || wanted.Bits() < widest || wanted.Bits() > maxBits {
			return netip.Prefix{}, fmt.Errorf("use range %s for sandboxes: it is not IPv4 between /%d and /%d",
				wanted, widest, maxBits)
		}
		if h, overlaps := overlap(wanted, held); overlaps {
			return netip.Prefix{}, fmt.Errorf("use range %s for sandboxes: it overlaps %s (%s); choose another range",
				wanted, h.prefix, h.why)
		}
		return wanted, nil
	}
	for _, c := range candidates() {
		if _, overlaps := overlap(c, held); !overlaps {
			return c, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("choose a range for sandboxes: each of %d candidates overlaps a network of the host; "+
		"set one in the configuration", len(candidates()))
}

func overlap(p netip.Prefix, held []holding) (holding, bool) {
	for _, h := range held {
		if h.prefix.Bits() >= minBits && h.prefix.Overlaps(p) {
			return h, true
		}
	}
	return holding{}, false
}

// listTries bounds how often a list is asked for that changes while it is made.
const listTries = 20

// listed asks for a list until it comes in one piece: the kernel says when
// something was added or removed in the middle of it (NLM_F_DUMP_INTR).
func listed[T any](list func() ([]T, error)) (all []T, err error) {
	for range listTries {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// holdings lists the host's IPv4 addresses and routes of all tables, and its nameservers.
func holdings(h *netlink.Handle, nameservers []netip.AddrPort) ([]holding, error) {
	var all []holding
	links, err := listed(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list the links of the host: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	addresses, err := listed(func() ([]netlink.Addr, error) { return h.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list the addresses of the host: %w", err)
	}
	for _, a := range addresses {
		ip, ok := netip.AddrFromSlice(a.IP.To4())
		if !ok {
			continue
		}
		bits, _ := a.Mask.Size()
		name := names[a.LinkIndex]
		all = append(all, holding{netip.PrefixFrom(ip, bits).Masked(), "address " + ip.String() + " of link " + name})
		if shared.Contains(ip) && !strings.HasPrefix(name, bridgePrefix) {
			all = append(all, holding{shared, "link " + name + " is in it"})
		}
	}
	// Table 0 as a filter means all tables: policy routing keeps whole networks out of the main one.
	routes, err := listed(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list the routes of the host: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		if ip, ok := netip.AddrFromSlice(r.Dst.IP.To4()); ok {
			bits, _ := r.Dst.Mask.Size()
			all = append(all, holding{netip.PrefixFrom(ip, bits).Masked(), "route by link " + names[r.LinkIndex]})
		}
	}
	for _, s := range nameservers {
		if ip := s.Addr().Unmap(); ip.Is4() {
			all = append(all, holding{netip.PrefixFrom(ip, 32), "nameserver"})
		}
	}
	return all, nil
}

// nth returns the address n after the first of the range.
func nth(p netip.Prefix, n int) netip.Addr {
	base := p.Masked().Addr().As4()
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(base[:])+uint32(n))
	return netip.AddrFrom4(b)
}

// hardware returns the link address that belongs to an IPv4 address. A slot that is used again so has the one that
// the host still remembers for it. 02 marks it as locally administered (IEEE 802).
func hardware(a netip.Addr) []byte {
	b := a.As4()
	return []byte{0x02, 0xdf, b[0], b[1], b[2], b[3]}
}

// tag is a short mark of the server's name: a port's name has no room for both name and slot.
func tag(name string) uint16 {
	h := fnv.New32a()
	h.Write([]byte(name))
	sum := h.Sum32()
	return uint16(sum>>16) ^ uint16(sum)
}

// group is the link group that ports are put in to be deleted; "df" in the upper half keeps away from numbers that
// people give by hand.
func group(name string) uint32 { return 'd'<<24 | 'f'<<16 | uint32(tag(name)) }
