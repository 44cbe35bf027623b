package drivertest

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Dockerd starts a Docker daemon in the network namespace of the tests and
// returns when it answers, with its DOCKER_HOST. stop ends it. Further flags
// may name a further host or another storage driver.
func Dockerd(t testing.TB, flags ...string) (host string, stop func()) {
	t.Helper()
	path, err := exec.LookPath("dockerd")
	if err != nil {
		t.Fatal("dockerd is missing: install the package docker.io")
	}
	// Its socket's path may have no more than 108 bytes.
	dir, err := os.MkdirTemp("", "dayfly-dockerd-") //nolint:usetesting // t.TempDir is too long
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "docker.sock")
	host = "unix://" + socket
	args := []string{
		"--host", host, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "--exec-opt", "native.cgroupdriver=cgroupfs",
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), path, append(args, flags...)...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = cmd.Process.Signal(unix.SIGTERM)
		select {
		case <-ended:
		case <-time.After(Patience):
			_ = cmd.Process.Kill()
			<-ended
		}
		_ = log.Close()
		unmountBelow(t, dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove what dockerd has left: %v", err)
		}
	}
	t.Cleanup(stop)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	Eventually(t, "dockerd answers", func() bool {
		select {
		case <-ended:
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("dockerd has ended:\n%s", text)
		default:
		}
		ask, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://docker/_ping", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(ask)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return host, stop
}

// unmountBelow unmounts what a killed program has left mounted in a directory.
func unmountBelow(t testing.TB, dir string) {
	t.Helper()
	for line := range strings.Lines(mountinfo(t)) {
		if at := strings.Fields(line)[4]; strings.HasPrefix(at, dir) {
			_ = unix.Unmount(at, unix.MNT_DETACH)
		}
	}
}

func mountinfo(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
