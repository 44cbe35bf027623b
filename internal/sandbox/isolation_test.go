package sandbox_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/drivertest"
)

// users are those that a function may run as.
var users = []string{"", "app", "65534:65534"}

// asUser loads the base image with another user.
func (f *fixture) asUser(t testing.TB, user string) string {
	t.Helper()
	return f.load(t, drivertest.Tar(t, drivertest.Base(t, core.ImageConfig{Entrypoint: []string{"/misbehave"}, User: user})))
}

func (f *fixture) facts(t testing.TB, spec core.InstanceSpec) drivertest.Facts {
	t.Helper()
	var facts drivertest.Facts
	drivertest.Start(t, f.driver, spec, nil).JSON(&facts)
	return facts
}

// widest is the network by which an instance reaches most.
func (f *fixture) widest() core.Network {
	if n := core.NetworkEgress; slices.Contains(f.driver.Capabilities().Networks, n) {
		return n
	}
	return core.NetworkNone
}

// What a function sees of itself has no privilege in it, whoever it runs as.
func TestFunctionHasNoPrivileges(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	processes := []string{"1", "2"}
	if f.driver.Capabilities().OneUser {
		processes = processes[1:] // init is the same user, and so it is hidden
	}
	for _, user := range users {
		for _, network := range f.driver.Capabilities().Networks {
			spec := drivertest.Spec(f.asUser(t, user), "facts")
			spec.Network = network
			facts := f.facts(t, spec)
			for key, want := range map[string]string{
				"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000",
				"CapBnd": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2", "Seccomp_filters": "1",
				"SigBlk": "0000000000000000", "NSpid": "2", "TracerPid": "0",
			} {
				if got := facts.Status[key]; got != want {
					t.Errorf("user %q: %s is %s, want %s", user, key, got, want)
				}
			}
			if facts.PID != 2 || facts.Parent != 1 || !slices.Equal(facts.Processes, processes) {
				t.Errorf("user %q: process %d of %d sees the processes %s", user, facts.PID, facts.Parent, facts.Processes)
			}
			if want := []string{"0::/"}; !slices.Contains(facts.Cgroup, want[0]) {
				t.Errorf("user %q: it is in the cgroups %q", user, facts.Cgroup)
			}
			if facts.Limits["core"] != 0 || facts.Limits["locked"] != 64<<10 {
				t.Errorf("user %q: its limits are %v", user, facts.Limits)
			}
		}
	}
}

// Nothing the server or init has open is open in the function.
func TestFunctionHasThreeFiles(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	digest := f.asUser(t, "")
	for _, detached := range []bool{false, true} {
		spec := drivertest.Spec(digest, "facts")
		spec.Detached = detached
		files := f.facts(t, spec).Files
		if len(files) != 3 || files["0"] == "" || files["1"] == "" || files["2"] == "" {
			t.Errorf("detached %t: its open files are %q, want 0, 1 and 2", detached, files)
		}
		for _, n := range []string{"1", "2"} {
			if !strings.HasPrefix(files[n], "pipe:") {
				t.Errorf("detached %t: its file %s is %q, want a pipe", detached, n, files[n])
			}
		}
	}
}

// Two sandboxes share no namespace with each other or with the host, and no
// user id.
func TestSandboxesAreApart(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	digest := f.asUser(t, "")
	first := drivertest.Start(t, f.driver, drivertest.Spec(digest, "signals", "0"), nil)
	first.Out.Await(t, "ready")
	a, b := f.facts(t, drivertest.Spec(digest, "facts")), drivertest.Facts{}
	second := drivertest.Start(t, f.driver, drivertest.Spec(digest, "facts"), nil)
	second.JSON(&b)
	for _, kind := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
		host, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		if a.Namespaces[kind] == "" || a.Namespaces[kind] == host || a.Namespaces[kind] == b.Namespaces[kind] && kind != "cgroup" {
			t.Errorf("the namespaces %s are %q and %q, the host's %q", kind, a.Namespaces[kind], b.Namespaces[kind], host)
		}
	}
	if len(a.UIDMap) != 3 || a.UIDMap[0] != "0" || a.UIDMap[2] != "65536" || !slices.Equal(a.UIDMap, a.GIDMap) {
		t.Fatalf("its ids are mapped as %q and %q", a.UIDMap, a.GIDMap)
	}
	if a.UIDMap[1] == b.UIDMap[1] || len(a.UIDMap[1]) != len("1879048192") {
		t.Errorf("the ids of two begin at %s and %s", a.UIDMap[1], b.UIDMap[1])
	}
}

