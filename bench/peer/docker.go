package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Engine API 1.41 (https://docs.docker.com/engine/api/v1.41/), that of Docker
// 20.10.
const dockerAPI = "http://docker/v1.41"

// Docker is a Docker Engine of our own: with directories of its own, in the
// namespaces that the program is in.
type Docker struct {
	// Version is the engine's.
	Version string
	// Host is where it is, as DOCKER_HOST names it.
	Host   string
	image  string
	http   *http.Client
	cmd    *exec.Cmd
	log    string
	groups map[string]bool // cgroups named docker that were there before
}

// StartDocker starts an engine with its data in dir, and loads the image.
// env has the PATH by which it is found.
func StartDocker(ctx context.Context, dir, image string, tar []byte, env []string) (*Docker, error) {
	path, err := lookPath("dockerd", env)
	if err != nil {
		return nil, err
	}
	dir = filepath.Join(dir, "docker")
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("make the directory of the engine: %w", err)
	}
	socket := filepath.Join(dir, "s")
	d := &Docker{Host: "unix://" + socket, image: image, log: filepath.Join(dir, "log"), groups: dockerGroups()}
	d.http = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	logFile, err := os.Create(d.log)
	if err != nil {
		return nil, fmt.Errorf("make the log of the engine: %w", err)
	}
	defer func() { _ = logFile.Close() }() // the engine has its own copy
	d.cmd = exec.Command(path, "--host", "unix://"+socket, "--data-root", filepath.Join(dir, "data"),
		"--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"),
		"--userland-proxy=false", "--log-level", "warn")
	d.cmd.Env, d.cmd.Stdout, d.cmd.Stderr = env, logFile, logFile
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start dockerd: %w", err)
	}
	if err := d.await(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if err := d.call(ctx, "POST", "/images/load?quiet=1", "application/x-tar", tar, nil); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// await waits until the engine answers.
func (d *Docker) await(ctx context.Context) error {
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		var version struct{ Version string }
		err := d.call(ctx, "GET", "/version", "", nil, &version)
		if err == nil {
			d.Version = version.Version
			return nil
		}
		ended := d.cmd.Process.Signal(syscall.Signal(0)) != nil
		if ctx.Err() != nil || ended || time.Since(began) > 3*patience {
			b, _ := os.ReadFile(d.log) // nothing says as little
			return fmt.Errorf("start dockerd: %w: %s", err, b[max(0, len(b)-1000):])
		}
	}
}

// call calls the engine's API, and reads the answer into out.
func (d *Docker) call(ctx context.Context, method, path, contentType string, body []byte, out any) error {
	r, err := http.NewRequestWithContext(ctx, method, dockerAPI+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask docker: %w", err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	answer, err := d.http.Do(r)
	if err != nil {
		return fmt.Errorf("ask docker: %w", err)
	}
	defer func() { _ = answer.Body.Close() }() // it is read to its end
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("ask docker: %w", err)
	}
	if answer.StatusCode >= 300 {
		return fmt.Errorf("docker answered %s %s: %s: %.300s", method, path, answer.Status, text)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			return fmt.Errorf("read docker's answer to %s %s: %w", method, path, err)
		}
	}
	return nil
}

// Close ends the engine, and removes the cgroups that it leaves behind.
func (d *Docker) Close() error {
	err := d.cmd.Process.Signal(syscall.SIGTERM)
	killer := time.AfterFunc(3*patience, func() { _ = d.cmd.Process.Kill() }) // what Wait says tells of it
	defer killer.Stop()
	if werr := d.cmd.Wait(); werr != nil && err == nil {
		err = werr
	}
	for group := range dockerGroups() {
		if !d.groups[group] {
			_ = os.Remove(group) // one that is not empty is somebody's
		}
	}
	if err != nil {
		return fmt.Errorf("end dockerd: %w", err)
	}
	return nil
}

func dockerGroups() map[string]bool {
	groups := map[string]bool{}
	found, _ := filepath.Glob("/sys/fs/cgroup/*/docker") // the pattern is a good one
	for _, g := range found {
		groups[g] = true
	}
	return groups
}

// On gives the engine with a network of Docker's: bridge or none.
func (d *Docker) On(network string) Engine { return &onNetwork{d, network} }

type onNetwork struct {
	*Docker
	network string
}

// Name names the engine.
func (o *onNetwork) Name() string { return "docker run, " + o.network }

// Close does nothing: the engine is closed by itself.
func (*onNetwork) Close() error { return nil }

// Cycle creates and starts a container, asks the program and removes the
// container.
func (o *onNetwork) Cycle(ctx context.Context) (t Timing, err error) {
	config, err := json.Marshal(map[string]any{
		"Image": o.image, "Env": []string{"PORT=" + strconv.Itoa(port)},
		"HostConfig": map[string]any{
			"NetworkMode": o.network, "Memory": 128 << 20, "NanoCpus": 1e9, "PidsLimit": 256, "ReadonlyRootfs": true,
			"CapDrop": []string{"ALL"}, "SecurityOpt": []string{"no-new-privileges"}, "LogConfig": map[string]any{"Type": "none"},
		},
	})
	if err != nil {
		return t, fmt.Errorf("describe a container: %w", err)
	}
	var container struct {
		ID              string `json:"Id"`
		State           struct{ Pid int }
		NetworkSettings struct{ IPAddress string }
	}
	began := time.Now()
	if err := o.call(ctx, "POST", "/containers/create", "application/json", config, &container); err != nil {
		return t, err
	}
	err = o.call(ctx, "POST", "/containers/"+container.ID+"/start", "", nil, nil)
	t.Start = time.Since(began)
	if err == nil {
		err = o.call(ctx, "GET", "/containers/"+container.ID+"/json", "", nil, &container)
	}
	if err == nil {
		dial := dialInside(container.State.Pid)
		if ip := container.NetworkSettings.IPAddress; ip != "" {
			dial = dialTCP(net.JoinHostPort(ip, strconv.Itoa(port)))
		}
		err = ask(ctx, dial)
	}
	t.FirstByte = time.Since(began)
	ending := time.Now()
	err = errors.Join(err, o.call(context.WithoutCancel(ctx), "DELETE", "/containers/"+container.ID+"?force=1", "", nil, nil))
	t.Teardown = time.Since(ending)
	return t, err
}
