package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	signals "os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/drivertest"
	"github.com/dayfly-io/dayfly/internal/image"
	"github.com/dayfly-io/dayfly/internal/sandbox"
)

func (f *fixture) sandboxDir() string { return filepath.Join(f.dir, "sandbox") }

// unprepared opens a driver that keeps no boxes ready.
func unprepared(t testing.TB) *fixture {
	t.Helper()
	f := fixtureIn(t, t.TempDir())
	f.openImages(t)
	f.driver = f.openDriver(t, sandbox.Options{Prepared: -1})
	return f
}

// zoo starts instances of every kind, and does not wait for them.
func (f *fixture) zoo(t testing.TB, digest string) {
	t.Helper()
	ctx := drivertest.Context(t)
	for i, args := range [][]string{
		{"sleep"}, {"signals", "ignore"}, {"flood"}, {"bomb"}, {"spin"}, {"exit", "1"}, {"daemon"}, {"children", "3", "0"}, {"serve", ":8080"}, {"sleep"},
	} {
		spec := drivertest.Spec(digest, args...)
		spec.CPU = 300
		if i%2 == 0 {
			spec.Network = core.NetworkEgress
		}
		if _, err := f.driver.Start(ctx, spec, core.Stdio{Stdin: strings.NewReader("x")}); err != nil {
			t.Fatal(err)
		}
		if args[0] == "sleep" {
			if err := f.driver.Freeze(ctx, spec.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// own is what the process itself has.
type own struct{ files, goroutines, children int }

func ownNow(t testing.TB) own {
	t.Helper()
	return own{openFiles(t), runtime.NumGoroutine(), len(children(t))}
}

// returnsTo waits until the process has no more than it had.
func (o own) returnsTo(t testing.TB) {
	t.Helper()
	deadline, cancel := context.WithTimeout(t.Context(), drivertest.Patience/2)
	defer cancel()
	drivertest.Eventually(t, "the process has what it had", func() bool {
		now := ownNow(t)
		if now.files <= o.files && now.goroutines <= o.goroutines && now.children <= o.children {
			return true
		}
		if deadline.Err() != nil {
			t.Fatalf("the process had %+v and has %+v; children %q\n%s", o, now, children(t), goroutines())
		}
		return false
	})
}

// Not parallel: it counts what the whole process has.
func TestCloseLeavesNothing(t *testing.T) {
	dir, ctx := t.TempDir(), drivertest.Context(t)
	f := fixtureIn(t, dir)
	f.openImages(t)
	digest := f.asUser(t, "")
	before := ownNow(t)
	d, err := sandbox.Open(ctx, sandbox.Options{Dir: f.sandboxDir(), Images: f.images})
	if err != nil {
		t.Fatal(err)
	}
	f.driver = d
	f.zoo(t, digest)
	p := drivertest.Spec(digest, "serve", ":8080")
	if _, err := d.Start(ctx, p, core.Stdio{}); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error)
	go func() {
		_, err := d.Wait(ctx, p.ID)
		waited <- err
	}()
	closeDriver(t, d)
	closeDriver(t, d)
	if err := <-waited; err != nil {
		t.Errorf("who waited for one that Close ended is told %v", err)
	}
	nothingLeft(t, f.sandboxDir())
	before.returnsTo(t)
	_, err = d.Start(ctx, drivertest.Spec(digest, "sleep"), core.Stdio{})
	if !core.IsKind(err, core.KindUnavailable) {
		t.Errorf("Start after Close gives %v", err)
	}
	if err := f.images.Remove(ctx, digest); err != nil {
		t.Errorf("an image is still held: %v", err)
	}
}

// Not parallel: it counts what the whole process has.
func TestManyStartsLeakNothing(t *testing.T) {
	f := newFixture(t)
	digest := f.asUser(t, "")
	one := func(i int) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var spec core.InstanceSpec
		switch i % 5 {
		case 0:
			spec = drivertest.Spec(digest, "exit", "3")
		case 1:
			spec = drivertest.Spec(digest, "sleep")
		case 2:
			spec = drivertest.Spec(digest)
			spec.Command = []string{"/none"}
		case 3:
			spec = drivertest.Spec(digest, "sleep")
			timer := time.AfterFunc(time.Duration(i)*20*time.Microsecond, cancel)
			defer timer.Stop()
		case 4:
			spec = drivertest.Spec(digest, "copy")
			spec.Detached = true
		}
		if i%2 == 0 {
			spec.Network = core.NetworkEgress
		}
		_, err := f.driver.Start(ctx, spec, core.Stdio{Stdin: strings.NewReader("a stdin")})
		if (err != nil) != (i%5 == 2) && i%5 != 3 {
			t.Errorf("start %v: %v", spec.Command, err)
		}
		if i%5 == 0 || i%5 == 4 {
			if _, err := f.driver.Wait(drivertest.Context(t), spec.ID); err != nil {
				t.Error(err)
			}
		}
		if err := f.driver.Stop(t.Context(), spec.ID, 0); err != nil && !errors.Is(err, core.ErrGone) {
			t.Error(err)
		}
	}
	all := func(n int) {
		var wg sync.WaitGroup
		for worker := range 4 {
			wg.Go(func() {
				for i := worker; i < n; i += 4 {
					one(i)
				}
			})
		}
		wg.Wait()
		drivertest.Eventually(t, "the shelves are full", func() bool { return len(f.driver.Ready()) == 2*sandbox.DefaultPrepared })
	}
	settled := func() bool {
		// The bridge, and a port for each box that is ready.
		return len(tracesOf(t, f.sandboxDir()).links) == 1+sandbox.DefaultPrepared
	}
	all(20)
	drivertest.Eventually(t, "old links are gone", settled)
	before, there := ownNow(t), tracesOf(t, f.sandboxDir())
	all(500)
	drivertest.Eventually(t, "old links are gone", settled)
	before.returnsTo(t)
	if now := tracesOf(t, f.sandboxDir()); len(now.cgroups) != len(there.cgroups) || len(now.processes) != len(there.processes) ||
		len(now.files) != 0 || now.mounts != there.mounts {
		t.Errorf("there was %s, there is %s", there, now)
	}
}

func TestCloseMeetsStarts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	digest := f.asUser(t, "")
	ctx := drivertest.Context(t)
	began := make(chan struct{}, 100)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				_, err := f.driver.Start(ctx, drivertest.Spec(digest, "sleep"), core.Stdio{})
				select {
				case began <- struct{}{}:
				default:
				}
				if core.IsKind(err, core.KindUnavailable) {
					return
				}
				if err != nil {
					t.Errorf("a start while the driver closes gives %v", err)
					return
				}
			}
		})
	}
	for range 10 {
		<-began
	}
	closeDriver(t, f.driver)
	wg.Wait()
	nothingLeft(t, f.sandboxDir())
}

