package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// Sweep removes what an Open of that name left in the network namespace of the process when its server was killed:
// ports, bridges, table, rules in other tables, and forwarding if it turned that on. It must not be called while a
// server of that name runs. With nothing to remove it does nothing.
func Sweep(ctx context.Context, name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("sweep sandbox network %q: the name must be 1 to 8 of A-Z a-z 0-9 _", name)
	}
	unlock, _, err := namespace(0).lock(ctx)
	if err != nil {
		return fmt.Errorf("sweep sandbox network %s: %w", name, err)
	}
	defer unlock()
	if err := sweep(0, name, slog.New(slog.DiscardHandler)); err != nil {
		return fmt.Errorf("sweep sandbox network %s: %w", name, err)
	}
	return nil
}

// sweep removes everything of that name. The links go first: as long as there is one, the table guards it.
func sweep(ns namespace, name string, log *slog.Logger) error {
	if err := sweepLinks(ns, name); err != nil {
		return err
	}
	conn, err := ns.nftables()
	if err != nil {
		return err
	}
	defer hangUp(conn)
	chains, err := conn.ListChains()
	if err != nil {
		return fmt.Errorf("list nftables chains: %w", err)
	}
	return errors.Join(
		removeAccepts(ns, name),
		stopForwarding(ns, name, chains, log),
		removeTable(ns, name))
}

func sweepLinks(ns namespace, name string) error {
	h, err := ns.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	links, err := listed(h.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var all []netlink.Link
	for _, l := range links {
		if l.Type() == "bridge" && strings.HasPrefix(l.Attrs().Name, bridgeNames(name)) {
			all = append(all, l)
		}
	}
	var ports []string
	for _, l := range links {
		a := l.Attrs()
		onBridge := slices.ContainsFunc(all, func(b netlink.Link) bool { return b.Attrs().Index == a.MasterIndex })
		orphan := a.MasterIndex == 0 && strings.HasPrefix(a.Name, portPrefix(name))
		if l.Type() == "veth" && (onBridge || orphan) {
			ports = append(ports, a.Name)
		}
	}
	if len(ports) > 0 {
		if err := sweepPorts(ns, name, ports); err != nil {
			return err
		}
	}
	for _, bridge := range all {
		if err := h.LinkDel(bridge); err != nil {
			return fmt.Errorf("delete bridge %s: %w", bridge.Attrs().Name, err)
		}
	}
	return nil
}

func sweepPorts(ns namespace, name string, ports []string) error {
	var routes *rtnl
	if err := ns.do(func() (err error) { routes, err = dialRtnl(); return err }); err != nil {
		return err
	}
	defer routes.close()
	return deleteLinks(routes, group(name), ports)
}

func removeTable(ns namespace, name string) error {
	conn, err := ns.nftables()
	if err != nil {
		return err
	}
	defer hangUp(conn)
	// Adding it first makes the deletion succeed where there is none; both are one transaction.
	conn.DelTable(conn.AddTable(table(name)))
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("delete nftables table %s: %w", table(name).Name, err)
	}
	return nil
}
