package sandbox_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/drivertest"
	"github.com/dayfly-io/dayfly/internal/image/pack"
)

// attack is a function that takes all that it can get, or does not go.
type attack struct {
	args   []string
	limits func(*core.InstanceSpec)
	grace  time.Duration
	begun  string // what it prints when it is on; "" for one that ends by itself
	ends   string // how its end is told
	or     string // if not so: which limit is reached first is the machine's to say
}

var attacks = map[string]attack{
	"fork bomb":        {args: []string{"bomb"}, begun: "bomb", ends: "it was killed by signal 9"},
	"memory bomb":      {args: []string{"eat", "memory", "500"}, ends: "it reached its memory limit"},
	"tmpfs bomb":       {args: []string{"eat", "/tmp", "500"}, limits: func(s *core.InstanceSpec) { s.Tmp = core.GiB }, ends: "it reached its memory limit"},
	"tmpfs bomb, full": {args: []string{"eat", "/tmp", "500"}, limits: func(s *core.InstanceSpec) { s.Tmp = 4 * core.MiB }, ends: "it exited with code 3"},
	"/dev/shm bomb":    {args: []string{"eat", "/dev/shm", "500"}, limits: func(s *core.InstanceSpec) { s.Memory = 32 * core.MiB }, ends: "it reached its memory limit"},
	"log flood":        {args: []string{"serve", "127.0.0.1:8081", "flood"}, begun: "listening", ends: "it was killed by signal 9"},
	"processor hog":    {args: []string{"spin"}, begun: "spinning", ends: "it was killed by signal 9"},
	"stop ignored":     {args: []string{"signals", "ignore"}, grace: 50 * time.Millisecond, begun: "ready", ends: "it was killed by signal 9"},
	"daemons":          {args: []string{"children", "20", "5"}, ends: "it exited with code 5"},
	"inotify bomb":     {args: []string{"hoard", "inotify"}, begun: "hoarded", ends: "it was killed by signal 9"},
	"watch bomb":       {args: []string{"hoard", "watches", "go"}, limits: func(s *core.InstanceSpec) { s.Memory = 24 * core.MiB }, ends: "it reached its memory limit", or: "it exited with code 3"},
	"queue bomb":       {args: []string{"hoard", "queues"}, begun: "hoarded", ends: "it was killed by signal 9"},
	"signal bomb":      {args: []string{"hoard", "signals"}, begun: "hoarded", ends: "it was killed by signal 9"},
	"timer bomb":       {args: []string{"hoard", "timers"}, begun: "hoarded", ends: "it was killed by signal 9"},
	"pipe bomb":        {args: []string{"hoard", "pipes"}, limits: func(s *core.InstanceSpec) { s.Memory = 24 * core.MiB }, ends: "it reached its memory limit"},
}

// Each attack stays in its sandbox: its end is told for what it is, another
// function and the host go on as before, and nothing of it is left.
func TestAttacksAreContained(t *testing.T) {
	t.Parallel()
	f := unprepared(t)
	digest := f.asUser(t, "")
	other := drivertest.Start(t, f.driver, drivertest.Spec(digest, "serve", ":8080"), nil)
	other.Out.Await(t, "listening")
	before := tracesOf(t, f.sandboxDir())
	for name, a := range attacks {
		t.Run(name, func(t *testing.T) {
			spec := drivertest.Spec(digest, a.args...)
			spec.Network, spec.CPU = core.NetworkEgress, 500
			if a.limits != nil {
				a.limits(&spec)
			}
			p := drivertest.Start(t, f.driver, spec, nil)
			if a.begun != "" {
				p.Out.Await(t, a.begun)
				f.goesOn(t, other.ID, digest, a)
				p.Stop(a.grace)
			}
			if exit := p.Wait(); !strings.Contains(exit.String(), a.ends) && (a.or == "" || !strings.Contains(exit.String(), a.or)) {
				t.Errorf("the end is told as %q, want %q; it printed %q and %.200q", exit, a.ends, p.Out.String(), p.Err.String())
			}
			f.goesOn(t, other.ID, digest, a)
			p.Stop(0)
			var now traces
			drivertest.Eventually(t, "its link is gone", func() bool {
				now = tracesOf(t, f.sandboxDir())
				return len(now.links) == len(before.links)
			})
			if now.String() != before.String() || now.mounts != before.mounts {
				t.Errorf("there was %s, there is %s", before, now)
			}
		})
	}
}