// Not parallel: which signals are ignored is the whole process's.
func TestFunctionsHearWhatTheServerIgnores(t *testing.T) {
	ignored := []os.Signal{unix.SIGHUP, unix.SIGINT}
	signals.Ignore(ignored...) // as nohup does, and shells to what runs in the background
	defer signals.Reset(ignored...)
	f := unprepared(t)
	digest := f.asUser(t, "")
	for _, s := range []int{int(unix.SIGHUP), int(unix.SIGINT)} {
		exit := drivertest.Start(t, f.driver, drivertest.Spec(digest, "kill", strconv.Itoa(s)), nil).Wait()
		if exit.Signal != s {
			t.Errorf("signal %d ends it with %+v", s, exit)
		}
	}
}

func TestSpawnerIsReplaced(t *testing.T) {
	t.Parallel()
	f := unprepared(t)
	digest := f.asUser(t, "")
	p := drivertest.Start(t, f.driver, drivertest.Spec(digest, "signals", "7"), nil)
	p.Out.Await(t, "ready")
	for range 3 {
		if err := f.driver.KillSpawner(); err != nil {
			t.Fatal(err)
		}
		drivertest.Start(t, f.driver, drivertest.Spec(digest, "exit", "3"), nil).Code(3)
	}
	p.Stop(drivertest.Patience)
	p.Code(7)
}

func TestShelfRefills(t *testing.T) {
	t.Parallel()
	f := fixtureIn(t, t.TempDir())
	f.openImages(t)
	f.driver = f.openDriver(t, sandbox.Options{Prepared: 2})
	digest := f.asUser(t, "")
	full := func() bool { return len(f.driver.Ready()) == 4 }
	drivertest.Eventually(t, "the shelves are full", full)
	for range 6 {
		drivertest.Start(t, f.driver, drivertest.Spec(digest, "exit", "0"), nil).Code(0)
	}
	drivertest.Eventually(t, "the shelves are full again", full)
	// What died on the shelf is not given to anyone.
	for _, pid := range f.driver.Ready() {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		drivertest.Eventually(t, "it has ended", func() bool {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return err != nil || strings.Contains(string(b), ") Z ")
		})
	}
	for _, network := range []core.Network{core.NetworkNone, core.NetworkEgress} {
		spec := drivertest.Spec(digest, "exit", "0")
		spec.Network = network
		drivertest.Start(t, f.driver, spec, nil).Code(0)
	}
}

