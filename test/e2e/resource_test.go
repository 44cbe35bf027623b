package e2e_test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/api"
)

// directoryOwner is who the directories of these tests belong to.
const directoryOwner = 4711

// owned makes a directory of a user's, with a file in it.
func owned(t *testing.T, path string, uid int) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(path, "there")
	if err := os.WriteFile(file, []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, file} {
		if err := os.Chown(p, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// put writes a file in a function; the answer's status is 200 or 409.
func (s *server) put(t *testing.T, function, path, text string) answer {
	t.Helper()
	return s.call(t, "POST", "/f/"+function+"/file?path="+url.QueryEscape(path), text)
}

// read reads a file in a function.
func (s *server) read(t *testing.T, function, path string) answer {
	t.Helper()
	return s.get(t, "/f/"+function+"/file?path="+url.QueryEscape(path))
}

func TestWritableRoot(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.deploy(t, "root", `
functions:
  good: {image: "misbehave:1", memory: 64MiB, command: [/misbehave, web]}
  open: {image: "misbehave:1", memory: 64MiB, command: [/misbehave, web], root: writable(1MiB)}
`)
	s.put(t, "root/open", "/new", "kept").want(t, 200)
	if a := s.read(t, "root/open", "/new").want(t, 200); a.body != "kept" {
		t.Errorf("it reads %q", a.body)
	}
	if a := s.put(t, "root/open", "/large", strings.Repeat("x", 2<<20)).want(t, 409); !strings.Contains(a.body, "no space left on device") {
		t.Errorf("a root that is full says %q", a.body)
	}
	if a := s.put(t, "root/good", "/new", "x").want(t, 409); !strings.Contains(a.body, "read-only file system") {
		t.Errorf("a root that is not writable says %q", a.body)
	}
	wantWords(t, s.does(t, "function", "show", "root/open"), "writable(1MiB)")
	s.fails(t, 1, []string{"more than the memory"}, "function", "create", "large", "--app", "root", "--image", "misbehave:1", "--root", "writable(1GiB)")
	s.well(t, "root")
}

func TestMounts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	data, models := owned(t, filepath.Join(dir, "data"), directoryOwner), owned(t, filepath.Join(dir, "models"), 0)
	o := options{data: filepath.Join(dir, "server"), args: []string{"--allow-mount", "data=" + data, "--allow-mount", "models=" + models + ":ro"}}
	s := start(t, o)
	loadMisbehave(t, s)
	s.deploy(t, "mounts", `
functions:
  good: {image: "misbehave:1", memory: 64MiB, command: [/misbehave, web]}
  f:
    image: misbehave:1
    memory: 64MiB
    command: [/misbehave, web]
    mounts:
      - {name: data, path: /var/data}
      - {name: models, path: /models, read_only: true}
`)
	if a := s.read(t, "mounts/f", "/var/data/there").want(t, 200); a.body != "of the host" {
		t.Errorf("it reads %q", a.body)
	}
	s.put(t, "mounts/f", "/var/data/new", "from the function").want(t, 200)
	written, err := os.ReadFile(filepath.Join(data, "new"))
	if err != nil || string(written) != "from the function" {
		t.Errorf("on the host there is %q, %v", written, err)
	}
	if info, err := os.Stat(filepath.Join(data, "new")); err != nil || info.Sys().(*syscall.Stat_t).Uid != directoryOwner {
		t.Errorf("on the host it is %+v, %v", info, err)
	}
	if a := s.put(t, "mounts/f", "/models/new", "x").want(t, 409); !strings.Contains(a.body, "read-only file system") {
		t.Errorf("it says %q", a.body)
	}
	wantWords(t, s.does(t, "function", "show", "mounts/f"), "data=/var/data", "models=/models:ro")

	create := []string{"function", "create", "g", "--app", "mounts", "--image", "misbehave:1", "--mount"}
	s.fails(t, 4, []string{`"models"`, "read_only"}, append(create, "models=/models")...)
	s.fails(t, 4, []string{`"else"`, "--allow-mount else=/path"}, append(create, "else=/else")...)
	s.fails(t, 1, []string{"/proc/x", "Dayfly's own"}, append(create, "data=/proc/x")...)
	s.well(t, "mounts")

	// What is allowed no more is said when a function that has it is started.
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	o.args, o.env = nil, []string{"DAYFLY_ALLOW_MOUNT=models=" + models + ":ro"}
	s = start(t, o)
	s.read(t, "mounts/f", "/models/there").problem(t, 502, "start_failed", `"data"`, "--allow-mount data=")
	s.well(t, "mounts")
}

func TestMountsThatAreRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := owned(t, filepath.Join(dir, "data"), directoryOwner)
	roots := owned(t, filepath.Join(dir, "roots"), 0)
	for mount, word := range map[string]string{
		"data":                            "NAME=/path",
		"data=" + roots:                   "belongs to root",
		"data=" + filepath.Join(dir, "x"): "no such file",
		"data=" + data + ":rw":            `"rw"`,
		"data=" + dir + ":ro":             "the server's own data",
		"data=/":                          "whole machine",
		"data=/proc/sys:ro":               "kernel's own",
	} {
		said := refused(t, options{data: filepath.Join(dir, "server"), args: []string{"--allow-mount", mount}})
		if !strings.Contains(said.log, word) {
			t.Errorf("%s: the server says %q, want %q in it", mount, said.log, word)
		}
	}
	said := refused(t, options{data: filepath.Join(dir, "server"), args: []string{"--allow-mount", "a=" + data, "--allow-mount", "a=" + data}})
	wantWords(t, said.log, "two directories", `"a"`)
}

