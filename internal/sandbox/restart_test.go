package sandbox_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	signals "os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/drivertest"
	"github.com/dayfly-io/dayfly/internal/image"
	"github.com/dayfly-io/dayfly/internal/sandbox"
)

// roles are the programs that tests start as children of the test binary.
var roles = map[string]func(){"victim": victim, "make plain world": makePlainWorld}

// order is what a victim is to start.
type order struct {
	Spec   core.InstanceSpec
	Stdin  string
	Freeze bool
}

// victim is a server that will be killed: it reads a directory and orders,
// starts instances, says so, and waits. SIGTERM makes it close and exit.
func victim() {
	var todo struct {
		Dir    string
		Orders []order
		Adopt  bool // what it finds
	}
	end := make(chan os.Signal, 1)
	signals.Notify(end, unix.SIGTERM)
	if err := json.NewDecoder(os.Stdin).Decode(&todo); err != nil {
		panic(err)
	}
	ctx := context.Background()
	images, err := image.Open(ctx, filepath.Join(todo.Dir, "images"), image.Options{})
	if err != nil {
		panic(err)
	}
	d, err := sandbox.Open(ctx, sandbox.Options{Dir: filepath.Join(todo.Dir, "sandbox"), Images: images})
	if err != nil {
		panic(err)
	}
	for _, o := range todo.Orders {
		if _, err := d.Start(ctx, o.Spec, core.Stdio{Stdin: strings.NewReader(o.Stdin)}); err != nil {
			panic(err)
		}
		if o.Freeze {
			if err := d.Freeze(ctx, o.Spec.ID); err != nil {
				panic(err)
			}
		}
	}
	for _, spec := range d.Left() {
		if !todo.Adopt {
			break
		}
		if _, err := d.Adopt(spec.ID, core.Stdio{}); err != nil {
			panic(err)
		}
	}
	waited := make(chan error, len(todo.Orders))
	for _, o := range todo.Orders {
		go func() {
			_, err := d.Wait(ctx, o.Spec.ID)
			waited <- err
		}()
	}
	fmt.Println("ready")
	<-end
	if err := d.Close(ctx); err != nil {
		panic(err)
	}
	for range todo.Orders {
		if err := <-waited; !errors.Is(err, core.ErrGone) {
			panic(fmt.Sprint("who waits for one that is left is told ", err))
		}
	}
}

// kill runs a victim that starts what is ordered, and kills it. The fixture's
// store is closed; reopen opens it again.
func (f *fixture) kill(t testing.TB, orders []order, meanwhile func()) {
	t.Helper()
	f.victim(t, map[string]any{"Dir": f.dir, "Orders": orders}, unix.SIGKILL, meanwhile)
}

// victim runs a victim and ends it with the signal.
func (f *fixture) victim(t testing.TB, orders map[string]any, with unix.Signal, meanwhile func()) {
	t.Helper()
	f.closeImages(t)
	todo, err := json.Marshal(orders)
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), apart+"=victim")
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(todo)), &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, readErr := bufio.NewReader(out).ReadString('\n')
	if readErr == nil {
		meanwhile()
	}
	if err := cmd.Process.Signal(with); err != nil {
		t.Error(err)
	}
	err = cmd.Wait()
	if readErr != nil || err != nil && with != unix.SIGKILL {
		t.Fatalf("the victim says %q: %v, %v\n%s", line, readErr, err, said.String())
	}
}

// unopened is a fixture with images and no driver.
func unopened(t testing.TB) *fixture {
	t.Helper()
	f := fixtureIn(t, t.TempDir())
	f.openImages(t)
	return f
}

func (f *fixture) reopen(t testing.TB) {
	t.Helper()
	f.openImages(t)
	f.driver = f.openDriver(t, sandbox.Options{Prepared: -1})
}

