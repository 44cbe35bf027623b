package e2e_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/api"
)

// frozen waits until the only instance of an app has been frozen for so long.
func (s *server) frozen(t *testing.T, app string, lasting time.Duration) api.Instance {
	t.Helper()
	return until(t, "the instance of "+app+" is frozen", patience, func() (api.Instance, bool) {
		list := s.instances(t, app)
		if len(list) != 1 {
			return api.Instance{}, false
		}
		return list[0], list[0].State == "frozen" && time.Since(list[0].FrozenAt) > lasting
	})
}

// An idle instance is frozen, and the next call thaws it.
func TestIdleInstanceIsFrozen(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "frozen", "f", "web")
	s.get(t, "/f/frozen/f/hello").want(t, http.StatusOK)
	first := s.frozen(t, "frozen", 0)
	if first.Thaws != 0 || first.Served != 1 {
		t.Errorf("the frozen instance is %+v", first)
	}
	wantWords(t, s.does(t, "instance", "list"), "frozen/f", "FROZEN", "THAWS")
	a := s.get(t, "/f/frozen/f/hello").want(t, http.StatusOK)
	timing := a.header.Get("Server-Timing")
	if !strings.Contains(timing, "start;dur=0;desc=hot, thaw;dur=") {
		t.Errorf("Server-Timing is %q", timing)
	}
	r := s.wantRun(t, a.run(t), api.StateSucceeded, "")
	if r.Cold || r.Instance != first.ID || r.Start == nil || r.Start.ThawMS <= 0 || r.Start.BootMS != 0 {
		t.Errorf("the run on the thawed instance is %+v, start %+v", r, r.Start)
	}
	wantWords(t, s.does(t, "run", "show", r.ID), "thawed")
	if again := s.frozen(t, "frozen", 0); again.ID != first.ID || again.Thaws != 1 || again.Served != 2 {
		t.Errorf("the instance is %+v", again)
	}
	// One that takes several calls at a time is thawed once for all of them.
	s.deploy(t, "thawed", "functions:\n  f: {image: \"misbehave:1\", memory: 64MiB, command: [/misbehave, web], instances: {max: 1}, concurrency: {per_instance: 16}}\n")
	s.get(t, "/f/thawed/f/hello").want(t, http.StatusOK)
	for range 5 {
		s.frozen(t, "thawed", 0)
		var calls []<-chan answer
		for range 16 {
			calls = append(calls, later(s.request(t.Context(), t, "POST", "/f/thawed/f/hello", strings.NewReader("x"))))
		}
		for _, c := range calls {
			within(t, "a call", patience, c).want(t, http.StatusOK)
		}
	}
}

// A web server that closes what is idle does so in the moment it is thawed. No
// call is lost by it, not even one that may not be sent twice.
func TestThawedInstanceThatClosesConnections(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "impatient", "f", "impatient 120ms")
	for range 20 {
		s.call(t, "POST", "/f/impatient/f/hello", "x").want(t, http.StatusOK)
		s.frozen(t, "impatient", 40*time.Millisecond)
	}
}

// What freezes never is not frozen, and says so.
func TestFreezeCanBeTurnedOff(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.deploy(t, "never", "functions:\n  f: {image: \"misbehave:1\", memory: 64MiB, command: [/misbehave, web], instances: {idle: 700ms, freeze: 1s}}\n")
	wantWords(t, s.does(t, "function", "show", "never/f"), "freeze", "never")
	s.get(t, "/f/never/f/hello").want(t, http.StatusOK)
	until(t, "the instance has ended", patience, func() ([]api.Instance, bool) {
		list := s.instances(t, "never")
		for _, i := range list {
			if i.State == "frozen" {
				t.Fatalf("it was frozen: %+v", i)
			}
		}
		return list, len(list) == 0
	})
}

// kept waits until so many of a function's instances are kept, and gives what
// is said of them.
func (s *server) kept(t *testing.T, name string, ready int) *api.Kept {
	t.Helper()
	return until(t, fmt.Sprintf("%d instances of %s are kept", ready, name), patience, func() (*api.Kept, bool) {
		f := decode[api.Function](t, s.does(t, "function", "show", name, "--json"))
		return f.Kept, f.Kept != nil && f.Kept.Ready == ready
	})
}

// instances.min are there before the first call, after a death, and after the
// server was killed.
func TestKeptInstances(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	loadMisbehave(t, s)
	s.deploy(t, "kept", "functions:\n  f: {image: \"misbehave:1\", memory: 64MiB, command: [/misbehave, web], instances: {min: 2, idle: 300ms}}\n")
	s.kept(t, "kept/f", 2)
	wantWords(t, s.does(t, "function", "show", "kept/f"), "instances", "2 at least", "kept", "2 of 2 ready")
	if a := s.get(t, "/f/kept/f/hello").want(t, http.StatusOK); !strings.Contains(a.header.Get("Server-Timing"), "desc=hot") {
		t.Errorf("the first call is %v", a.header)
	}
	s.call(t, "POST", "/f/kept/f/exit", "").problem(t, http.StatusBadGateway, "exit_code")
	s.kept(t, "kept/f", 2)
	until(t, "they are frozen", patience, func() ([]api.Instance, bool) {
		list := s.instances(t, "kept")
		return list, len(list) == 2 && list[0].State == "frozen" && list[1].State == "frozen"
	})
	s.kill() // frozen instances do not see it; the next start ends them
	s = start(t, options{data: s.data})
	s.kept(t, "kept/f", 2)
	if n := s.processes(t); n != 2 {
		t.Errorf("there are %d processes of instances after the restart, want those of 2", n)
	}
	s.does(t, "function", "delete", "kept/f")
	s.noInstance(t, "kept", patience)
}