func TestKeysThatCannotBeHadYet(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	dir := filepath.Dir(save(t, "dayfly.yaml", []byte("functions:\n  f: {image: \"misbehave:1\", gpus: 1}\n")))
	s.fails(t, 1, []string{"functions.f", "leave gpus out"}, "deploy", dir, "--app", "notyet")
	r := s.request(t.Context(), t, "PUT", "/v1/apps/notyet/functions/f", strings.NewReader(`{"image":"misbehave:1","devices":["/dev/kvm"]}`))
	r.Header.Set("Content-Type", "application/json")
	send(t, r).problem(t, http.StatusNotImplemented, "not_implemented", "leave devices out")
}

// Which of the ways to die by SIGKILL it was, is told.
func TestKillsAreToldApart(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.deploy(t, "kills", `
functions:
  good: {image: "misbehave:1", memory: 64MiB, command: [/misbehave, web]}
  f: {image: "misbehave:1", memory: 32MiB, command: [/misbehave, web], timeout: 2s}
  files: {image: "misbehave:1", memory: 32MiB, command: [/misbehave, web], root: writable(32MiB)}
  feeds: {image: "misbehave:1", memory: 32MiB, contract: job, command: [/misbehave, feed]}
  hangs: {image: "misbehave:1", memory: 32MiB, contract: job, timeout: 300ms, command: [/misbehave, stuck]}
  eats: {image: "misbehave:1", memory: 32MiB, contract: job, command: [/misbehave, eat]}
`)
	failure{"/f/kills/eats", 502, "oom_killed", api.StateFailed, []string{"32MiB", "raise memory"}, 20}.check(t, s)
	failure{"/f/kills/f/eat", 502, "oom_killed", api.StateFailed, []string{"32MiB", "raise memory"}, 20}.check(t, s)
	failure{"/f/kills/f/kill", 502, "signal", api.StateFailed, []string{"signal 9"}, 20}.check(t, s)
	failure{"/f/kills/f/hang", 504, "timeout", api.StateTimedOut, []string{"2s"}, 6}.check(t, s)
	failure{"/f/kills/hangs", 504, "timeout", api.StateTimedOut, []string{"300ms"}, 6}.check(t, s)
	// Files in a writable root are memory.
	a := s.put(t, "kills/files", "/large", strings.Repeat("x", 40<<20))
	if a.status != 409 || !strings.Contains(a.body, "no space") {
		p := a.problem(t, 502, "oom_killed", "32MiB")
		s.wantRun(t, p.RunID, api.StateFailed, "oom_killed")
	}
	for _, name := range []string{"feeds", "f/feed"} {
		a := s.get(t, "/f/kills/"+name)
		if a.status != 200 { // cgroup v2: the instance is ended as a whole
			a.problem(t, 502, "oom_killed", "32MiB")
			continue
		}
		if !strings.Contains(a.body, "the child: signal: killed") {
			t.Errorf("%s answers %q", name, a.body)
		}
		r := s.wantRun(t, a.run(t), api.StateSucceeded, "")
		if r.Usage.OOMKills != 1 || !strings.Contains(r.Message, "a process of the instance was killed") {
			t.Errorf("the run of %s is %+v", name, r)
		}
	}
	// What became of a child before is not taken for the end of the process.
	failure{"/f/kills/f/kill", 502, "signal", api.StateFailed, []string{"signal 9"}, 20}.check(t, s)
	s.well(t, "kills")
}

func TestUsageOfRuns(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.deploy(t, "usage", `
functions:
  f: {image: "misbehave:1", memory: 64MiB, cpu: 0.2, cpu_weight: 300, command: [/misbehave, web]}
  burns: {image: "misbehave:1", memory: 64MiB, contract: job, command: [/misbehave, burn, 3200ms]}
`)
	usage := func(id string) api.RunUsage {
		return decode[api.RunUsage](t, s.get(t, "/v1/runs/"+id+"/usage").want(t, 200).body)
	}
	for _, target := range []string{"/f/usage/burns", "/f/usage/f/burn?for=3200ms"} {
		id := s.get(t, target).want(t, 200).run(t)
		s.wantRun(t, id, api.StateSucceeded, "")
		u := usage(id)
		if len(u.Samples) < 2 || u.CPUMS <= 0 || u.PeakMemoryBytes <= 0 {
			t.Fatalf("the usage of %s is %+v", target, u)
		}
		for i, sample := range u.Samples {
			if sample.MemoryBytes <= 0 || sample.AtMS < 1000 || sample.CPUMS > u.CPUMS || i > 0 && (sample.AtMS <= u.Samples[i-1].AtMS || sample.CPUMS < u.Samples[i-1].CPUMS) {
				t.Errorf("sample %d of %s is %+v", i, target, u.Samples)
			}
		}
		if strings.HasSuffix(target, "3200ms") && u.ThrottledMS <= 0 {
			t.Errorf("a fifth of a processor holds up nothing: %+v", u)
		}
		wantWords(t, s.does(t, "run", "show", id), "over time", "processors", "compute", "memory")
	}
	// The peak is each run's own, or says whose it is.
	large := s.get(t, "/f/usage/f/touch?mib=30").want(t, 200).run(t)
	until(t, "the runtime gives memory back", time.Minute, func() (struct{}, bool) {
		small := s.get(t, "/f/usage/f/touch?mib=1").want(t, 200).run(t)
		l, u := usage(large), usage(small)
		if l.PeakMemoryBytes < 30<<20 {
			t.Fatalf("the usage of the large run is %+v", l)
		}
		return struct{}{}, u.PeakOfInstance && u.PeakMemoryBytes >= l.PeakMemoryBytes || u.PeakMemoryBytes > 0 && u.PeakMemoryBytes < l.PeakMemoryBytes
	})
}
