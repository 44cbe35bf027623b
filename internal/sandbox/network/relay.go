package network

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits of the relay. One sandbox may use a quarter of it, so that it cannot keep the others from resolving names.
const (
	maxQueries       = 256
	maxQueriesOfOne  = 64
	maxStreams       = 64
	maxStreamsOfOne  = 16
	tryTimeout       = 2 * time.Second  // for one nameserver to answer
	streamIdle       = 10 * time.Second // between two queries on one TCP connection (RFC 7766, 6.2.3: a few seconds)
	maxDatagram      = 65535            // bytes; EDNS lets a client take as many (RFC 6891, 6.2.3)
	dnsHeaderSize    = 12               // bytes (RFC 1035, 4.1.1)
	responseBit      = 0x80             // QR, in byte 2 of the header
	responseCode     = 0x0f             // RCODE, in byte 3
	serverFailure    = 2                // SERVFAIL
	recursionAllowed = 0x80             // RA, in byte 3
)

// relay answers DNS queries at the gateway by asking the host's nameservers. Those may be on the host's loopback,
// which no packet of a sandbox can reach. It passes messages on as they are and caches nothing: the nameservers do.
type relay struct {
	outside namespace // where the nameservers are asked
	names   *upstreams
	log     *slog.Logger
	queries *quota
	streams *quota
	packets *net.UDPConn
	accepts *net.TCPListener
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	buffers sync.Pool // of *[]byte, maxDatagram long
}

func newRelay(ns, outside namespace, at netip.AddrPort, names *upstreams, log *slog.Logger) (*relay, error) {
	r := &relay{
		outside: outside,
		names:   names,
		log:     log,
		queries: newQuota(maxQueries, maxQueriesOfOne),
		streams: newQuota(maxStreams, maxStreamsOfOne),
		buffers: sync.Pool{New: func() any { b := make([]byte, maxDatagram); return &b }},
	}
	err := ns.do(func() (err error) {
		if r.packets, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at)); err != nil {
			return err //nolint:wrapcheck // said below
		}
		if r.accepts, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at)); err != nil {
			_ = r.packets.Close()
		}
		return err //nolint:wrapcheck // said below
	})
	if err != nil {
		return nil, fmt.Errorf("listen for DNS queries at the gateway %s: %w", at, err)
	}
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // the relay lives until close
	r.cancel = cancel
	r.wg.Go(func() { r.servePackets(ctx) })
	r.wg.Go(func() { r.serveStreams(ctx) })
	return r, nil
}

// close ends all queries and waits for their goroutines.
func (r *relay) close() {
	r.cancel()
	_ = r.packets.Close()
	_ = r.accepts.Close()
	r.wg.Wait()
}

// dial connects to a nameserver from the host's namespace. A dial to an address opens its socket on the calling
// thread, which is the one in the namespace.
func (r *relay) dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	var conn net.Conn
	err := r.outside.do(func() (err error) {
		conn, err = (&net.Dialer{Timeout: tryTimeout}).DialContext(ctx, network, to.String())
		return err //nolint:wrapcheck // it names the address
	})
	return conn, err
}

// retry bounds a loop that gets errors without end, such as no descriptors left. It returns false when the relay ends.
func retry(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(50 * time.Millisecond):
		return true
	}
}

func (r *relay) servePackets(ctx context.Context) {
	buf := make([]byte, maxDatagram)
	for {
		size, from, err := r.packets.ReadFromUDPAddrPort(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !retry(ctx) {
				return
			}
			continue
		}
		if !isQuery(buf[:size]) || !r.queries.take(from.Addr()) {
			continue // the client asks again; by then there may be room
		}
		query := bytes.Clone(buf[:size])
		r.wg.Go(func() {
			defer r.queries.free(from.Addr())
			r.answerPacket(ctx, query, from)
		})
	}
}

func (r *relay) answerPacket(ctx context.Context, query []byte, from netip.AddrPort) {
	buf := r.buffers.Get().(*[]byte) //nolint:errcheck // nothing else is in it
	defer r.buffers.Put(buf)
	answer := failure(query)
	for _, server := range r.names.list() {
		size, err := r.askPacket(ctx, server, query, *buf)
		if err == nil {
			answer = (*buf)[:size]
			break
		}
		r.log.Debug("nameserver did not answer", slog.String("nameserver", server.String()), slog.Any("error", err))
	}
	if ctx.Err() != nil {
		return
	}
	if _, err := r.packets.WriteToUDPAddrPort(answer, from); err != nil {
		r.log.Debug("answer to a sandbox was not sent", slog.String("sandbox", from.String()), slog.Any("error", err))
	}
}

