package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"regexp"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	bridgePrefix = "df-"     // and the server's name, a dot and a number: the bridges
	tablePrefix  = "dayfly_" // and the server's name: the nftables table
	insideName   = "eth0"    // the link a sandbox sees
	defaultMTU   = 1500      // bytes, where the host has no default route to take it from
	reserved     = 3         // addresses of a range that are no sandbox's: network, gateway, broadcast
	firstSlot    = 2         // the place of slot 0 in the range, after network and gateway
	ipv6Settings = "/proc/sys/net/ipv6"
)

// validName keeps a bridge's name within the 15 bytes of a link name (IFNAMSIZ of linux/if.h, less its final 0).
var validName = regexp.MustCompile(`^[A-Za-z0-9_]{1,8}$`)

// Config says how Open sets up a Network. The zero value of each field but Name is good.
type Config struct {
	// Name is the server's short unique id, 1 to 8 of A-Z a-z 0-9 and _. It makes the names of the bridges, the table
	// and the ports. Two servers that run at the same time in one network namespace must not have the same: the later
	// takes what the earlier has made for the remains of a dead one.
	Name string
	// Range has the addresses of the sandboxes: IPv4, /14 to /29. Zero: a free /16 is chosen, out of 100.64.0.0/10
	// (RFC 6598) if the host is not in that itself, or of 10.200.0.0 to 10.254.255.255 or of 172.16.0.0/12.
	Range netip.Prefix
	// Nameservers answer the sandboxes' DNS queries, the first first. Zero: those of the host's /etc/resolv.conf, also
	// when that changes later.
	Nameservers []netip.AddrPort
	// Log takes what happens later on. Zero: nobody is told.
	Log *slog.Logger
	// Namespace is the descriptor of the network namespace to work in, which must stay open until Close. Zero: the one
	// the process is in. It lets tests have a host of their own inside one process.
	Namespace int
	// Apart says that Namespace is not the host's own network but one behind it, see [Uplink]. What the process itself
	// is in is then the host: its addresses are refused as well, and its nameservers are asked from there.
	Apart bool
}

// Network is the outbound network of one server's sandboxes. Its methods may be called at the same time.
type Network struct {
	name      string
	space     namespace
	outside   namespace // where the host's nameservers are asked
	apart     bool
	log       *slog.Logger
	addresses netip.Prefix
	gateway   netip.Addr
	bridges   bridges
	mtu       int // bytes
	ipv6      bool
	routes    *rtnl // in the server's namespace
	relay     *relay
	doorman   *doorman
	reaper    *reaper
	lookout   *lookout // nil unless apart

	mu     sync.Mutex
	ports  map[int]string // slot to port, of the attached
	turns  map[int]int    // how often a slot was attached: its next port has another name than the dying one
	closed bool
	busy   sync.WaitGroup // the Attach calls under way
}

