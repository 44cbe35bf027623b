package network

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Why a packet was refused: the names of the table's counters and the keys of Drops.
const (
	dropIPv6      = "ipv6"       // anything but IPv4
	dropSpoofed   = "spoofed"    // a source address outside the range
	dropLinkLocal = "link_local" // 169.254.0.0/16, where clouds have their metadata service
	dropHost      = "host"       // an address of the host, other than DNS at the gateway
	dropSibling   = "sibling"    // another address of the range
	dropReserved  = "reserved"   // 0.0.0.0/8, 127.0.0.0/8, multicast and above
	dropInvalid   = "invalid"    // belongs to no connection that could be translated
	dropInbound   = "inbound"    // from elsewhere to a sandbox, or to the gateway
)

var dropReasons = []string{dropIPv6, dropSpoofed, dropLinkLocal, dropHost, dropSibling, dropReserved, dropInvalid, dropInbound}

var (
	linkLocal = netip.MustParsePrefix("169.254.0.0/16")
	// reservedBlocks are this host (RFC 791), loopback (RFC 1122), and multicast, future use and broadcast together
	// (RFC 1112: from 224.0.0.0 to the end).
	reservedBlocks = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/3"),
	}
)

// Chains of the table. The first four are hooked into the kernel's path, the next two are reached from those.
const (
	chainArrive  = "arrive"
	chainInput   = "input"
	chainForward = "forward"
	chainLeave   = "leave"
	chainSandbox = "from_sandbox"
	chainRefuse  = "refuse"
)

const (
	dnsPort = 53
	// icmpxAdminProhibited is NFT_REJECT_ICMPX_ADMIN_PROHIBITED of linux/netfilter/nf_tables.h.
	icmpxAdminProhibited = 3
	register             = 1 // the nftables register that all rules compare in
)

// Drops returns how many packets were refused since Open, by reason: "host" (an address of the host), "sibling"
// (another sandbox), "link_local" (169.254.0.0/16, with the metadata services), "reserved" (0.0.0.0/8, loopback,
// multicast, broadcast), "spoofed" (not the sandboxes' own range as source), "ipv6", "invalid" (of no known
// connection) and "inbound" (from elsewhere to a sandbox). Each key is always there. A refused connection is several
// packets where its sender tries again.
func (n *Network) Drops(ctx context.Context) (map[string]uint64, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read the drop counters of sandbox network %s: %w", n.name, err)
	}
	conn, err := n.space.nftables()
	if err != nil {
		return nil, fmt.Errorf("read the drop counters of sandbox network %s: %w", n.name, err)
	}
	defer hangUp(conn)
	objects, err := conn.GetNamedObjects(table(n.name))
	if err != nil {
		return nil, fmt.Errorf("read the drop counters of sandbox network %s: %w", n.name, err)
	}
	drops := make(map[string]uint64, len(dropReasons))
	for _, o := range objects {
		named, ok := o.(*nftables.NamedObj)
		if !ok {
			continue
		}
		if counter, ok := named.Obj.(*expr.Counter); ok {
			drops[named.Name] = counter.Packets
		}
	}
	return drops, nil
}

func table(name string) *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: tablePrefix + name}
}

// ruleset collects the rules of the table for one batch.
type ruleset struct {
	conn  *nftables.Conn
	table *nftables.Table
}

func (s *ruleset) base(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority int32) *nftables.Chain {
	at := nftables.ChainPriority(priority)
	accept := nftables.ChainPolicyAccept
	return s.conn.AddChain(&nftables.Chain{
		Table: s.table, Name: name, Type: kind, Hooknum: hook, Priority: &at, Policy: &accept,
	})
}

func (s *ruleset) rule(chain *nftables.Chain, parts ...[]expr.Any) {
	s.conn.AddRule(&nftables.Rule{Table: s.table, Chain: chain, Exprs: slices.Concat(parts...)})
}

// makeTable puts the whole policy into the kernel in one transaction.
func (n *Network) makeTable() error {
	conn, err := n.space.nftables()
	if err != nil {
		return err
	}
	defer hangUp(conn)
	s := &ruleset{conn: conn, table: conn.AddTable(table(n.name))}
	for _, reason := range dropReasons {
		conn.AddObj(&nftables.NamedObj{Table: s.table, Name: reason, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}})
	}
	refuse := conn.AddChain(&nftables.Chain{Table: s.table, Name: chainRefuse})
	s.rule(refuse, []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: icmpxAdminProhibited}})
	if n.apart {
		if err := n.addHostSet(s); err != nil {
			return err
		}
	}
	n.addSandboxRules(s)
	n.addHookRules(s)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("make nftables table %s: %w", s.table.Name, err)
	}
	return nil
}

