package sandbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
)

// cgroupParent is the directory, in each hierarchy, below which each server
// has one and each of its sandboxes one in that.
const cgroupParent = "dayfly"

// cgroups makes the control groups of sandboxes. Freezing, killing and
// counting processor time go through the unified hierarchy wherever one is
// mounted; limits through it or through those of version 1, as the machine
// has its controllers.
type cgroups struct {
	unified string            // directory of ours in the cgroup2 mount; "" for no groups at all
	legacy  map[string]string // version 1 controller to directory of ours
	noPeaks atomic.Bool       // memory.peak of this kernel cannot be reset
	limits  []string          // controllers that enforce limits
	// lack says why there is not everything.
	lack core.Shortcoming
	// left is the group that the server has left for one of its own below it,
	// "" when it has not.
	left string
}

var controllers = []string{"memory", "cpu", "pids"}

// openCgroups finds where the machine has its controllers and makes our
// directory, called name, in each.
func openCgroups(name string) (*cgroups, error) {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find the cgroup mounts: %w", err)
	}
	unified, legacy := cgroupMounts(mountinfo)
	if unified == "" {
		return nil, core.Unavailable(core.ReasonStartFailed, nil,
			"no cgroup2 file system is mounted; mount one (mount -t cgroup2 none /sys/fs/cgroup/unified) or boot with systemd")
	}
	c := &cgroups{unified: filepath.Join(unified, cgroupParent, name), legacy: map[string]string{}, limits: controllers}
	have, err := os.ReadFile(filepath.Join(unified, "cgroup.controllers"))
	if err != nil {
		return nil, fmt.Errorf("read the cgroup controllers: %w", err)
	}
	onUnified := strings.Fields(string(have))
	var missing []string
	for _, ctl := range controllers {
		switch {
		case slices.Contains(onUnified, ctl):
		case legacy[ctl] != "":
			c.legacy[ctl] = filepath.Join(legacy[ctl], cgroupParent, name)
		default:
			missing = append(missing, ctl)
		}
	}
	if len(missing) > 0 {
		return nil, core.Unavailable(core.ReasonStartFailed, nil,
			"the kernel offers no cgroup controller for %s; enable them (cgroup_enable=memory on the kernel's command line, or mount the version 1 hierarchies)",
			strings.Join(missing, " and "))
	}
	if err := c.makeParents(unified, onUnified); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *cgroups) makeParents(unified string, have []string) error {
	for _, dir := range c.dirs() {
		err := os.MkdirAll(dir, 0o755)
		for try := 0; errors.Is(err, fs.ErrNotExist) && try < 10; try++ {
			err = os.MkdirAll(dir, 0o755) // another server has just removed the parent
		}
		if err != nil {
			return fmt.Errorf("make a cgroup (this needs root, or a delegated cgroup): %w", err)
		}
	}
	var enable []string
	for _, ctl := range controllers {
		if slices.Contains(have, ctl) {
			enable = append(enable, "+"+ctl)
		}
	}
	if len(enable) == 0 {
		return nil
	}
	for _, dir := range []string{unified, filepath.Dir(c.unified), c.unified} {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(strings.Join(enable, " ")), 0); err != nil {
			return fmt.Errorf("hand controllers down from %s: %w", dir, err)
		}
	}
	return nil
}

// cgroupMounts finds the first cgroup2 mount and the version 1 mounts by
// controller (proc(5), "mountinfo").
func cgroupMounts(mountinfo []byte) (unified string, legacy map[string]string) {
	legacy = map[string]string{}
	for sc := bufio.NewScanner(bytes.NewReader(mountinfo)); sc.Scan(); {
		left, right, ok := strings.Cut(sc.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 5 || len(r) < 3 {
			continue
		}
		switch r[0] {
		case "cgroup2":
			if unified == "" {
				unified = l[4]
			}
		case "cgroup":
			for o := range strings.SplitSeq(r[2], ",") {
				if slices.Contains(controllers, o) && legacy[o] == "" {
					legacy[o] = l[4]
				}
			}
		}
	}
	return unified, legacy
}

func (c *cgroups) none() bool { return c.unified == "" }

// enforces reports whether a controller sets limits.
func (c *cgroups) enforces(ctl string) bool { return slices.Contains(c.limits, ctl) }

func (c *cgroups) dirs() []string {
	if c.none() {
		return nil
	}
	dirs := []string{c.unified}
	for _, ctl := range controllers {
		if d := c.legacy[ctl]; d != "" && !slices.Contains(dirs, d) {
			dirs = append(dirs, d)
		}
	}
	return dirs
}

// dir gives where a controller's files of a group are, and whether they are
// those of version 2.
func (c *cgroups) dir(ctl, group string) (path string, v2 bool) {
	if d, ok := c.legacy[ctl]; ok {
		return filepath.Join(d, group), false
	}
	return filepath.Join(c.unified, group), true
}

// group is the cgroup of one sandbox.
type group struct {
	c      *cgroups
	name   string
	limits limits // as they are set
	peak   peak
}

type limits struct {
	memory core.Bytes
	cpu    core.CPU
	weight core.CPUWeight
	pids   int
}

// defaultLimits are set ahead of time, since most sandboxes want them.
var defaultLimits = limits{core.DefaultMemory, core.DefaultCPU, core.DefaultCPUWeight, core.DefaultLimits.Pids}

func (c *cgroups) make(name string) (*group, error) {
	// The kernel's weight of a new group is our default.
	g := &group{c: c, name: name, limits: limits{weight: core.DefaultCPUWeight}}
	for _, dir := range c.dirs() {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			g.remove()
			return nil, fmt.Errorf("make a cgroup: %w", err)
		}
	}
	return g, nil
}

