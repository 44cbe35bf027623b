package drivertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/contract/web"
	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/pool"
)

// Driver is what the server needs of a driver.
type Driver interface {
	pool.Driver
	web.Dialer
}

// Harness is an open driver in a world for it.
type Harness struct {
	Driver Driver
	// Load takes the tar of an image, and gives the image's digest.
	Load  func(t testing.TB, tar io.Reader) string
	World World
	// Can says what the driver can do. What is promised only by some is checked
	// of those that say so; of the others, that they refuse it, or say that it is
	// missing. One that can mount directories was opened with those of
	// [Directories].
	Can core.Capabilities
	// Peaks is the driver itself if it can tell the peak of memory since some
	// time, else nil.
	Peaks interface {
		ResetPeak(id core.InstanceID) error
	}
	// Sockets is the driver itself if it reaches the sockets of instances
	// (core.Capabilities.Sockets), else nil.
	Sockets Sockets
	// Except has, by their names, the promises that are not made in this world,
	// each with the reason that the driver's core.Capabilities give.
	Except map[string]string
}

// World is what instances meet when they look out of their network. No part of
// it may be missing.
type World struct {
	// Outside is the host:port of a server on another machine that sends back
	// each line.
	Outside string
	// Forbidden has such servers, by what they stand for, that no instance may
	// reach: on addresses of the host, on a metadata address.
	Forbidden map[string]string
	// Name is a name in the DNS, with Address as its only address.
	Name, Address string
}

// Patience is how long a test waits for what has to happen, on a busy machine.
const Patience = 60 * time.Second

type suite struct {
	Harness
	base string // digest of Base

	mu     sync.Mutex
	images map[string]string // config in JSON to digest
}

// Run checks a driver.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	s := &suite{Harness: open(t), images: map[string]string{}}
	s.base = s.Load(t, Tar(t, Base(t, Misbehave)))
	for _, group := range s.groups() {
		for name, test := range group {
			if why := s.Except[name]; why != "" {
				t.Logf("not promised here: %s: %s", name, why)
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, s)
			})
		}
	}
}

// groups are the tests that hold a driver to what it says it can do, and to
// its refusals where it says that it cannot.
func (s *suite) groups() []map[string]func(*testing.T, *suite) {
	either := func(can bool, does, lacks map[string]func(*testing.T, *suite)) map[string]func(*testing.T, *suite) {
		if can {
			return does
		}
		return lacks
	}
	groups := []map[string]func(*testing.T, *suite){
		starting, streaming, limiting, stopping, dialing, networking,
		either(slices.Contains(s.Can.Networks, core.NetworkEgress), leaving, confined),
		either(s.Can.Memory, limitingMemory, unlimitedMemory),
		either(s.Can.CPU, limitingCPU, unlimitedCPU),
		either(s.Can.Pids, limitingPids, unlimitedPids),
		either(s.Can.Freeze, freezing, notFreezing),
		either(s.Can.WritableRoot, rooting, nil),
		either(s.Can.WritableRoot && s.Can.Memory, rootingMemory, nil),
		either(s.Can.Mounts, mounting, notMounting),
		either(s.Can.CPUWeight, weighing, nil),
	}
	if s.Sockets != nil {
		groups = append(groups, socketing)
	}
	if s.Peaks != nil {
		groups = append(groups, peaking)
	}
	return groups
}

// networks are those that instances can have.
func (s *suite) networks() []core.Network { return s.Can.Networks }

// missing checks that the driver says of something that it is missing, and why.
func (s *suite) missing(t *testing.T, name string) {
	t.Helper()
	i := slices.IndexFunc(s.Can.Missing, func(m core.Shortcoming) bool { return m.Name == name })
	if i < 0 || s.Can.Missing[i].Why == "" {
		t.Errorf("it does not say that it lacks %q, and why: %+v", name, s.Can.Missing)
	}
}

var lastID atomic.Int64

// NextID gives an id that no other instance of this test run has.
func NextID() core.InstanceID { return core.InstanceID(time.Now().UnixMicro()<<20 + lastID.Add(1)) }

// Spec gives a spec with the limits of an ordinary function, without network,
// for an image of [Base].
func Spec(digest string, args ...string) core.InstanceSpec {
	return core.InstanceSpec{
		ID: NextID(), App: "test", Function: "misbehave", Version: 1, Digest: digest,
		Command: append([]string{"/misbehave"}, args...),
		Memory:  64 * core.MiB, CPU: core.DefaultCPU, CPUWeight: core.DefaultCPUWeight,
		Pids: core.DefaultLimits.Pids, Files: core.DefaultLimits.Files,
		Tmp: core.DefaultLimits.Tmp, Network: core.NetworkNone,
	}
}

