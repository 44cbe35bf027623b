package sandbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The messages between server, spawner and init, whose other side is
// pid1/src/init.c. Numbers are in the machine's own order: both ends run on
// it, from one build.

const (
	kindSpawn   = 'C'
	kindPrepare = 'P'
	kindGo      = 'G'
	kindSignal  = 'K'
	kindReady   = 'R'
	kindStarted = 'S'
	kindError   = 'E'
	kindExited  = 'X'
)

const (
	spawnUserns = 1
	spawnCgroup = 2
	spawnAlone  = 4 // a user namespace and no other
)

const (
	configMagic    = 0x64666c79
	configDetached = 1
	configReadOnly = 2
	configUserns   = 4
)

type spawnRequest struct {
	Kind  uint32
	Flags uint32
	Owner uint32 // user id, of the user namespace
}

type request struct {
	Kind uint32
	Arg  uint32
}

type reply struct {
	Kind   uint32
	Code   int32
	Signal int32
	_      int32
	Step   [48]byte
}

func (r reply) step() string {
	s, _, _ := bytes.Cut(r.Step[:], []byte{0})
	return string(s)
}

// stepError is what init could not do.
type stepError struct {
	step  string
	which int // of several, from 0
	err   syscall.Errno
}

func (e *stepError) Error() string { return e.step + ": " + e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

// config is what init needs to start the function's process.
type config struct {
	layers   int
	args     []string
	env      []string
	groups   []uint32
	uid, gid uint32
	flags    uint32
	files    uint32
	tmpKiB   uint32 // 0 leaves the size that /tmp was prepared with
	dir      string
	hostname string
	hosts    string
	resolv   string
	sockets  string   // absolute path of the directory of sockets, "" for none
	rootKiB  uint32   // how much may be written to the root
	mounts   []string // where directories of the host go
	filter   []byte   // struct sock_filter, 8 bytes each
	outLimit uint64
	errLimit uint64
}

// encode lays the configuration out as init maps it.
func (c *config) encode() []byte {
	const head = 26*4 + 2*8
	b := make([]byte, head, head+4096+len(c.filter))
	at := func(data []byte) uint32 {
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
		n := len(b)
		b = append(b, data...)
		return uint32(n)
	}
	text := func(ss ...string) uint32 {
		return at([]byte(strings.Join(ss, "\x00") + "\x00"))
	}
	groups := make([]byte, 0, 4*len(c.groups))
	for _, g := range c.groups {
		groups = binary.NativeEndian.AppendUint32(groups, g)
	}
	sockets := uint32(0)
	if c.sockets != "" {
		sockets = text(c.sockets)
	}
	fields := []uint32{
		configMagic, 0, uint32(c.layers), uint32(len(c.args)), uint32(len(c.env)), uint32(len(c.groups)),
		c.flags, c.uid, c.gid, c.files, c.tmpKiB,
		text(c.args...), text(c.env...), at(groups),
		text(c.dir), text(c.hostname), text(c.hosts), text(c.resolv), text(searchPath(c.env)),
		at(c.filter), uint32(len(c.filter) / 8), sockets,
		c.rootKiB, uint32(len(c.mounts)), text(c.mounts...), 0,
	}
	fields[1] = uint32(len(b))
	for i, f := range fields {
		binary.NativeEndian.PutUint32(b[4*i:], f)
	}
	binary.NativeEndian.PutUint64(b[26*4:], c.outLimit)
	binary.NativeEndian.PutUint64(b[26*4+8:], c.errLimit)
	return b
}

func searchPath(env []string) string {
	for _, e := range slices.Backward(env) {
		if p, ok := strings.CutPrefix(e, "PATH="); ok {
			return p
		}
	}
	return defaultPath
}

// channel is the server's end of a socket of messages.
type channel struct{ conn *net.UnixConn }

// newChannel makes a pair of joined sockets: ours as a channel, and the file
// descriptor that the other side gets.
func newChannel() (channel, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return channel{}, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	// The other side has a plain blocking end: file status flags are each
	// end's own.
	theirs := os.NewFile(uintptr(fds[1]), "init")
	if err := unix.SetNonblock(fds[1], false); err != nil {
		return channel{}, nil, fmt.Errorf("set up a socket pair: %w", err)
	}
	f := os.NewFile(uintptr(fds[0]), "control")
	c, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		_ = theirs.Close()
		return channel{}, nil, fmt.Errorf("set up a socket pair: %w", err)
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return channel{}, nil, fmt.Errorf("set up a socket pair: it is a %T", c)
	}
	return channel{conn}, theirs, nil
}

func (c channel) send(v any, fds ...int) error {
	b, err := binary.Append(nil, binary.NativeEndian, v)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if _, _, err := c.conn.WriteMsgUnix(b, oob, nil); err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	return nil
}

func (c channel) request(kind uint32, arg uint32, fds ...int) error {
	q := request{Kind: kind, Arg: arg}
	return c.send(&q, fds...)
}

// await waits for one message of init, for so long at the most, and no longer
// than ctx; one of kind error is an error. The file is the one that came with
// it, nil for none.
func (c channel) await(ctx context.Context, limit time.Duration) (reply, *os.File, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return reply{}, nil, fmt.Errorf("await init: %w", err)
	}
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		c.interrupt()
		close(cut)
	})
	r, file, err := c.receive()
	if !stop() {
		<-cut // or it would cut the next one short
	}
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("await init: %w", context.Cause(ctx))
	}
	return r, file, err
}

// interrupt makes a read under way, and each that follows, give up.
func (c channel) interrupt() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) }

// read waits for one message of init; one of kind error is an error.
func (c channel) read() (reply, error) {
	r, file, err := c.receive()
	if file != nil {
		_ = file.Close()
	}
	return r, err
}

// receive is read, and gives the file that came with the message.
func (c channel) receive() (reply, *os.File, error) {
	var b, oob [64]byte
	n, oobn, _, _, err := c.conn.ReadMsgUnix(b[:], oob[:])
	if errors.Is(err, unix.ECONNRESET) {
		// init has ended before it read all that it was sent. The kernel tells
		// that first, once; what init has said stands behind it.
		n, oobn, _, _, err = c.conn.ReadMsgUnix(b[:], oob[:])
	}
	if err == nil && n == 0 {
		err = io.EOF // which this call, unlike Read, does not tell
	}
	if err != nil {
		return reply{}, nil, fmt.Errorf("await init: %w", err)
	}
	file := fileOf(oob[:oobn])
	var r reply
	if _, err = binary.Decode(b[:n], binary.NativeEndian, &r); err != nil {
		err = fmt.Errorf("decode init's message of %d bytes: %w", n, err)
	} else if r.Kind == kindError {
		err = &stepError{step: r.step(), which: int(r.Signal), err: syscall.Errno(r.Code)}
	}
	if err != nil && file != nil {
		_ = file.Close()
		file = nil
	}
	return r, file, err
}

// fileOf gives the file in a control message, nil for none. Init sends one at
// the most, and the buffer has no room for many.
func fileOf(oob []byte) *os.File {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var file *os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if file != nil {
				_ = unix.Close(fd)
				continue
			}
			file = os.NewFile(uintptr(fd), "of init")
		}
	}
	return file
}

func (c channel) close() { _ = c.conn.Close() }
