package network

import (
	"errors"
	"fmt"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// replyTimeout bounds the wait for the kernel's answer to one batch. The kernel answers within the send call, so it
// passes only when answers were lost.
const replyTimeout = 10 // seconds

// rtnl is a route netlink socket that sends several requests in one system call. A netlink library sends one request
// at a time and waits; a link needs some ten, and its sandbox is being waited for.
type rtnl struct {
	mu sync.Mutex
	fd int
}

// dialRtnl opens the socket in the calling thread's namespace.
func dialRtnl() (*rtnl, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a route netlink socket: %w", err)
	}
	// Without this an error carries the whole request back, which the buffer of receive need not hold.
	capped := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	limited := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: replyTimeout})
	if err := errors.Join(capped, limited); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set up a route netlink socket: %w", err)
	}
	return &rtnl{fd: fd}, nil
}

func (r *rtnl) close() { unix.Close(r.fd) }

// reply is the kernel's answer to one request of a batch.
type reply struct {
	err  error
	data []byte // the payload of the answering message, if the request asks for one
}

// send hands all requests to the kernel at once, which works on each in turn even if one before it went wrong. The
// result has one reply for each request; the error is about the socket.
func (r *rtnl) send(requests ...*nl.NetlinkRequest) ([]reply, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var batch []byte
	position := make(map[uint32]int, len(requests))
	for i, request := range requests {
		request.Flags |= unix.NLM_F_ACK
		batch = append(batch, request.Serialize()...)
		batch = append(batch, make([]byte, -len(batch)&(unix.NLMSG_ALIGNTO-1))...)
		position[request.Seq] = i
	}
	if err := unix.Sendto(r.fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("send %d route netlink requests: %w", len(requests), err)
	}
	replies := make([]reply, len(requests))
	buf := make([]byte, 16<<10)
	for len(position) > 0 {
		n, _, err := unix.Recvfrom(r.fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("receive the answers to %d route netlink requests: %w", len(requests), err)
		}
		messages, err := parseMessages(buf[:n])
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			i, ours := position[m.seq]
			switch {
			case !ours:
			case m.kind != unix.NLMSG_ERROR:
				replies[i].data = append([]byte(nil), m.data...)
			default:
				if code := int32(nl.NativeEndian().Uint32(m.data)); code != 0 {
					replies[i].err = unix.Errno(-code)
				}
				delete(position, m.seq)
			}
		}
	}
	return replies, nil
}

type message struct {
	kind uint16
	seq  uint32
	data []byte
}

// parseMessages splits a datagram of netlink messages (struct nlmsghdr: length, type, flags, sequence, port).
func parseMessages(b []byte) ([]message, error) {
	var all []message
	order := nl.NativeEndian()
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(order.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return nil, fmt.Errorf("read route netlink answers: a message of %d bytes in %d", size, len(b))
		}
		m := message{kind: order.Uint16(b[4:]), seq: order.Uint32(b[8:]), data: b[unix.SizeofNlMsghdr:size]}
		if m.kind == unix.NLMSG_ERROR && len(m.data) < 4 {
			return nil, fmt.Errorf("read route netlink answers: an acknowledgement of %d bytes", len(m.data))
		}
		all = append(all, m)
		b = b[min(len(b), (size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]
	}
	return all, nil
}

// linkRequest addresses a link by index, or by name if the index is 0, and sets its flags to up if that is asked.
func linkRequest(kind, flags int, index int, name string, up bool) *nl.NetlinkRequest {
	request := nl.NewNetlinkRequest(kind, flags)
	request.AddData(linkMessage(index, up))
	if name != "" {
		request.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	}
	return request
}

func linkMessage(index int, up bool) *nl.IfInfomsg {
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Index = int32(index)
	if up {
		m.Flags, m.Change = unix.IFF_UP, unix.IFF_UP
	}
	return m
}

// vethRequest makes a veth pair: one end an unconfigured port of the bridge, the other in the namespace peer.
// One queue instead of one for each processor: each is two sysfs directories to make and to remove.
func vethRequest(port string, bridge, mtu int, peer int, hardware []byte) *nl.NetlinkRequest {
	request := linkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 0, port, false)
	request.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(bridge))))
	for _, a := range sizeAttributes(mtu) {
		request.AddData(a)
	}
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	other := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	other.AddChild(linkMessage(0, false))
	other.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(insideName))
	other.AddRtAttr(unix.IFLA_ADDRESS, hardware)
	other.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(peer)))
	for _, a := range sizeAttributes(mtu) {
		other.AddChild(a)
	}
	request.AddData(info)
	return request
}