// Context ends with the test, or when its patience does.
func Context(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Eventually waits until a condition holds.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatalf("after %s still not: %s", Patience, what)
		}
	}
}

// Output keeps what a process prints, and can be waited on.
type Output struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{} // closed by the next Write
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
	return o.buf.Write(p)
}

// String gives all there is so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Await waits until a text has been printed.
func (o *Output) Await(t testing.TB, text string) {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	for {
		o.mu.Lock()
		found := strings.Contains(o.buf.String(), text)
		if o.changed == nil {
			o.changed = make(chan struct{})
		}
		changed := o.changed
		o.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("it has not printed %q but %q", text, o.String())
		}
	}
}

// Process is an instance with its output.
type Process struct {
	t        testing.TB
	d        pool.Driver
	ID       core.InstanceID
	Out, Err Output
}

// Start starts an instance, which ends with the test at the latest.
func Start(t testing.TB, d pool.Driver, spec core.InstanceSpec, stdin io.Reader) *Process {
	t.Helper()
	p := &Process{t: t, d: d, ID: spec.ID}
	in, err := d.Start(Context(t), spec, core.Stdio{Stdin: stdin, Stdout: &p.Out, Stderr: &p.Err})
	if err != nil {
		t.Fatalf("start %v: %v", spec.Command, err)
	}
	if in.ID != spec.ID || in.App != spec.App || in.Function != spec.Function || in.StartedAt.IsZero() {
		t.Errorf("the started instance is %+v, which is not what was asked for", in)
	}
	t.Cleanup(func() {
		if err := d.Stop(context.WithoutCancel(t.Context()), spec.ID, 0); err != nil && !errors.Is(err, core.ErrGone) {
			t.Errorf("stop it at the end: %v", err)
		}
	})
	return p
}

// Adopted takes over an instance that another server has started.
func Adopted(t testing.TB, d pool.Driver, id core.InstanceID, adopt func(core.InstanceID, core.Stdio) (core.Instance, error)) (*Process, error) {
	t.Helper()
	p := &Process{t: t, d: d, ID: id}
	_, err := adopt(id, core.Stdio{Stdout: &p.Out, Stderr: &p.Err})
	return p, err
}

// Wait waits for the instance's end.
func (p *Process) Wait() core.Exit {
	p.t.Helper()
	exit, err := p.d.Wait(Context(p.t), p.ID)
	if err != nil {
		p.t.Fatalf("wait: %v; it printed %q and %q", err, p.Out.String(), p.Err.String())
	}
	return exit
}

// Code waits for the instance's end, which must be an exit with the code.
func (p *Process) Code(want int) {
	p.t.Helper()
	if exit := p.Wait(); exit.Code != want || exit.Signal != 0 || exit.OOM || exit.Lost {
		p.t.Fatalf("%s (%+v), want exit code %d; it printed %q and %q", exit, exit, want, p.Out.String(), p.Err.String())
	}
}

// Stop stops the instance.
func (p *Process) Stop(grace time.Duration) {
	p.t.Helper()
	if err := p.d.Stop(Context(p.t), p.ID, grace); err != nil {
		p.t.Fatalf("stop: %v", err)
	}
}

// JSON waits for the instance's end and reads what it has printed.
func (p *Process) JSON(v any) {
	p.t.Helper()
	p.Code(0)
	if err := json.Unmarshal([]byte(p.Out.String()), v); err != nil {
		p.t.Fatalf("read what it printed: %v: %q", err, p.Out.String())
	}
}

// Facts is what the mode facts of misbehave prints.
type Facts struct {
	Args, Env         []string
	PID, Parent       int
	UID, GID          int
	Groups            []int
	Dir, Hostname     string
	Status            map[string]string
	Mounts            []string
	UIDMap            []string `json:"uid_map"`
	GIDMap            []string `json:"gid_map"`
	Files, Namespaces map[string]string
	Addresses         []string
	Processes, Cgroup []string
	Limits            map[string]uint64
	Hosts, Resolv     []string
	NameFile          []string `json:"name_file"`
	Root, Dev         []string
	Empty             map[string]int
	Listed            map[string][]string
}

// Facts starts an instance that tells what it sees.
func (s *suite) facts(t *testing.T, spec core.InstanceSpec) Facts {
	t.Helper()
	var f Facts
	Start(t, s.Driver, spec, nil).JSON(&f)
	return f
}

func (s *suite) start(t *testing.T, args ...string) *Process {
	t.Helper()
	return Start(t, s.Driver, Spec(s.base, args...), nil)
}

// image gives the digest of Base with another config.
func (s *suite) image(t *testing.T, config core.ImageConfig) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	key, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if s.images[string(key)] == "" {
		s.images[string(key)] = s.Load(t, Tar(t, Base(t, config)))
	}
	return s.images[string(key)]
}