// open gives the unified directory, for cloning into it; nil without groups.
func (g *group) open() (*os.File, error) {
	if g.c.none() {
		return nil, nil
	}
	f, err := os.OpenFile(g.unified(""), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open a cgroup: %w", err)
	}
	return f, nil
}

func (g *group) unified(file string) string { return filepath.Join(g.c.unified, g.name, file) }

// doors opens the files by which init moves itself into the version 1 groups;
// into the unified one it is cloned. A thread that writes its own 0 into
// "tasks" moves in some 30 microseconds. To move another process, or a whole
// one by "cgroup.procs", takes a lock of the whole system, and with it some
// 10 milliseconds (kernel/cgroup/cgroup.c, cgroup_procs_write_start).
func (g *group) doors() ([]*os.File, error) {
	var out open
	for _, dir := range g.c.dirs() {
		if dir == g.c.unified {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, g.name, "tasks"), os.O_WRONLY, 0)
		if err != nil {
			out.close()
			return nil, fmt.Errorf("open a cgroup: %w", err)
		}
		out.add(f)
	}
	return out.files, nil
}

const cpuPeriod = 100_000 // microseconds, the kernel's default

// limit sets what differs from what is set.
func (g *group) limit(l limits) error {
	if l.memory != g.limits.memory && g.c.enforces("memory") {
		if err := g.limitMemory(l.memory); err != nil {
			return err
		}
	}
	if l.cpu != g.limits.cpu && g.c.enforces("cpu") {
		if err := g.limitCPU(l.cpu); err != nil {
			return err
		}
	}
	if l.weight != g.limits.weight && g.c.enforces("cpu") {
		if err := g.weigh(l.weight); err != nil {
			return err
		}
	}
	if l.pids != g.limits.pids && g.c.enforces("pids") {
		// init is one of the group's processes and not one of the function's.
		dir, _ := g.c.dir("pids", g.name)
		if err := put(filepath.Join(dir, "pids.max"), strconv.Itoa(l.pids+1)); err != nil {
			return err
		}
	}
	g.limits = l
	return nil
}

// limitCPU sets the quota of processor time. Who may use all that the machine
// has gets none: the kernel would count at each switch of a process, to find
// nothing.
func (g *group) limitCPU(cpu core.CPU) error {
	dir, v2 := g.c.dir("cpu", g.name)
	file, none := filepath.Join(dir, "cpu.cfs_quota_us"), "-1"
	if v2 {
		file, none = filepath.Join(dir, "cpu.max"), "max"
	}
	if int(cpu) >= runtime.NumCPU()*1000 {
		return put(file, none)
	}
	quota := strconv.FormatInt(max(int64(cpu)*cpuPeriod/1000, 1000), 10)
	if v2 {
		quota += " " + strconv.Itoa(cpuPeriod)
	}
	return put(file, quota)
}

// weigh sets the share of the processors beside other groups. The shares of
// version 1 have 1024 where the weights of version 2 have 100.
func (g *group) weigh(w core.CPUWeight) error {
	dir, v2 := g.c.dir("cpu", g.name)
	if v2 {
		return put(filepath.Join(dir, "cpu.weight"), strconv.Itoa(int(w)))
	}
	return put(filepath.Join(dir, "cpu.shares"), strconv.Itoa(shares(w)))
}

// shares converts a weight; the kernel takes 2 for the least share.
func shares(w core.CPUWeight) int { return max(int(w)*1024/100, 2) }

// errMemoryInUse is that of a limit under what is used already. Version 2 takes
// it, and ends a process.
var errMemoryInUse = errors.New("more memory is in use than the limit allows")

