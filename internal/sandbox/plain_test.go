package sandbox_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/drivertest"
	"github.com/dayfly-io/dayfly/internal/sandbox"
)

// A user of the tests' own, of whom the machine knows nothing, and the ids that
// some are given besides.
const (
	plainID    = 54321
	plainRange = "1610612736:65536"
)

// plainTests are the tests that hold for a plain user's server too, and
// plainNetwork those besides that look for a nameserver.
const plainTests = "^(TestDriver|TestFunctionHasNoPrivileges|TestMountsAreOurs|TestEscapesAreRefused|TestOnlyTmpCanBeWritten|" +
	"TestNothingLeadsOutByOpenFiles|TestManyLayers|" +
	"TestNoProgramOfOursIsOverwritten|TestSpawnerIsReplaced|TestUnknownNetwork|TestPlain"

const plainNetwork = "|TestHostileImages|TestLayersThatTurnDirectoriesIntoLinks"

// plainWorld is what a plain user finds on the machine.
type plainWorld struct {
	Dir    string // of the user's own
	Ranges bool   // in /etc/subuid and /etc/subgid
	Tun    bool   // /dev/net/tun can be opened
	// Delegated is set when it is in a cgroup of its own.
	Delegated bool
}

// TestAsPlainUser runs tests of this package once more in children that are no
// root: with a range of ids and a way out, and with neither.
func TestAsPlainUser(t *testing.T) {
	t.Parallel()
	for name, w := range map[string]plainWorld{
		"a range of ids and pasta": {Ranges: true, Tun: true},
		"one id and no way out":    {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tests := plainTests
			if w.Tun {
				tests += plainNetwork
			}
			w.run(t, tests+")$")
			if w.Tun {
				w.run(t, "^TestPastaIsReplaced$")
			}
		})
	}
}

// TestPastaIsReplaced ends the program that is the way out. Root has none.
func TestPastaIsReplaced(t *testing.T) {
	t.Parallel()
	w, _ := plainly()
	if !w.Tun {
		f := newFixture(t)
		if pids := pastas(t); len(pids) > 0 {
			t.Errorf("a driver with the capabilities %v has started pasta as %v", f.driver.Capabilities().Names(), pids)
		}
		return
	}
	f := newFixture(t)
	spec := drivertest.Spec(f.asUser(t, ""), "dial", drivertest.Surroundings.Outside)
	spec.Network = core.NetworkEgress
	reaches := func() bool {
		got := map[string]string{}
		spec.ID = drivertest.NextID()
		drivertest.Start(t, f.driver, spec, nil).JSON(&got)
		return got[drivertest.Surroundings.Outside] == "mayfly"
	}
	if !reaches() {
		t.Fatal("there is no way out")
	}
	was := pastas(t)
	if len(was) != 1 || unix.Kill(was[0], unix.SIGKILL) != nil {
		t.Fatalf("the processes of pasta are %v, and there should be one to kill", was)
	}
	drivertest.Eventually(t, "there is another pasta", func() bool {
		now := pastas(t)
		return len(now) == 1 && now[0] != was[0]
	})
	drivertest.Eventually(t, "there is a way out again", reaches)
}

// pastas lists the processes of pasta that this one has started.
func pastas(t testing.TB) []int {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for pid := range strings.FieldsSeq(string(b)) {
			name, err := os.ReadFile("/proc/" + pid + "/comm")
			if n, _ := strconv.Atoi(pid); err == nil && strings.HasPrefix(string(name), "pas") { // it is one program with passt
				out = append(out, n)
			}
		}
	}
	return out
}

// TestInADelegatedCgroup runs what the suite has of groups in a child whose
// cgroup is its user's: it has freezing, and the limits whose controllers are in
// version 2.
func TestInADelegatedCgroup(t *testing.T) {
	t.Parallel()
	plainWorld{Delegated: true}.run(t, "^(TestDriver|TestPlain)$/limit|memory|fork_bomb|[Ff]reez|frozen|Usage|Wait_tells")
}

func (w plainWorld) run(t *testing.T, tests string) {
	t.Helper()
	w.Dir = plainDir(t)
	program := filepath.Join(w.Dir, "misbehave")
	if err := os.WriteFile(program, drivertest.Program(t), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := w.command(t, "-test.run="+tests, "-test.timeout=6m").CombinedOutput()
	if err != nil {
		t.Errorf("as a plain user: %v\n%s", err, out)
	}
	_, _ = t.Output().Write(out)
	if !strings.Contains(string(out), "PASS") {
		t.Errorf("no test has passed: %s", out)
	}
}

// plainDir makes a directory of the plain user's, to which root's do not bar
// the way.
func plainDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dayfly-plain-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, plainID, plainID)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// command gives a command that runs the test binary as the plain user, in the
// role "plain user".
func (w plainWorld) command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	config, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), apart+"=make plain world", "DAYFLY_PLAIN_WORLD="+string(config))
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// makePlainWorld puts files in the place of the machine's, in a mount
// namespace of its own, and becomes the plain user.
func makePlainWorld() {
	var w plainWorld
	if err := json.Unmarshal([]byte(os.Getenv("DAYFLY_PLAIN_WORLD")), &w); err != nil {
		fatal("read the plain user's world", err)
	}
	ranges := ""
	if w.Ranges {
		ranges = "dayfly-test:" + plainRange + "\n"
	}
	mode := uint32(unix.S_IFCHR | 0o600)
	if w.Tun {
		mode = unix.S_IFCHR | 0o666
	}
	tun := filepath.Join(w.Dir, "tun")
	oldMask := unix.Umask(0)
	fatal("make mounts private", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	// A machine without the device has none to keep from the user.
	if _, err := os.Stat("/dev/net/tun"); err == nil || w.Tun {
		fatal("make the plain user's device", errors.Join(
			unix.Mknod(tun, mode, int(unix.Mkdev(10, 200))), unix.Mount(tun, "/dev/net/tun", "", unix.MS_BIND, "")))
	}
	fatal("make the plain user's world", errors.Join(
		drivertest.ReplaceFile("/etc/passwd", fmt.Sprintf("root:x:0:0:root:/root:/bin/sh\ndayfly-test:x:%d:%d::/:/bin/sh\n", plainID, plainID)),
		drivertest.ReplaceFile("/etc/subuid", ranges), drivertest.ReplaceFile("/etc/subgid", ranges),
	))
	unix.Umask(oldMask)
	child := exec.Command("/proc/self/exe", os.Args[1:]...)
	child.Dir = w.Dir
	child.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.Dir, "TMPDIR=" + w.Dir, "DAYFLY_TEST_PROGRAM=" + filepath.Join(w.Dir, "misbehave"),
		apart + "=plain user", "DAYFLY_PLAIN_WORLD=" + os.Getenv("DAYFLY_PLAIN_WORLD"),
	}
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: plainID, Gid: plainID}, Pdeathsig: syscall.SIGKILL,
	}
	leave := func() {}
	if w.Delegated {
		leave = delegate(child.SysProcAttr)
	}
	err := child.Run()
	leave()
	fatal("run as the plain user", err)
	os.Exit(0)
}