// The mounts are those that we made, and say nothing of the host's files.
func TestMountsAreOurs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	facts := f.facts(t, drivertest.Spec(f.asUser(t, ""), "facts"))
	want := map[string]string{
		"/": "overlay ro", "/proc": "proc rw", "/sys": "sysfs ro", "/dev": "tmpfs ro", "/dev/shm": "tmpfs rw", "/dev/pts": "devpts rw",
		"/dev/mqueue": "mqueue rw", "/tmp": "tmpfs rw", "/proc/sys": "proc ro", "/proc/bus": "proc ro", "/proc/fs": "proc ro",
		"/proc/irq": "proc ro", "/proc/sysrq-trigger": "proc ro",
	}
	for _, line := range facts.Mounts {
		l := strings.Fields(line)
		at, dash := l[4], slices.Index(l, "-")
		got := l[dash+1] + " " + strings.SplitN(l[5], ",", 2)[0]
		switch {
		case want[at] != "":
			if got != want[at] {
				t.Errorf("%s is %s, want %s", at, got, want[at])
			}
			delete(want, at)
		case strings.HasPrefix(at, "/dev/"), strings.HasPrefix(at, "/proc/"), strings.HasPrefix(at, "/sys/"):
			if !strings.HasPrefix(got, "devtmpfs") && got != "tmpfs ro" {
				t.Errorf("%s is %s, want a device or a mask", at, got)
			}
		default:
			t.Errorf("there is a mount that we did not make: %s", line)
		}
		if !strings.Contains(l[5], "nosuid") && !strings.HasPrefix(got, "devtmpfs") {
			t.Errorf("%s lacks nosuid: %s", at, line)
		}
		if strings.Contains(line, f.dir) || strings.Contains(line, "/home") || strings.Contains(line, "/ext4") {
			t.Errorf("a mount tells of the host: %s", line)
		}
	}
	for at := range want {
		if _, err := os.Stat(at); err == nil { // this kernel has it
			t.Errorf("there is no mount at %s", at)
		}
	}
	for path, n := range facts.Empty {
		if n != 0 {
			t.Errorf("%s can be read", path)
		}
	}
	devices := []string{"fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"}
	if !slices.Equal(facts.Dev, devices) {
		t.Errorf("/dev has %q, want %q", facts.Dev, devices)
	}
}

func TestEscapesAreRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, user := range users {
		spec := drivertest.Spec(f.asUser(t, user), "escape")
		spec.Memory, spec.Network = 128*core.MiB, f.widest()
		p := drivertest.Start(t, f.driver, spec, strings.NewReader("a stdin"))
		got := map[string]string{}
		p.JSON(&got)
		if len(got) < 90 {
			t.Errorf("only %d escapes were tried", len(got))
		}
		for name, refusal := range got {
			if refusal == "" {
				t.Errorf("user %q: %s works", user, name)
			}
		}
	}
}

func TestOnlyTmpCanBeWritten(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, user := range users {
		var could []string
		spec := drivertest.Spec(f.asUser(t, user),
			"scribble", "/", "/bin", "/dev", "/etc", "/run", "/work", "/proc", "/proc/sys/kernel", "/proc/1", "/sys", "/sys/kernel", "/tmp", "/dev/shm")
		drivertest.Start(t, f.driver, spec, nil).JSON(&could)
		for _, path := range could {
			switch {
			case strings.HasPrefix(path, "/tmp/"), strings.HasPrefix(path, "/dev/shm/"):
			case strings.HasPrefix(path, "/dev/"): // devices: what they do with it is theirs
			case slices.Contains([]string{"/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/timer_list"}, path): // /dev/null
			case path == "/proc/1/timerslack_ns": // it refuses what is written
			default:
				t.Errorf("user %q can write %s", user, path)
			}
		}
		if !slices.Contains(could, "/tmp/misbehave-was-here") || !slices.Contains(could, "/dev/shm/misbehave-was-here") {
			t.Errorf("user %q can write only %q", user, could)
		}
	}
}

// A working directory, or a program, by way of a file that init has open must
// not lead out (CVE-2024-21626).
func TestNothingLeadsOutByOpenFiles(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for n := range 13 {
		path := fmt.Sprintf("/proc/self/fd/%d", n)
		config := core.ImageConfig{Entrypoint: []string{"/misbehave"}, WorkingDir: path}
		spec := drivertest.Spec(f.load(t, drivertest.Tar(t, drivertest.Base(t, config))), "facts")
		spec.Detached = f.driver.Capabilities().Detach
		in, err := f.driver.Start(t.Context(), spec, core.Stdio{})
		if err == nil {
			t.Errorf("%s can be the working directory of %+v", path, in)
		} else if core.AsError(err).Code != core.ReasonStartFailed {
			t.Errorf("with the working directory %s the error is %v", path, err)
		}
	}
	for _, program := range []string{"/proc/self/exe", "/proc/1/exe", "/proc/self/fd/7", "/proc/1/root/misbehave"} {
		spec := drivertest.Spec(f.asUser(t, ""))
		spec.Command = []string{program, "exit", "0"}
		if _, err := f.driver.Start(t.Context(), spec, core.Stdio{}); err != nil {
			continue
		}
		// /proc/self/exe is init itself: sealed, without a socket, it ends.
		if exit, err := f.driver.Wait(drivertest.Context(t), spec.ID); err != nil || program != "/proc/self/exe" || exit.OOM {
			t.Errorf("%s runs and ends with %+v, %v", program, exit, err)
		}
	}
}
