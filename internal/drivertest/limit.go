package drivertest

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

var limiting = map[string]func(*testing.T, *suite){
	"another kill is not taken for one for memory":        tellsKills,
	"the size of /tmp holds":                              limitsTmp,
	"the limit of open files holds":                       limitsFiles,
	"Usage tells processor and memory, also after an end": tellsUsage,
}

var limitingMemory = map[string]func(*testing.T, *suite){
	"the memory limit ends the process and is told":        limitsMemory,
	"the memory limit counts /tmp and /dev/shm":            limitsMemoryFiles,
	"the memory limit counts files without bytes":          limitsInodes,
	"a process killed for memory is told from its parent":  tellsChildOOM,
	"a kill by the driver is not taken for one for memory": tellsStopAfterOOM,
	"a memory limit too small to start is told as such":    tellsStartOOM,
}

var limitingCPU = map[string]func(*testing.T, *suite){
	"throttling by the processor limit is told": tellsThrottling,
	"the processor limit holds":                 limitsCPU,
}

var limitingPids = map[string]func(*testing.T, *suite){
	"the limit of processes holds":                limitsPids,
	"a fork bomb is contained and can be stopped": containsBomb,
}

// A driver without limits says so, and runs functions as if there were none.
var unlimitedMemory = map[string]func(*testing.T, *suite){
	"a memory limit that is not enforced ends nothing": func(t *testing.T, s *suite) {
		s.missing(t, "limits")
		spec := Spec(s.base, "eat", "memory", "60")
		spec.Memory = 32 * core.MiB
		p := Start(t, s.Driver, spec, nil)
		p.Code(0)
		if u := p.Wait().Usage; u.PeakMemory < 60*core.MiB {
			t.Errorf("the peak of memory of one that used 60 MiB is told as %d bytes", u.PeakMemory)
		}
	},
}

var unlimitedCPU = map[string]func(*testing.T, *suite){
	"a processor limit that is not enforced throttles nothing": func(t *testing.T, s *suite) {
		s.missing(t, "limits")
		spec := Spec(s.base, "spin")
		spec.CPU = 10
		p := Start(t, s.Driver, spec, nil)
		Eventually(t, "it has used 300 ms", func() bool { return s.usage(t, p.ID).CPU >= 300*time.Millisecond })
		p.Stop(0)
		if u := p.Wait().Usage; u.Throttled != 0 {
			t.Errorf("it was throttled for %s", u.Throttled)
		}
	},
}

var unlimitedPids = map[string]func(*testing.T, *suite){
	"a limit of processes that is not enforced is told": func(t *testing.T, s *suite) {
		s.missing(t, "limits")
		spec := Spec(s.base, "exit", "0")
		spec.Pids = 1
		Start(t, s.Driver, spec, nil).Code(0)
	},
}

func limitsMemory(t *testing.T, s *suite) {
	spec := Spec(s.base, "eat", "memory", "200")
	spec.Memory = 32 * core.MiB
	exit := Start(t, s.Driver, spec, nil).Wait()
	if !exit.OOM || exit.Signal != 9 || exit.Code != 137 {
		t.Errorf("it ended with %+v, want killed for memory", exit)
	}
	if want := "it was killed because it reached its memory limit"; exit.String() != want {
		t.Errorf("in words: %q, want %q", exit, want)
	}
	if exit.Usage.PeakMemory < 30*core.MiB || exit.Usage.PeakMemory > 33*core.MiB {
		t.Errorf("the peak of memory is told as %d bytes, with a limit of 32 MiB", exit.Usage.PeakMemory)
	}
}

func limitsMemoryFiles(t *testing.T, s *suite) {
	for _, dir := range []string{"/tmp", "/dev/shm"} {
		spec := Spec(s.base, "eat", dir, "60")
		spec.Memory, spec.Tmp = 24*core.MiB, 100*core.MiB
		if exit := Start(t, s.Driver, spec, nil).Wait(); !exit.OOM {
			t.Errorf("60 MiB in %s with 24 MiB of memory end with %+v", dir, exit)
		}
	}
}

func limitsInodes(t *testing.T, s *suite) {
	spec := Spec(s.base, "eat", "inodes:/tmp", "0")
	spec.Memory = 16 * core.MiB
	p := Start(t, s.Driver, spec, nil)
	if exit := p.Wait(); !exit.OOM && exit.Code != 3 {
		t.Errorf("it ended with %+v: %s", exit, p.Out.String())
	}
}

