// Package network gives sandboxes a way out, and only out: to other machines, not to the host, not to each other, not
// to metadata services. It talks to the kernel by netlink and starts no program.
//
// # Words
//
//   - host: the network namespace the server runs in.
//   - sandbox: a network namespace that somebody else made and hands in as a descriptor.
//   - slot: a sandbox's number among those of one server. It decides the address.
//   - port: the host's end of a sandbox's link, isolated on its bridge.
//   - bridge: what the ports of 512 addresses in a row are on. There is one; each other is made when it is needed.
//   - gateway: the address that all bridges have. It is the sandboxes' default route and nameserver.
//   - relay: passes DNS queries from the gateway's port 53 to the host's nameservers.
//   - doorman: keeps rules in the host's iptables filter that let through what the table has let through.
//   - reaper: deletes the ports of detached slots.
//
// # The path of a packet
//
//	  sandbox               host                                                       elsewhere
//	┌────────┐  veth  ┌──────────────┐
//	│  eth0  ├────────┤ port         │   table inet dayfly_NAME
//	└────────┘        │   ╲          │   ┌────────┐             ┌─────────┐   ┌───────┐
//	  slot 0          │    df-NAME ──┼──►│ arrive ├─► routing ─►│ forward ├──►│ leave ├──► other machines
//	┌────────┐        │   ╱ gateway  │   └──┬─────┘      │      └─────────┘   └───────┘    (the host's address
//	│  eth0  ├────────┤ port         │      │            ▼       sibling,       masquerade   as source)
//	└────────┘        └──────────────┘      │         ┌───────┐  invalid and
//	  slot 1            no way from         ▼         │ input │  inbound end here
//	                    port to port     refused      └──┬────┘
//	                                                     ▼
//	                                            relay at gateway:53 ──► the host's nameservers
//
// The policy is decided in arrive, before any address translation: a port that a container engine publishes on an
// address of the host is the host's there, wherever it leads. forward and input look once more at what translation has
// made of a packet. A refused packet is answered with ICMP "administratively prohibited", so that a connection fails
// at once with EHOSTUNREACH; the kernel sends few of these a second to one sandbox and the rest time out. A packet
// with a false source, or to multicast and broadcast, is dropped without answer. Each reason has a counter, see
// [Network.Drops].
//
// # Promises
//
//   - A sandbox reaches no address of the host on any of its links but UDP and TCP port 53 of the gateway, no other
//     sandbox of the server, and nothing in 169.254.0.0/16. Nobody opens a connection to a sandbox.
//   - Other private networks are reachable: functions talk to databases.
//   - The table is in force before the first sandbox can send, and until the last port is gone.
//   - Close leaves no link, table or rule, and forwarding as it was. What a killed server left the next [Open] of the
//     same name removes, or [Sweep].
//   - A slot is free again as soon as Detach returns.
//
// # What it does not promise
//
//   - A sandbox that has CAP_NET_ADMIN in its namespace can take another address of the range. It then gets the answers
//     meant for that one, but reaches nothing more.
//   - While forwarding is on the host routes between its other links too. A host that must not has to say so in its
//     firewall.
//   - A firewall that drops in a table other than iptables' (firewalld, a hand-written one) or with the old iptables
//     stops sandboxes. Open logs a warning for those it sees; it opens none.
//   - Containers of an engine on the same host are other machines: what that engine lets in is its own matter.
//   - Sandboxes have no IPv6, no limits of bandwidth or connections, and no rules by domain.
//   - A bridge has at most 1,023 ports, those of detached slots included until they are deleted: who attaches and
//     detaches faster than the kernel deletes is refused.
//   - Forwarding stays on if by Close another program translates addresses, since that program may rely on it.
//
// # Concurrency and failure
//
// All methods may be called at the same time, also Close: it lets Attach calls under way end first and refuses later
// ones. Servers of different names share a host; a lock on its namespace keeps them from choosing the same range, and
// the last to close turns forwarding off. A failed Attach leaves the slot free. The relay, the doorman and the reaper
// are goroutines that Close ends and waits for; what goes wrong in them is logged. A nameserver that does not answer
// within two seconds is passed over for the next, and with none left the sandbox is told SERVFAIL.
package network
