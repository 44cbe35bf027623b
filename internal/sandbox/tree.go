package sandbox

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
)

// usage tells what the box has used so far: by its cgroup, and what that does
// not count by its processes. The peak of memory is then the sum of the peaks
// of those that live, or of all that have ended the largest.
func (b *box) usage() core.Usage { return b.complete((*group).usage) }

// wholeUsage tells what the box has used in all; its processes have ended.
func (b *box) wholeUsage() core.Usage { return b.complete((*group).wholeUsage) }

func (b *box) complete(of func(*group) core.Usage) core.Usage {
	if b.group.c.none() {
		return b.processUsage()
	}
	u := of(b.group)
	if !b.group.c.enforces("memory") {
		p := b.processUsage()
		u.Memory, u.PeakMemory = p.Memory, p.PeakMemory
	}
	return u
}

func (b *box) processUsage() core.Usage {
	if spent := b.spent.Load(); spent != nil {
		return core.Usage{
			CPU:        time.Duration(spent.Utime.Nano() + spent.Stime.Nano()),
			PeakMemory: max(core.Bytes(spent.Maxrss)*core.KiB, core.Bytes(b.most.Load())), // getrusage(2)
		}
	}
	var u core.Usage
	for _, pid := range descendants(b.pid) {
		one := usageOf(pid)
		u.CPU += one.CPU
		u.Memory += one.Memory
		u.PeakMemory += one.PeakMemory
	}
	for most := b.most.Load(); int64(u.PeakMemory) > most && !b.most.CompareAndSwap(most, int64(u.PeakMemory)); {
		most = b.most.Load()
	}
	return u
}

// maxDescendants bounds how many processes of one sandbox are looked at.
const maxDescendants = 4096

// descendants gives a process and those below it (proc(5),
// "/proc/pid/task/tid/children").
func descendants(pid int) []int {
	out := []int{pid}
	for i := 0; i < len(out) && len(out) < maxDescendants; i++ {
		tasks := fmt.Sprintf("/proc/%d/task", out[i])
		entries, err := os.ReadDir(tasks)
		if err != nil {
			continue // it has ended
		}
		for _, e := range entries {
			b, err := os.ReadFile(tasks + "/" + e.Name() + "/children")
			if err != nil {
				continue
			}
			for f := range strings.FieldsSeq(string(b)) {
				if child, err := strconv.Atoi(f); err == nil {
					out = append(out, child)
				}
			}
		}
	}
	return out
}

// ownCPU gives the processor time of a process's threads: its clock, whose
// number is made of the process's (clock_getcpuclockid(3)).
func ownCPU(pid int) time.Duration {
	const sched = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &ts); err != nil {
		return 0 // it has ended
	}
	return time.Duration(ts.Nano())
}

// clockTick is the unit of processor times in /proc/pid/stat: USER_HZ, which
// is 100 on every architecture that Dayfly is built for.
const clockTick = 10 * time.Millisecond

// usageOf tells what a process and those that it has waited for have used.
func usageOf(pid int) core.Usage {
	var u core.Usage
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		u.CPU = ownCPU(pid) + cpuOfChildren(string(b))
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				u.PeakMemory = kibibytes(v)
			}
			if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				u.Memory = kibibytes(v)
			}
		}
	}
	return u
}

func kibibytes(v string) core.Bytes {
	n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
	return core.Bytes(n) * core.KiB
}

// cpuOfChildren sums cutime and cstime of a /proc/pid/stat (proc(5)). The second
// field, the program's name, may have anything in it.
func cpuOfChildren(stat string) time.Duration {
	_, rest, ok := strings.Cut(stat[max(strings.LastIndexByte(stat, ')'), 0):], ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 15 {
		return 0
	}
	var ticks int64
	for _, v := range f[13:15] {
		n, _ := strconv.ParseInt(v, 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * clockTick
}