func TestKilledServerLeavesNothing(t *testing.T) {
	t.Parallel()
	f := unopened(t)
	digest := f.asUser(t, "")
	var orders []order
	for i, args := range [][]string{
		{"sleep"}, {"signals", "ignore"}, {"flood"}, {"bomb"}, {"spin"}, {"daemon"}, {"children", "3", "0"}, {"serve", ":8080"}, {"sleep"}, {"sleep"},
	} {
		spec := drivertest.Spec(digest, args...)
		spec.CPU = 200
		if i%2 == 0 {
			spec.Network = core.NetworkEgress
		}
		orders = append(orders, order{Spec: spec, Freeze: args[0] == "sleep"})
	}
	mounts := hostMounts(t)
	f.kill(t, orders, func() {
		if tr := tracesOf(t, f.sandboxDir()); len(tr.processes) < 10 || len(tr.links) == 0 || len(tr.tables) == 0 {
			t.Errorf("the victim has only %s", tr)
		}
	})
	f.reopen(t)
	if left := f.driver.Left(); len(left) != 0 {
		t.Errorf("there are left %v", left)
	}
	// What is there now is the new driver's own: one directory in each
	// hierarchy, its bridge and its table.
	drivertest.Eventually(t, "nothing of the old server runs", func() bool { return len(processesOf(f.sandboxDir())) == 0 })
	if tr := tracesOf(t, f.sandboxDir()); len(tr.processes) != 0 || len(tr.links) != 1 || len(tr.files) != 0 || strings.Contains(tr.String(), "/s") && containsGroup(tr) {
		t.Errorf("after Open there is %s", tr)
	}
	for _, o := range orders {
		if _, err := f.driver.Wait(t.Context(), o.Spec.ID); !errors.Is(err, core.ErrGone) {
			t.Errorf("Wait for an instance of the old server gives %v", err)
		}
	}
	drivertest.Start(t, f.driver, drivertest.Spec(digest, "exit", "3"), nil).Code(3)
	closeDriver(t, f.driver)
	nothingLeft(t, f.sandboxDir())
	if now := hostMounts(t); now != mounts {
		t.Error("the host's mounts have changed")
	}
}

func containsGroup(tr traces) bool {
	for _, path := range tr.cgroups {
		if strings.HasPrefix(filepath.Base(path), "s") {
			return true
		}
	}
	return false
}

// processesOf looks through all processes of the machine for those in a cgroup
// of a driver's.
func processesOf(dir string) []string {
	var out []string
	files, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(b), "/dayfly/"+sandbox.ShortName(dir)) {
			out = append(out, file)
		}
	}
	return out
}

// statePath is the directory of a detached instance.
func (f *fixture) statePath(id core.InstanceID) string {
	return filepath.Join(f.sandboxDir(), "instances", id.String())
}

func (f *fixture) awaitFile(t testing.TB, id core.InstanceID, name, text string) {
	t.Helper()
	drivertest.Eventually(t, name+" has "+text, func() bool {
		b, err := os.ReadFile(filepath.Join(f.statePath(id), name))
		return err == nil && strings.Contains(string(b), text)
	})
}

// initPID reads which process is the init of a detached instance.
func (f *fixture) initPID(t testing.TB, id core.InstanceID) int {
	t.Helper()
	var meta struct{ PID int }
	b, err := os.ReadFile(filepath.Join(f.statePath(id), "meta.json"))
	if err == nil {
		err = json.Unmarshal(b, &meta)
	}
	if err != nil || meta.PID < 2 {
		t.Fatalf("read the init of %s: %v", id, err)
	}
	return meta.PID
}

