package docker

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// The kinds of frame between driver and init. What follows the header, and the
// meaning of its id, stand in pid1/src/init.c.
const (
	frameConfig  = 'C'
	frameSignal  = 'K'
	frameDrain   = 'D'
	frameUsage   = 'U'
	frameOpen    = 'O'
	frameQuit    = 'Q'
	frameHello   = 'H'
	frameStarted = 'S'
	frameFailed  = 'F'
	frameExit    = 'X'
	frameData    = 'w'
	frameCredit  = 'c'
	frameEnd     = 'e'
	frameClose   = 'x'
)

const (
	// protocol is what init says of itself in its first frame.
	protocol = 1
	// window is how many bytes may be under way in a channel.
	window = 64 << 10
	// slots is how many channels there can be; a channel's number is its slot
	// and, above, how often that was used before.
	slots = 1 << 11
	// maxPiece bounds what one frame of data carries.
	maxPiece = 32 << 10
	// maxConfig is the largest config that init takes.
	maxConfig   = 8 << 20
	frameHeader = 12
	usageSize   = 48
)

// The channels that are always there. Connections come after.
const (
	channelStdin    = 0
	channelStdout   = 1
	channelStderr   = 2
	firstConnection = 3
)

type frame struct {
	kind uint32
	id   uint32
	data []byte
}

// encode gives the bytes of a frame, with room for the data at the end.
func encode(kind, id uint32, data []byte) []byte {
	b := make([]byte, frameHeader, frameHeader+len(data))
	binary.LittleEndian.PutUint32(b, kind)
	binary.LittleEndian.PutUint32(b[4:], id)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(data)))
	return append(b, data...)
}

func number(n int) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(n)) }

// readFrame reads one frame. An init that is not ours to trust any more must
// not make the server set memory aside: nothing it sends is longer than a piece.
func readFrame(r io.Reader) (frame, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	f := frame{kind: binary.LittleEndian.Uint32(head[:]), id: binary.LittleEndian.Uint32(head[4:])}
	size := binary.LittleEndian.Uint32(head[8:])
	if size > maxPiece {
		return frame{}, fmt.Errorf("a frame of %d bytes from the container's init", size)
	}
	f.data = make([]byte, size)
	_, err := io.ReadFull(r, f.data)
	return f, err
}

// numberOf reads what [number] writes, 0 from anything else.
func numberOf(data []byte) int {
	if len(data) < 4 {
		return 0
	}
	return int(binary.LittleEndian.Uint32(data))
}

// report is what init tells of what the container has used, and of its exit.
type report struct {
	usage        core.Usage
	code, signal int
}

func decodeReport(data []byte) (report, error) {
	if len(data) < usageSize {
		return report{}, errors.New("a report of the container's init is cut short")
	}
	u := binary.LittleEndian
	return report{
		usage: core.Usage{
			CPU: time.Duration(u.Uint64(data)), Throttled: time.Duration(u.Uint64(data[8:])),
			Memory: core.Bytes(u.Uint64(data[16:])), PeakMemory: core.Bytes(u.Uint64(data[24:])), OOMKills: int(u.Uint32(data[32:])),
		},
		code: int(u.Uint32(data[36:])), signal: int(u.Uint32(data[40:])),
	}, nil
}

// process is what init is to start.
type process struct {
	args, env []string
	dir, path string
	files     int
	stdin     bool
}

func (p process) encode() []byte {
	b := number(len(p.args))
	b = append(b, number(len(p.env))...)
	b = append(b, number(p.files)...)
	has := 0
	if p.stdin {
		has = 1
	}
	b = append(b, number(has)...)
	for _, list := range [][]string{{p.dir, p.path}, p.args, p.env} {
		for _, s := range list {
			b = append(append(b, s...), 0)
		}
	}
	return b
}

// demux reads what a container has printed to stdout from an attached stream
// (Docker Engine API, "ContainerAttach", stream format): pieces with a header
// of 8 bytes, the first of which says the stream, the last four the size.
// Init prints nothing to stderr; what an engine puts there is kept, in part.
type demux struct {
	r    *bufio.Reader
	left int
	said []byte
}

// maxSaid bounds what is kept of what an engine says.
const maxSaid = 4 << 10

func (d *demux) Read(p []byte) (int, error) {
	for d.left == 0 {
		var head [8]byte
		if _, err := io.ReadFull(d.r, head[:]); err != nil {
			return 0, err
		}
		size := int(binary.BigEndian.Uint32(head[4:]))
		if head[0] == 1 {
			d.left = size
			continue
		}
		keep := min(size, maxSaid-len(d.said))
		at := len(d.said)
		d.said = append(d.said, make([]byte, keep)...)
		if _, err := io.ReadFull(d.r, d.said[at:]); err != nil {
			return 0, err
		}
		if _, err := d.r.Discard(size - keep); err != nil {
			return 0, err //nolint:wrapcheck // a reader's
		}
	}
	n, err := d.r.Read(p[:min(len(p), d.left)])
	d.left -= n
	return n, err //nolint:wrapcheck // a reader's
}