// processes counts the processes misbehave in the server's sandboxes.
func (s *server) processes(t *testing.T) int {
	t.Helper()
	own := sha256.Sum256([]byte(filepath.Join(s.data, "sandbox"))) // as the driver names its cgroups
	seen := map[string]bool{}
	for _, group := range s.groups(t) {
		if filepath.Base(group) != hex.EncodeToString(own[:4]) {
			continue
		}
		found, err := filepath.Glob(group + "/s*/cgroup.procs")
		if err != nil {
			t.Fatal(err)
		}
		for _, procs := range found {
			for pid := range strings.FieldsSeq(readFile(t, procs)) {
				if strings.TrimSpace(readFile(t, "/proc/"+pid+"/comm")) == "misbehave" {
					seen[pid] = true
				}
			}
		}
	}
	return len(seen)
}

// What dies again and again is started again with pauses, and says why.
func TestKeptInstancesThatDie(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.deploy(t, "mortal", `
functions:
  dies: {image: "misbehave:1", memory: 64MiB, command: [/misbehave, mortal, 50ms], instances: {min: 1, freeze: 60s}}
  breaks: {image: "misbehave:1", memory: 64MiB, command: [/misbehave, exit, "3"], instances: {min: 1}}
`)
	for name, words := range map[string][]string{
		"mortal/dies":   {"ended by itself after", "code 3", "the next is tried in"},
		"mortal/breaks": {"did not work", "exited with code 3"},
	} {
		until(t, name+" says why", patience, func() (string, bool) {
			out := s.does(t, "function", "show", name)
			for _, w := range words {
				if !strings.Contains(out, w) {
					return out, false
				}
			}
			return out, true
		})
	}
	s.does(t, "function", "delete", "mortal/dies")
	s.does(t, "function", "delete", "mortal/breaks")
	s.noInstance(t, "mortal", patience)
}

// fire has clients call a function without a pause. Each answer must be of the
// version that was called when the call was made, or of a newer one.
type fire struct {
	clients sync.WaitGroup
	version atomic.Int64 // at least this one is called
	calls   atomic.Int64
	gone    atomic.Bool // the function may have been deleted
}

func (f *fire) client(ctx context.Context, t *testing.T, s *server, target string) {
	for ctx.Err() == nil {
		least := f.version.Load()
		a := try(s.request(t.Context(), t, "POST", target, strings.NewReader("x")))
		if f.gone.Load() && a.status == http.StatusNotFound {
			return
		}
		v, err := strconv.ParseInt(strings.TrimPrefix(strings.TrimSpace(a.body), "hello v"), 10, 64)
		if a.err != nil || a.status != http.StatusOK || err != nil || v < least {
			t.Errorf("a call that was made when version %d was called was answered %+v", least, a)
			return
		}
		f.calls.Add(1)
	}
}

// Eight clients call without a pause while twenty versions are deployed one
// after the other, and rolled back, and at last the function is deleted: no
// call is lost, none is answered by a version older than it found, and nothing
// is left of the old ones.
func TestDeployLosesNoRequest(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	for _, tc := range []struct{ app, more string }{
		{"redeploy", ""},
		{"redeploykept", ", instances: {min: 2}"},
		{"redeployshared", ", instances: {max: 2}, concurrency: {per_instance: 4}"},
	} {
		t.Run(tc.app, func(t *testing.T) {
			t.Parallel()
			manifest := func(n int) string {
				return fmt.Sprintf("functions:\n  f: {image: \"misbehave:1\", memory: 64MiB, command: [/misbehave, web], env: {WHO: v%d}%s}\n", n, tc.more)
			}
			s.deploy(t, tc.app, manifest(1))
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var f fire
			f.version.Store(1)
			for range 8 {
				f.clients.Go(func() { f.client(ctx, t, s, "/f/"+tc.app+"/f/hello") })
			}
			for n := 2; n <= 21; n++ {
				s.deploy(t, tc.app, manifest(n))
				f.version.Store(int64(n))
			}
			f.version.Store(20) // a rollback is a new version that is what an earlier one was
			s.does(t, "function", "rollback", tc.app+"/f")
			until(t, "only instances of the last version are left", patience, func() ([]api.Instance, bool) {
				list := s.instances(t, tc.app)
				for _, i := range list {
					if i.Version != 22 {
						return list, false
					}
				}
				return list, true
			})
			f.gone.Store(true)
			s.does(t, "function", "delete", tc.app+"/f")
			f.clients.Wait()
			t.Logf("%d calls while 20 versions were deployed", f.calls.Load())
			s.noInstance(t, tc.app, patience)
			if failed := s.runs(t, "app="+tc.app+"&state=failed"); len(failed) != 0 {
				t.Errorf("runs have failed: %+v", failed[0])
			}
		})
	}
}
