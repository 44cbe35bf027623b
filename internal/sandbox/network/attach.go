package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// loopback is the index of lo in each network namespace (LOOPBACK_IFINDEX of the kernel's net/flow.h).
const loopback = 1

// settleTimeout is how long a new port may take to pass packets, on kernels where that has to be waited for.
const settleTimeout = 5 * time.Second

// Link is a sandbox's connection.
type Link struct {
	Address netip.Addr // the sandbox's own
	Gateway netip.Addr // its default route, and its nameserver
	Port    string     // the name of the link's host end
	MTU     int        // bytes
}

// Attach connects the network namespace behind the descriptor netns as the sandbox of the slot: eth0 with the slot's
// address and a default route, lo up, IPv6 off on all but lo. The namespace may belong to any user namespace. It must
// have no eth0. The slot must be in [0, Slots) and not attached. The link passes packets when
// Attach returns. After an error nothing stays attached. ctx ends a wait; the work itself takes about a millisecond.
func (n *Network) Attach(ctx context.Context, netns int, slot int) (Link, error) {
	if err := ctx.Err(); err != nil {
		return Link{}, fmt.Errorf("attach sandbox of slot %d to the network: %w", slot, err)
	}
	port, err := n.take(slot)
	if err != nil {
		return Link{}, fmt.Errorf("attach sandbox of slot %d to the network: %w", slot, err)
	}
	defer n.busy.Done()
	link := Link{Address: nth(n.addresses, firstSlot+slot), Gateway: n.gateway, Port: port, MTU: n.mtu}
	if err := n.connect(ctx, netns, slot, link); err != nil {
		n.Detach(slot)
		return Link{}, fmt.Errorf("attach sandbox of slot %d to the network: %w", slot, err)
	}
	return link, nil
}

// take marks a slot as attached and names its port. The caller ends with busy.Done.
func (n *Network) take(slot int) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return "", errors.New("the network is closed")
	}
	if slot < 0 || slot >= n.Slots() {
		return "", fmt.Errorf("there are slots 0 to %d", n.Slots()-1)
	}
	if port, taken := n.ports[slot]; taken {
		return "", fmt.Errorf("the slot is attached as %s: detach it first", port)
	}
	// The last letter tells the port from one of the same slot that is detached but not yet deleted.
	port := fmt.Sprintf("%s%d%c", portPrefix(n.name), slot, 'a'+rune(n.turns[slot]%26))
	n.turns[slot]++
	n.ports[slot] = port
	n.busy.Add(1)
	return port, nil
}

// portPrefix begins the names of a server's ports.
func portPrefix(name string) string { return fmt.Sprintf("df%04x.", tag(name)) }

func (n *Network) connect(ctx context.Context, netns, slot int, link Link) error {
	bridge, err := n.bridgeOf(slot)
	if err != nil {
		return err
	}
	inside, err := n.enter(netns)
	if err != nil {
		return err
	}
	defer inside.close()
	requests := []*nl.NetlinkRequest{
		vethRequest(link.Port, bridge, n.mtu, netns, hardware(link.Address)),
		isolateRequest(link.Port),
	}
	if n.ipv6 {
		requests = append(requests, noIPv6Request(link.Port))
	}
	requests = append(requests, linkRequest(unix.RTM_SETLINK, 0, 0, link.Port, true))
	if _, err := first(n.routes.send(requests...)); err != nil {
		if errors.Is(err, unix.EXFULL) {
			return fmt.Errorf("make port %s: its bridge has as many ports as the kernel gives it (1023), since those of ended sandboxes are not deleted yet: %w", link.Port, err)
		}
		return fmt.Errorf("make port %s of the bridge with index %d: %w", link.Port, bridge, err)
	}
	answer, err := first(inside.send(
		linkRequest(unix.RTM_SETLINK, 0, loopback, "", true),
		linkRequest(unix.RTM_SETLINK, 0, 0, insideName, true),
		linkRequest(unix.RTM_GETLINK, 0, 0, insideName, false)))
	if err != nil {
		return fmt.Errorf("set lo and %s up in the sandbox: %w", insideName, err)
	}
	index, err := linkIndex(answer)
	if err != nil {
		return err
	}
	_, err = first(inside.send(
		addressRequest(index, link.Address.As4()),
		defaultRouteRequest(index, link.Gateway.As4())))
	if err != nil {
		return fmt.Errorf("give %s in the sandbox the address %s and gateway %s: %w", insideName, link.Address, link.Gateway, err)
	}
	return n.settle(ctx, bridge, link.Port)
}

// settle returns when port and bridge pass packets. The kernel leaves that to a worker some time after it has set a
// link up, and drops what is sent before: the sandbox's first connection would then take a second. Since Linux 6.8
// asking for a link makes it do that work at once, so that the first question is also the last.
func (n *Network) settle(ctx context.Context, bridge int, port string) error {
	deadline := time.Now().Add(settleTimeout)
	for {
		replies, err := n.routes.send(stateRequest(0, port), stateRequest(bridge, ""))
		if err != nil {
			return err
		}
		up := 0
		for _, r := range replies {
			if r.err != nil {
				return fmt.Errorf("ask for the state of port %s and its bridge: %w", port, r.err)
			}
			if isUp(r.data) {
				up++
			}
		}
		if up == len(replies) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for port %s to pass packets: it does not after %v", port, settleTimeout)
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait for port %s to pass packets: %w", port, ctx.Err())
		}
	}
}