// askPacket asks one nameserver and waits for the answer to this query: from that server, by the connected socket,
// with the query's id, and to its question if the answer repeats it.
func (r *relay) askPacket(ctx context.Context, server netip.AddrPort, query, buf []byte) (int, error) {
	conn, err := r.dial(ctx, "udp", server)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(tryTimeout)); err != nil {
		return 0, err
	}
	if _, err := conn.Write(query); err != nil {
		return 0, err
	}
	for {
		size, err := conn.Read(buf)
		if err != nil {
			return 0, err
		}
		if answers(buf[:size], query) {
			return size, nil
		}
	}
}

func (r *relay) serveStreams(ctx context.Context) {
	for {
		conn, err := r.accepts.AcceptTCP()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !retry(ctx) {
				return
			}
			continue
		}
		from := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr() //nolint:errcheck // of a TCP connection
		if !r.streams.take(from) {
			_ = conn.Close()
			continue
		}
		r.wg.Go(func() {
			defer r.streams.free(from)
			r.serveStream(ctx, conn)
		})
	}
}

// serveStream answers the queries of one TCP connection, one after another, until it is idle or broken.
func (r *relay) serveStream(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	for {
		if conn.SetDeadline(time.Now().Add(streamIdle)) != nil {
			return
		}
		query, err := readFrame(conn)
		if err != nil || !isQuery(query) {
			return
		}
		answer := failure(query)
		for _, server := range r.names.list() {
			got, err := r.askStream(ctx, server, query)
			if err == nil {
				answer = got
				break
			}
			r.log.Debug("nameserver did not answer", slog.String("nameserver", server.String()), slog.Any("error", err))
		}
		if conn.SetDeadline(time.Now().Add(streamIdle)) != nil || writeFrame(conn, answer) != nil {
			return
		}
	}
}

func (r *relay) askStream(ctx context.Context, server netip.AddrPort, query []byte) ([]byte, error) {
	conn, err := r.dial(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(tryTimeout)); err != nil {
		return nil, err
	}
	if err := writeFrame(conn, query); err != nil {
		return nil, err
	}
	answer, err := readFrame(conn)
	if err != nil {
		return nil, err
	}
	if !answers(answer, query) {
		return nil, errors.New("the answer is to another query")
	}
	return answer, nil
}

// readFrame reads one message of DNS over TCP: two bytes of length before it (RFC 1035, 4.2.2).
func readFrame(from io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(from, size[:]); err != nil {
		return nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(from, frame)
	return frame, err
}

// writeFrame writes length and message at once: some servers want both in one segment (RFC 7766, 8).
func writeFrame(to io.Writer, message []byte) error {
	_, err := to.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...))
	return err
}

func isQuery(m []byte) bool { return len(m) >= dnsHeaderSize && m[2]&responseBit == 0 }

// answers tells whether m is a response with the query's id and, if it has a question, the query's.
func answers(m, query []byte) bool {
	if len(m) < dnsHeaderSize || m[2]&responseBit == 0 || m[0] != query[0] || m[1] != query[1] {
		return false
	}
	if binary.BigEndian.Uint16(m[4:]) == 0 { // QDCOUNT: an error may come without the question
		return true
	}
	end, ok := questionEnd(query)
	return ok && len(m) >= end && bytes.EqualFold(m[dnsHeaderSize:end], query[dnsHeaderSize:end])
}

// questionEnd returns where the first question of a query ends: labels up to an empty one, type and class (RFC 1035,
// 4.1.2).
func questionEnd(query []byte) (int, bool) {
	at := dnsHeaderSize
	for at < len(query) && query[at] != 0 {
		if query[at] > 63 { // no label: a compressed name has nothing before it to point to
			return 0, false
		}
		at += 1 + int(query[at])
	}
	end := at + 1 + 4
	return end, end <= len(query)
}

// failure is the answer when no nameserver gave one. It repeats the query, since resolvers compare the question.
func failure(query []byte) []byte {
	m := bytes.Clone(query)
	m[2] |= responseBit
	m[3] = m[3]&^(responseCode|recursionAllowed) | recursionAllowed | serverFailure
	return m
}

// quota bounds what is under way, in all and for one address.
type quota struct {
	all, one int

	mu   sync.Mutex
	used int
	by   map[netip.Addr]int
}

func newQuota(all, one int) *quota { return &quota{all: all, one: one, by: make(map[netip.Addr]int)} }

func (q *quota) take(a netip.Addr) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.used >= q.all || q.by[a] >= q.one {
		return false
	}
	q.used++
	q.by[a]++
	return true
}

func (q *quota) free(a netip.Addr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used--
	if q.by[a]--; q.by[a] == 0 {
		delete(q.by, a)
	}
}
