package e2e_test

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/dayfly-io/dayfly/api"
)

// The tests of this file are not parallel: they count what there is on the
// machine, as far as it is theirs.

// traces are the things on a machine that a server could leave behind, by
// what they are.
type traces map[string][]string

// look finds all there is in the namespaces of the tests.
func look(t *testing.T, groups []string) traces {
	t.Helper()
	out := traces{}
	add := func(kind, what string) { out[kind] = append(out[kind], what) }
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		// The tests' own processes, and what has ended since.
		pid, err := strconv.Atoi(filepath.Base(p))
		name, readErr := os.ReadFile(p + "/comm")
		if err != nil || readErr != nil || pid == 1 || pid == os.Getpid() {
			continue
		}
		add("process", filepath.Base(p)+" "+strings.TrimSpace(string(name)))
		if ns, err := os.Readlink(p + "/ns/net"); err == nil {
			add("network namespace", ns)
		}
	}
	for kind, file := range map[string]string{
		"mount": "/proc/self/mountinfo", "unix socket": "/proc/self/net/unix", "forwarding": "/proc/sys/net/ipv4/ip_forward",
	} {
		for line := range strings.Lines(readFile(t, file)) {
			// The number of a unix socket's references is not a trace.
			if f := strings.Fields(line); kind == "unix socket" && len(f) > 6 {
				line = f[5] + " " + f[6]
			}
			add(kind, strings.TrimSpace(line))
		}
	}
	for _, file := range []string{"tcp", "tcp6", "udp", "udp6"} {
		for line := range strings.Lines(readFile(t, "/proc/self/net/"+file)) {
			// 0A is a listener, 07 an unconnected socket (net/tcp_states.h).
			if f := strings.Fields(line); len(f) > 3 && (f[3] == "0A" || f[3] == "07") {
				add("listener", file+" "+f[1])
			}
		}
	}
	// A list that a change interrupts is asked for again.
	links := until(t, "the links are listed", patience, func() ([]netlink.Link, bool) {
		list, err := netlink.LinkList()
		return list, err == nil
	})
	for _, l := range links {
		add("link", l.Attrs().Name)
	}
	for kind, command := range map[string][]string{"nft": {"nft", "list", "ruleset"}, "iptables": {"iptables-save"}} {
		b, err := exec.Command(command[0], command[1:]...).Output()
		if err != nil {
			t.Fatalf("%v: %v", command, err)
		}
		for line := range strings.Lines(string(b)) {
			// Comments have the time in them.
			if !strings.HasPrefix(line, "#") {
				add(kind, strings.TrimSpace(line))
			}
		}
	}
	for _, g := range groups {
		err := filepath.WalkDir(g, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				add("cgroup", path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for kind := range out {
		slices.Sort(out[kind])
	}
	return out
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// more tells what there is that was not there before.
func (before traces) more(after traces) []string {
	var out []string
	for _, kind := range slices.Sorted(maps.Keys(after)) {
		left := slices.Clone(before[kind])
		for _, what := range after[kind] {
			if i := slices.Index(left, what); i >= 0 {
				left = slices.Delete(left, i, i+1)
				continue
			}
			out = append(out, kind+": "+what)
		}
	}
	return out
}

// nothingLeft waits until there is nothing that was not there before: links
// go a moment after their namespace.
func (before traces) nothingLeft(t *testing.T, groups []string) {
	t.Helper()
	until(t, "nothing of the server is left", patience, func() (string, bool) {
		list := before.more(look(t, groups))
		return "\n" + strings.Join(list, "\n"), len(list) == 0
	})
}

// seen fails the test unless what a server makes is noticed.
func (before traces) seen(t *testing.T, now traces) {
	t.Helper()
	text := strings.Join(before.more(now), "\n")
	wantWords(t, text, "process: ", "network namespace: ", "cgroup: ", "link: df-", "nft: ", "listener: tcp ")
}

// groups finds the server's own directory in each cgroup hierarchy, by way of
// the processes in its sandboxes.
func (s *server) groups(t *testing.T) []string {
	t.Helper()
	mounts := readFile(t, "/proc/self/mountinfo")
	seen := map[string]bool{}
	for _, file := range must(filepath.Glob("/proc/[0-9]*/cgroup")) {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			// 5:memory:/dayfly/1a2b3c4d/s7 (cgroups(7)).
			parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
			if len(parts) != 3 || !strings.HasPrefix(parts[2], "/dayfly/") {
				continue
			}
			dir := filepath.Dir(parts[2])
			for mount := range strings.Lines(mounts) {
				left, right, _ := strings.Cut(mount, " - ")
				if l, r := strings.Fields(left), strings.Fields(right); len(l) > 4 && len(r) > 0 && strings.HasPrefix(r[0], "cgroup") {
					if _, err := os.Stat(l[4] + dir); err == nil {
						seen[l[4]+dir] = true
					}
				}
			}
		}
	}
	if len(seen) == 0 {
		t.Fatal("no process is in a cgroup of the server's")
	}
	return slices.Sorted(maps.Keys(seen))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// alone fails the test when something else is going on already.
func alone(t *testing.T) traces {
	t.Helper()
	web.CloseIdleConnections()
	before := look(t, nil)
	if n := len(before["process"]); n > 0 {
		t.Fatalf("there are processes before the first server starts: %v", before["process"])
	}
	return before
}

func TestSecondServerIsToldTheHolder(t *testing.T) {
	before := alone(t)
	s := start(t, options{})
	r := refused(t, options{data: s.data})
	if r.code() != 5 {
		t.Errorf("the exit code of a second server on the same directory should be 5: %v", r)
	}
	wantWords(t, r.log, s.data, strconv.Itoa(s.cmd.Process.Pid), strings.TrimPrefix(s.url, "http://"), "--data")
	// Not by another name for it either.
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(s.data, link); err != nil {
		t.Fatal(err)
	}
	wantWords(t, refused(t, options{data: link}).log, strconv.Itoa(s.cmd.Process.Pid))
	s.get(t, "/healthz").want(t, 200)
	loadMisbehave(t, s)
	s.create(t, "default", "f", "web")
	s.get(t, "/f/default/f/hello").want(t, 200)
	groups := s.groups(t)
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	before.nothingLeft(t, groups)
}

// A server that is told to stop lets calls under way end, and leaves nothing.
func TestStopLeavesNothing(t *testing.T) {
	before := alone(t)
	s := start(t, options{})
	loadMisbehave(t, s)
	s.create(t, "stop", "web", "web")
	s.create(t, "stop", "deaf", "deaf")
	s.create(t, "stop", "job", "cat", "--contract", "job")
	for _, name := range []string{"web", "deaf", "job"} {
		s.get(t, "/f/stop/"+name).want(t, 200)
	}
	call := later(s.request(t.Context(), t, "GET", "/f/stop/web/slow?for=1s", nil))
	id := s.running(t, "stop", "web")
	groups := s.groups(t)
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if a := within(t, "the call under way", patience, call); a.status != 200 || a.body != "at last\n" {
		t.Errorf("the call under way was answered %+v", a)
	}
	before.nothingLeft(t, groups)
	// What it kept is there when it comes back.
	s = start(t, options{data: s.data})
	s.wantRun(t, id, api.StateSucceeded, "")
	if n := len(s.runs(t, "app=stop")); n != 4 {
		t.Errorf("%d runs are left of 4", n)
	}
	s.get(t, "/f/stop/web/hello").want(t, 200)
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	before.nothingLeft(t, groups)
}

// A server that hangs on a call is stopped all the same.
func TestStopCutsOffWhatDoesNotEnd(t *testing.T) {
	before := alone(t)
	s := start(t, options{args: []string{"--drain", "300ms"}})
	loadMisbehave(t, s)
	s.create(t, "hang", "web", "deaf")
	s.create(t, "hang", "job", "stuck", "--contract", "job")
	var calls []<-chan answer
	var ids []string
	for name, target := range map[string]string{"web": "/f/hang/web/hang", "job": "/f/hang/job"} {
		calls = append(calls, later(s.request(t.Context(), t, "GET", target, nil)))
		ids = append(ids, s.running(t, "hang", name))
	}
	groups := s.groups(t)
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	for _, c := range calls {
		if a := within(t, "the calls", patience, c); a.status == 200 && a.err == nil {
			t.Errorf("a call that was cut off was answered %+v", a)
		}
	}
	before.nothingLeft(t, groups)
	s = start(t, options{data: s.data})
	for _, id := range ids {
		if r := s.runOf(t, id); !r.State.Final() || r.State == api.StateSucceeded {
			t.Errorf("a run that was cut off is %s (%s)", r.State, r.Reason)
		}
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}

// rounds gives how often something is done: n times, or as often as the
// environment says.
func rounds(t *testing.T, variable string, n int) int {
	t.Helper()
	if v := os.Getenv(variable); v != "" {
		m, err := strconv.Atoi(v)
		if err != nil || m < 1 {
			t.Fatalf("%s=%s: it must be a number over 0", variable, v)
		}
		return m
	}
	return n
}

// A server that is killed in the middle of its work leaves nothing that the
// next one does not put in order.
func TestKillUnderLoad(t *testing.T) {
	for i := range rounds(t, "DAYFLY_E2E_KILLS", 3) {
		if !t.Run(strconv.Itoa(i), killUnderLoad) {
			return
		}
	}
}

const killManifest = `
app: kill
functions:
  web: {image: "misbehave:1", memory: 64MiB, command: [/misbehave, web]}
  job: {image: "misbehave:1", contract: job, memory: 64MiB, command: [/misbehave, cat]}
  none: {image: "misbehave:1", contract: job, memory: 64MiB, command: [/misbehave, cat], network: none}
  hang: {image: "misbehave:1", contract: job, memory: 64MiB, command: [/misbehave, stuck]}
`

func killUnderLoad(t *testing.T) {
	before := alone(t)
	s := start(t, options{})
	loadMisbehave(t, s)
	s.deploy(t, "kill", killManifest)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	l := &load{}
	for c := range 8 {
		l.clients.Go(func() { l.client(ctx, t, s, c) })
	}
	hanging := []<-chan answer{
		later(s.request(t.Context(), t, "POST", "/f/kill/web/hang", strings.NewReader("x"))),
		later(s.request(t.Context(), t, "POST", "/f/kill/hang", nil)),
	}
	ids := []string{s.running(t, "kill", "hang"), until(t, "the call of the web server hangs", patience, func() (string, bool) {
		for _, r := range s.runs(t, "function=web&state=running") {
			if r.Path == "/hang" {
				return r.ID, true
			}
		}
		return "", false
	})}
	durable := until(t, "two hundred calls have been answered", patience, func() ([]string, bool) {
		list := l.answered()
		return list, len(list) >= 200
	})
	// What has ended is on disk a moment later, and so is that a run goes on
	// which has done so for a second.
	since := s.runOf(t, ids[0]).DurationMS
	until(t, "that is a while ago", patience, func() (api.Milliseconds, bool) {
		now := s.runOf(t, ids[0]).DurationMS
		return now, now > since+2500
	})
	groups := s.groups(t)
	before.seen(t, look(t, groups))
	s.kill()
	stop()
	l.clients.Wait()
	for _, c := range hanging {
		within(t, "a call of the server that was killed", patience, c)
	}

	s = start(t, options{data: s.data})
	for _, id := range ids {
		r := s.wantRun(t, id, api.StateFailed, "server_restarted")
		wantWords(t, r.Message, "the server stopped")
	}
	for _, state := range []string{"running", "queued"} {
		if list := s.runs(t, "state="+state); len(list) > 0 {
			t.Errorf("a run of the killed server is still %s: %+v", state, list[0])
		}
	}
	for _, id := range durable {
		if a := s.get(t, "/v1/runs/"+id); a.status != 200 || decode[api.Run](t, a.body).State != api.StateSucceeded {
			t.Fatalf("the run %s, which had been answered, is lost: %s", id, a.body)
		}
	}
	if list := s.instances(t, "kill"); len(list) > 0 {
		t.Errorf("the new server has instances before the first call: %+v", list)
	}
	for _, name := range []string{"web", "job", "none"} {
		s.call(t, "POST", "/f/kill/"+name, "again").want(t, 200)
	}
	if out := s.deploy(t, "kill", killManifest); !strings.Contains(out, "kill/web") {
		t.Error(out)
	}
	if f := decode[api.Function](t, s.does(t, "function", "show", "kill/web", "--json")); f.Version != 1 {
		t.Errorf("the functions are not as they were: %+v", f)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	before.nothingLeft(t, groups)
	left, err := os.ReadDir(filepath.Join(s.data, "sandbox", "instances"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in the data directory: %v, %v", left, err)
	}
}

// load is the clients of a server, and what they were answered.
type load struct {
	clients sync.WaitGroup
	mu      sync.Mutex
	runs    []string
}

func (l *load) client(ctx context.Context, t *testing.T, s *server, n int) {
	target := []string{"/f/kill/web/hello", "/f/kill/job", "/f/kill/web/", "/f/kill/none"}[n%4]
	for ctx.Err() == nil {
		a := try(s.request(ctx, t, "POST", target, strings.NewReader("x")))
		if a.err != nil {
			continue // the server was killed, or is about to be
		}
		if a.status != http.StatusOK {
			t.Errorf("%s was answered %d: %s", target, a.status, a.body)
			return
		}
		l.mu.Lock()
		l.runs = append(l.runs, a.header.Get(api.HeaderRunID))
		l.mu.Unlock()
	}
}

// answered gives the runs that have been answered so far.
func (l *load) answered() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.runs)
}

// The memory of a server does not grow with the number of calls.
func TestMemoryStaysFlat(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	s.get(t, "/readyz").want(t, 200)
	if idle := rss(t, s.cmd.Process.Pid); idle > 60e6 {
		t.Errorf("the idle server uses %d MB", idle/1e6)
	}
	loadMisbehave(t, s)
	s.create(t, "flat", "f", "web")
	calls := rounds(t, "DAYFLY_E2E_CALLS", 20_000)
	const warm = 2_000
	hammer(t, s, "/f/flat/f/hello", warm)
	before := rss(t, s.cmd.Process.Pid)
	began := time.Now()
	hammer(t, s, "/f/flat/f/hello", calls-warm)
	took := time.Since(began)
	after := until(t, "the memory is as it was", patience, func() (int64, bool) {
		n := rss(t, s.cmd.Process.Pid)
		return n, n < before+20e6
	})
	t.Logf("%d calls in %s: %.1f MB before, %.1f MB after", calls-warm, took.Round(time.Millisecond), float64(before)/1e6, float64(after)/1e6)
	if n := len(s.runs(t, fmt.Sprintf("app=flat&limit=%d", 1000))); n != 1000 {
		t.Errorf("%d runs are listed", n)
	}
}

// hammer makes n calls by eight clients.
func hammer(t *testing.T, s *server, target string, n int) {
	t.Helper()
	var clients sync.WaitGroup
	for c := range 8 {
		clients.Go(func() {
			for i := c; i < n; i += 8 {
				if a := try(s.request(t.Context(), t, "GET", target, nil)); a.status != http.StatusOK || a.err != nil {
					t.Errorf("call %d: %+v", i, a)
					return
				}
			}
		})
	}
	clients.Wait()
}
