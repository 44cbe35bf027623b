package sandbox

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
)

// peak is what a group needs to tell the peak of memory since some time.
type peak struct {
	mu     sync.Mutex
	file   *os.File   // memory.peak of version 2, whose resets are its own
	before core.Bytes // the most there was before the last reset
	last   core.Bytes // when it was last read
}

// usage reads what the group has used so far, its peak since the last reset.
func (g *group) usage() core.Usage {
	var u core.Usage
	var b [4096]byte
	stat := read(g.unified("cpu.stat"), b[:])
	u.CPU = time.Duration(field(stat, "usage_usec")) * time.Microsecond
	if dir, v2 := g.c.dir("cpu", g.name); v2 {
		u.Throttled = time.Duration(field(stat, "throttled_usec")) * time.Microsecond
	} else {
		u.Throttled = time.Duration(field(read(filepath.Join(dir, "cpu.stat"), b[:]), "throttled_time"))
	}
	u.OOMKills = g.oomKills(b[:])
	u.Memory = bytesIn(read(g.memory("memory.current", "memory.usage_in_bytes"), b[:]))
	g.peak.mu.Lock()
	defer g.peak.mu.Unlock()
	if g.peak.file != nil {
		n, _ := g.peak.file.ReadAt(b[:], 0)
		u.PeakMemory = bytesIn(b[:n])
	} else {
		u.PeakMemory = bytesIn(read(g.memory("memory.peak", "memory.max_usage_in_bytes"), b[:]))
	}
	g.peak.last = u.PeakMemory
	return u
}

// wholeUsage reads what a group whose processes have ended has used in all.
func (g *group) wholeUsage() core.Usage {
	u := g.usage()
	u.Memory = 0
	g.peak.mu.Lock()
	defer g.peak.mu.Unlock()
	u.PeakMemory = max(u.PeakMemory, g.peak.before)
	return u
}

// memory gives the path of a file of the memory controller, as the two versions
// call it.
func (g *group) memory(v2, v1 string) string {
	dir, unified := g.c.dir("memory", g.name)
	if unified {
		return filepath.Join(dir, v2)
	}
	return filepath.Join(dir, v1)
}

// oomKills counts the processes of the group that the kernel ended for memory.
func (g *group) oomKills(b []byte) int {
	if !g.c.enforces("memory") {
		return 0
	}
	return int(field(read(g.memory("memory.events", "memory.oom_control"), b), "oom_kill"))
}

// oom reports whether the kernel ended a process of the group for memory.
func (g *group) oom() bool { return g.oomKills(make([]byte, 1024)) > 0 }

// resetPeak makes the peak one from now on.
func (g *group) resetPeak() error {
	if g.c.none() {
		return errors.ErrUnsupported
	}
	g.peak.mu.Lock()
	defer g.peak.mu.Unlock()
	if _, v2 := g.c.dir("memory", g.name); !v2 {
		if err := put(g.memory("", "memory.max_usage_in_bytes"), "0"); err != nil {
			return err
		}
		g.peak.before = max(g.peak.before, g.peak.last)
		return nil
	}
	if g.c.noPeaks.Load() {
		return errors.ErrUnsupported
	}
	if g.peak.file == nil {
		f, err := os.OpenFile(g.memory("memory.peak", ""), os.O_RDWR, 0)
		if err != nil {
			g.c.noPeaks.Store(true)
			return errors.Join(errors.ErrUnsupported, err)
		}
		g.peak.file = f
	}
	if _, err := g.peak.file.WriteString("reset\n"); err != nil {
		g.c.noPeaks.Store(true)
		return errors.Join(errors.ErrUnsupported, err)
	}
	g.peak.before = max(g.peak.before, g.peak.last)
	return nil
}

// closePeak closes what resetPeak holds.
func (g *group) closePeak() {
	g.peak.mu.Lock()
	defer g.peak.mu.Unlock()
	if g.peak.file != nil {
		_ = g.peak.file.Close()
		g.peak.file = nil
	}
}

// read gives what one read of a small file of the kernel's gives, nothing when
// it is not there. It is called often, and spares what os.ReadFile does more.
func read(path string, b []byte) []byte {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(fd) }()
	n, err := unix.Read(fd, b)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Read(fd, b)
	}
	return b[:max(n, 0)]
}

func bytesIn(text []byte) core.Bytes {
	n, _ := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	return core.Bytes(n)
}