// addSandboxRules says what a sandbox may send, before anything has rewritten it.
func (n *Network) addSandboxRules(s *ruleset) {
	// Between mangle (-150) and destination NAT (-100): a port that somebody publishes on a host address and forwards
	// to elsewhere is still an address of the host here.
	arrive := s.base(chainArrive, nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -149)
	sandbox := s.conn.AddChain(&nftables.Chain{Table: s.table, Name: chainSandbox})
	bridges := bridgeNames(n.name)
	s.rule(arrive, linkLike(expr.MetaKeyIIFNAME, expr.CmpOpEq, bridges), goTo(chainSandbox))
	// Whoever sends to our range from outside has no connection: those have the host's address, by masquerading.
	s.rule(arrive, link(expr.MetaKeyIIFNAME, expr.CmpOpNeq, "lo"), ipv4(expr.CmpOpEq),
		destination(n.addresses), count(dropInbound), drop())

	s.rule(sandbox, ipv4(expr.CmpOpNeq), count(dropIPv6), drop())
	s.rule(sandbox, source(expr.CmpOpNeq, n.addresses), count(dropSpoofed), drop())
	for _, protocol := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		s.rule(sandbox, n.toRelay(protocol), accept())
	}
	s.rule(sandbox, destination(linkLocal), count(dropLinkLocal), goTo(chainRefuse))
	for _, block := range reservedBlocks {
		s.rule(sandbox, destination(block), count(dropReserved), drop())
	}
	s.rule(sandbox, destinationKind(unix.RTN_LOCAL), count(dropHost), goTo(chainRefuse))
	if n.apart {
		s.rule(sandbox, destinationIn(setHost), count(dropHost), goTo(chainRefuse))
	}
	s.rule(sandbox, destination(n.addresses), count(dropSibling), goTo(chainRefuse))
	// A broadcast address of a network the host is in would be taken by the host's own services.
	s.rule(sandbox, destinationKind(unix.RTN_BROADCAST), count(dropHost), drop())
}

// addHookRules says what may pass after routing, also if somebody's NAT has sent a packet elsewhere meanwhile, and
// translates what leaves.
func (n *Network) addHookRules(s *ruleset) {
	bridges := bridgeNames(n.name)
	in := linkLike(expr.MetaKeyIIFNAME, expr.CmpOpEq, bridges)
	out := linkLike(expr.MetaKeyOIFNAME, expr.CmpOpEq, bridges)

	input := s.base(chainInput, nftables.ChainTypeFilter, nftables.ChainHookInput, -10)
	for _, protocol := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		s.rule(input, in, ipv4(expr.CmpOpEq), n.toRelay(protocol), accept())
	}
	s.rule(input, in, count(dropHost), goTo(chainRefuse))

	forward := s.base(chainForward, nftables.ChainTypeFilter, nftables.ChainHookForward, -10)
	s.rule(forward, in, out, count(dropSibling), goTo(chainRefuse))
	// The kernel does not translate such packets: they would leave with the sandbox's own address.
	s.rule(forward, in, connection(expr.CtStateBitINVALID, expr.CmpOpNeq), count(dropInvalid), drop())
	s.rule(forward, out, connection(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED, expr.CmpOpEq), count(dropInbound), drop())

	leave := s.base(chainLeave, nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 100)
	s.rule(leave, ipv4(expr.CmpOpEq), linkLike(expr.MetaKeyOIFNAME, expr.CmpOpNeq, bridges),
		source(expr.CmpOpEq, n.addresses), source(expr.CmpOpNeq, netip.PrefixFrom(n.gateway, 32)), []expr.Any{&expr.Masq{}})
}

// toRelay matches packets to the DNS relay.
func (n *Network) toRelay(protocol byte) []expr.Any {
	return slices.Concat(destination(netip.PrefixFrom(n.gateway, 32)), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{protocol}},
		// The destination port is the second field of both TCP's and UDP's header.
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: binary.BigEndian.AppendUint16(nil, dnsPort)},
	})
}

func link(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: register},
		&expr.Cmp{Op: op, Register: register, Data: append([]byte(name), make([]byte, unix.IFNAMSIZ-len(name))...)},
	}
}

// linkLike matches links by what their names begin with.
func linkLike(key expr.MetaKey, op expr.CmpOp, beginning string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: register},
		&expr.Cmp{Op: op, Register: register, Data: []byte(beginning)},
	}
}

func ipv4(op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register},
		&expr.Cmp{Op: op, Register: register, Data: []byte{unix.NFPROTO_IPV4}},
	}
}

// Offsets of the addresses in the IPv4 header, in bytes (RFC 791, 3.1).
const (
	sourceOffset      = 12
	destinationOffset = 16
)

func source(op expr.CmpOp, p netip.Prefix) []expr.Any { return address(sourceOffset, op, p) }

func destination(p netip.Prefix) []expr.Any { return address(destinationOffset, expr.CmpOpEq, p) }

func address(offset uint32, op expr.CmpOp, p netip.Prefix) []expr.Any {
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-p.Bits()))
	return []expr.Any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: register, Data: p.Masked().Addr().AsSlice()},
	}
}

// destinationKind matches what the routing tables say the destination is.
func destinationKind(kind uint32) []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: register, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: binary.NativeEndian.AppendUint32(nil, kind)},
	}
}

// connection matches with CmpOpNeq if the connection is in one of the states, with CmpOpEq if in none.
func connection(states uint32, op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: register},
		&expr.Bitwise{
			SourceRegister: register, DestRegister: register, Len: 4,
			Mask: binary.NativeEndian.AppendUint32(nil, states), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: op, Register: register, Data: make([]byte, 4)},
	}
}

func count(reason string) []expr.Any {
	return []expr.Any{&expr.Objref{Type: int(nftables.ObjTypeCounter), Name: reason}}
}

func verdict(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}

func accept() []expr.Any           { return verdict(expr.VerdictAccept, "") }
func drop() []expr.Any             { return verdict(expr.VerdictDrop, "") }
func goTo(chain string) []expr.Any { return verdict(expr.VerdictGoto, chain) }
