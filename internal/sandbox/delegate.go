package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
)

// serverGroup is the group, below the one that was delegated, that the server
// moves into: one that hands controllers down may hold no process itself
// (cgroup v2, "no internal processes").
const serverGroup = "dayfly-server"

const (
	oldGroups = "the machine has its controllers in cgroup version 1, which gives plain users none"
	newGroups = "boot with cgroup version 2 (systemd.unified_cgroup_hierarchy=1), or run the server as root"
)

const delegateIt = "start it in a cgroup of its own: systemd-run --user --scope -p Delegate=yes dayfly server"

// openDelegated makes groups below the group that this process is in, if that
// is the user's own, as systemd's Delegate= makes it. It never fails: without
// groups the driver works, without limits, and lack says why.
func openDelegated(name string) *cgroups {
	mountinfo, err1 := os.ReadFile("/proc/self/mountinfo")
	own, err2 := os.ReadFile("/proc/self/cgroup")
	unified, legacy := cgroupMounts(mountinfo)
	path, ok := unifiedPath(string(own))
	if err := errors.Join(err1, err2); err != nil || unified == "" || !ok {
		return withoutGroups("there is no cgroup version 2 here", "boot with cgroup version 2 (systemd.unified_cgroup_hierarchy=1), or run the server as root")
	}
	// Another driver of this process may have moved it.
	path = strings.TrimSuffix(path, "/"+serverGroup)
	c := &cgroups{left: filepath.Join(unified, path), legacy: map[string]string{}}
	c.unified = filepath.Join(c.left, cgroupParent, name)
	if err := os.MkdirAll(c.unified, 0o755); err != nil {
		if len(legacy) > 0 {
			return withoutGroups(oldGroups, newGroups)
		}
		return withoutGroups("the cgroup "+path+" of the server is not delegated to the user", delegateIt)
	}
	if err := c.takeControllers(); err != nil {
		c.lack = core.Shortcoming{Name: "limits", Why: err.Error(), Remedy: delegateIt}
	}
	if len(c.limits) < len(controllers) && c.lack.Why == "" {
		c.lack = core.Shortcoming{
			Name: "limits", Why: fmt.Sprintf("its cgroup has the controllers %v of %v", c.limits, controllers),
			Remedy: "delegate them to users (Delegate= of user@.service)",
		}
		if len(legacy) > 0 {
			c.lack.Why, c.lack.Remedy = oldGroups, newGroups
		}
	}
	return c
}

func withoutGroups(why, remedy string) *cgroups {
	return &cgroups{lack: core.Shortcoming{Name: "limits", Why: why, Remedy: remedy}}
}

// unifiedPath finds the version 2 group in /proc/self/cgroup (cgroups(7)).
func unifiedPath(text string) (string, bool) {
	for line := range strings.Lines(text) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path, true
		}
	}
	return "", false
}

// takeControllers hands the controllers of the delegated group down to the
// groups of sandboxes. Where there are some, the server moves out of the way.
func (c *cgroups) takeControllers() error {
	have, err := os.ReadFile(filepath.Join(c.left, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read the cgroup controllers: %w", err)
	}
	var enable []string
	for _, ctl := range controllers {
		if slices.Contains(strings.Fields(string(have)), ctl) {
			enable = append(enable, ctl)
		}
	}
	if len(enable) == 0 {
		return nil
	}
	if err := c.stepAside(); err != nil {
		return err
	}
	for _, dir := range []string{c.left, filepath.Dir(c.unified), c.unified} {
		if err := put(filepath.Join(dir, "cgroup.subtree_control"), "+"+strings.Join(enable, " +")); err != nil {
			return fmt.Errorf("hand controllers down: %w", err)
		}
	}
	c.limits = enable
	return nil
}

// stepAside moves this process into a group of its own. Others it leaves
// alone: a group that has them is not the server's.
func (c *cgroups) stepAside() error {
	procs, err := os.ReadFile(filepath.Join(c.left, "cgroup.procs"))
	if err != nil {
		return fmt.Errorf("list the processes of the server's cgroup: %w", err)
	}
	self := strconv.Itoa(os.Getpid())
	for pid := range strings.FieldsSeq(string(procs)) {
		if pid != self {
			return errors.New("the server shares its cgroup with other processes")
		}
	}
	aside := filepath.Join(c.left, serverGroup)
	if err := os.Mkdir(aside, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make a cgroup for the server: %w", err)
	}
	return put(filepath.Join(aside, "cgroup.procs"), self)
}

// comeBack undoes stepAside.
func (c *cgroups) comeBack() {
	if c.left == "" || len(c.limits) == 0 {
		return
	}
	_ = put(filepath.Join(c.left, "cgroup.subtree_control"), "-"+strings.Join(c.limits, " -"))
	_ = put(filepath.Join(c.left, "cgroup.procs"), strconv.Itoa(os.Getpid()))
	_ = unix.Rmdir(filepath.Join(c.left, serverGroup))
}

// Groups is what a driver of this process would find of cgroups.
type Groups struct {
	Unified bool     // version 2 is mounted
	Legacy  bool     // controllers are in version 1
	Limits  []string // controllers that would enforce limits
	Swap    bool     // memory limits would count swap
	Lack    core.Shortcoming
}

// LookAtGroups finds out, and changes nothing.
func LookAtGroups(plain bool) Groups {
	mountinfo, _ := os.ReadFile("/proc/self/mountinfo")
	own, _ := os.ReadFile("/proc/self/cgroup")
	unified, legacy := cgroupMounts(mountinfo)
	g := Groups{Unified: unified != "", Legacy: len(legacy) > 0}
	base := unified
	if path, ok := unifiedPath(string(own)); ok && plain {
		base = filepath.Join(unified, path)
	}
	have, _ := os.ReadFile(filepath.Join(base, "cgroup.controllers"))
	for _, ctl := range controllers {
		if slices.Contains(strings.Fields(string(have)), ctl) || !plain && legacy[ctl] != "" {
			g.Limits = append(g.Limits, ctl)
		}
	}
	_, noSwap := os.Stat(filepath.Join(legacy["memory"], "memory.memsw.limit_in_bytes"))
	below, _ := filepath.Glob(filepath.Join(unified, "*", "memory.swap.max"))
	g.Swap = legacy["memory"] != "" && noSwap == nil || len(below) > 0
	g.Lack = core.Shortcoming{Name: "limits", Why: "the kernel has no such controllers", Remedy: "enable them (cgroup_enable=memory on the kernel's command line)"}
	if !plain {
		return g
	}
	switch err := unix.Access(base, unix.W_OK); {
	case unified == "" || len(legacy) > 0:
		g.Lack.Why, g.Lack.Remedy = oldGroups, newGroups
	case err != nil:
		g.Lack.Why, g.Lack.Remedy = "the cgroup of this process is not delegated to the user", delegateIt
	default:
		return g
	}
	g.Limits = nil
	return g
}