func tellsKills(t *testing.T, s *suite) {
	if exit := s.start(t, "kill", "9").Wait(); exit.OOM || exit.Signal != 9 {
		t.Errorf("killing itself is told as %+v", exit)
	}
	p := s.start(t, "sleep", "slept")
	p.Out.Await(t, "slept")
	p.Stop(0)
	if exit := p.Wait(); exit.OOM || exit.Signal != 9 || exit.Code != 137 {
		t.Errorf("being stopped is told as %+v", exit)
	}
}

// tellsChildOOM has a child reach the limit. Where the kernel ends the instance
// as a whole for that, that is told; where the parent goes on, its own end is.
func tellsChildOOM(t *testing.T, s *suite) {
	for _, code := range []int{0, 5, 137} {
		spec := Spec(s.base, "feed", "200", fmt.Sprint(code))
		spec.Memory = 32 * core.MiB
		p := Start(t, s.Driver, spec, nil)
		exit := p.Wait()
		went := strings.Contains(p.Out.String(), "the child: signal: killed")
		switch {
		case !went && exit.OOM && exit.Signal == 9:
		case went && exit.Code == code && exit.Signal == 0 && exit.OOM == (code == 137):
		default:
			t.Errorf("it ended with %+v and printed %q", exit, p.Out.String())
		}
	}
}

func tellsStopAfterOOM(t *testing.T, s *suite) {
	spec := Spec(s.base, "feed", "200", "0", "goes on")
	spec.Memory = 32 * core.MiB
	p := Start(t, s.Driver, spec, nil)
	ended := make(chan core.Exit, 1)
	go func() {
		if exit, err := s.Driver.Wait(Context(t), p.ID); err == nil {
			ended <- exit
		}
	}()
	var whole core.Exit
	Eventually(t, "it has ended as a whole or goes on", func() bool {
		select {
		case whole = <-ended:
			return true
		default:
			return strings.Contains(p.Out.String(), "goes on")
		}
	})
	if whole != (core.Exit{}) {
		if !whole.OOM {
			t.Errorf("it ended with %+v", whole)
		}
		return
	}
	p.Stop(0)
	if exit := p.Wait(); exit.OOM || exit.Signal != 9 || exit.Code != 137 {
		t.Errorf("being stopped after a child was killed for memory is told as %+v", exit)
	}
}

func tellsStartOOM(t *testing.T, s *suite) {
	spec := Spec(s.base, "exit", "0")
	spec.Memory = 64 * core.KiB
	_, err := s.Driver.Start(Context(t), spec, core.Stdio{})
	if err == nil { // it was executed, and then reached the limit
		if exit, err := s.Driver.Wait(Context(t), spec.ID); err != nil || !exit.OOM {
			t.Errorf("with 64 KiB it ends with %+v, %v", exit, err)
		}
		return
	}
	if told := core.AsError(err); told.Code != core.ReasonOOMKilled || !strings.Contains(told.Message, "raise memory") {
		t.Errorf("with 64 KiB the error of the start is %v", err)
	}
}

func tellsThrottling(t *testing.T, s *suite) {
	spec := Spec(s.base, "spin")
	spec.CPU = 50
	p := Start(t, s.Driver, spec, nil)
	Eventually(t, "it has been kept from the processors for 100 ms", func() bool { return s.usage(t, p.ID).Throttled > 100*time.Millisecond })
	p.Stop(0)
	if u := p.Wait().Usage; u.Throttled <= 100*time.Millisecond {
		t.Errorf("after its end its usage is %+v", u)
	}
	other := s.start(t, "exit", "0")
	if u := other.Wait().Usage; u.Throttled > 10*time.Second {
		t.Errorf("one that did next to nothing was throttled for %s", u.Throttled)
	}
}

var peaking = map[string]func(*testing.T, *suite){
	"the peak of memory is one since the last reset": resetsPeak,
}

// resetsPeak lets an instance use much, then little. A kernel that cannot tell
// says so, and goes on to tell the peak of the whole life.
func resetsPeak(t *testing.T, s *suite) {
	in, out := io.Pipe()
	p := Start(t, s.Driver, Spec(s.base, "breathe", "30", "5"), in)
	step := func(n int) {
		if _, err := io.WriteString(out, "next\n"); err != nil {
			t.Fatal(err)
		}
		p.Out.Await(t, fmt.Sprintf("breathed %d\n", n))
	}
	step(0)
	if u := s.usage(t, p.ID); u.PeakMemory < 30*core.MiB || u.Memory > u.PeakMemory || u.Memory <= 0 {
		t.Errorf("after 30 MiB its usage is %+v", u)
	}
	err := s.Peaks.ResetPeak(p.ID)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
	step(1)
	after := s.usage(t, p.ID).PeakMemory
	if err == nil && (after < 5*core.MiB || after > 25*core.MiB) || err != nil && after < 30*core.MiB {
		t.Errorf("after a reset (%v) and 5 MiB its peak is %s", err, after)
	}
	_ = out.Close()
	p.Code(0)
	if u := p.Wait().Usage; u.PeakMemory < 30*core.MiB {
		t.Errorf("in its exit the peak is %s", u.PeakMemory)
	}
	if err := s.Peaks.ResetPeak(p.ID); !errors.Is(err, core.ErrGone) {
		t.Errorf("resetting the peak of one that has ended: %v", err)
	}
}