// delegate makes a cgroup of the plain user's for a process that is started,
// as systemd does with Delegate=.
func delegate(attr *syscall.SysProcAttr) (leave func()) {
	unified := unifiedRoot()
	have, err := os.ReadFile(filepath.Join(unified, "cgroup.controllers"))
	fatal("look for controllers", err)
	for _, ctl := range []string{"memory", "cpu", "pids"} {
		if slices.Contains(strings.Fields(string(have)), ctl) {
			fatal("hand down a controller", os.WriteFile(filepath.Join(unified, "cgroup.subtree_control"), []byte("+"+ctl), 0))
		}
	}
	dir := filepath.Join(unified, fmt.Sprintf("dayfly-plain-%d", os.Getpid()))
	fatal("make a cgroup", os.Mkdir(dir, 0o755))
	for _, name := range []string{"", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} {
		fatal("give a cgroup away", os.Chown(filepath.Join(dir, name), plainID, plainID))
	}
	f, err := os.Open(dir)
	fatal("open a cgroup", err)
	attr.UseCgroupFD, attr.CgroupFD = true, int(f.Fd())
	return func() {
		_ = f.Close()
		_ = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
		for _, name := range []string{"dayfly-server", "dayfly", ""} {
			sandbox.RemoveCgroup(filepath.Join(dir, name))
		}
	}
}

// hasControllers reports whether version 2 has the controllers.
func hasControllers() bool {
	have, err := os.ReadFile(filepath.Join(unifiedRoot(), "cgroup.controllers"))
	fatal("look for controllers", err)
	return strings.Contains(string(have), "memory")
}

// unifiedRoot finds where cgroup version 2 is mounted.
func unifiedRoot() string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	fatal("look for cgroups", err)
	for line := range strings.Lines(string(text)) {
		left, right, _ := strings.Cut(line, " - ")
		if l := strings.Fields(left); strings.HasPrefix(right, "cgroup2 ") && len(l) > 4 {
			return l[4]
		}
	}
	fatal("look for cgroups", errors.New("no cgroup2 file system is mounted"))
	return ""
}

func fatal(what string, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, what+":", err)
		os.Exit(1)
	}
}

// plainly reports whether this process is a child of TestAsPlainUser, and what
// it finds.
func plainly() (w plainWorld, is bool) {
	if os.Getenv(apart) != "plain user" {
		return plainWorld{}, false
	}
	fatal("read the plain user's world", json.Unmarshal([]byte(os.Getenv("DAYFLY_PLAIN_WORLD")), &w))
	return w, true
}

// TestPlain checks what a plain user's driver says of itself. As root it is a
// test that there is nothing to say.
func TestPlain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	can := f.driver.Capabilities()
	names := make([]string, len(can.Missing))
	for i, m := range can.Missing {
		names[i] = m.Name
	}
	w, is := plainly()
	want := map[string]bool{}
	if is {
		want = map[string]bool{"detach": true, "mounts": true, "limits": !can.Memory, "ids of their own": w.Ranges, "user ids": !w.Ranges, "network": !w.Tun}
	}
	for _, name := range []string{"detach", "mounts", "limits", "ids of their own", "user ids", "network"} {
		if slices.Contains(names, name) != want[name] {
			t.Errorf("it says that it lacks %q, want %v: %+v", names, want, can.Missing)
		}
	}
	if can.Freeze != (!is || w.Delegated) || can.Memory != can.Pids || can.Memory != (!is || w.Delegated && hasControllers()) {
		t.Errorf("its groups do %+v", can)
	}
	if can.OneUser != (is && !w.Ranges) || slices.Contains(can.Networks, core.NetworkEgress) != (!is || w.Tun) || can.Detach == is {
		t.Errorf("it can do %+v", can)
	}
	spec := drivertest.Spec(f.asUser(t, ""), "exit", "0")
	spec.Detached = true
	_, err := f.driver.Start(drivertest.Context(t), spec, core.Stdio{})
	if is != core.IsKind(err, core.KindNotImplemented) || !is && err != nil {
		t.Errorf("one that is to outlive the server: %v", err)
	}
}

// The files of an image have the owners that it names, as far as there are ids.
func TestOwners(t *testing.T) {
	t.Parallel()
	if o, err := sandbox.Owners(); err != nil || o.Count != 0 {
		t.Errorf("root's layers belong to %+v (%v), want to whom they name", o, err)
	}
}
