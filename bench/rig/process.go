package rig

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Memory is what a process has in memory, in bytes.
type Memory struct {
	Resident, Anonymous, Peak int64
}

// MemoryOf reads the memory of a process (proc_pid_status(5)).
func MemoryOf(pid int) (Memory, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return Memory{}, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	value := func(name string) int64 {
		_, rest, _ := strings.Cut(string(b), "\n"+name+":")
		line, _, _ := strings.Cut(rest, "\n")
		n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(line, " kB")), 10, 64) // 0 for what is not there
		return n << 10
	}
	return Memory{value("VmRSS"), value("RssAnon"), value("VmHWM")}, nil
}

// tick is the unit of times in /proc (USER_HZ, which is 100 on Linux).
const tick = 10 * time.Millisecond

// CPUOf reads how much processor time a process has used so far, without its
// children (proc_pid_stat(5)).
func CPUOf(pid int) (time.Duration, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("read the processor time of process %d: %w", pid, err)
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("read the processor time of process %d: %q", pid, b)
	}
	user, err := strconv.ParseInt(f[11], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the processor time of process %d: %w", pid, err)
	}
	system, err := strconv.ParseInt(f[12], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the processor time of process %d: %w", pid, err)
	}
	return time.Duration(user+system) * tick, nil
}

// Census counts what servers make and must take down again.
type Census struct {
	// Processes are those below this one, Mounts and Links those in this
	// process's namespaces, Cgroups the directories below any group dayfly.
	Processes, Mounts, Links, Cgroups int
}

// Values gives the counts by name.
func (c Census) Values() map[string]float64 {
	return map[string]float64{
		"processes": float64(c.Processes), "mounts": float64(c.Mounts), "links": float64(c.Links), "cgroups": float64(c.Cgroups),
	}
}

// Count takes a census. Cgroups are those of the whole machine: a server that
// runs elsewhere on it counts too.
func Count() (Census, error) {
	var c Census
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return c, fmt.Errorf("count the mounts: %w", err)
	}
	c.Mounts = bytes.Count(mounts, []byte("\n"))
	links, err := net.Interfaces()
	if err != nil {
		return c, fmt.Errorf("count the links: %w", err)
	}
	c.Links = len(links)
	c.Processes = descendants(os.Getpid())
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		// Groups come and go meanwhile.
		if err == nil && d.IsDir() && strings.Contains(path, "/dayfly/") {
			c.Cgroups++
		}
		return nil
	})
	return c, err
}

// descendants counts the living processes below one.
func descendants(root int) int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is a good one
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path))) // the pattern takes digits
		if len(f) > 1 && f[0] != "Z" {
			parent, _ := strconv.Atoi(f[1]) // a number, says the kernel
			children[parent] = append(children[parent], pid)
		}
	}
	n := 0
	for next := []int{root}; len(next) > 0; {
		var below []int
		for _, pid := range next {
			below = append(below, children[pid]...)
		}
		n += len(below)
		next = below
	}
	return n
}