// Open removes what a killed server of the same name left, makes the bridge and the table, turns on IPv4 forwarding if
// it is off and starts the DNS relay. What it made before an error it removes. ctx bounds the call, not the Network.
func Open(ctx context.Context, c Config) (*Network, error) {
	if !validName.MatchString(c.Name) {
		return nil, fmt.Errorf("open sandbox network %q: the name must be 1 to 8 of A-Z a-z 0-9 _", c.Name)
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	n := &Network{
		name:  c.Name,
		space: namespace(c.Namespace),
		log:   log.With(slog.String("network", c.Name)),
		apart: c.Apart,
		ports: make(map[int]string),
		turns: make(map[int]int),
	}
	if n.outside = n.space; n.apart {
		n.outside = 0
	}
	unlock, ok, err := n.space.lock(ctx)
	if err != nil {
		return nil, fmt.Errorf("open sandbox network %s: %w", c.Name, err)
	}
	defer unlock()
	if !ok {
		n.log.Warn("another process holds the lock of the network namespace, going on without it")
	}
	if err := n.open(ctx, c); err != nil {
		return nil, errors.Join(fmt.Errorf("open sandbox network %s: %w", c.Name, err), n.undo())
	}
	n.log.Info("sandbox network open", slog.String("range", n.addresses.String()), slog.String("gateway", n.gateway.String()), slog.Int("mtu", n.mtu))
	return n, nil
}

func (n *Network) open(ctx context.Context, c Config) error {
	if err := sweep(n.space, n.name, n.log); err != nil {
		return err
	}
	names, err := newUpstreams(c.Nameservers, resolvConf)
	if err != nil {
		n.log.Warn("no nameserver for sandboxes: their DNS queries fail until there is one", slog.Any("error", err))
	}
	h, err := n.space.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	held, err := holdings(h, names.list())
	if err != nil {
		return err
	}
	n.mtu = uplinkMTU(h)
	if n.apart {
		beyond, err := n.lookOutside(names.list())
		if err != nil {
			return err
		}
		held = append(held, beyond...)
	}
	if n.addresses, err = chooseRange(c.Range, held); err != nil {
		return err
	}
	n.gateway = nth(n.addresses, 1)
	_, err = os.Stat(ipv6Settings)
	n.ipv6 = err == nil
	n.bridges.index = map[int]int{}
	if err := ctx.Err(); err != nil {
		return err
	}
	// The table first: there is no moment in which a sandbox could send and nothing would refuse it.
	if err := n.makeTable(); err != nil {
		return err
	}
	if _, err := n.bridgeOf(0); err != nil {
		return err
	}
	if err := n.forward(); err != nil {
		return err
	}
	return n.start(names)
}

// start starts the goroutines; undo and Close stop them.
func (n *Network) start(names *upstreams) error {
	if err := n.space.do(func() (err error) { n.routes, err = dialRtnl(); return err }); err != nil {
		return err
	}
	var err error
	if n.doorman, err = newDoorman(n.space, n.name, n.log); err != nil {
		return err
	}
	if n.relay, err = newRelay(n.space, n.outside, netip.AddrPortFrom(n.gateway, dnsPort), names, n.log); err != nil {
		return err
	}
	if n.apart {
		if n.lookout, err = newLookout(n); err != nil {
			return err
		}
	}
	n.reaper, err = newReaper(n.space, group(n.name), n.log)
	return err
}

// Nameserver returns the address that a sandbox's resolv.conf has to name; port 53 of it relays to the host's
// nameservers.
func (n *Network) Nameserver() netip.Addr { return n.gateway }

// Range returns the addresses of the sandboxes.
func (n *Network) Range() netip.Prefix { return n.addresses }

// Slots returns how many slots there are, numbered from 0.
func (n *Network) Slots() int { return 1<<(32-n.addresses.Bits()) - reserved }

// Close stops the relay and removes everything Open and Attach made: ports, bridges, table, our rules in other tables,
// and IPv4 forwarding if Open turned it on and nobody else needs it. Sandboxes that still run lose their network. ctx
// bounds the wait for other servers that open or close at this moment; the second Close does nothing.
func (n *Network) Close(ctx context.Context) error {
	n.mu.Lock()
	closed := n.closed
	n.closed = true
	n.mu.Unlock()
	if closed {
		return nil
	}
	n.busy.Wait()
	unlock, _, err := n.space.lock(ctx)
	if err != nil {
		n.log.Warn("closing without the lock of the network namespace", slog.Any("error", err))
		unlock = func() {}
	}
	defer unlock()
	if err := n.undo(); err != nil {
		return fmt.Errorf("close sandbox network %s: %w", n.name, err)
	}
	n.log.Info("sandbox network closed")
	return nil
}

// undo stops what was started and removes what was made, in whatever state Open left it.
func (n *Network) undo() error {
	if n.relay != nil {
		n.relay.close()
	}
	if n.doorman != nil {
		n.doorman.close()
	}
	if n.lookout != nil {
		n.lookout.close()
	}
	if n.reaper != nil {
		n.reaper.close()
	}
	if n.routes != nil {
		n.routes.close()
	}
	return sweep(n.space, n.name, n.log)
}

// uplinkMTU returns the largest packet, in bytes, that leaves the host whole by its default route. A sandbox that
// thought more would go lives on the kindness of routers that send "fragmentation needed".
func uplinkMTU(h *netlink.Handle) int {
	routes, err := listed(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return defaultMTU
	}
	for _, r := range routes {
		if r.Dst != nil {
			if ones, _ := r.Dst.Mask.Size(); ones != 0 {
				continue
			}
		}
		if link, err := h.LinkByIndex(r.LinkIndex); err == nil && link.Attrs().MTU >= 576 {
			return min(link.Attrs().MTU, defaultMTU)
		}
	}
	return defaultMTU
}
