package network

import (
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/google/nftables"
)

// forwarding is the kernel's switch between a host and a router, below /proc/sys/net.
const forwarding = "ipv4/ip_forward"

// chainSwitched is an empty chain in the table of the server that turned forwarding on. There it outlives a killed
// server, and another server can inherit it.
const chainSwitched = "turned_on_ip_forward"

// forward turns forwarding on if it is off, after it has noted so in the table.
func (n *Network) forward() error {
	on, err := n.space.forwards()
	if err != nil || on {
		return err
	}
	if err := addSwitched(n.space, table(n.name)); err != nil {
		return err
	}
	if err := n.space.setSysctl(forwarding, "1"); err != nil {
		return fmt.Errorf("turn on net.ipv4.ip_forward: %w", err)
	}
	n.log.Info("turned on net.ipv4.ip_forward for sandboxes, to be turned off again when the server closes")
	return nil
}

func (ns namespace) forwards() (bool, error) {
	var value []byte
	err := ns.do(func() (err error) { value, err = os.ReadFile("/proc/sys/net/" + forwarding); return err })
	if err != nil {
		return false, fmt.Errorf("read net.ipv4.ip_forward: %w", err)
	}
	return strings.TrimSpace(string(value)) != "0", nil
}

func addSwitched(ns namespace, t *nftables.Table) error {
	conn, err := ns.nftables()
	if err != nil {
		return err
	}
	defer hangUp(conn)
	conn.AddChain(&nftables.Chain{Table: t, Name: chainSwitched})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("note in nftables table %s that forwarding was off: %w", t.Name, err)
	}
	return nil
}

// stopForwarding turns off what the server of that name turned on, unless somebody else has come to need it: another
// server, which then inherits the duty, or whoever has source NAT of his own (a container engine, a router).
func stopForwarding(ns namespace, name string, chains []*nftables.Chain, log *slog.Logger) error {
	var ours, foreign bool
	var heir *nftables.Table
	for _, c := range chains {
		switch own := table(name); {
		case c.Table.Name == own.Name && c.Table.Family == own.Family:
			ours = ours || c.Name == chainSwitched
		case strings.HasPrefix(c.Table.Name, tablePrefix) && c.Table.Family == own.Family:
			heir = c.Table
		case c.Type == nftables.ChainTypeNAT && c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookPostrouting &&
			c.Table.Family != nftables.TableFamilyIPv6:
			foreign = true
		}
	}
	switch {
	case !ours:
		return nil
	case heir != nil:
		return addSwitched(ns, heir)
	case foreign:
		log.Warn("net.ipv4.ip_forward stays on: another program translates addresses by now")
		return nil
	}
	if err := ns.setSysctl(forwarding, "0"); err != nil {
		return fmt.Errorf("turn off net.ipv4.ip_forward: %w", err)
	}
	log.Info("turned off net.ipv4.ip_forward, as it was before")
	return nil
}