func limitsTmp(t *testing.T, s *suite) {
	spec := Spec(s.base, "eat", "/tmp", "20")
	spec.Tmp = 5 * core.MiB
	p := Start(t, s.Driver, spec, nil)
	p.Code(3)
	var n int
	if _, err := fmt.Sscan(p.Out.String(), &n); err != nil || n < 4<<20 || n > 5<<20 || !strings.Contains(p.Out.String(), "no space left") {
		t.Errorf("with 5 MiB it says %q (%v)", p.Out.String(), err)
	}
	spec = Spec(s.base, "eat", "/tmp", "5")
	spec.Tmp = 5 * core.MiB
	Start(t, s.Driver, spec, nil).Code(0)
}

func limitsPids(t *testing.T, s *suite) {
	spec := Spec(s.base, "fork")
	spec.Pids = 40
	p := Start(t, s.Driver, spec, nil)
	p.Code(0)
	var n int
	if _, err := fmt.Sscan(p.Out.String(), &n); err != nil || n < 10 || n >= 40 || !strings.Contains(p.Out.String(), "temporarily unavailable") {
		t.Errorf("with a limit of 40 processes it says %q (%v)", p.Out.String(), err)
	}
}

func containsBomb(t *testing.T, s *suite) {
	other := s.start(t, "serve", "127.0.0.1:8080")
	other.Out.Await(t, "listening")
	spec := Spec(s.base, "bomb")
	spec.CPU, spec.Pids = 200, 100
	p := Start(t, s.Driver, spec, nil)
	p.Out.Await(t, "bomb")
	for range 20 {
		if got := Get(t, s.dial(t, other.ID, 8080), "/"); got != "hello" {
			t.Errorf("its neighbour answers %q", got)
		}
	}
	p.Stop(0)
	if exit := p.Wait(); exit.Signal != 9 || exit.OOM {
		t.Errorf("it ended with %+v", exit)
	}
}

func limitsFiles(t *testing.T, s *suite) {
	spec := Spec(s.base, "facts")
	spec.Files = 77
	if got := s.facts(t, spec).Limits["files"]; got != 77 {
		t.Errorf("it may open %d files, want 77", got)
	}
}

func limitsCPU(t *testing.T, s *suite) {
	spec := Spec(s.base, "spin")
	spec.CPU = 100 // a tenth of a processor
	began := time.Now()
	p := Start(t, s.Driver, spec, nil)
	// To make the sandbox may have been counted too.
	from := s.usage(t, p.ID).CPU
	Eventually(t, "it has used 250 ms", func() bool { return s.usage(t, p.ID).CPU >= from+250*time.Millisecond })
	// That should be 2.5 s. A busy machine makes it slower, and not faster but
	// for what the kernel lets it run ahead: a period of 100 ms on each
	// processor, and what it did not see, as where the processor is emulated.
	if took := time.Since(began); took < time.Second {
		t.Errorf("250 ms of processor time took %s with a tenth of a processor", took)
	}
	p.Stop(0)
}

func (s *suite) usage(t testing.TB, id core.InstanceID) core.Usage {
	t.Helper()
	u, err := s.Driver.Usage(id)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func tellsUsage(t *testing.T, s *suite) {
	spec := Spec(s.base, "eat", "memory", "20")
	reader := newGate()
	p := Start(t, s.Driver, spec, reader)
	p.Out.Await(t, "ate")
	during := s.usage(t, p.ID)
	reader.open()
	p.Code(0)
	after := s.usage(t, p.ID)
	if during.PeakMemory < 20*core.MiB || during.PeakMemory > 64*core.MiB {
		t.Errorf("while it has 20 MiB its peak is told as %d bytes", during.PeakMemory)
	}
	if during.CPU <= 0 || during.CPU > Patience {
		t.Errorf("its processor time is told as %s", during.CPU)
	}
	if after.CPU < during.CPU || after.PeakMemory < during.PeakMemory || after != p.Wait().Usage {
		t.Errorf("the usage is %+v while it runs, %+v after, and %+v in its exit", during, after, p.Wait().Usage)
	}
}