// goesOn fails the test unless another function answers, the host can have
// what the attack hoards, and so can a new function.
func (f *fixture) goesOn(t *testing.T, other core.InstanceID, digest string, a attack) {
	t.Helper()
	for range 5 {
		c, err := f.driver.Dial(drivertest.Context(t), other, 8080)
		if err != nil {
			t.Fatalf("the other function: %v", err)
		}
		if got := drivertest.Get(t, c, "/"); got != "hello" {
			t.Errorf("the other function answers %q", got)
		}
		_ = c.Close()
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Errorf("on the host, inotify_init: %v", err)
	} else {
		_ = unix.Close(fd)
	}
	if a.args[0] != "hoard" || a.begun == "" {
		return
	}
	p := drivertest.Start(t, f.driver, drivertest.Spec(digest, a.args...), nil)
	p.Out.Await(t, "hoarded")
	var n int
	if _, err := fmt.Sscanf(p.Out.String(), "hoarded %d", &n); err != nil || n < 5 {
		t.Errorf("a new function gets no more than %q", p.Out.String())
	}
	p.Stop(0)
}

// Instances have no way to each other's processes, nor to what another made
// under a name.
func TestInstancesDoNotReachEachOther(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, user := range users {
		digest := f.asUser(t, user)
		other := drivertest.Start(t, f.driver, drivertest.Spec(digest, "leave"), nil)
		other.Out.Await(t, "left")
		pids := []string{strconv.Itoa(os.Getpid()), strconv.Itoa(f.driver.InitOf(other.ID))}
		for _, pid := range tracesOf(t, f.sandboxDir()).processes {
			if n, err := strconv.Atoi(pid); err == nil && n > 100 && !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
		got := map[string]string{}
		drivertest.Start(t, f.driver, drivertest.Spec(digest, append([]string{"reach"}, pids...)...), nil).JSON(&got)
		if len(got) < 11*3+7 {
			t.Errorf("only %d ways were tried: %q", len(got), got)
		}
		for way, refusal := range got {
			if refusal == "" {
				t.Errorf("user %q: %s works", user, way)
			}
		}
		other.Stop(0)
	}
}

// The program of init cannot be written, nor that of the server, by any of the
// ways of CVE-2019-5736: the next sandbox starts from the same bytes.
func TestNoProgramOfOursIsOverwritten(t *testing.T) {
	t.Parallel()
	f := unprepared(t)
	before := digestOfServer(t)
	img := drivertest.Base(t, drivertest.Misbehave)
	img.Files = append(img.Files, drivertest.File("evil", 0o755, []byte("#!/proc/self/exe\n")),
		pack.File{Path: "self", Mode: os.ModeSymlink, Link: "/proc/self/exe"})
	digest := f.load(t, drivertest.Tar(t, img))
	for _, program := range []string{"/evil", "/self", "/proc/self/exe"} {
		spec := drivertest.Spec(digest)
		spec.Command = []string{program, "overwrite"}
		// Init is what runs, and ends: it has no socket.
		if _, err := f.driver.Start(t.Context(), spec, core.Stdio{}); err != nil {
			continue
		}
		if _, err := f.driver.Wait(drivertest.Context(t), spec.ID); err != nil {
			t.Error(err)
		}
	}
	got := map[string]string{}
	drivertest.Start(t, f.driver, drivertest.Spec(digest, "overwrite"), nil).JSON(&got)
	for way, refusal := range got {
		if refusal == "" {
			t.Errorf("%s works", way)
		}
	}
	if after := digestOfServer(t); !bytes.Equal(before, after) {
		t.Error("the program of the server has changed")
	}
	drivertest.Start(t, f.driver, drivertest.Spec(digest, "exit", "3"), nil).Code(3)
}

func digestOfServer(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return sum[:]
}
