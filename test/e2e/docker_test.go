package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/api"
)

// engine is a Docker daemon of the test's own.
type engine struct {
	socket string
	http   *http.Client
}

// dockerd starts one, which ends with the test. It changes nothing of the
// machine's network: functions do not use the engine's.
func dockerd(t *testing.T) *engine {
	t.Helper()
	// Its socket's path may have no more than 108 bytes.
	dir, err := os.MkdirTemp("", "dayfly-engine-")
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{socket: filepath.Join(dir, "docker.sock")}
	e.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", e.socket)
	}}}
	log := &text{}
	cmd := exec.Command("dockerd", "--host", "unix://"+e.socket, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "--exec-opt", "native.cgroupdriver=cgroupfs", "--bridge=none", "--iptables=false", "--ip-forward=false")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		within(t, "dockerd ends", patience, ended)
		if t.Failed() {
			t.Logf("dockerd's log:\n%s", log)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove what dockerd has left: %v", err)
		}
	})
	until(t, "dockerd answers", patience, func() (string, bool) {
		res, err := e.http.Get("http://docker/_ping")
		if err != nil {
			return log.String(), false
		}
		_ = res.Body.Close()
		return log.String(), res.StatusCode == http.StatusOK
	})
	return e
}

// containers gives what docker ps -a would.
func (e *engine) containers(t *testing.T) []string {
	t.Helper()
	res, err := e.http.Get("http://docker/v1.41/containers/json?all=1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var list []struct{ Names []string }
	if err := json.NewDecoder(res.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range list {
		names = append(names, c.Names...)
	}
	return names
}

func (e *engine) options(data string) options {
	return options{data: data, args: []string{"--driver", "docker"}, env: []string{"DOCKER_HOST=unix://" + e.socket}}
}

// The life of functions in a Docker engine, as far as that could be another one
// than in sandboxes. Not parallel: others count the processes that there are.
func TestDocker(t *testing.T) {
	e := dockerd(t)
	s := start(t, e.options(""))
	if server := decode[api.Server](t, s.get(t, "/v1/server").want(t, 200).body); server.Driver != "docker" {
		t.Errorf("the server says that its driver is %s", server.Driver)
	}
	s.does(t, "image", "load", save(t, "misbehave.tar", misbehave(t, "misbehave:1").dockerSave(t)))
	s.deploy(t, "docker", `
functions:
  good: {image: "misbehave:1", memory: 64MiB, command: [/misbehave, web]}
  job: {image: "misbehave:1", contract: job, memory: 64MiB, command: [/misbehave, cat]}
  exits: {image: "misbehave:1", memory: 64MiB, command: [/misbehave, exit, "3"]}
  missing: {image: "misbehave:1", memory: 64MiB, command: [/does/not/exist]}
  greedy: {image: "misbehave:1", contract: job, memory: 16MiB, command: [/misbehave, eat]}
  stuck: {image: "misbehave:1", contract: job, memory: 64MiB, command: [/misbehave, stuck], timeout: 500ms}
`)
	t.Run("calls", func(t *testing.T) {
		cold := s.wantRun(t, s.get(t, "/f/docker/good/hello").want(t, 200).run(t), api.StateSucceeded, "")
		if cold.Start == nil {
			t.Errorf("the first call was no cold start: %+v", cold)
		}
		hot := s.wantRun(t, s.get(t, "/f/docker/good/hello").want(t, 200).run(t), api.StateSucceeded, "")
		if hot.Start != nil {
			t.Errorf("the second call was a cold start: %+v", hot)
		}
		if a := s.call(t, "POST", "/f/docker/job", "a body").want(t, 200); a.body != "a body" {
			t.Errorf("the job answered %q", a.body)
		}
	})
	t.Run("kills are explained", func(t *testing.T) {
		for _, f := range []failure{
			{"/f/docker/exits", 502, "start_failed", api.StateFailed, []string{"exited with code 3", "my last words"}, 20},
			{"/f/docker/missing", 502, "start_failed", api.StateFailed, []string{"/does/not/exist"}, 20},
			{"/f/docker/greedy", 502, "oom_killed", api.StateFailed, []string{"memory limit"}, 20},
			{"/f/docker/stuck", 504, "timeout", api.StateTimedOut, []string{"500ms"}, 6},
		} {
			f.check(t, s)
		}
		s.well(t, "docker")
	})
	t.Run("what the engine cannot do is refused at deploy", func(t *testing.T) {
		s.fails(t, 1, []string{"writable root", "docker"}, "function", "create", "w", "--app", "docker", "--image", "misbehave:1", "--root", "writable(1MiB)")
	})
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if left := e.containers(t); len(left) > 0 {
		t.Errorf("the server left %v", left)
	}
}

// A server that is killed under load leaves nothing running: containers end with
// it, and the next server removes what the engine has not.
func TestDockerKill(t *testing.T) {
	e := dockerd(t)
	s := start(t, e.options(""))
	s.does(t, "image", "load", save(t, "misbehave.tar", misbehave(t, "misbehave:1").dockerSave(t)))
	s.deploy(t, "kill", killManifest)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	l := &load{}
	for c := range 3 {
		l.clients.Go(func() { l.client(ctx, t, s, c) })
	}
	hanging := later(s.request(t.Context(), t, "POST", "/f/kill/hang", nil))
	id := s.running(t, "kill", "hang")
	until(t, "some calls have been answered", patience, func() (int, bool) {
		n := len(l.answered())
		return n, n >= 20
	})
	since := s.runOf(t, id).DurationMS
	until(t, "that is a while ago", patience, func() (api.Milliseconds, bool) {
		now := s.runOf(t, id).DurationMS
		return now, now > since+2500
	})
	if len(e.containers(t)) == 0 {
		t.Error("there is no container")
	}
	s.kill()
	stop()
	l.clients.Wait()
	within(t, "a call of the server that was killed", patience, hanging)
	until(t, "functions end with their server", patience, func() (string, bool) {
		alive := processesOf("/misbehave")
		return strings.Join(alive, " "), len(alive) == 0
	})
	s = start(t, e.options(s.data))
	s.wantRun(t, id, api.StateFailed, "server_restarted")
	if left := e.containers(t); len(left) > 0 {
		t.Errorf("the killed server left %v", left)
	}
	s.get(t, "/f/kill/web/hello").want(t, 200)
}

// processesOf gives the processes of a program.
func processesOf(program string) []string {
	var out []string
	for _, file := range must(filepath.Glob("/proc/[0-9]*/cmdline")) {
		if line, err := os.ReadFile(file); err == nil && bytes.HasPrefix(line, []byte(program+"\x00")) {
			out = append(out, filepath.Base(filepath.Dir(file)))
		}
	}
	return out
}

// A server that cannot run sandboxes takes the engine that there is, and says so;
// with neither it says what is wrong with both.
func TestDriverIsChosen(t *testing.T) {
	e := dockerd(t)
	without := []string{"setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"}
	o := e.options("")
	o.args, o.prefix = []string{"--driver", "auto"}, without
	s := start(t, o)
	if server := decode[api.Server](t, s.get(t, "/v1/server").want(t, 200).body); server.Driver != "docker" {
		t.Errorf("the server says that its driver is %s", server.Driver)
	}
	wantWords(t, s.log.String(), "CAP_SYS_ADMIN", "Docker engine", "--driver")
	s.does(t, "image", "load", save(t, "misbehave.tar", misbehave(t, "misbehave:1").dockerSave(t)))
	s.create(t, "far", "f", "web", "--network", "none")
	began := time.Now()
	s.get(t, "/f/far/f/hello").want(t, 200)
	t.Logf("a cold start took %s", time.Since(began))
	o.env = []string{"DOCKER_HOST=unix:///nowhere/docker.sock"}
	o.data = ""
	wantWords(t, refused(t, o).log, "CAP_SYS_ADMIN", "/nowhere/docker.sock", "--driver")
	wantWords(t, refused(t, options{args: []string{"--driver", "docker"}, env: o.env}).log, "/nowhere/docker.sock", "--docker-host")
}
