package sandbox_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/dayfly-io/dayfly/internal/drivertest"
	"github.com/dayfly-io/dayfly/internal/sandbox"
)

// traces are all that a driver could leave in the machine, but for what other
// drivers of the tests have there at the moment.
type traces struct {
	cgroups   []string
	processes []string // of those cgroups, and programs of ours
	mounts    string
	links     []string
	tables    []string
	files     []string // in its directory
}

// tracesOf looks for what is of the driver in dir.
func tracesOf(t testing.TB, dir string) traces {
	t.Helper()
	name := sandbox.ShortName(dir)
	tr := traces{mounts: hostMounts(t)}
	for _, mount := range cgroupRoots(t) {
		_ = filepath.WalkDir(filepath.Join(mount, "dayfly", name), func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return nil //nolint:nilerr // there is none
			}
			if e.IsDir() {
				tr.cgroups = append(tr.cgroups, path)
			}
			if e.Name() == "cgroup.procs" {
				b, _ := os.ReadFile(path)
				tr.processes = append(tr.processes, strings.Fields(string(b))...)
			}
			return nil
		})
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Name, "df") && (strings.HasPrefix(l.Name, "df-"+name+".") || slices.Contains(portsOf(t, name), l.Name)) {
			tr.links = append(tr.links, l.Name)
		}
	}
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		if table.Name == "dayfly_"+name {
			tr.tables = append(tr.tables, table.Name)
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, "instances"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		tr.files = append(tr.files, e.Name())
	}
	slices.Sort(tr.processes)
	tr.processes = slices.Compact(tr.processes)
	return tr
}

// portsOf lists the links on the bridges of a driver.
func portsOf(t testing.TB, name string) []string {
	t.Helper()
	links, err := netlink.LinkList()
	for errors.Is(err, netlink.ErrDumpInterrupted) {
		links, err = netlink.LinkList()
	}
	if err != nil {
		t.Fatal(err)
	}
	bridges := map[int]bool{}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, "df-"+name+".") {
			bridges[l.Attrs().Index] = true
		}
	}
	var out []string
	for _, l := range links {
		if bridges[l.Attrs().MasterIndex] {
			out = append(out, l.Attrs().Name)
		}
	}
	return out
}

func (tr traces) String() string {
	return fmt.Sprintf("cgroups %q, processes %q, links %q, tables %q, files %q", tr.cgroups, tr.processes, tr.links, tr.tables, tr.files)
}

func (tr traces) empty() bool {
	return len(tr.cgroups)+len(tr.processes)+len(tr.links)+len(tr.tables)+len(tr.files) == 0
}

// nothingLeft fails unless the driver in dir has left nothing. Its links go a
// moment after their sandboxes.
func nothingLeft(t testing.TB, dir string) {
	t.Helper()
	var tr traces
	drivertest.Eventually(t, "nothing is left", func() bool { tr = tracesOf(t, dir); return tr.empty() || len(tr.links) == 0 })
	if !tr.empty() {
		t.Errorf("there is left: %s", tr)
	}
}

func cgroupRoots(t testing.TB) []string {
	t.Helper()
	var roots []string
	for line := range strings.Lines(hostMounts(t)) {
		left, right, _ := strings.Cut(line, " - ")
		if strings.HasPrefix(right, "cgroup") {
			roots = append(roots, strings.Fields(left)[4])
		}
	}
	if len(roots) == 0 {
		t.Fatal("no cgroup file system is mounted")
	}
	return roots
}

// openFiles counts the open files of this process.
func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// children lists the children of this process, zombies too.
func children(t testing.TB) []string {
	t.Helper()
	var out []string
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		after := string(b[strings.LastIndexByte(string(b), ')')+1:])
		if f := strings.Fields(after); len(f) > 1 && f[1] == strconv.Itoa(os.Getpid()) {
			out = append(out, e.Name()+" "+string(b[strings.IndexByte(string(b), '('):strings.LastIndexByte(string(b), ')')+1])+f[0])
		}
	}
	return out
}

func goroutines() string {
	b := make([]byte, 1<<20)
	return string(b[:runtime.Stack(b, true)])
}