func sizeAttributes(mtu int) []*nl.RtAttr {
	return []*nl.RtAttr{
		nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))),
		nl.NewRtAttr(unix.IFLA_NUM_TX_QUEUES, nl.Uint32Attr(1)),
		nl.NewRtAttr(unix.IFLA_NUM_RX_QUEUES, nl.Uint32Attr(1)),
	}
}

// isolateRequest makes a bridge port isolated: it talks to the bridge itself, not to other isolated ports.
func isolateRequest(port string) *nl.NetlinkRequest {
	request := linkRequest(unix.RTM_NEWLINK, 0, 0, port, false)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_SLAVE_KIND, nl.NonZeroTerminated("bridge"))
	info.AddRtAttr(nl.IFLA_INFO_SLAVE_DATA, nil).AddRtAttr(nl.IFLA_BRPORT_ISOLATED, nl.Uint8Attr(1))
	request.AddData(info)
	return request
}

// noIPv6Request keeps a link from making itself an IPv6 address and from looking for others who have it.
func noIPv6Request(port string) *nl.NetlinkRequest {
	const genModeNone = 1 // IN6_ADDR_GEN_MODE_NONE of linux/if_link.h
	request := linkRequest(unix.RTM_SETLINK, 0, 0, port, false)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, nl.Uint8Attr(genModeNone))
	request.AddData(spec)
	return request
}

// groupRequest puts a link into a group, and deleteGroupRequest deletes all links of one: the kernel then waits once
// for all of them until nobody uses them any more, which is what takes the time.
func groupRequest(port string, group uint32) *nl.NetlinkRequest {
	request := linkRequest(unix.RTM_SETLINK, 0, 0, port, false)
	request.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
	return request
}

func deleteGroupRequest(group uint32) *nl.NetlinkRequest {
	request := linkRequest(unix.RTM_DELLINK, 0, 0, "", false)
	request.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
	return request
}

// addressRequest gives link index the address alone, with nothing else on its link.
func addressRequest(index int, address [4]byte) *nl.NetlinkRequest {
	request := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	m := nl.NewIfAddrmsg(unix.AF_INET)
	m.Prefixlen = 32
	m.Index = uint32(index)
	request.AddData(m)
	request.AddData(nl.NewRtAttr(unix.IFA_LOCAL, address[:]))
	request.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, address[:]))
	return request
}

// defaultRouteRequest sends everything to the gateway, which is on the link although no prefix says so.
func defaultRouteRequest(index int, gateway [4]byte) *nl.NetlinkRequest {
	request := nl.NewNetlinkRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	m := nl.NewRtMsg()
	m.Family = unix.AF_INET
	m.Flags = unix.RTNH_F_ONLINK
	request.AddData(m)
	request.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, gateway[:]))
	request.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))))
	return request
}

// linkIndex reads the index out of the answer to RTM_GETLINK (struct ifinfomsg, the index at byte 4).
func linkIndex(answer []byte) (int, error) {
	if len(answer) < unix.SizeofIfInfomsg {
		return 0, fmt.Errorf("read a link: an answer of %d bytes", len(answer))
	}
	return int(int32(nl.NativeEndian().Uint32(answer[4:]))), nil
}

// stateRequest asks for a link, without its statistics.
func stateRequest(index int, name string) *nl.NetlinkRequest {
	const skipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h
	request := linkRequest(unix.RTM_GETLINK, 0, index, name, false)
	request.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
	return request
}

// isUp reads the operational state (RFC 2863) out of the answer.
func isUp(answer []byte) bool {
	const operUp = 6 // IF_OPER_UP of linux/if.h
	if len(answer) < unix.SizeofIfInfomsg {
		return false
	}
	attributes, err := nl.ParseRouteAttr(answer[unix.SizeofIfInfomsg:])
	if err != nil {
		return false
	}
	for _, a := range attributes {
		if a.Attr.Type == unix.IFLA_OPERSTATE {
			return len(a.Value) == 1 && a.Value[0] == operUp
		}
	}
	return false
}