func (g *group) limitMemory(m core.Bytes) error {
	dir, v2 := g.c.dir("memory", g.name)
	value := strconv.FormatInt(int64(m), 10)
	swap := filepath.Join(dir, "memory.memsw.limit_in_bytes")
	if v2 {
		if err := put(filepath.Join(dir, "memory.swap.max"), "0"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// The whole group is ended when its limit is reached: half a function
		// is worse than none, and the reason is plain.
		if err := put(filepath.Join(dir, "memory.oom.group"), "1"); err != nil {
			return err
		}
		return put(filepath.Join(dir, "memory.max"), value)
	}
	// With swap counted, the sum may not be under the memory alone: which of
	// the two is set first depends on the way it goes.
	set := func() error {
		err := put(filepath.Join(dir, "memory.limit_in_bytes"), value)
		if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("%w: %w", errMemoryInUse, err)
		}
		return err
	}
	setSwap := func() error {
		if err := put(swap, value); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if m < g.limits.memory || g.limits.memory == 0 {
		return errors.Join(set(), setSwap())
	}
	return errors.Join(setSwap(), set())
}

// field finds the number behind a name in a file of "name number" lines.
func field(text []byte, name string) int64 {
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return n
		}
	}
	return 0
}

// processes lists the processes of the group.
func (g *group) processes() []int {
	if g.c.none() {
		return nil
	}
	b, err := os.ReadFile(g.unified("cgroup.procs"))
	if err != nil {
		return nil
	}
	var out []int
	for s := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(s); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// kill ends every process of the group, frozen or not (cgroup v2,
// "cgroup.kill"). To end takes some processor time of their own, and there is
// no use in making them wait for it.
func (g *group) kill() error {
	if g.c.none() {
		return errNoGroup
	}
	err := put(g.unified("cgroup.kill"), "1")
	dir, v2 := g.c.dir("cpu", g.name)
	if v2 {
		_ = put(filepath.Join(dir, "cpu.max"), "max")
	} else {
		_ = put(filepath.Join(dir, "cpu.cfs_quota_us"), "-1")
	}
	return err
}

var errNoGroup = errors.New("there are no cgroups here")

// setFrozen has every process of the group stopped, or go on. Those that are
// to stop have not when it returns.
func (g *group) setFrozen(on bool) error {
	if g.c.none() {
		return core.Errorf(core.KindNotImplemented, core.CodeNotImplemented, "instances cannot be frozen here (%s): %s", g.c.lack.Why, g.c.lack.Remedy)
	}
	value := "0"
	if on {
		value = "1"
	}
	return put(g.unified("cgroup.freeze"), value)
}

// frozen reports whether the group is to be frozen.
func (g *group) frozen() bool {
	if g.c.none() {
		return false
	}
	b, err := os.ReadFile(g.unified("cgroup.freeze"))
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

// isStopped reports whether every process of the group has been stopped.
func (g *group) isStopped() (bool, error) {
	b, err := os.ReadFile(g.unified("cgroup.events"))
	if err != nil {
		return false, fmt.Errorf("look whether a cgroup is frozen: %w", err)
	}
	return field(b, "frozen") == 1, nil
}

// remove removes the group, whose processes have ended. The kernel may say it
// is busy for a moment after the last one.
func (g *group) remove() {
	for _, dir := range g.c.dirs() {
		removeCgroup(filepath.Join(dir, g.name))
	}
}

func removeCgroup(dir string) {
	for began, wait := time.Now(), time.Millisecond; time.Since(began) < removePatience; wait = min(2*wait, 100*time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return
		}
		time.Sleep(wait)
	}
}

// removePatience is for many processes that have been killed and have yet to
// end, on a busy machine.
const removePatience = 10 * time.Second

// sweep ends and removes the groups for which keep is false, which a server
// that was killed has left.
func (c *cgroups) sweep(keep func(name string) bool) {
	var dirs []string
	for _, parent := range c.dirs() {
		entries, err := os.ReadDir(parent)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if e.IsDir() && !keep(e.Name()) {
				dirs = append(dirs, filepath.Join(parent, e.Name()))
			}
		}
	}
	for _, dir := range dirs {
		_ = (&group{c: c, name: filepath.Base(dir)}).kill() // it may have been killed in another hierarchy
	}
	for _, dir := range dirs {
		removeCgroup(dir)
	}
}

// close removes our own directories, which are empty.
func (c *cgroups) close() {
	for _, dir := range c.dirs() {
		removeCgroup(dir)
		_ = unix.Rmdir(filepath.Dir(dir)) // another server may have its own in it
	}
	c.comeBack()
}

// put writes a value to a file of the kernel's in one write. One that a signal
// interrupts is made again: the kernel gives up changing a memory limit when
// one is pending, and Go's scheduler sends itself signals.
func put(path, value string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		_, err = unix.Write(fd, []byte(value))
	}
	if err != nil {
		return fmt.Errorf("write %q to %s: %w", value, path, err)
	}
	return nil
}