func (f *fixture) locked(t testing.TB, id core.InstanceID) bool {
	t.Helper()
	lock, err := os.Open(filepath.Join(f.statePath(id), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	return errors.Is(unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
}

func signal(t testing.TB, pid int, s unix.Signal) {
	t.Helper()
	if err := unix.Kill(pid, s); err != nil {
		t.Fatalf("signal process %d: %v", pid, err)
	}
}

// adopted takes an instance over.
func (f *fixture) adopted(t testing.TB, id core.InstanceID) *drivertest.Process {
	t.Helper()
	p, err := drivertest.Adopted(t, f.driver, id, f.driver.Adopt)
	if err != nil {
		t.Fatalf("adopt: %v", err)
	}
	return p
}

func TestDetachedInstancesSurvive(t *testing.T) {
	t.Parallel()
	f := unopened(t)
	config := core.ImageConfig{Entrypoint: []string{"/misbehave"}, StopSignal: "SIGINT"}
	digest := f.load(t, drivertest.Tar(t, drivertest.Base(t, config)))
	detached := func(args ...string) core.InstanceSpec {
		spec := drivertest.Spec(digest, args...)
		spec.Detached = true
		return spec
	}
	stopped, ended, lost := detached("signals", "7"), detached("signals", "8"), detached("sleep", "slept")
	served, attached := detached("serve", "eth0:8080"), drivertest.Spec(digest, "sleep")
	served.Network = core.NetworkEgress
	f.kill(t, []order{
		{Spec: stopped}, {Spec: ended}, {Spec: lost}, {Spec: served}, {Spec: attached},
	}, func() {
		f.awaitFile(t, stopped.ID, "out", "ready")
		f.awaitFile(t, ended.ID, "out", "ready")
		f.awaitFile(t, lost.ID, "out", "slept")
		f.awaitFile(t, served.ID, "out", "listening")
	})
	// No server lives. One ends by itself, the init of another is killed.
	if !f.locked(t, ended.ID) {
		t.Error("a running instance does not hold its lock")
	}
	signal(t, f.initPID(t, ended.ID), unix.SIGTERM)
	f.awaitFile(t, ended.ID, "exit", "8 0\n")
	drivertest.Eventually(t, "its lock is free", func() bool { return !f.locked(t, ended.ID) })
	signal(t, f.initPID(t, lost.ID), unix.SIGKILL)
	drivertest.Eventually(t, "its lock is free", func() bool { return !f.locked(t, lost.ID) })

	f.reopen(t)
	ids := map[core.InstanceID]bool{}
	for _, spec := range f.driver.Left() {
		ids[spec.ID] = true
	}
	if len(ids) != 4 || ids[attached.ID] {
		t.Fatalf("there are left %v", f.driver.Left())
	}
	if err := f.images.Remove(t.Context(), digest); err == nil {
		t.Error("the image of instances that run could be removed")
	}
	t.Run("one that runs is stopped with the image's signal", func(t *testing.T) {
		p := f.adopted(t, stopped.ID)
		if u, err := f.driver.Usage(stopped.ID); err != nil || u.PeakMemory == 0 || u.CPU == 0 {
			t.Errorf("its usage is %+v, %v", u, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := f.driver.Wait(ctx, stopped.ID); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait for what runs gives %v", err)
		}
		p.Stop(drivertest.Patience)
		p.Code(7)
		if got := p.Out.String(); got != "ready\ninterrupt\n" {
			t.Errorf("it printed %q", got)
		}
	})
	t.Run("one that ended has its exit and output", func(t *testing.T) {
		p := f.adopted(t, ended.ID)
		p.Code(8)
		if got := p.Out.String(); got != "ready\nterminated\n" {
			t.Errorf("it printed %q", got)
		}
		if u := p.Wait().Usage; u.PeakMemory < core.MiB || u.CPU == 0 {
			t.Errorf("its usage is %+v", u)
		}
	})
	t.Run("one whose init was killed is lost", func(t *testing.T) {
		p := f.adopted(t, lost.ID)
		if exit := p.Wait(); !exit.Lost || p.Out.String() != "slept\n" {
			t.Errorf("it ended with %+v and printed %q", exit, p.Out.String())
		}
	})
	t.Run("one with a network has it still", func(t *testing.T) {
		p := f.adopted(t, served.ID)
		c, err := f.driver.Dial(drivertest.Context(t), served.ID, 8080)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := drivertest.Get(t, c, "/dial/"+drivertest.Surroundings.Outside); got != "hello" {
			t.Errorf("it answers %q", got)
		}
		if err := f.driver.Freeze(t.Context(), served.ID); err != nil {
			t.Error(err)
		}
		p.Stop(drivertest.Patience)
		if exit := p.Wait(); exit.Lost || exit.Signal != 9 || exit.Code != 137 {
			t.Errorf("it ended with %+v", exit)
		}
		if got := p.Out.String(); !strings.HasSuffix(got, "\nmayfly\n") {
			t.Errorf("it printed %q", got)
		}
	})
	for id := range ids {
		if _, err := f.driver.Adopt(id, core.Stdio{}); !errors.Is(err, core.ErrGone) {
			t.Errorf("adopting %s again gives %v", id, err)
		}
	}
	closeDriver(t, f.driver)
	nothingLeft(t, f.sandboxDir())
}

// A driver that closes leaves its detached instances to the next one, whether
// it has started, adopted or not touched them.
func TestCloseLeavesDetachedInstances(t *testing.T) {
	t.Parallel()
	f := unopened(t)
	spec := drivertest.Spec(f.asUser(t, ""), "signals", "7")
	spec.Detached, spec.Network = true, core.NetworkEgress
	for _, orders := range []map[string]any{
		{"Dir": f.dir, "Orders": []order{{Spec: spec}}}, {"Dir": f.dir}, {"Dir": f.dir, "Adopt": true},
	} {
		f.victim(t, orders, unix.SIGTERM, func() { f.awaitFile(t, spec.ID, "out", "ready") })
		if !f.locked(t, spec.ID) {
			t.Fatal("the instance has not outlived its server")
		}
	}
	f.reopen(t)
	if left := f.driver.Left(); len(left) != 1 || left[0].ID != spec.ID {
		t.Fatalf("there are left %v", left)
	}
	p := f.adopted(t, spec.ID)
	p.Stop(drivertest.Patience)
	p.Code(7)
	closeDriver(t, f.driver)
	nothingLeft(t, f.sandboxDir())
}

func TestDetachedInstanceOutOfMemory(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, what := range []string{"memory", "/tmp", "/dev/shm"} {
		spec := drivertest.Spec(f.asUser(t, ""), "eat", what, "60")
		spec.Memory, spec.Tmp, spec.Detached = 24*core.MiB, 100*core.MiB, true
		if exit := drivertest.Start(t, f.driver, spec, nil).Wait(); !exit.OOM || exit.Signal != 9 || exit.Lost {
			t.Errorf("60 MiB of %s with 24 MiB of memory end with %+v", what, exit)
		}
	}
}

func TestDetachedInstanceHasItsStreams(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	text := strings.Repeat("0123456789abcde\n", 1<<16)
	spec := drivertest.Spec(f.asUser(t, "app"), "copy")
	spec.Detached = true
	p := drivertest.Start(t, f.driver, spec, strings.NewReader(text))
	p.Code(0)
	if p.Out.String() != text || p.Err.String() != strconv.Itoa(len(text))+" bytes\n" {
		t.Errorf("of %d bytes it copied %d, and says %q", len(text), len(p.Out.String()), p.Err.String())
	}
	spec = drivertest.Spec(f.asUser(t, "app"), "daemon")
	spec.Detached = true
	drivertest.Start(t, f.driver, spec, nil).Code(0)
}

// A detached instance that is killed has all its output, and is told as killed.
func TestDetachedInstanceIsKilledWithItsOutput(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	digest := f.asUser(t, "")
	for i := range 5 {
		spec := drivertest.Spec(digest, "serve", ":8080")
		spec.Detached = true
		p := drivertest.Start(t, f.driver, spec, nil)
		f.awaitFile(t, spec.ID, "out", "listening")
		c, err := f.driver.Dial(drivertest.Context(t), spec.ID, 8080)
		if err != nil {
			t.Fatal(err)
		}
		drivertest.Get(t, c, "/print/the-last-word")
		_ = c.Close()
		if i%2 == 0 {
			if err := f.driver.Freeze(t.Context(), spec.ID); err != nil {
				t.Fatal(err)
			}
		}
		p.Stop(0)
		if exit := p.Wait(); exit.Signal != 9 || exit.Code != 137 || exit.Lost || exit.OOM {
			t.Errorf("it ended with %+v, want killed", exit)
		}
		if !strings.HasSuffix(p.Out.String(), "the-last-word\n") || p.Err.String() != "the-last-word\n" {
			t.Errorf("it printed %q and %q", p.Out.String(), p.Err.String())
		}
	}
	spec := drivertest.Spec(digest, "bomb")
	spec.Detached, spec.CPU = true, 200
	p := drivertest.Start(t, f.driver, spec, nil)
	f.awaitFile(t, spec.ID, "out", "bomb")
	p.Stop(0)
	if exit := p.Wait(); exit.Signal != 9 {
		t.Errorf("a fork bomb ended with %+v, want killed", exit)
	}
}

// What a server did not come to start is no instance.
func TestHalfWrittenStateIsRemoved(t *testing.T) {
	t.Parallel()
	f := unopened(t)
	for name, meta := range map[string]string{"ins_0000000000001": "", "ins_0000000000002": "{half", "other": "{}"} {
		path := filepath.Join(f.sandboxDir(), "instances", name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "meta.json"), []byte(meta), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.reopen(t)
	if left := f.driver.Left(); len(left) != 0 {
		t.Errorf("there are left %v", left)
	}
	closeDriver(t, f.driver)
	nothingLeft(t, f.sandboxDir())
}