func TestNothingIsPrepared(t *testing.T) {
	t.Parallel()
	f := unprepared(t)
	if there := tracesOf(t, f.sandboxDir()); len(there.processes) != 0 {
		t.Errorf("with Prepared -1 there are processes: %s", there)
	}
	drivertest.Start(t, f.driver, drivertest.Spec(f.asUser(t, ""), "exit", "3"), nil).Code(3)
}

func TestErrorOfPreparingIsTold(t *testing.T) {
	t.Parallel()
	f := unprepared(t)
	digest := f.asUser(t, "")
	mend := f.driver.BreakCgroups()
	_, err := f.driver.Start(t.Context(), drivertest.Spec(digest, "sleep"), core.Stdio{})
	if told := core.AsError(err); told.Code != core.ReasonStartFailed || !strings.Contains(told.Error(), "make a cgroup") {
		t.Errorf("the error is %v", err)
	}
	mend()
	drivertest.Start(t, f.driver, drivertest.Spec(digest, "exit", "3"), nil).Code(3)
}

func TestUnknownNetwork(t *testing.T) {
	t.Parallel()
	f := unprepared(t)
	spec := drivertest.Spec(f.asUser(t, ""), "sleep")
	spec.Network = "carrier pigeons"
	if _, err := f.driver.Start(t.Context(), spec, core.Stdio{}); !core.IsKind(err, core.KindInvalid) || !strings.Contains(err.Error(), "carrier pigeons") {
		t.Errorf("the error is %v", err)
	}
}

func TestTwoDriversInOddDirectories(t *testing.T) {
	t.Parallel()
	var fixtures []*fixture
	for _, name := range []string{"with space, comma: and\ncolon=\\\"'%s", "日本 ../x"} {
		f := fixtureIn(t, filepath.Join(t.TempDir(), name))
		if err := os.MkdirAll(f.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		f.open(t)
		fixtures = append(fixtures, f)
	}
	var processes []*drivertest.Process
	for _, f := range fixtures {
		spec := drivertest.Spec(f.asUser(t, "app"), "signals", "5")
		spec.Network, spec.Detached = core.NetworkEgress, true
		p := drivertest.Start(t, f.driver, spec, strings.NewReader("in"))
		processes = append(processes, p)
	}
	closeAll := fixtures[0]
	processes[0].Stop(0)
	closeDriver(t, closeAll.driver)
	nothingLeft(t, closeAll.sandboxDir())
	// The other one has noticed nothing.
	spec := drivertest.Spec(fixtures[1].asUser(t, ""), "dial", drivertest.Surroundings.Outside)
	spec.Network = core.NetworkEgress
	got := map[string]string{}
	drivertest.Start(t, fixtures[1].driver, spec, nil).JSON(&got)
	if got[drivertest.Surroundings.Outside] != "mayfly" {
		t.Errorf("beside a driver that has closed, an instance is answered %q", got)
	}
	drivertest.Eventually(t, "it hears signals", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := unix.Kill(fixtures[1].driver.InitOf(processes[1].ID), unix.SIGTERM); err != nil {
			return true
		}
		_, err := fixtures[1].driver.Wait(ctx, processes[1].ID)
		return err == nil
	})
}

// A driver that opens again has the addresses it had, unless another has taken
// them. Not parallel: the drivers of other tests take addresses too.
func TestAddressesStay(t *testing.T) {
	first, second, third := unprepared(t), unprepared(t), unprepared(t)
	was := second.driver.Range()
	for _, f := range []*fixture{first, second, third} {
		closeDriver(t, f.driver)
	}
	second.driver = second.openDriver(t, sandbox.Options{Prepared: -1})
	if got := second.driver.Range(); got != was {
		t.Errorf("the addresses were %s and are %s", was, got)
	}
	closeDriver(t, second.driver)
	first.driver = first.openDriver(t, sandbox.Options{Prepared: -1})
	if other := unprepared(t).driver.Range(); other != was {
		t.Fatalf("another driver has taken %s and not %s", other, was)
	}
	second.driver = second.openDriver(t, sandbox.Options{Prepared: -1})
	if got := second.driver.Range(); got == was || got == first.driver.Range() {
		t.Errorf("the addresses are %s, which another has", got)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	images, err := image.Open(t.Context(), filepath.Join(dir, "images"), image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer images.Close()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := hostMounts(t)
	if _, err := sandbox.Open(t.Context(), sandbox.Options{Dir: file, Images: images}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file as directory gives %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := sandbox.Open(ctx, sandbox.Options{Dir: filepath.Join(dir, "cancelled"), Images: images}); err == nil {
		t.Error("with an ended context it opens")
		closeDriver(t, d)
	}
	nothingLeft(t, filepath.Join(dir, "cancelled"))
	if now := hostMounts(t); now != before {
		t.Error("the host's mounts have changed")
	}
}