// first returns the first error of a batch, or the last answer that had a payload.
func first(replies []reply, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	var data []byte
	for _, r := range replies {
		if r.err != nil {
			return nil, r.err
		}
		if r.data != nil {
			data = r.data
		}
	}
	return data, nil
}

// enter opens a route netlink socket in a sandbox's namespace and turns IPv6 off for the links it will get. lo keeps
// it: many programs listen on ::1, and nothing leaves by lo.
func (n *Network) enter(netns int) (*rtnl, error) {
	var inside *rtnl
	err := namespace(netns).do(func() error {
		if n.ipv6 {
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0); err != nil {
				return fmt.Errorf("turn off IPv6 in the sandbox: %w", err)
			}
		}
		var err error
		inside, err = dialRtnl()
		return err
	})
	return inside, err
}

// Loopback sets lo up in the network namespace behind the descriptor netns and gives it nothing else.
func (n *Network) Loopback(netns int) error { return Loopback(netns) }

// Loopback does what the method does, for who has no Network: it needs none.
func Loopback(netns int) error {
	var inside *rtnl
	if err := namespace(netns).do(func() (err error) { inside, err = dialRtnl(); return err }); err != nil {
		return fmt.Errorf("set lo up in a sandbox: %w", err)
	}
	defer inside.close()
	if _, err := first(inside.send(linkRequest(unix.RTM_SETLINK, 0, loopback, "", true))); err != nil {
		return fmt.Errorf("set lo up in a sandbox: %w", err)
	}
	return nil
}

// Detach frees the slot at once and deletes its port in the background, together with others that were detached
// meanwhile; the slot may be attached again at once. It does nothing for a slot that is not attached. The port also
// goes by itself when the sandbox's network namespace does.
func (n *Network) Detach(slot int) {
	n.mu.Lock()
	port, attached := n.ports[slot]
	delete(n.ports, slot)
	closed := n.closed
	n.mu.Unlock()
	if attached && !closed {
		n.reaper.add(port)
	}
}

// Wait returns when the ports of all slots detached before it was called are deleted, or with the error of ctx.
func (n *Network) Wait(ctx context.Context) error {
	done := n.reaper.barrier()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait until detached ports of sandbox network %s are deleted: %w", n.name, ctx.Err())
	}
}

// reaper deletes ports. The kernel takes some 20 ms to delete a link, because it waits until no processor can still be
// using it, and holds the lock of all network changes for part of that; it takes as long for many.
type reaper struct {
	routes *rtnl
	group  uint32
	log    *slog.Logger
	wake   chan struct{}
	stop   chan struct{}
	done   chan struct{}

	mu    sync.Mutex
	dying []string
	waits []chan struct{} // closed when dying, as it was when they were added, is dead
	ended bool
}

// newReaper has a socket of its own: one socket is for one batch at a time, and nobody is to wait behind deletions.
func newReaper(ns namespace, group uint32, log *slog.Logger) (*reaper, error) {
	var routes *rtnl
	if err := ns.do(func() (err error) { routes, err = dialRtnl(); return err }); err != nil {
		return nil, err
	}
	r := &reaper{
		routes: routes,
		group:  group,
		log:    log,
		wake:   make(chan struct{}, 1),
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	go r.run()
	return r, nil
}

func (r *reaper) add(port string) {
	r.mu.Lock()
	r.dying = append(r.dying, port)
	r.mu.Unlock()
	r.signal()
}

func (r *reaper) barrier() <-chan struct{} {
	done := make(chan struct{})
	r.mu.Lock()
	if r.ended {
		close(done)
	} else {
		r.waits = append(r.waits, done)
	}
	r.mu.Unlock()
	r.signal()
	return done
}

func (r *reaper) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// close waits until all that was added is deleted.
func (r *reaper) close() {
	close(r.stop)
	<-r.done
	r.routes.close()
}

func (r *reaper) run() {
	defer close(r.done)
	for {
		select {
		case <-r.wake:
			r.reap()
		case <-r.stop:
			r.mu.Lock()
			r.ended = true
			r.mu.Unlock()
			r.reap()
			return
		}
	}
}

func (r *reaper) reap() {
	r.mu.Lock()
	dying, waits := r.dying, r.waits
	r.dying, r.waits = nil, nil
	r.mu.Unlock()
	if len(dying) > 0 {
		if err := deleteLinks(r.routes, r.group, dying); err != nil {
			r.log.Warn("ports of ended sandboxes stay until the server is closed", slog.Int("ports", len(dying)), slog.Any("error", err))
		}
	}
	for _, w := range waits {
		close(w)
	}
}

// deleteLinks deletes links by name; those that are gone already count as deleted.
func deleteLinks(routes *rtnl, group uint32, names []string) error {
	const most = 64 // requests in one batch: their answers have to fit the socket's receive buffer
	for len(names) > 0 {
		some := names[:min(len(names), most)]
		names = names[len(some):]
		requests := make([]*nl.NetlinkRequest, 0, len(some)+1)
		for _, name := range some {
			requests = append(requests, groupRequest(name, group))
		}
		replies, err := routes.send(append(requests, deleteGroupRequest(group))...)
		if err != nil {
			return fmt.Errorf("delete %d links: %w", len(some), err)
		}
		for i, r := range replies {
			if r.err == nil || errors.Is(r.err, unix.ENODEV) {
				continue
			}
			if i == len(some) {
				return fmt.Errorf("delete %d links: %w", len(some), r.err)
			}
			return fmt.Errorf("mark link %s for deletion: %w", some[i], r.err)
		}
	}
	return nil
}
