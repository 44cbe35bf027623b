package result

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine describes where, when and of what a run was taken.
type Machine struct {
	Measure   string    `json:"measure"`
	StartedAt time.Time `json:"started_at"`
	// Arguments are those of the measure.
	Arguments []string `json:"arguments"`
	// Version is what the program under test says of itself.
	Version     string `json:"version"`
	CPU         string `json:"cpu"`
	Cores       int    `json:"cores"`
	MemoryBytes int64  `json:"memory_bytes"`
	Kernel      string `json:"kernel"`
	Cgroups     string `json:"cgroups"`
	FileSystem  string `json:"file_system"`
	Go          string `json:"go"`
	// Load is the load average over 1, 5 and 15 minutes before the run: on
	// an idle machine it is near 0.
	Load [3]float64 `json:"load_before"`
}

// Describe describes this machine. program is the one under test, dir where
// it keeps its data. What cannot be found out is left empty.
func Describe(measure, program, dir string, arguments []string) Machine {
	m := Machine{
		Measure: measure, StartedAt: time.Now().UTC().Truncate(time.Second), Arguments: arguments,
		Cores: runtime.NumCPU(), Go: runtime.Version(), CPU: field("/proc/cpuinfo", "model name"),
	}
	if kib, err := strconv.ParseInt(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		m.MemoryBytes = kib << 10
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])
	}
	m.Cgroups, m.FileSystem = mounts(dir)
	if out, err := exec.Command(program, "version").Output(); err == nil {
		m.Version, _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		for i, f := range strings.Fields(string(b))[:3] {
			m.Load[i], _ = strconv.ParseFloat(f, 64)
		}
	}
	return m
}

// field gives the value of the first line "name : value" of a file.
func field(path, name string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		key, value, ok := strings.Cut(lines.Text(), ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// mounts tells which versions of cgroups are mounted and the type of the file
// system that dir is on.
func mounts(dir string) (cgroups, fileSystem string) {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", ""
	}
	var v1, v2 bool
	longest := 0
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 3 {
			continue
		}
		v1, v2 = v1 || f[2] == "cgroup", v2 || f[2] == "cgroup2"
		below := f[1] == "/" || dir == f[1] || strings.HasPrefix(dir, f[1]+"/")
		if below && len(f[1]) >= longest {
			longest, fileSystem = len(f[1]), f[2]
		}
	}
	switch {
	case v1 && v2:
		return "v1, hybrid", fileSystem
	case v1:
		return "v1", fileSystem
	case v2:
		return "v2", fileSystem
	}
	return "", fileSystem
}
