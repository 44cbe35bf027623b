package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bridgeBits is the prefix of the addresses that share a bridge: 512 of them. The kernel gives a bridge at most 1,023
// ports (BR_MAX_PORTS), those of detached slots included until they are deleted, so that there is room for as many more.
const bridgeBits = 23

// bridges are those made so far: the first by Open, each other when the first of its slots is attached.
type bridges struct {
	mu    sync.Mutex
	index map[int]int // number of the bridge to link index
}

// bridgeNames is what the names of a server's bridges begin with. A name has no dot in it, so this is never the
// beginning of another server's.
func bridgeNames(name string) string { return bridgePrefix + name + "." }

func bridgeName(name string, number int) string { return bridgeNames(name) + strconv.Itoa(number) }

// bridgeOf gives the link index of the bridge that the slot's port is on, and makes it if it must. The table guards a
// bridge before it is there: its rules ask for the beginning of the name.
func (n *Network) bridgeOf(slot int) (int, error) {
	number := (firstSlot + slot) >> (32 - bridgeBits)
	n.bridges.mu.Lock()
	defer n.bridges.mu.Unlock()
	if index, made := n.bridges.index[number]; made {
		return index, nil
	}
	h, err := n.space.handle()
	if err != nil {
		return 0, err
	}
	defer h.Close()
	index, err := n.makeBridge(h, number)
	if err != nil {
		return 0, err
	}
	n.bridges.index[number] = index
	return index, nil
}

// makeBridge makes a bridge, gives it the gateway's address, and has what is for its slots sent to it. All bridges have
// the same address: a sandbox knows one gateway, whichever it is on.
func (n *Network) makeBridge(h *netlink.Handle, number int) (int, error) {
	name := bridgeName(n.name, number)
	snooping := false
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, n.mtu
	// A bridge without an address of its own takes the lowest of its ports, and so changes it as sandboxes come and go.
	attrs.HardwareAddr = net.HardwareAddr(hardware(n.gateway))
	if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
		return 0, fmt.Errorf("make bridge %s: %w", name, err)
	}
	link, err := h.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("find bridge %s: %w", name, err)
	}
	if err := n.setUpBridge(h, link, number); err != nil {
		return 0, errors.Join(err, h.LinkDel(link))
	}
	return link.Attrs().Index, nil
}

func (n *Network) setUpBridge(h *netlink.Handle, link netlink.Link, number int) error {
	name := link.Attrs().Name
	if n.ipv6 {
		if err := n.space.setSysctl("ipv6/conf/"+name+"/disable_ipv6", "1"); err != nil {
			return fmt.Errorf("turn off IPv6 on bridge %s: %w", name, err)
		}
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: n.gateway.AsSlice(), Mask: net.CIDRMask(32, 32)}}
	if err := h.AddrAdd(link, address); err != nil {
		return fmt.Errorf("give bridge %s the address %s: %w", name, address, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set bridge %s up: %w", name, err)
	}
	block := netip.PrefixFrom(nth(n.addresses, number<<(32-bridgeBits)), max(bridgeBits, n.addresses.Bits()))
	route := &netlink.Route{
		LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Src: n.gateway.AsSlice(), Protocol: unix.RTPROT_KERNEL,
		Dst: &net.IPNet{IP: block.Addr().AsSlice(), Mask: net.CIDRMask(block.Bits(), 32)},
	}
	if err := h.RouteAdd(route); err != nil {
		return fmt.Errorf("route %s to bridge %s: %w", block, name, err)
	}
	return nil
}
